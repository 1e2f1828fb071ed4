"""The one look of the book: static figures, interactive charts and tables, from arrays and tables alone."""

import html
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogLocator

#: Colours that stay apart for the colour-blind (Okabe and Ito).
BLUE, ORANGE, GREEN, PINK, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c8c8c"
#: Colours of groups, in order.
GROUPS = [BLUE, ORANGE, GREEN, PINK]


def use_style():
    """
    Set the look of all static figures and tables: once, at the top of a notebook.

    Examples
    --------
    >>> use_style()
    >>> plt.rcParams["figure.constrained_layout.use"]
    True
    """
    look = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "0.4",
        "grid.color": "0.9",
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 110,
        "svg.hashsalt": "econmodel",
        "svg.fonttype": "none",
    }
    sns.set_theme(style="whitegrid", palette=GROUPS, rc=look)
    pd.set_option("display.max_colwidth", None)


class Interactive:
    """An Altair chart for a static page: a picture, and the specification that replaces it where scripts run."""

    def __init__(self, chart, alt):
        import vl_convert

        spec = chart.to_dict()
        spec.pop("$schema")
        spec["config"] = {"font": "sans-serif"}
        picture = vl_convert.vegalite_to_svg(spec | {"width": 560}, allowed_base_urls=[])
        picture = picture.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
        code = json.dumps(spec, separators=(",", ":")).replace("</", "<\\/")
        self.alt = alt
        self.html = f'<div class="econ-chart">{picture}<script type="application/json">{code}</script></div>'

    def __repr__(self):
        return f"chart: {self.alt}"

    def _repr_html_(self):
        return self.html


def interactive(chart, *, alt):
    """
    Prepare an Altair chart for a page that has no server.

    Parameters
    ----------
    chart : altair.TopLevelMixin
        The chart; its width should be "container", so that it fits a phone.
    alt : str
        What is seen, for those who do not see it.

    Returns
    -------
    Interactive
        Displays as one HTML output that is the same on every run.
    """
    return Interactive(chart, alt)


def say(**values):
    """
    Hand numbers to the sentences of a page, which quote them by name with the glue role.

    Parameters
    ----------
    **values : float, int or str
        Name -> value; floats are rounded to four digits, so that they are the same everywhere.
    """
    from myst_nb import glue

    for name, value in values.items():
        plain = value if isinstance(value, (str, int)) else float(f"{float(value):.4g}")
        glue(name, plain, display=False)


def error_ranking(names, values, *, reference, label):
    """
    Ranked dots, one per agent, against a reference line.

    Parameters
    ----------
    names : sequence of str
        Agents.
    values : array_like
        Their values. [%]
    reference : float
        Where the vertical line stands. [%]
    label : str
        Axis label, with unit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    order = np.argsort(values)
    fig, ax = plt.subplots(figsize=(7, 0.2 * len(order) + 0.9))
    ax.hlines(range(len(order)), reference, np.asarray(values)[order], color=GREY, lw=1)
    ax.plot(np.asarray(values)[order], range(len(order)), "o", color=BLUE, ms=5)
    ax.axvline(reference, color=ORANGE, lw=1.5)
    ax.set_yticks(range(len(order)), np.asarray(names)[order], fontsize=8)
    ax.set(xlabel=label, xlim=(0, None), ylim=(-0.7, len(order) - 0.3))
    ax.grid(axis="y", visible=False)
    return fig


def success_against_length(observed, curves, *, label):
    """
    Observed success against task length with fitted curves, one panel per agent.

    Parameters
    ----------
    observed : pandas.DataFrame
        Columns `panel`, `length`, `runs`, `success` (share).
    curves : pandas.DataFrame
        Columns `panel`, `length`, `success`, `law`.
    label : str
        Axis label of the length, with unit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(observed["panel"]))
    fig, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 3.1), sharey=True, squeeze=False)
    styles = dict(zip(dict.fromkeys(curves["law"]), [(ORANGE, "--"), (BLUE, "-"), (GREEN, ":")], strict=False))
    for ax, panel in zip(axes[0], panels, strict=True):
        dots = observed[observed["panel"] == panel]
        ax.scatter(dots["length"], dots["success"], s=3 * np.sqrt(dots["runs"]) + 4, color=GREY, alpha=0.7, lw=0)
        for law, curve in curves[curves["panel"] == panel].groupby("law", sort=False):
            color, dash = styles[law]
            ax.plot(curve["length"], curve["success"], dash, color=color, lw=2, label=law)
        ax.text(0.5, 1.02, panel, transform=ax.transAxes, ha="center", va="bottom")
        ax.set(xscale="log", xlabel=label, ylim=(-0.03, 1.03))
    axes[0][0].set_ylabel("share of runs that succeed")
    fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncol=3)
    return fig


def dots_over_time(dates, values, *, reference, reference_name, label):
    """
    One dot per published value over its date, below or above a reference line.

    Parameters
    ----------
    dates : sequence of datetime-like
        Position on the time axis.
    values : array_like
        Values. [1]
    reference : float
        Where the line stands. [1]
    reference_name : str
        What the line means; written on it.
    label : str
        Axis label, with unit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 3))
    ax.plot(pd.to_datetime(dates), values, "o", color=BLUE, ms=5, alpha=0.6, mec="none")
    ax.axhline(reference, color=ORANGE, lw=1.5)
    ax.text(0.01, reference, reference_name, color=ORANGE, va="bottom", transform=ax.get_yaxis_transform())
    ax.set(ylabel=label, xlabel="release of the model", ylim=(0, 1.2 * reference))
    return fig


def predicted_against_observed(observed, predictions, groups, *, label):
    """
    Predictions against observations with the 1:1 line and, below, their residuals; one column per model.

    Parameters
    ----------
    observed : array_like
        Observed shares. [1]
    predictions : dict of str to array_like
        Name of a model -> its predictions. [1]
    groups : array_like of str
        Group of each row, shown by colour.
    label : str
        What is predicted.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = plt.subplots(
        2, len(predictions), figsize=(3.1 * len(predictions), 4.6), sharex=True, sharey="row", height_ratios=[2, 1],
        squeeze=False,
    )  # fmt: skip
    groups = np.asarray(groups)
    for (top, bottom), (name, predicted) in zip(axes.T, predictions.items(), strict=True):
        for color, marker, group in zip(GROUPS, "os^D", np.unique(groups), strict=False):
            own = groups == group
            for ax, y in ((top, predicted), (bottom, np.asarray(predicted) - observed)):
                ax.plot(
                    np.asarray(observed)[own], np.asarray(y)[own], marker, color=color, ms=4, alpha=0.8, label=group
                )
        top.plot([0, 1], [0, 1], color=GREY, lw=1)
        bottom.axhline(0, color=GREY, lw=1)
        top.text(0.5, 1.02, name, transform=top.transAxes, ha="center", va="bottom")
        bottom.set_xlabel(f"observed {label}")
    axes[0][0].set(ylabel=f"predicted {label}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes[1][0].set_ylabel("predicted - observed")
    fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncol=4)
    return fig


def retry_frontier(success, correlation, groups, *, low, high):
    """
    Where unlimited retrying has a finite cost: intra-task correlation against success at the first try.

    Parameters
    ----------
    success : array_like
        pass^1 of each agent and domain. [1]
    correlation, low, high : array_like
        Intra-task correlation and its interval. [1]
    groups : array_like of str
        Domain of each row, shown by colour and marker.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 4.2))
    grid = np.linspace(0, 1, 201)
    limit = grid / (1 + grid)
    ax.fill_between(grid, limit, 1, color="0.5", alpha=0.15, lw=0)
    ax.plot(grid, limit, color="0.3", lw=1.5)
    ax.text(0.03, 0.96, "expected tries until success: infinite", va="top")
    ax.text(0.97, 0.36, "finite", ha="right")
    groups = np.asarray(groups)
    for color, marker, group in zip(GROUPS, "os^D", np.unique(groups), strict=False):
        own = groups == group
        x, y = np.asarray(success)[own], np.asarray(correlation)[own]
        ax.vlines(x, np.asarray(low)[own], np.asarray(high)[own], color=color, lw=1, alpha=0.35)
        ax.plot(x, y, marker, color=color, ms=6, mec="white", mew=0.6, label=group)
    ax.set(
        xlabel="tasks solved at the first try (share)",
        ylabel="correlation of tries at one task",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=4)
    return fig


def band_over(x, middle, low, high, *, reference, reference_name, labels):
    """
    A line with its interval and a horizontal reference.

    Parameters
    ----------
    x, middle, low, high : array_like
        Position, value and interval.
    reference : float
        Where the reference stands.
    reference_name : str
        What it means; written on it.
    labels : tuple of str
        Axis labels, with units.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 3))
    ax.fill_between(x, low, high, color=BLUE, alpha=0.2, lw=0)
    ax.plot(x, middle, color=BLUE, lw=2)
    ax.axhline(reference, color=ORANGE, lw=1.5)
    ax.text(0.99, reference, reference_name, color=ORANGE, ha="right", va="bottom", transform=ax.get_yaxis_transform())
    ax.set(xlabel=labels[0], ylabel=labels[1], ylim=(0, None))
    return fig


def retry_ceiling(curves):
    """
    Share of tasks finished, and cost per finished task, against the attempts allowed.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns `group`, `case` (the first is drawn solid, the second dotted), `attempts`, `finished` (share), `cost`
        (attempts).

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.2))
    dashes = dict(zip(dict.fromkeys(curves["case"]), ["-", ":"], strict=True))
    colors = dict(zip(dict.fromkeys(curves["group"]), GROUPS, strict=False))
    for (group, case), curve in curves.groupby(["group", "case"], sort=False):
        style = dict(color=colors[group], ls=dashes[case], lw=2)
        left.plot(curve["attempts"], curve["finished"], **style, label=f"{group}, {case}")
        right.plot(curve["attempts"], curve["cost"], **style)
    left.set(xscale="log", xlabel="attempts allowed", ylabel="share of tasks finished", ylim=(0, 1.03))
    right.set(xscale="log", yscale="log", xlabel="attempts allowed", ylabel="attempts per finished task")
    for axis in (left.xaxis, right.xaxis, right.yaxis):
        axis.set_major_formatter("{x:g}")
    fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncol=len(colors))
    return fig


def lever_map(n_steps, step_error, panels, *, names, star):
    """
    Cheapest way of repair over job length and step error, with contours of its cost; one panel per task mix.

    Parameters
    ----------
    n_steps, step_error : array_like, one-dimensional
        The two axes. [step], [1]
    panels : dict of str to numpy.ndarray, shape (ways, errors, lengths)
        Name of a task mix -> cost of each way, as a multiple of one flawless run.
    names : sequence of str
        Names of the ways.
    star : tuple of float
        Length and error that a star marks.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = plt.subplots(1, len(panels), figsize=(3.9 * len(panels), 3.6), sharey=True, squeeze=False)
    light = 0.45 * np.array([to_rgb(color) for color in GROUPS[: len(names)]]) + 0.55
    for ax, (panel, costs) in zip(axes[0], panels.items(), strict=True):
        best = np.take(light, costs.argmin(axis=0), axis=0)
        ax.pcolormesh(n_steps, step_error, best, shading="nearest", rasterized=True)
        lines = ax.contour(n_steps, step_error, costs.min(axis=0), levels=[1.2, 2, 5], colors="0.2", linewidths=0.8)
        ax.clabel(lines, fmt=lambda level: f"{level:g} x", fontsize=8)
        ax.plot(*star, "*", color="black", ms=10)
        ax.text(0.5, 1.02, panel, transform=ax.transAxes, ha="center", va="bottom")
        ax.set(xscale="log", yscale="log", xlabel="calls per job")
        ax.grid(visible=False)
    axes[0][0].set_ylabel("error per call")
    shown = [plt.Rectangle((0, 0), 1, 1, color=color) for color in light]
    fig.legend(shown, names, loc="outside upper center", ncol=len(names))
    return fig


def success_explorer(table):
    """
    Job success against its length, with sliders for the error per call.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `calls`, `error` (per cent, on a grid), `tasks` (name of a task mix) and `success` (share).

    Returns
    -------
    altair.LayerChart
    """
    import altair as alt

    steps = np.sort(table["error"].unique())
    slider = alt.binding_range(
        min=float(steps[0]), max=float(steps[-1]), step=float(steps[1] - steps[0]), name="error per call (%) "
    )
    error = alt.param(name="error", value=2.0, bind=slider)
    near = alt.datum.error - error
    base = alt.Chart(table).transform_filter((near < 0.001) & (near > -0.001))
    lines = base.mark_line(strokeWidth=2.5).encode(
        x=alt.X("calls:Q", title="calls per job", scale=alt.Scale(type="log")),
        y=alt.Y(
            "success:Q", title="share of jobs that succeed", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")
        ),
        color=alt.Color("tasks:N", title=None, legend=alt.Legend(orient="top"), scale=alt.Scale(range=[ORANGE, BLUE])),
        tooltip=["calls:Q", alt.Tooltip("success:Q", format=".1%"), "tasks:N"],
    )
    return lines.add_params(error).properties(width="container", height=260)


def short(number):
    """
    A number in two or three digits, without an exponent where it is large.

    Parameters
    ----------
    number : float
        Any number.

    Returns
    -------
    str

    Examples
    --------
    >>> short(4518.35), short(0.0055876)
    ('4,518', '0.0056')
    """
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.2g}"


def interval(value, low, high):
    """
    A value with its interval; a dash where nothing was found.

    Examples
    --------
    >>> interval(0.123, 0.1, 0.2), interval(float("nan"), float("nan"), float("nan"))
    ('0.12 (0.1 to 0.2)', '-')
    """
    return "-" if np.isnan(value) else f"{short(value)} ({short(low)} to {short(high)})"


def ledger_table(ledger):
    """
    Claims with their rule and verdict as an HTML table.

    Parameters
    ----------
    ledger : pandas.DataFrame
        From `uncertainty.verdicts`; index `id`.

    Returns
    -------
    str
        One table; a judged claim links to its chapter.
    """
    rows = []
    for name, claim in ledger.iterrows():
        rule = f"{claim['statistic']} {claim['relation']} {claim['lenient']:g} (strict: {claim['strict']:g})"
        verdict, value = "-", ""
        if claim["verdict"]:
            verdict = f'<a href="../notebooks/{claim["chapter"]}.html">{claim["verdict"]}</a>'
            value = interval(claim["value"], claim["low"], claim["high"])
        cells = [name, claim["claim"], f"{rule}; {claim['population']}", verdict, value]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{title}</th>" for title in ("id", "claim", "rule", "verdict", "value (interval)"))
    return f'<table class="table ledger"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def linked(names, links):
    """
    Names as links to the web, where there is an address.

    Parameters
    ----------
    names : sequence of str
        What is shown.
    links : dict-like of str to str
        Name -> address, "" for none.

    Returns
    -------
    list of str
        HTML for `searchable`.

    Examples
    --------
    >>> linked(["a", "b"], {"a": "https://example.org", "b": ""})
    ['<a href="https://example.org">a</a>', 'b']
    """
    return [f'<a href="{links[name]}">{name}</a>' if links[name] else name for name in names]


def register_table(register, links):
    """
    Every fact on one line: what it is, value with range and unit, kind, source and place.

    Parameters
    ----------
    register : pandas.DataFrame
        From `catalog.register`.
    links : dict-like of str to str
        Source -> address of its origin, "" for none.

    Returns
    -------
    pandas.DataFrame
        Columns of text for `searchable`.

    Examples
    --------
    >>> row = dict(table="a", item="b | c", parameter="n_runs", value=3.0, low=2.0, high=4.0, unit="run")
    >>> row |= dict(kind="measured", source="x2020", locator="p. 1", retrieved="2026-11-23", note="")
    >>> register_table(pd.DataFrame([row]), {"x2020": ""}).iloc[0, :4].tolist()
    ['a', 'b | c', 'n runs', '3 (2 to 4) run']
    """

    def text(value):
        return "" if pd.isna(value) else value if isinstance(value, str) else f"{value:.6g}"

    def spread(low, high):
        if pd.isna(low) and pd.isna(high):
            return ""
        return f" ({'up' if pd.isna(low) else text(low)} to {'higher' if pd.isna(high) else text(high)})"

    spreads = [spread(*ends) for ends in zip(register["low"], register["high"], strict=True)]
    units = register["unit"].replace({"1": "", "text": "", "date": ""})
    values = [f"{text(v)}{s} {u}".strip() for v, s, u in zip(register["value"], spreads, units, strict=True)]
    named = register.assign(value=values, parameter=register["parameter"].str.replace("_", " "))
    for column in ("item", "value", "note", "locator"):
        named[column] = named[column].map(html.escape)
    named["source"] = linked(named["source"], links) + pd.Series(": ", named.index) + named["locator"]
    named = named.rename(columns={"retrieved": "read"})
    return named[["table", "item", "parameter", "value", "kind", "note", "source", "read"]]


def series_table(series, measured):
    """
    What the measured series hold, one line each, with a link to the file.

    Parameters
    ----------
    series : dict of str to pandas.DataFrame
        Name -> runs, one a line.
    measured : dict-like of str to bool
        Column -> whether it is an outcome.

    Returns
    -------
    pandas.DataFrame
        Columns `series` (HTML), `runs`, `outcomes`, `sources`.

    Examples
    --------
    >>> runs = pd.DataFrame(dict(batch=[1, 2], latency=[3, 4], source=["x2020"] * 2))
    >>> series_table({"a": runs}, {"batch": False, "latency": True, "source": False}).outcomes.tolist()
    ['latency']
    """
    lines = [
        {
            "series": f'<a href="../_static/data/series/{name}.csv" download>{name}.csv</a>',
            "runs": len(runs),
            "outcomes": ", ".join(column.replace("_", " ") for column in runs.columns if measured[column]),
            "sources": ", ".join(runs["source"].unique()),
        }
        for name, runs in series.items()
    ]
    return pd.DataFrame(lines)


def searchable(table):
    """
    A table that can be searched, filtered by column, sorted and paged in the reader's browser, without a server.

    Parameters
    ----------
    table : pandas.DataFrame
        Any table; its texts are HTML.

    Returns
    -------
    IPython.display.HTML
    """
    from IPython.display import HTML
    from itables import to_html_datatable

    looks = dict(
        showIndex=False,
        column_filters="header",
        maxBytes=0,
        lengthMenu=[10, 25, 100],
        classes="display compact",
        autoWidth=False,
        allow_html=True,
    )
    return HTML(to_html_datatable(table, **looks))


def shares_and_index(shares, index, *, lines):
    """
    Shares of makers by period as stacked bars, and below the concentration they amount to.

    Parameters
    ----------
    shares : pandas.DataFrame
        One row per period, one column per maker. [1]
    index : pandas.DataFrame
        Columns `value`, `low`, `high`, same rows.
    lines : dict of str to float
        Thresholds to draw through the index.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, height_ratios=[3, 2])
    floor = np.zeros(len(shares))
    for color, maker in zip(GROUPS, shares.columns, strict=False):
        top.bar(shares.index, shares[maker], bottom=floor, color=color, width=0.6, label=maker)
        for x, (base, share) in enumerate(zip(floor, shares[maker], strict=True)):
            top.text(x, base + share / 2, f"{100 * share:.0f}", ha="center", va="center", color="white")
        floor = floor + shares[maker].to_numpy()
    top.set(ylabel="share of revenue", ylim=(0, 1))
    spread = [index["value"] - index["low"], index["high"] - index["value"]]
    bottom.errorbar(index.index, index["value"], yerr=spread, fmt="o", color="0.2", capsize=4)
    for name, level in lines.items():
        bottom.axhline(level, color=ORANGE, lw=1.2)
        bottom.text(0.01, level, name, color="#9a4a00", va="bottom", transform=bottom.get_yaxis_transform())
    bottom.set(ylabel="Herfindahl index", ylim=(0, 6500))
    fig.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncol=len(shares.columns))
    return fig


def lines_by_period(table, *, label, log=False):
    """
    Values by period, one line per series, with ranges; forecasts are hollow.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `series`, `period`, `value`, `low`, `high`, `forecast` (boolean), in the order of time.
    label : str
        Axis label, with unit.
    log : bool
        Whether the value axis is logarithmic.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 3.2))
    place = {period: x for x, period in enumerate(sorted(table["period"].unique()))}
    for color, marker, (name, line) in zip(GROUPS, "os^D", table.groupby("series", sort=False), strict=False):
        x = line["period"].map(place)
        ax.plot(x, line["value"], "-", color=color, lw=1.5, label=name, marker=marker, ms=7)
        ahead = line["forecast"].to_numpy(dtype=bool)
        ax.plot(x[ahead], line.loc[ahead, "value"], marker, ms=7, mfc="white", mec=color, mew=1.5)
        ax.vlines(
            x, line["low"].fillna(line["value"]), line["high"].fillna(line["value"]), color=color, lw=2, alpha=0.5
        )
    ax.set_xticks(list(place.values()), list(place))
    ax.set(ylabel=label, yscale="log" if log else "linear")
    if not log:
        ax.set_ylim(0, None)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=3)
    return fig


def forecasts_against_outcome(table, *, label):
    """
    Ranges that were forecast for a quarter, in order, and what came.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `period`, `stage`, `low`, `high`.
    label : str
        Axis label, with unit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 0.42 * len(table) + 0.9))
    colors = dict(zip(dict.fromkeys(table["stage"]), [GREY, BLUE, ORANGE], strict=False))
    for y, row in enumerate(table[::-1].itertuples()):
        ax.plot([row.low, row.high], [y, y], color=colors[row.stage], lw=9, solid_capstyle="butt")
    ax.set_yticks(range(len(table)), [f"{row.period}, {row.stage}" for row in table[::-1].itertuples()])
    ax.set(xlabel=label, xlim=(0, None), ylim=(-0.6, len(table) - 0.4))
    ax.grid(axis="y", visible=False)
    return fig


def intervals(table, *, lines, label, log=True):
    """
    Values with their intervals, one row each, against thresholds.

    Parameters
    ----------
    table : pandas.DataFrame
        Index of names; columns `low`, `value`, `high`.
    lines : dict of str to float
        Thresholds.
    label : str
        Axis label, with unit.
    log : bool
        Whether the axis is logarithmic; else it starts at zero.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 0.33 * len(table) + 1.1))
    rows = range(len(table))[::-1]
    ax.hlines(rows, table["low"], table["high"], color=BLUE, lw=3, alpha=0.4)
    ax.plot(table["value"], rows, "o", color=BLUE)
    for name, level in lines.items():
        ax.axvline(level, color=ORANGE, lw=1.2)
        ax.text(level, len(table) - 0.35, name, color="#9a4a00", ha="center", va="bottom", fontsize=9)
    ax.set_yticks(rows, table.index)
    ax.set(xscale="log" if log else "linear", xlabel=label, ylim=(-0.6, len(table) - 0.4))
    if not log:
        ax.set_xlim(0, None)
    ax.grid(axis="y", visible=False)
    return fig


def labelled_dots(dates, values, names, groups, *, label):
    """
    Named dots over time, coloured by group.

    Parameters
    ----------
    dates : sequence of datetime-like
        Position on the time axis.
    values : array_like
        Values.
    names, groups : sequence of str
        Written at the dot; shown by colour.
    label : str
        Axis label, with unit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 3.8))
    frame = pd.DataFrame(
        {"date": pd.to_datetime(dates, format="ISO8601"), "value": values, "name": names, "group": groups}
    )
    for i, (group, own) in enumerate(frame.groupby("group", sort=False)):
        ax.plot(own["date"], own["value"], "os^D"[i], color=GROUPS[i], ms=7, label=group)
        for row in own.itertuples():
            away = (5, (-11, 5)[i % 2])
            ax.annotate(row.name, (row.date, row.value), xytext=away, textcoords="offset points", fontsize=8)
    ax.set(ylabel=label, xlabel="release", ylim=(0, None))
    ax.margins(x=0.12)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=4)
    return fig


def week_panels(table, *, weekend):
    """
    Loads over the days, each as a multiple of its mean, one panel per series.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `series`, `day` (from the start of the series), `load` (nan where nothing was recorded).
    weekend : dict of str to list of tuple of float
        Series -> spans of days to shade.

    Returns
    -------
    matplotlib.figure.Figure
    """
    days = table.groupby("series", sort=False)["day"].max()
    long, short = list(days.index[days > 1]), list(days.index[days <= 1])
    rows = [[name] * len(short) for name in long] + [short]
    fig, axes = plt.subplot_mosaic(rows, figsize=(7, 1.45 * len(rows) + 0.4), sharey=True)
    for name, ax in axes.items():
        own = table[table["series"] == name]
        ax.fill_between(own["day"], 0, own["load"], step="post", color=BLUE, alpha=0.25, lw=0)
        ax.step(own["day"], own["load"], where="post", color=BLUE, lw=1.2)
        ax.axhline(1, color=ORANGE, lw=1)
        for left, right in weekend.get(name, []):
            ax.axvspan(left, right, color="0.5", alpha=0.15, lw=0)
        ax.text(1, 1.02, name, transform=ax.transAxes, ha="right", va="bottom", fontsize=10)
        if name in long:
            ax.set(xlim=(0, days.max()), xticks=range(0, int(days.max()) + 2))
        else:
            ax.set(xlim=(0, 1), xticks=[0, 0.25, 0.5, 0.75, 1], xlabel="days from the start")
    ax.set_ylim(0, None)
    fig.supylabel("load over its mean", fontsize=11)
    return fig


def week_map(load, *, boxes, label):
    """
    Load by day of the week and hour of the day, with boxes around the hours that a claim names.

    Parameters
    ----------
    load : array_like, shape (7, 24)
        Days from Monday.
    boxes : dict of str to tuple of int
        Name -> day, first hour, number of hours.
    label : str
        What the colour says.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 2.7))
    image = ax.imshow(load, aspect="auto", cmap="cividis", vmin=0)
    fig.colorbar(image, label=label)
    for name, (day, hour, hours) in boxes.items():
        ax.add_patch(plt.Rectangle((hour - 0.5, day - 0.5), hours, 1, fill=False, ec=ORANGE, lw=2.5))
        label_box = dict(boxstyle="round,pad=0.15", fc="white", ec="none", alpha=0.85)
        ax.text(hour + hours - 0.1, day, name, color="black", va="center", fontsize=9, bbox=label_box)
    ax.set_yticks(range(7), ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    ax.set(xlabel="hour of the day", xticks=range(0, 24, 3))
    ax.grid(visible=False)
    return fig


def curves(table, *, labels, log="", lines=None, shade=None, columns=3):
    """
    Lines by series, one panel per group; measured points as dots, intervals as bands.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `panel`, `series`, `x`, `y`; optional `low`, `high` and `dots` (boolean: draw dots, no line).
    labels : tuple of str
        Axis labels, with units.
    log : str
        Which axes are logarithmic: "", "x", "y" or "xy".
    lines : dict of str to float, optional
        Name -> height of a horizontal line.
    shade : tuple, optional
        Axis ("x" or "y"), from, to: a band behind the lines.
    columns : int
        Columns of the legend.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels, series = list(dict.fromkeys(table["panel"])), list(dict.fromkeys(table["series"]))
    looks = dict(
        zip(series, zip([*GROUPS, GREY, "0.2"], "os^Dvx", ["-", "--", "-.", ":", "-", "--"], strict=True), strict=False)
    )
    fig, axes = plt.subplots(1, len(panels), figsize=(7, 3.3), sharey=True, squeeze=False)
    for ax, panel in zip(axes[0], panels, strict=True):
        for name, own in table[table["panel"] == panel].groupby("series", sort=False):
            color, marker, dash = looks[name]
            dotted = "dots" in own and own["dots"].iloc[0]
            if "low" in own and own["low"].notna().any():
                if dotted:
                    ax.vlines(own["x"], own["low"], own["high"], color=color, lw=3, alpha=0.35)
                else:
                    ax.fill_between(own["x"], own["low"], own["high"], color=color, alpha=0.2, lw=0)
            style = dict(marker=marker, ls="", ms=6) if dotted else dict(ls=dash, lw=2)
            ax.plot(own["x"], own["y"], color=color, label=name, **style)
        for name, height in (lines or {}).items():
            ax.axhline(height, color="0.3", lw=1, ls=(0, (1, 2)))
            ax.text(0.01, height, name, va="bottom", fontsize=9, transform=ax.get_yaxis_transform())
        if shade:
            (ax.axvspan if shade[0] == "x" else ax.axhspan)(*shade[1:], color="0.5", alpha=0.18, lw=0)
        ax.set(xlabel=labels[0], xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
        if len(panels) > 1:
            ax.text(0.5, 1.02, panel, transform=ax.transAxes, ha="center", va="bottom")
        for axis, name in ((ax.xaxis, "x"), (ax.yaxis, "y")):
            if name in log:
                axis.set_major_formatter("{x:g}")
    axes[0][0].set_ylabel(labels[1])
    handles = {label: handle for ax in axes[0] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles, loc="outside upper center", ncol=columns)
    return fig


def scaling_panels(runs, *, label):
    """
    Throughput per accelerator against the size of the cluster, one panel per group, with what a model says.

    Parameters
    ----------
    runs : pandas.DataFrame
        Columns `panel`, `series`, `size`, `measured`, `predicted` (over the smallest cluster of the series) and
        `left_out`: hollow marks were not seen by the fit.
    label : str
        Axis label.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(runs["panel"]))
    fig, axes = plt.subplots(2, -(-len(panels) // 2), figsize=(7.6, 6), sharey=True)
    for ax, panel in zip(axes.flat, panels, strict=False):
        shown = runs[runs["panel"] == panel]
        for color, marker, (name, own) in zip(
            [*GROUPS, GREY, "0.2"], "os^Dvp", shown.groupby("series", sort=False), strict=False
        ):
            curve = own.groupby("size")["predicted"].mean()
            ax.plot(curve.index, curve, "-", color=color, lw=1.3)
            for hidden, dots in own.groupby("left_out"):
                fill = "white" if hidden else color
                ax.plot(
                    dots["size"], dots["measured"], marker, color=color, mfc=fill, ms=5, label=None if hidden else name
                )
        ax.set_title(panel, fontsize=10)
        ends = shown["size"].min(), shown["size"].max()
        ticks = [tick for tick in 8 * 4.0 ** np.arange(7) if ends[0] / 2 <= tick <= 2 * ends[1]]
        ax.set(xscale="log", xlim=(ends[0] / 1.4, ends[1] * 1.4), ylim=(0, 1.12))
        ax.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], fontsize=8)
        ax.minorticks_off()
        ax.legend(fontsize=7.5, loc="lower left", handletextpad=0.2, borderpad=0.1)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    fig.supxlabel("accelerators", fontsize=11)
    fig.supylabel(label, fontsize=11)
    return fig


def predicted_shares(table, *, tolerance, label):
    """
    Measured shares with a band of tolerance, a model's predictions with their intervals, and a baseline.

    Parameters
    ----------
    table : pandas.DataFrame
        Index of names; columns `lost`, `predicted`, `low`, `high`, `power_law`. [1]
    tolerance : float
        Half width of the band, as a share of the measured value. [1]
    label : str
        Axis label.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 0.3 * len(table) + 1.2))
    rows = np.arange(len(table))[::-1]
    lost = 100 * table["lost"]
    ax.barh(
        rows,
        2 * tolerance * lost,
        left=(1 - tolerance) * lost,
        height=0.7,
        color="0.85",
        label=f"measured ± {tolerance:.0%}",
    )
    ax.plot(lost, rows, "|", color="0.2", ms=11, mew=2, label="measured")
    ax.hlines(rows, 100 * table["low"].clip(lower=0.002), 100 * table["high"], color=BLUE, lw=1.5)
    ax.plot(100 * table["predicted"], rows, "o", color=BLUE, ms=5, label="model")
    ax.plot(100 * table["power_law"].clip(lower=0.002), rows, "x", color=ORANGE, ms=6, mew=1.5, label="power law")
    ax.set_yticks(rows, table.index, fontsize=8)
    ax.set(xscale="log", xlabel=label, xlim=(0.9, 100), ylim=(-0.6, len(table) - 0.4))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(axis="y", visible=False)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=4)
    return fig


def stacked_shares(shares, low=None, high=None, *, label):
    """
    What a whole consists of, one stacked bar per case, each part with its value where there is room.

    Parameters
    ----------
    shares : pandas.DataFrame
        One row per case, one column per part, summing to 1 along a row.
    low, high : pandas.DataFrame, optional
        Interval of each part, written below its value. [1]
    label : str
        Axis label.

    Returns
    -------
    matplotlib.figure.Figure
    """
    colors = [BLUE, ORANGE, GREY, GREEN, PINK, "#56b4e9", "#e69f00", "#7a4b00"]
    tall = 0.45 if low is None else 1.0
    fig, ax = plt.subplots(figsize=(7.4, tall * len(shares) + 1.1 + 0.25 * (shares.shape[1] // 3)))
    rows, left = np.arange(len(shares))[::-1], np.zeros(len(shares))
    for color, part in zip(colors, shares, strict=False):
        ax.barh(rows, 100 * shares[part], left=left, color=color, height=0.65, label=part)
        for y, at, (case, value) in zip(rows, left, shares[part].items(), strict=True):
            text = f"{100 * value:.0f}"
            if low is not None:
                text += f"\n({100 * low.at[case, part]:.0f}-{100 * high.at[case, part]:.0f})"
            if value > (0.04 if low is None else 0.055):
                ink = "black" if color in ("#56b4e9", "#e69f00", PINK) else "white"
                size = 9 if low is None else 7
                ax.text(at + 50 * value, y, text, ha="center", va="center", fontsize=size, color=ink)
        left = left + 100 * shares[part].to_numpy()
    ax.set_yticks(rows, shares.index)
    ax.set(xlabel=f"{label} (%)", xlim=(0, 100))
    ax.grid(axis="y", visible=False)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=3, fontsize=9)
    return fig


def counted_and_printed(names, counted, printed, groups, *, label):
    """
    Counts as bars, coloured by group, and a mark where a printed share of the total would put them.

    Parameters
    ----------
    names, groups : sequence of str
        Name and group of each bar.
    counted, printed : array_like
        Count, and count that the printed share implies.
    label : str
        Axis label.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 0.25 * len(counted) + 1.2))
    colors = dict(zip(dict.fromkeys(groups), [BLUE, GREEN, PINK, ORANGE, GREY, "#56b4e9"], strict=False))
    rows = np.arange(len(counted))[::-1]
    for group, color in colors.items():
        own = np.asarray(groups) == group
        ax.barh(rows[own], np.asarray(counted)[own], color=color, height=0.7, label=group)
    ax.plot(printed, rows, "|", color="black", ms=10, mew=2, label="printed share of the total")
    ax.set_yticks(rows, names, fontsize=8)
    ax.set(xlabel=label, ylim=(-0.6, len(counted) - 0.4))
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower right", fontsize=8)
    return fig


def goodput_curves(curves, best):
    """
    Share of time that makes progress against the interval between checkpoints, with the best interval of each curve.

    Parameters
    ----------
    curves : pandas.DataFrame
        Index: interval [min]; one column per cluster. [1]
    best : pandas.DataFrame
        Index as the columns of `curves`; columns: name of a rule -> interval [min].

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 3.4))
    x = curves.index.to_numpy()
    for color, name in zip(GROUPS, curves, strict=False):
        ax.plot(x, 100 * curves[name], color=color, lw=2, label=name)
    for marker, rule in zip("ox^", best, strict=False):
        at = [np.interp(best.loc[name, rule], x, 100 * curves[name]) for name in curves]
        ax.plot(best[rule], at, marker, color="black", ms=7, mfc="none", mew=1.4, ls="none", label=rule)
    ax.set(
        xscale="log", xlabel="work between two checkpoints (min)", ylabel="time that makes progress (%)", ylim=(0, 100)
    )
    ax.xaxis.set_major_formatter("{x:g}")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=3)
    return fig


def dots_and_lines(dots, lines, *, labels):
    """
    Measured values and fitted lines against one quantity, one panel per group.

    Parameters
    ----------
    dots, lines : pandas.DataFrame
        Columns `panel`, `x`, `y`.
    labels : tuple of str
        Axis labels, with units.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(dots["panel"]))
    fig, axes = plt.subplots(1, len(panels), figsize=(2.6 * len(panels), 2.9))
    for ax, panel in zip(axes, panels, strict=True):
        own, line = dots[dots["panel"] == panel], lines[lines["panel"] == panel]
        ax.plot(line["x"], line["y"], color=ORANGE, lw=2)
        ax.plot(own["x"], own["y"], "o", color=BLUE, ms=5, alpha=0.7)
        ax.text(0.5, 1.02, panel, transform=ax.transAxes, ha="center", va="bottom", fontsize=10)
        ax.set(xlim=(0, None), ylim=(0, 1.1 * own["y"].max()))
    fig.supxlabel(labels[0], fontsize=11)
    axes[0].set_ylabel(labels[1])
    return fig


def scaling_explorer(table):
    """
    Share of a training step that is arithmetic against the size of the cluster, with a slider for the batch.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `n_accelerators`, `batch` (million tokens, powers of two from one), `network` (name), `share`.

    Returns
    -------
    altair.Chart
    """
    import altair as alt

    steps = int(np.log2(table["batch"].max()))
    slider = alt.binding_range(min=0, max=steps, step=1, name="batch, as a power of two of million tokens ")
    power = alt.param(name="power", value=4, bind=slider)
    lines = alt.Chart(table).transform_filter(alt.datum.batch == alt.expr.pow(2, power)).mark_line(strokeWidth=2.5)
    encoded = lines.encode(
        x=alt.X("n_accelerators:Q", title="accelerators", scale=alt.Scale(type="log", nice=False)),
        y=alt.Y(
            "share:Q", title="arithmetic, share of a step", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")
        ),
        color=alt.Color(
            "network:N", title=None, legend=alt.Legend(orient="top"), scale=alt.Scale(range=[ORANGE, BLUE])
        ),
        tooltip=["n_accelerators:Q", alt.Tooltip("share:Q", format=".1%"), "network:N"],
    )
    return encoded.add_params(power).properties(width="container", height=260)


def predicted_against_measured(measured, predicted, groups, panels, *, labels):
    """
    Predictions against measurements on logarithmic axes with the 1:1 line, one panel per quantity.

    Parameters
    ----------
    measured, predicted : array_like
        What was measured and what the model says.
    groups, panels : array_like of str
        Group of each row, shown by colour; panel in which it stands.
    labels : dict of str to str
        Panel -> label of its axes, with unit, in order.

    Returns
    -------
    matplotlib.figure.Figure
    """
    frame = pd.DataFrame({"x": measured, "y": predicted, "group": groups, "panel": panels})
    fig, axes = plt.subplots(1, len(labels), figsize=(3.6 * len(labels), 3.9), squeeze=False)
    colors = dict(zip(sorted(frame["group"].unique()), [*GROUPS, GREY, "#e69f00"], strict=False))
    for ax, (panel, label) in zip(axes[0], labels.items(), strict=True):
        own = frame[frame["panel"] == panel]
        for (group, color), marker in zip(colors.items(), "os^Dvx", strict=False):
            dots = own[own["group"] == group]
            ax.plot(dots["x"], dots["y"], marker, color=color, ms=3.5, alpha=0.6, label=group)
        ends = np.array([own[["x", "y"]].min().min() * 0.8, own[["x", "y"]].max().max() * 1.25])
        ax.plot(ends, ends, color="0.3", lw=1)
        ax.fill_between(ends, ends / 1.25, ends * 1.25, color=GREY, alpha=0.15, lw=0)
        ax.set(
            xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel=f"measured {label}", ylabel=f"predicted {label}"
        )
        ax.set_aspect("equal")
        for axis in (ax.xaxis, ax.yaxis):
            decades = np.log10(ends[1] / ends[0])
            axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 1.5 else (1.0, 2.0, 4.0)))
            axis.set_major_formatter(lambda value, _: f"{value:,g}")
            axis.set_minor_formatter("")
    handles, names = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper center", ncol=3, markerscale=1.5)
    return fig


def error_steps(table, *, label):
    """
    Errors of several models on several tasks: one row a task, one mark a model.

    Parameters
    ----------
    table : pandas.DataFrame
        Index of tasks, columns of models, in order. [%]
    label : str
        Axis label, with unit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 0.42 * len(table) + 1.3))
    rows = np.arange(len(table))[::-1]
    ax.hlines(rows, table.min(axis=1), table.max(axis=1), color="0.8", lw=1.5, zorder=1)
    for name, marker, color in zip(table.columns, "xs^oD", [GREY, PINK, ORANGE, BLUE, GREEN], strict=False):
        ax.plot(table[name], rows, marker, color=color, ms=7, mew=1.8, label=name)
    ax.set_yticks(rows, table.index)
    ax.set(xscale="log", xlabel=label, ylim=(-0.6, len(table) - 0.4))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}".strip("0.") in ("2", "5") else "")
    ax.grid(axis="y", visible=False)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=3)
    return fig


def curves_with_points(curves, points, *, labels, logy=False):
    """
    Curves of a model with measured points on them.

    Parameters
    ----------
    curves : dict of str to tuple of array_like
        Name -> x and y.
    points : pandas.DataFrame
        Columns `x`, `y`, `name` (written at the point; may be empty) and `curve` (whose colour it takes).
    labels : tuple of str
        Of the x and y axis, with units.
    logy : bool
        Whether y is logarithmic.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 3.7))
    for color, (name, (x, y)) in zip(GROUPS, curves.items(), strict=False):
        ax.plot(x, y, color=color, label=name)
        own = points[points["curve"] == name]
        ax.plot(own["x"], own["y"], "o", color=color, ms=7, mec="white")
        for row in own.itertuples():
            ax.annotate(row.name, (row.x, row.y), xytext=(8, -12), textcoords="offset points", fontsize=9)
    ax.set(xlabel=labels[0], ylabel=labels[1], yscale="log" if logy else "linear", ylim=(None if logy else 0, None))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=3)
    return fig


def residuals_by(ratio, features, *, label):
    """
    Predicted over measured by several features: median and central 90 % of each class, one panel a feature.

    Parameters
    ----------
    ratio : array_like
        Predicted over measured.
    features : dict of str to array_like
        Feature -> class of each row.
    label : str
        Axis label.

    Returns
    -------
    matplotlib.figure.Figure
    """
    counts = [pd.Series(classes).nunique() for classes in features.values()]
    fig, axes = plt.subplots(
        len(features), 1, figsize=(7, 0.3 * sum(counts) + 0.55 * len(counts) + 0.5), sharex=True, height_ratios=counts,
        squeeze=False,
    )  # fmt: skip
    for ax, (feature, classes) in zip(axes[:, 0], features.items(), strict=True):
        spread = pd.Series(np.asarray(ratio)).groupby(np.asarray(classes)).quantile([0.05, 0.5, 0.95]).unstack()
        rows = np.arange(len(spread))[::-1]
        ax.hlines(rows, spread[0.05], spread[0.95], color=BLUE, lw=3, alpha=0.4)
        ax.plot(spread[0.5], rows, "o", color=BLUE, ms=5)
        ax.axvline(1, color="0.3", lw=1)
        ax.set_yticks(rows, spread.index)
        ax.set(xscale="log", ylim=(-0.7, len(spread) - 0.3))
        ax.text(0, 1.0, feature, transform=ax.transAxes, ha="left", va="bottom", fontsize=9, color="0.35")
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(
            lambda value, _: f"{value:g}" if f"{value:g}" in ("0.5", "0.7", "1.5", "2", "0.8", "1.2") else ""
        )
    axes[-1][0].set_xlabel(label)
    return fig


def mark(fig, marks):
    """
    Draw named vertical lines into the panels of a figure of curves.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        As from `curves`.
    marks : pandas.DataFrame
        Columns `panel` (number of the panel, from the left), `x`, `name` (written along the line).

    Returns
    -------
    matplotlib.figure.Figure
        The same figure.
    """
    plain = dict(fc="white", ec="none", alpha=0.75, pad=0.6)
    for row in marks.itertuples():
        ax = fig.axes[row.panel]
        ax.axvline(row.x, color="0.35", lw=1, ls=":")
        place = dict(rotation=90, ha="center", va="bottom", transform=ax.get_xaxis_transform(), bbox=plain)
        ax.text(row.x, 0.03, row.name, fontsize=8, color="0.25", **place)
    return fig


def place_maps(x, y, panels, *, names, labels):
    """
    Cheapest place over two axes, one map per panel.

    Parameters
    ----------
    x, y : array_like, one-dimensional
        The axes; both logarithmic.
    panels : dict of str to numpy.ndarray of str, shape (y, x)
        Title -> cheapest place.
    names : sequence of str
        The places, in the order of their colours.
    labels : tuple of str
        Axis labels, with units.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = plt.subplots(2, -(-len(panels) // 2), figsize=(7.6, 4.6), sharex=True, sharey=True, squeeze=False)
    light = 0.5 * np.array([to_rgb(color) for color in GROUPS[: len(names)]]) + 0.5
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (title, place) in zip(axes.flat, panels.items(), strict=False):
        index = np.select([place == name for name in names], range(len(names)))
        ax.pcolormesh(x, y, light[index], shading="nearest", rasterized=True)
        ax.set_title(title, fontsize=9)
        ax.set(xscale="log", yscale="log")
        ax.grid(visible=False)
    fig.supxlabel(labels[0], fontsize=11)
    fig.supylabel(labels[1], fontsize=11)
    shown = [plt.Rectangle((0, 0), 1, 1, color=color) for color in light]
    fig.legend(shown, names, loc="outside upper center", ncol=len(names))
    return fig


def gains(table, *, label):
    """
    Ranges that were predicted and values that were measured, one row each, on a logarithmic axis around one.

    Parameters
    ----------
    table : pandas.DataFrame
        Index of names; columns `low`, `high` (predicted), `measured_low`, `measured_high`.
    label : str
        Axis label.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7, 0.42 * len(table) + 1.1))
    rows = np.arange(len(table))[::-1]
    ax.hlines(rows + 0.13, table["low"], table["high"], color=BLUE, lw=6, alpha=0.45, label="predicted")
    ax.plot(table["low"], rows + 0.13, "|", table["high"], rows + 0.13, "|", color=BLUE, ms=9)
    ax.hlines(rows - 0.13, table["measured_low"], table["measured_high"], color=ORANGE, lw=2)
    for end, name in (("measured_low", "measured"), ("measured_high", None)):
        ax.plot(table[end], rows - 0.13, "o", color=ORANGE, ms=6, label=name)
    ax.axvline(1, color="0.4", lw=1)
    ax.set_yticks(rows, table.index)
    ax.set(xscale="log", xlabel=label, ylim=(-0.6, len(table) - 0.4))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(axis="y", visible=False)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=2)
    return fig


def shares_map(table, *, label):
    """
    Shares as a map of colours with their numbers, grey where nothing is known.

    Parameters
    ----------
    table : pandas.DataFrame
        Index and columns of names; shares, nan where nothing is known. [1]
    label : str
        What is shown.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(7.2, 0.42 * len(table) + 1.6))
    ax.set_facecolor("0.85")
    text = table.map(lambda x: "" if np.isnan(x) else f"{100 * x:.0f}")
    bar = dict(label=label, format=lambda x, _: f"{100 * x:.0f}")
    sns.heatmap(table, annot=text, fmt="", cmap="viridis", vmin=0, vmax=1, ax=ax, linewidths=1, cbar_kws=bar)
    ax.tick_params(axis="x", rotation=30)
    ax.tick_params(axis="y", rotation=0)
    ax.set(xlabel="", ylabel="")
    return fig


def waterfall(table, *, label, total="a finished task"):
    """
    Bars that each start where the one above ends, and their sum: what a thing costs, and because of what.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `bar` (in plain words, in order), `value`, `low`, `high` (ends of the interval; nan for none) and
        `group`, of which each gets a panel; a row named as `total` gives the sum its own interval.
    label : str
        Axis label, with unit.
    total : str
        Name of the sum.

    Returns
    -------
    matplotlib.figure.Figure
    """
    groups = list(dict.fromkeys(table["group"]))
    bars = [bar for bar in dict.fromkeys(table["bar"]) if bar != total]
    fig, axes = plt.subplots(len(groups), figsize=(6.4, (0.46 * len(bars) + 1.35) * len(groups)), squeeze=False)
    for ax, group in zip(axes[:, 0], groups, strict=True):
        own = table[table["group"] == group].set_index("bar")
        steps = own.reindex(bars)
        ends, whole = steps["value"].cumsum(), steps["value"].sum()
        rows, start = np.arange(len(bars) + 1)[::-1], np.append(ends - steps["value"], 0.0)
        size, color = np.append(steps["value"], whole), [GREEN, *[ORANGE] * (len(bars) - 1), BLUE]
        ax.barh(rows, size, left=start, color=color, height=0.62)
        ax.vlines(ends, rows[1:] - 0.31, rows[:-1] - 0.31, color="0.4", lw=0.9)
        last = own.loc[total] if total in own.index else pd.Series({"low": np.nan, "high": np.nan})
        low, high = (start + np.append(steps[name], last[name]) for name in ("low", "high"))
        ax.hlines(rows, low, high, color="0.15", lw=1.3)
        ax.plot(low, rows, "|", high, rows, "|", color="0.15", ms=7)
        right = np.fmax(start + size, high)
        for y, x, amount, first in zip(rows, right, size, rows == rows[0], strict=True):
            text = f"{'' if first or y == 0 else '+ '}{short(amount)} USD"
            text += "" if y == 0 or not whole else f" ({amount / whole:.0%})"
            ax.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
        names = [*(f"{'+ ' if i else ''}{bar}" for i, bar in enumerate(bars)), f"= {total}"]
        ax.set_yticks(rows, names)
        ax.get_yticklabels()[-1].set_fontweight("bold")
        ax.set(xlim=(0, np.nanmax(right) * 1.38), xlabel=label if group == groups[-1] else "")
        ax.set_title(group if len(groups) > 1 else "", loc="left", fontsize=11)
        ax.grid(axis="y", visible=False)
    return fig
