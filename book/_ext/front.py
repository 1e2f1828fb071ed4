"""Write what the front pages show from the committed results: the figure, and the verdicts in README.md."""

import hashlib
from pathlib import Path

from econmodel import catalog, compound_error, figures, uncertainty

ROOT = Path(__file__).parents[2]
FIGURE = ROOT / "book" / "_static" / "headline.svg"
BEGIN, END = "<!-- verdicts: written by `make results` -->", "<!-- end of verdicts -->"


def fingerprint():
    """Hash of the data behind the figure; stored in it, so that a stale figure is noticed."""
    return hashlib.sha256((catalog.DATA / "tau2_pass_hat_k.csv").read_bytes()).hexdigest()[:16]


def draw():
    """Draw the headline figure."""
    tau = catalog.tau2_pass_hat_k().query("histogram == 'exact'")
    fit = compound_error.fit_pass_hat_k(tau["pass_1"], tau["pass_2"])
    figures.use_style()
    domain = tau["domain"].str.replace("_knowledge", "")
    fig = figures.retry_frontier(fit.mean, fit.correlation, domain, low=fit.correlation, high=fit.correlation)
    fig.savefig(FIGURE, metadata={"Date": None, "Description": fingerprint()})


def verdicts():
    """Table of the claims that have a verdict, in Markdown."""
    ledger = uncertainty.verdicts(catalog.claims(), catalog.results())
    lines = ["| the essay says | verdict | value (interval) |", "|---|---|---|"]
    for row in ledger[ledger["verdict"] != ""].itertuples():
        value = figures.interval(row.value, row.low, row.high)
        lines.append(f"| {row.claim} | **{row.verdict}** | {value} |")
    return "\n".join([BEGIN, *lines, END])


def readme(text):
    """README with its verdicts renewed."""
    return text[: text.index(BEGIN)] + verdicts() + text[text.index(END) + len(END) :]


if __name__ == "__main__":
    draw()
    page = ROOT / "README.md"
    page.write_text(readme(page.read_text(encoding="utf-8")), encoding="utf-8")
