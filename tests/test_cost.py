"""Cost of an hour, a token, an idle hour."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from econmodel import cost

OWNED = dict(purchase_usd=50_000, life_hours=3 * 8766, power_w=0, pue=1, electricity_usd_per_kwh=0)


def test_rent_of_a_site_as_in_the_books_of_a_colocation():
    """1.0 and 1.4 kW at 195 USD per kW-month are 0.27 and 0.37 USD an hour."""
    free = OWNED | dict(purchase_usd=0, hosting_usd_per_kw_month=195)
    hours = cost.gpu_hour_cost(**free | dict(power_w=np.array([1000, 1400])))
    assert hours.round(2).tolist() == [0.27, 0.37]


def test_an_annuity_as_in_any_table():
    """Yearly payments at 10 % over 3 years recover 1 with 0.4021 a year; hourly ones with less by their own growth."""
    hourly = cost.gpu_hour_cost(**OWNED, discount_rate=0.1)
    grown = (1.1 - 1) / (1.1 ** (1 / 8766) - 1)
    assert hourly * grown == pytest.approx(50_000 * 0.1 / (1 - 1.1**-3), rel=1e-9)


def test_no_interest_is_the_limit_of_little_interest():
    assert cost.gpu_hour_cost(**OWNED) == 50_000 / (3 * 8766)
    assert cost.gpu_hour_cost(**OWNED, discount_rate=1e-12) == pytest.approx(50_000 / (3 * 8766), rel=1e-11)
    assert cost.gpu_hour_cost(**OWNED, discount_rate=1e-300) == pytest.approx(50_000 / (3 * 8766), rel=1e-14)


def test_eternal_machines_cost_their_interest():
    forever = cost.gpu_hour_cost(**OWNED | dict(life_hours=math.inf), discount_rate=0.1)
    assert forever == pytest.approx(50_000 * (1.1 ** (1 / 8766) - 1))
    assert cost.gpu_hour_cost(**OWNED | dict(life_hours=math.inf)) == 0


def test_energy_passes_the_meter_of_the_site():
    powered = OWNED | dict(purchase_usd=0, power_w=1000, pue=1.5, electricity_usd_per_kwh=0.1)
    assert cost.gpu_hour_cost(**powered) == pytest.approx(0.15)


@given(st.floats(0, 1e6), st.floats(1, 1e5), st.floats(0, 2), st.floats(0, 2))
def test_capital_costs_more_the_dearer_money_is(price, life, rate, more):
    own = OWNED | dict(purchase_usd=price, life_hours=life)
    costs = cost.gpu_hour_cost(**own, discount_rate=np.array([rate, rate + more]))
    assert price / life * (1 - 1e-9) <= costs[0] <= costs[1] * (1 + 1e-9)
    assert costs[0] == cost.gpu_hour_cost(**own, discount_rate=rate)


def test_tokens_cost_what_the_hour_costs():
    assert cost.cost_per_token(hourly_usd=3.6, tokens_per_s=1000) == pytest.approx(1e-6)
    assert cost.cost_per_token(hourly_usd=3.6, tokens_per_s=1000, utilization=[1, 0.5, 0]).tolist() == pytest.approx(
        [1e-6, 2e-6, math.inf]
    )
    assert cost.cost_per_token(hourly_usd=0, tokens_per_s=0) == math.inf


def test_idle_hours_of_a_fleet_for_the_peak():
    """Three servers for two hours, of which four server-hours are used."""
    assert cost.idle_cost([300, 100], capacity=100, server_hour_usd=[2.0, 3.0]).tolist() == [4.0, 6.0]
    assert cost.idle_cost([3, 1], capacity=4, server_hour_usd=10) == 10, "one fleet that covers the peak"
    assert cost.idle_cost([0, 0], capacity=4, server_hour_usd=10) == 20
    assert cost.idle_cost([5.0], capacity=5, server_hour_usd=10) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cost.gpu_hour_cost(**OWNED | dict(pue=0.9)), "pue - 1 = -0.1"),
        (lambda: cost.gpu_hour_cost(**OWNED | dict(life_hours=0)), "life_hours = 0"),
        (lambda: cost.gpu_hour_cost(**OWNED, discount_rate=-0.1), "discount_rate = -0.1"),
        (lambda: cost.cost_per_token(hourly_usd=1, tokens_per_s=-1), "tokens_per_s = -1"),
        (lambda: cost.cost_per_token(hourly_usd=1, tokens_per_s=1, utilization=1.1), "utilization = 1.1"),
        (lambda: cost.idle_cost([], capacity=1, server_hour_usd=1), "counts = "),
        (lambda: cost.idle_cost([math.nan], capacity=1, server_hour_usd=1), "counts = nan"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
