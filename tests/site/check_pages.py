"""Open every built page in headless Chromium, light, dark and on a phone, and report what a reader would trip over."""

import functools
import http.server
import os
import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

BUILT = Path(__file__).parents[2] / "_build" / "html"
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
NO_ALT = "[...document.images].filter(i => !i.hasAttribute('alt') || !i.alt.trim()).map(i => i.src)"


def browser_path():
    """Path of an installed Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    found = [os.environ.get("CHROME"), *map(shutil.which, names), mac if Path(mac).exists() else None]
    return next(filter(None, found), None) or sys.exit(
        "the page check needs Chromium or Chrome; set CHROME to its path"
    )


def faults(page, address, hosts):
    """Open one page, scroll through it, and yield what is wrong."""
    noise = []
    page.on("console", lambda m: m.type == "error" and noise.append(f"console error: {m.text}"))
    page.on("pageerror", lambda error: noise.append(f"script error: {error}"))
    page.on("requestfailed", lambda r: noise.append(f"failed request: {r.url}"))
    page.on("response", lambda r: r.status >= 400 and noise.append(f"status {r.status}: {r.url}"))
    page.on("request", lambda r: r.url.startswith(hosts) or noise.append(f"request to another host: {r.url}"))
    page.goto(address, wait_until="networkidle")
    for chart in page.locator(".econ-chart").all():
        chart.scroll_into_view_if_needed()
        page.wait_for_timeout(100)
    charts = page.locator(".econ-chart")
    for i in range(charts.count()):
        charts.nth(i).scroll_into_view_if_needed()
        try:
            page.wait_for_selector(f".econ-chart[data-drawn] >> nth={i}", timeout=10_000)
        except Exception:
            yield f"interactive chart {i + 1} is not drawn"
    yield from noise
    if (over := page.evaluate(OVERFLOW)) > 0:
        yield f"the page is {over} px wider than the screen"
    yield from (f"image without alt text: {source}" for source in page.evaluate(NO_ALT))


def main(shots=None):
    """Check all pages; with a folder as argument leave a screenshot of each there."""
    pages = sorted(p.relative_to(BUILT).as_posix() for p in BUILT.rglob("*.html") if "_static" not in p.parts)
    if not pages:
        sys.exit(f"no pages in {BUILT}: build the book first")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=BUILT))
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    found = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path(), args=FLAGS)
        for look, options in LOOKS.items():
            context = browser.new_context(**options)
            for name in pages:
                page = context.new_page()
                found += [f"{name} ({look}): {fault}" for fault in faults(page, home + name, (home, "data:", "blob:"))]
                if shots:
                    target = Path(shots) / f"{name.replace('/', '-')}-{look}.png"
                    page.screenshot(path=target, full_page=True)
                page.close()
            context.close()
        browser.close()
    server.shutdown()
    print(*found, sep="\n")
    print(f"{len(pages)} pages in {len(LOOKS)} looks: {len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
