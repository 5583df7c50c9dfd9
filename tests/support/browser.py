"""The book as it is built, and Debian's Chromium to look at it with: what the tests and `make shots` share."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
# no background requests of the browser's own: whatever is requested, the page asked for it
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
FLAGS += ["--disable-component-update", "--disable-quic"]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
LIVE = "() => [...document.querySelectorAll('.explorable')].every(f => f.matches('.is-live'))"
KNOWN = re.compile(r"THEBE_JS_URL.*has already been declared")  # the theme declares it twice on pages with code
# how a page is opened, each in a way of its own: over http in the dark on a phone, from its file, without scripts
MODES = {
    "http": {"viewport": NARROW, "dark": True},
    "file": {"viewport": WIDE},
    "no scripts": {"viewport": WIDE, "java_script_enabled": False},
}
REVEAL = "() => document.querySelectorAll('.prediction-skip').forEach(skip => skip.click())"  # what is veiled
NO_BROWSER = "no Chromium found: install it (Debian: apt-get install chromium) or set W2S_CHROMIUM"
# the Makefile's command; a test that builds a clone has no Makefile environment of its own
BUILD = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "-n", "-W", "--keep-going"]


def build_environment(**changes):
    """Environment in which chapters are executed: the outputs do not depend on how the tests are run."""
    environment = os.environ | changes
    if "PYTEST_XDIST_WORKER" in environment:
        environment.pop("OMP_NUM_THREADS", None)
    return environment


def build_book(folder, **environment):
    """Strict build of the book in `folder`, as `make book` does it; an unchanged book takes a few seconds."""
    done = subprocess.run(
        BUILD,
        cwd=folder,
        env=build_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"the strict build failed:\n{done.stdout[-5000:]}"
    return Path(folder) / "_build" / "html"


def pages():
    """The pages of _toc.yml, as paths below the built site."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [f"{name}.html" for name in [toc["root"], *chapters]]


def find_chromium():
    """Path of the browser, or None. W2S_CHROMIUM overrides the search."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("W2S_CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def chromium():
    """A running headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def unexpected(errors):
    return [error for error in errors if not KNOWN.search(error)]


@contextmanager
def opened(browser, url, viewport=WIDE, dark=False, **options):
    """(page, requests, console errors) of `url`, loaded and with its formulas set; `options` of the browser context."""
    context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light", **options)
    context.set_default_timeout(120_000)  # ms; a busy machine is slow, a page that hangs still fails
    page, requests, errors = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("requestfailed", lambda request: errors.append(f"request failed: {request.url}"))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(url, wait_until="load")
        page.evaluate("() => window.MathJax?.startup?.promise")
        yield page, requests, errors
    finally:
        context.close()


class Tabs:
    """`with tabs(name, mode) as (page, requests, errors)`: a page's opening in that mode, which its tests share.

    A test that fails may leave the page in any state: the next one has it opened anew.
    """

    def __init__(self, browser, served):
        self.browser, self.served, self.name, self.tabs = browser, served, None, {}

    @contextmanager
    def __call__(self, name, mode):
        if name != self.name:
            self.close()
            self.name = name
        if mode not in self.tabs:
            stack = ExitStack()
            self.tabs[mode] = stack, stack.enter_context(opened(self.browser, self.base(mode) + name, **MODES[mode]))
        try:
            yield self.tabs[mode][1]
        except BaseException:
            self.tabs.pop(mode)[0].close()
            raise

    def base(self, mode):
        return self.served if mode == "http" else HTML.as_uri() + "/"

    def close(self):
        while self.tabs:
            self.tabs.popitem()[1][0].close()
