"""Unit names with their factors to SI, and the argument checks that every model shares."""

import numpy as np

#: What is counted as it is; bytes, seconds, FLOP and USD count as SI here.
_PLAIN = "1 s B W USD run task call token step bit layer head expert session accelerator request turn event B/token"
#: Unit name -> (factor, SI unit). GB is 1e9 B, GiB is 2**30 B.
UNITS: dict[str, tuple[float, str]] = {
    **{unit: (1.0, unit) for unit in _PLAIN.split()},
    "%": (0.01, "1"),
    "ms": (1e-3, "s"),
    "min": (60.0, "s"),
    "h": (3600.0, "s"),
    "kB": (1e3, "B"),
    "MB": (1e6, "B"),
    "GB": (1e9, "B"),
    "GiB": (2.0**30, "B"),
    "GB/s": (1e9, "B/s"),
    "TB/s": (1e12, "B/s"),
    "TFLOP/s": (1e12, "FLOP/s"),
    "1e9 parameter": (1e9, "parameter"),
    "1e9 USD": (1e9, "USD"),
    "1e9 Gbit": (1.25e17, "B"),
    "USD/GB": (1e-9, "USD/B"),
    "USD/h": (1 / 3600, "USD/s"),
    "USD/month": (1 / (365.25 / 12 * 86400), "USD/s"),
    "USD/kWh": (1 / 3.6e6, "USD/J"),
    "kW": (1e3, "W"),
    "USD/kW/month": (1e-3 / (365.25 / 12 * 86400), "USD/W/s"),
    "ns": (1e-9, "s"),
    "us": (1e-6, "s"),
    "TB": (1e12, "B"),
    "GT/s": (1e9, "transfer/s"),
    "pJ/bit": (8e-12, "J/B"),
    "USD/1e6 token": (1e-6, "USD/token"),
    "token/s": (1.0, "token/s"),
    "request/s": (1.0, "request/s"),
    "1/min": (1 / 60, "1/s"),
    "day": (86400.0, "s"),
    "month": (365.25 / 12 * 86400, "s"),
    "1e3 wafer/month": (1e3 / (365.25 / 12 * 86400), "wafer/s"),
}


def to_si(value, unit):
    """
    Convert a value to bytes, seconds, FLOP, USD or a plain share.

    Parameters
    ----------
    value : array_like
        Number in `unit`.
    unit : str
        A key of `UNITS`.

    Returns
    -------
    numpy.ndarray or float
        The same quantity in the SI unit of that key.

    Raises
    ------
    KeyError
        Unknown unit; the message lists what is known.

    Examples
    --------
    >>> float(to_si(80, "GiB"))
    85899345920.0
    >>> float(to_si(1.5, "min"))
    90.0
    """
    if unit not in UNITS:
        raise KeyError(f"unknown unit {unit!r}; known: {', '.join(UNITS)}")
    return np.multiply(value, UNITS[unit][0])[()]


def _checked(value, name, ok, allowed):
    if isinstance(value, (int, float)):  # scalars are checked in a microsecond
        array = np.float64(value)
        good = ok(array)
        if good:
            return array
    array = np.asarray(value, dtype=float)
    good = ok(array)
    if not np.all(good):
        first = array[~good].flat[0] if array.ndim else array
        raise ValueError(f"{name} = {first:g} is not allowed: {allowed}")
    return array


def probability(value, name):
    """
    Check that every element lies in [0, 1].

    Parameters
    ----------
    value : array_like
        What the caller gave.
    name : str
        Argument name for the message.

    Returns
    -------
    numpy.ndarray
        `value` as floats.

    Raises
    ------
    ValueError
        NaN or outside [0, 1]; names argument and value.

    Examples
    --------
    >>> probability(1.2, "success")
    Traceback (most recent call last):
    ...
    ValueError: success = 1.2 is not allowed: a probability between 0 and 1
    """
    return _checked(value, name, lambda x: (x >= 0) & (x <= 1), "a probability between 0 and 1")


def positive(value, name):
    """
    Check that every element is above zero; infinity passes.

    Parameters and errors as for `probability`.

    Examples
    --------
    >>> positive(0, "horizon")
    Traceback (most recent call last):
    ...
    ValueError: horizon = 0 is not allowed: a number above 0
    """
    return _checked(value, name, lambda x: x > 0, "a number above 0")


def non_negative(value, name):
    """
    Check that every element is zero or above; infinity passes.

    Parameters and errors as for `probability`.

    Examples
    --------
    >>> float(non_negative(3, "n_steps"))
    3.0
    """
    return _checked(value, name, lambda x: x >= 0, "a number not below 0")


def count(value, name, *, least=0, infinite=False):
    """
    Check that every element is a whole number.

    Parameters
    ----------
    value : array_like
        What the caller gave.
    name : str
        Argument name for the message.
    least : int
        Smallest allowed.
    infinite : bool
        Whether infinity passes.

    Returns
    -------
    numpy.ndarray
        `value` as floats.

    Raises
    ------
    ValueError
        NaN, a fraction, below `least`, or infinite where that is not allowed.

    Examples
    --------
    >>> count(2.5, "k")
    Traceback (most recent call last):
    ...
    ValueError: k = 2.5 is not allowed: a whole number of at least 0
    """
    allowed = f"a whole number of at least {least}" + (", or inf" if infinite else "")
    return _checked(value, name, lambda x: (x >= least) & (x == np.floor(x)) & (infinite | np.isfinite(x)), allowed)
