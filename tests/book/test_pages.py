"""The built pages in a real browser: over http and from file://, offline, on a phone, light and dark, by keyboard.

A page is opened once a mode (browser.MODES) for all its tests, here and in test_moving_figures.py. What is unfolded
stays so: that is done in the modes in which no later test minds.
"""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import HTML, LIVE, MODES, NARROW, ROOT, WIDE, opened, pages, unexpected

AXE = Path(find_spec("axe_playwright_python").origin).parent / "axe.min.js"
LOOK = """() => {
  const all = selector => [...document.querySelectorAll(selector)];
  return {
    theme: document.documentElement.dataset.theme,
    broken: [...document.images].filter(i => !i.naturalWidth).map(i => i.src),
    titles: all('.bd-article h1').length,
    formulas: all('mjx-container[display=true]').length,
    misread: all('mjx-merror').length,
    font: [...document.fonts].some(f => /MJX/.test(f.family) && f.status == 'loaded'),
    links: all('.bd-main a[href]').map(a => a.href),
    alts: all('.bd-article img').map(i => i.alt),
  };
}"""
# Fades end at once, else half-faded text is judged by its half contrast. Of the thousands of tokens of code, those with
# the same classes in the same kind of block have the same colours: the first that shows is judged, and its twins become
# plain text before, which halves the time.
AUDIT = """async () => {
  document.getAnimations().forEach(animation => animation.finish());
  const seen = new Set();
  for (const token of document.querySelectorAll('.highlight pre span, dt.sig span')) {
    let kind = '';
    for (let part = token; part.matches('.bd-article *'); part = part.parentElement)
      kind += `${part.tagName} ${part.className} ${part.style.cssText}<`;
    if (seen.has(kind)) token.replaceWith(...token.childNodes);
    else if (token.checkVisibility()) seen.add(kind);
  }
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'];
  const {violations} = await axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']});
  return violations.flatMap(({id, nodes}) => nodes.map(node => `${id}: ${node.html} ${node.failureSummary}`));
}"""
# every prediction ventured, wrongly; all that is folded open
OPEN_ALL = """() => {
  document.querySelectorAll('.prediction li:not(.right):first-of-type > button').forEach(answer => answer.click());
  document.querySelectorAll('.prediction-skip').forEach(skip => skip.click());
  document.querySelectorAll('details').forEach(details => details.open = true);
  document.querySelectorAll('.toggle-button-hidden').forEach(button => button.click());
}"""
# admonitions, which hide what overflows them
CUT_OFF = """() => [...document.querySelectorAll('.bd-article .admonition')]
  .filter(box => box.checkVisibility() && box.scrollWidth > box.clientWidth)
  .map(box => box.textContent.trim().slice(0, 100))"""
# packages whose files a bare site has too; what comes from elsewhere is the book's own
THEME = ["sphinx", "pydata_sphinx_theme", "sphinx_book_theme", "jupyter_book", "myst_nb", "sphinx_copybutton"]
THEME += ["sphinx_togglebutton", "sphinx_design", "sphinx_thebe", "sphinx_proof", "sphinx_exercise"]
every_page = pytest.mark.parametrize("name", pages())
ASKING = [name for name in pages() if ":class: self-check" in (ROOT / name).with_suffix(".md").read_text()]


@pytest.fixture(scope="module")
def look(tab):
    """look(name, scheme): what an opening of a page shows, for the tests that only look."""

    @cache
    def see(name, scheme="file"):
        with tab(name, scheme) as (page, requests, errors):
            base = page.url.removesuffix(name)
            page.wait_for_function(LIVE)
            outside = [url for url in requests if not url.startswith((base, "data:", "blob:"))]
            return page.evaluate(LOOK) | {"errors": unexpected(errors), "outside": outside}

    return see


@pytest.mark.parametrize("scheme", ["http", "file"])
@every_page
def test_page_opens_offline_and_without_errors(name, scheme, look):
    seen = look(name, scheme)
    assert seen["theme"] == ("dark" if MODES[scheme].get("dark") else "light")
    assert seen["errors"] == []
    assert seen["outside"] == []
    assert seen["broken"] == []
    assert seen["titles"] == 1
    source = (ROOT / name).with_suffix(".md").read_text()
    if "$$" in source:
        assert seen["formulas"] >= source.count("$$") // 2
        assert seen["misread"] == 0
        assert seen["font"]


@every_page
def test_every_link_and_anchor_exists(name, look):
    for link in look(name)["links"]:
        if link.startswith("file://"):
            path, _, anchor = link.removeprefix("file://").partition("#")
            assert Path(path).is_file(), link
            assert not anchor or f'id="{anchor}"' in Path(path).read_text(), link


@every_page
def test_every_image_has_an_alt_text_that_says_something(name, look):
    for alt in look(name)["alts"]:
        assert len(alt) > 40 and not alt.endswith(".png"), alt


def show(page, viewport, theme):
    """Turn the light on or off and the phone into a screen, as a reader does while the page is open."""
    page.emulate_media(color_scheme=theme)
    page.wait_for_function("theme => document.documentElement.dataset.theme == theme", arg=theme)
    if page.viewport_size != viewport:
        page.set_viewport_size(viewport)
        page.wait_for_timeout(500)  # the theme waits until resizing is over


@pytest.mark.parametrize("theme", ["dark", "light"])
@every_page
def test_page_fits_a_phone(name, theme, tab):
    with tab(name, "http") as (page, _, _):
        show(page, NARROW, theme)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= NARROW["width"]


@pytest.mark.parametrize("viewport", [NARROW, WIDE], ids=["phone", "screen"])
@every_page
def test_nothing_is_cut_off(name, viewport, tab):
    """What is too wide scrolls in a box of its own, folded proofs and statements included."""
    with tab(name, "http") as (page, _, _):
        show(page, viewport, "light")
        page.evaluate(OPEN_ALL)
        assert page.evaluate(CUT_OFF) == []


def test_solutions_unfold(browser, book):
    with opened(browser, (HTML / "book/course/01_phenomenon.html").as_uri()) as (page, _, _):
        solution = page.locator("div.solution.dropdown").first
        body = solution.locator(".section, section, div.cell").first
        assert not body.is_visible()
        solution.locator("button, summary, .toggle-button").first.click()
        assert body.is_visible()


# mode of the opening, unfolded or not, width, theme: colours do not depend on the width, nor boxes on the colours
VIEWS = {
    "as it opens": ("file", False, WIDE, "light"),
    "unfolded on a phone": ("http", True, NARROW, "light"),
    "unfolded in the dark": ("http", True, WIDE, "dark"),
}


@pytest.mark.parametrize("view", VIEWS)
@every_page
def test_axe_finds_nothing(name, view, tab):
    """WCAG 2.1 A and AA: as the page opens, and with all that it hides, on a phone and in the dark."""
    mode, unfold, viewport, theme = VIEWS[view]
    with tab(name, mode) as (page, _, _):
        show(page, viewport, theme)
        page.evaluate(AXE.read_text())
        if unfold:
            page.evaluate(OPEN_ALL)
        found = page.evaluate(AUDIT)
        assert not found, f"{len(found)} violations\n" + "\n".join(found[:5])


@pytest.mark.parametrize("name", ASKING)
def test_self_check_by_keyboard(name, tab):
    with tab(name, "file") as (page, _, _):
        answer = page.locator(".self-check details").first
        explanation = answer.locator(".sd-summary-content")
        answer.locator("> summary").focus()
        assert not explanation.is_visible()
        for visible in (True, False):
            page.keyboard.press("Enter")
            assert explanation.is_visible() == visible


@every_page
def test_page_is_light(name, book):
    page = HTML / name
    images = set(re.findall(r'<img [^>]*src="([^"]*_images/[^"]*)"', page.read_text()))
    size = page.stat().st_size + sum((page.parent / image).stat().st_size for image in images)
    assert size <= 2_000_000, f"{size:,} bytes"


def test_the_site_adds_little_to_the_theme(book):
    folders = [Path(find_spec(package).origin).parent for package in THEME]
    theirs = {(file.name, file.stat().st_size) for folder in folders for file in folder.rglob("*") if file.is_file()}
    files = {file: file.stat().st_size for file in (HTML / "_static").rglob("*") if file.is_file()}
    ours = {str(file.relative_to(HTML)): size for file, size in files.items() if (file.name, size) not in theirs}
    assert {"_static/book.css", "_static/vega.js", "_static/mathjax/tex-chtml.js"} <= ours.keys()
    assert sum(ours.values()) <= 3_000_000, sorted(ours.items(), key=lambda item: -item[1])[:20]
