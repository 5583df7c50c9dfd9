"""The built pages in a real browser: over http and from file://, offline, on a phone, light and dark."""

import re
from pathlib import Path

import pytest
from browser import HTML, NARROW, ROOT, opened, pages

KNOWN = re.compile(r"THEBE_JS_URL.*has already been declared")  # the theme declares it twice on pages with code
every_page = pytest.mark.parametrize("name", pages())


def unexpected(errors):
    return [error for error in errors if not KNOWN.search(error)]


@pytest.mark.parametrize("scheme", ["http", "file"])
@every_page
def test_page_opens_offline_and_without_errors(name, scheme, browser, book, served):
    base = served if scheme == "http" else HTML.as_uri() + "/"
    with opened(browser, base + name) as (page, requests, errors):
        assert unexpected(errors) == []
        outside = [url for url in requests if not url.startswith((base, "data:", "blob:"))]
        assert outside == []
        broken = page.evaluate("() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
        assert broken == []
        assert page.locator(".bd-article h1").count() == 1
        source = (ROOT / name).with_suffix(".md").read_text()
        if "$$" in source:
            assert page.locator("mjx-container[display=true]").count() >= source.count("$$") // 2
            assert page.locator("mjx-merror").count() == 0
            assert page.evaluate("() => [...document.fonts].some(f => /MJX/.test(f.family) && f.status == 'loaded')")


@every_page
def test_every_link_and_anchor_exists(name, browser, book):
    with opened(browser, (HTML / name).as_uri()) as (page, _, _):
        links = page.evaluate("() => [...document.querySelectorAll('.bd-main a[href]')].map(a => a.href)")
    for link in links:
        if link.startswith("file://"):
            path, _, anchor = link.removeprefix("file://").partition("#")
            assert Path(path).is_file(), link
            assert not anchor or f'id="{anchor}"' in Path(path).read_text(), link


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@every_page
def test_page_fits_a_phone(name, dark, browser, book):
    with opened(browser, (HTML / name).as_uri(), NARROW, dark) as (page, _, _):
        assert page.evaluate("() => document.documentElement.dataset.theme") == ("dark" if dark else "light")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= NARROW["width"]


@every_page
def test_every_image_has_an_alt_text_that_says_something(name, browser, book):
    with opened(browser, (HTML / name).as_uri()) as (page, _, _):
        for alt in page.evaluate("() => [...document.querySelectorAll('.bd-article img')].map(i => i.alt)"):
            assert len(alt) > 40 and not alt.endswith(".png"), alt


def test_solutions_unfold(browser, book):
    with opened(browser, (HTML / "book/phenomenon.html").as_uri()) as (page, _, _):
        solution = page.locator("div.solution.dropdown").first
        body = solution.locator(".section, section, div.cell").first
        assert not body.is_visible()
        solution.locator("button, summary, .toggle-button").first.click()
        assert body.is_visible()
