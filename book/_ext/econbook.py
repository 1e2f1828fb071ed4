"""Sphinx extension of the book: everything a page needs is served with it, and the data can be downloaded."""

import os
import re
import shutil
from importlib.metadata import files
from pathlib import Path

import nbformat


def serve_locally(app):
    """Put MathJax, the chart library and the data files where the built pages find them."""
    root = Path(app.srcdir)
    static = Path(app.outdir) / "_static"
    # the redirecting first page names no icon, so a browser asks for the default one
    shutil.copyfile(root / "book" / "_static" / "favicon.svg", Path(app.outdir) / "favicon.ico")
    shutil.rmtree(static / "data", ignore_errors=True)
    shutil.copytree(root / "data", static / "data", ignore=shutil.ignore_patterns("*.md"))
    for item in files("sphinx-mathjax-offline") or []:
        found = re.search(r"/(tex-chtml\.js|output/chtml/fonts/woff-v2/.+)$", str(item))
        if found:
            target = static / "mathjax" / found[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(item.locate(), target)
    import vl_convert

    # unwrapped, the bundle's helper named _ would collide with the one of Sphinx
    (static / "vega-bundle.js").write_text(f"(() => {{\n{vl_convert.javascript_bundle()}\n}})();\n", encoding="utf-8")


def describe(app, pagename, templatename, context, doctree):
    """Give notebooks the description that pages carry in their front matter."""
    source = Path(app.srcdir) / f"{pagename}.ipynb"
    if source.exists():
        text = nbformat.read(source, as_version=4).metadata.get("description", "")
        context["metatags"] = context.get("metatags", "") + f'\n<meta name="description" content="{text}" />'


def drop_thebe(app, pagename, templatename, context, doctree):
    """Leave out the live-code scripts, which ask another host."""
    for name in ("script_files", "css_files"):
        context[name] = [item for item in context.get(name, []) if "thebe" not in f"{item} {vars(item)}".lower()]
    body = context.get("body", "")
    context["body"] = re.sub(r'<script type="text/x-thebe-config">.*?</script>', "", body, flags=re.DOTALL)


def trust_fresh_cache(app, config):
    """Take the outputs of a run that `make` has just made, two notebooks at a time, instead of executing one by one."""
    if os.environ.get("NOTEBOOKS_ARE_FRESH"):
        config.nb_execution_mode = "cache"


def show_address(app, config):
    """Offer repository, edit, Binder, Colab and canonical links once `repository_url` is set."""
    options = config.html_theme_options
    address = options["repository_url"].rstrip("/")
    for button in ("use_repository_button", "use_issues_button", "use_edit_page_button"):
        options[button] = bool(address)
    if address:
        options["launch_buttons"] = {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        }
        owner, name = address.split("/")[-2:]
        config.html_baseurl = f"https://{owner}.github.io/{name}/"


def setup(app):
    """Register the hooks."""
    app.connect("config-inited", show_address)
    app.connect("config-inited", trust_fresh_cache)
    app.connect("builder-inited", serve_locally)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
