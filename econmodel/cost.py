"""What a GPU-hour, a token and an idle hour cost."""

import numpy as np

from econmodel import units

HOURS_PER_YEAR = 365.25 * 24
HOURS_PER_MONTH = HOURS_PER_YEAR / 12


def gpu_hour_cost(
    *,
    purchase_usd,
    life_hours,
    power_w,
    pue,
    electricity_usd_per_kwh,
    hosting_usd_per_kw_month=0.0,
    discount_rate=0.0,
):
    r"""
    Cost of an hour of an owned accelerator, used or not.

    Parameters
    ----------
    purchase_usd : array_like
        All that is bought with it, worth nothing at the end of its life. [USD]
    life_hours : array_like
        Life. [h]
    power_w : array_like
        Mean draw, host and network included. [W]
    pue : array_like
        Power of the site over that of its computers, at least 1. [1]
    electricity_usd_per_kwh : array_like
        Price of energy. [USD/kWh]
    hosting_usd_per_kw_month : array_like
        Rent of the site by power drawn by computers. [USD/kW/month]
    discount_rate : array_like
        Yearly cost of capital. [1]

    Returns
    -------
    numpy.ndarray or float
        Annuity, energy and rent. [USD/h]

    Raises
    ------
    ValueError
        A negative price, power or rate, a life not above 0, a PUE below 1.

    Notes
    -----
    .. math:: P \, \frac{i}{1 - (1 + i)^{-L}} + w \, (\text{PUE} \, e + h), \qquad 1 + i = (1 + r)^{1 / 8766},

    with an annuity paid at the end of each hour, :math:`P / L` at :math:`r = 0`.

    Examples
    --------
    >>> site = dict(power_w=1000, pue=1.3, electricity_usd_per_kwh=0.08, hosting_usd_per_kw_month=0)
    >>> owned = dict(purchase_usd=50000, life_hours=3 * 8766, **site)
    >>> [round(float(gpu_hour_cost(**owned, discount_rate=r)), 3) for r in (0.0, 0.1)]
    [2.005, 2.29]
    """
    price, life = units.non_negative(purchase_usd, "purchase_usd"), units.positive(life_hours, "life_hours")
    kilowatts = units.non_negative(power_w, "power_w") / 1e3
    overhead = units.non_negative(np.subtract(pue, 1.0), "pue - 1") + 1
    energy = overhead * units.non_negative(electricity_usd_per_kwh, "electricity_usd_per_kwh")
    rent = units.non_negative(hosting_usd_per_kw_month, "hosting_usd_per_kw_month") / HOURS_PER_MONTH
    growth = np.log1p(units.non_negative(discount_rate, "discount_rate")) / HOURS_PER_YEAR
    with np.errstate(invalid="ignore", divide="ignore"):
        annuities = np.where(growth * life > 0, -np.expm1(-growth * life) / np.expm1(growth), life)
    return (price / annuities + kilowatts * (energy + rent))[()]


def cost_per_token(*, hourly_usd, tokens_per_s, utilization=1.0):
    """
    Cost of a token from what serves it.

    Parameters
    ----------
    hourly_usd : array_like
        Of the whole replica. [USD/h]
    tokens_per_s : array_like
        At saturation. [token/s]
    utilization : array_like
        Tokens served over tokens that could be. [1]

    Returns
    -------
    numpy.ndarray or float
        inf where nothing is served. [USD/token]

    Raises
    ------
    ValueError
        A negative price or rate, a utilization outside [0, 1].

    Examples
    --------
    >>> round(1e6 * float(cost_per_token(hourly_usd=16, tokens_per_s=10_000, utilization=0.5)), 4)
    0.8889
    """
    hourly = units.non_negative(hourly_usd, "hourly_usd")
    served = units.non_negative(tokens_per_s, "tokens_per_s") * units.probability(utilization, "utilization")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(served > 0, hourly / (3600 * served), np.inf)[()]


def idle_cost(counts, *, capacity, server_hour_usd):
    r"""
    What the idle hours of a fleet cost that is sized for the busiest hour.

    Parameters
    ----------
    counts : array_like, shape (hours,)
        Demand by hour. [unit/h]
    capacity : float
        What one server does in an hour; of the whole fleet, if that covers the peak. [unit/h]
    server_hour_usd : array_like
        Price of a server. [USD/h]

    Returns
    -------
    numpy.ndarray or float
        Of all hours together. [USD]

    Raises
    ------
    ValueError
        Demand that is negative or nan, no hour, capacity not above 0, a negative price.

    Notes
    -----
    .. math:: \left(\lceil \max_t x_t / k \rceil \, T - \sum_t x_t / k\right) u, \quad \text{at least one server}

    Examples
    --------
    >>> float(idle_cost([50, 100, 150], capacity=100, server_hour_usd=2))
    6.0
    """
    counts = np.atleast_1d(units.non_negative(counts, "counts"))
    if not counts.size:
        raise ValueError("counts = [] is not allowed: at least one hour")
    load = counts / units.positive(capacity, "capacity")
    servers = np.maximum(np.ceil(load.max() * (1 - 1e-12)), 1)
    return ((servers * load.size - load.sum()) * units.non_negative(server_hour_usd, "server_hour_usd"))[()]
