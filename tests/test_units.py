"""Units and argument checks."""

import math

import numpy as np
import pytest

from econmodel import units


def test_a_gigabyte_is_decimal_and_a_gibibyte_binary():
    assert units.to_si(1, "GB") == 1e9
    assert units.to_si(1, "GiB") == 2**30


def test_conversion_of_arrays_equals_scalars():
    values = np.array([0.5, 3.0])
    np.testing.assert_array_equal(units.to_si(values, "min"), [units.to_si(v, "min") for v in values])


def test_unknown_unit_is_refused_with_what_is_known():
    with pytest.raises(KeyError, match="parsec.*known.*GiB"):
        units.to_si(1, "parsec")


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (units.probability, 1.2),
        (units.probability, -0.1),
        (units.probability, math.nan),
        (units.positive, 0),
        (units.positive, math.nan),
        (units.non_negative, -1e-9),
        (units.non_negative, math.nan),
        (units.count, 1.5),
        (units.count, -1),
        (units.count, math.inf),
        (units.count, math.nan),
    ],
)
def test_bad_argument_is_named_with_its_value(check, bad):
    with pytest.raises(ValueError, match=rf"rate = {bad:g} is not allowed"):
        check(bad, "rate")


def test_first_bad_element_of_an_array_is_named():
    with pytest.raises(ValueError, match="share = 2 is not allowed"):
        units.probability([[0.1, 0.2], [2.0, 3.0]], "share")


def test_edges_of_the_allowed_range_pass():
    assert units.probability([0, 1], "p").tolist() == [0, 1]
    assert units.positive(math.inf, "x") == math.inf
    assert units.count(math.inf, "n", infinite=True) == math.inf
    with pytest.raises(ValueError, match="at least 1"):
        units.count(0, "n", least=1)
