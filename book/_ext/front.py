"""Write what the front pages show from the committed results: the waterfall with its words, and the verdicts."""

import hashlib
import re
from pathlib import Path

from econmodel import catalog, figures, fleet, uncertainty

ROOT = Path(__file__).parents[2]
FIGURE = ROOT / "book" / "_static" / "headline.svg"
RESULTS = "10_conclusions"
TASKS = {"request": "coding request", "session": "coding session", "service": "customer-service task"}
BARS = dict(zip(("ideal", "provisioning", "headroom", "contexts", "attempts"), fleet.CAUSES, strict=True))


def block(name):
    """Markers of a part of a page that this script writes."""
    return f"<!-- {name}: written by `make results` -->", f"<!-- end of {name} -->"


def fingerprint():
    """Hash of the results behind the figure; stored in it, so that a stale figure is noticed."""
    return hashlib.sha256((catalog.DATA / "results" / f"{RESULTS}.csv").read_bytes()).hexdigest()[:16]


def waterfall():
    """Bars of the tasks and their sums, as the chapter handed them on."""
    found = catalog.results(RESULTS)
    named = BARS | {"total": "a finished task"}
    keys = [(f"waterfall_{task}_{bar}", TASKS[task], named[bar]) for task in TASKS for bar in named]
    rows = found.loc[[key for key, *_ in keys], ["value", "low", "high"]].reset_index(drop=True)
    return rows.assign(group=[group for _, group, _ in keys], bar=[bar for *_, bar in keys])


def draw():
    """Draw the headline figure."""
    figures.use_style()
    fig = figures.waterfall(waterfall(), label="USD per finished task")
    fig.savefig(FIGURE, metadata={"Date": None, "Description": fingerprint()})


def words():
    """Alternative text and caption of the figure, in numbers of the results."""
    told, totals, largest = [], [], {}
    for group, own in waterfall().groupby("group", sort=False):
        *bars, total = own.itertuples()
        told.append(f"a finished {group}, " + ", ".join(f"{row.bar} {figures.short(row.value)}" for row in bars))
        totals.append(f"a {group} {figures.interval(total.value, total.low, total.high)}")
        largest[group] = max(bars, key=lambda row: row.value).bar
    biggest = "; ".join(f"{bar} for a {group}" for group, bar in largest.items())
    if len(set(largest.values())) == 1:
        biggest = next(iter(largest.values()))
    alt = f"Waterfalls in USD: {'; '.join(told)}."
    caption = f"What a finished task costs the owner of the GPUs, in USD: {', '.join(totals)}."
    return alt, f"{caption} The largest bar: {biggest}."


def verdicts():
    """Table of the claims that have a verdict, in Markdown."""
    ledger = uncertainty.verdicts(catalog.claims(), catalog.results())
    lines = ["| the essay says | verdict | value (interval) |", "|---|---|---|"]
    for row in ledger[ledger["verdict"] != ""].itertuples():
        value = figures.interval(row.value, row.low, row.high)
        lines.append(f"| {row.claim} | **{row.verdict}** | {value} |")
    return "\n".join(lines)


def renewed(text, name, content):
    """Page with one of its blocks written anew."""
    begin, end = block(name)
    return f"{text[: text.index(begin)]}{begin}\n{content}\n{end}{text[text.index(end) + len(end) :]}"


def readme(text):
    """README with its figure and its verdicts renewed."""
    alt, caption = words()
    text = renewed(text, "figure", f"![{alt}](book/_static/{FIGURE.name})\n\n*{caption}*")
    return renewed(text, "verdicts", verdicts())


def index(text):
    """First page of the book with the alternative text of its figure renewed; its caption is glued."""
    return re.sub(r"(?m)^:alt: .*$", lambda _: f":alt: {words()[0]}", text, count=1)


if __name__ == "__main__":
    draw()
    for page, renew in ((ROOT / "README.md", readme), (ROOT / "book" / "index.md", index)):
        page.write_text(renew(page.read_text(encoding="utf-8")), encoding="utf-8")
