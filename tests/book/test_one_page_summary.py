"""The book on one page: one sheet of A4 in print, and nothing on it but what readers of it need."""

import re

import pytest
from browser import HTML, ROOT, opened

A4 = {"width": 794, "height": 1123}  # CSS pixels


@pytest.fixture
def sheet(browser, book):
    with opened(browser, (HTML / "book/reference/one_page_summary.html").as_uri()) as (page, _, _):
        yield page


@pytest.mark.parametrize("margin", ["0.4in", "0.5in", "15mm"])
def test_it_prints_on_one_sheet(sheet, margin):
    """The browsers' own margins are 0.4 and 0.5 inches; pages are counted in the file."""
    pdf = sheet.pdf(format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), margin))
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1


def test_print_shows_the_sheet_alone_and_whole(sheet):
    sheet.emulate_media(media="print")
    sheet.set_viewport_size({"width": A4["width"] - 76, "height": A4["height"] - 76})
    for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".bd-footer", "a.headerlink"):
        assert not any(piece.is_visible() for piece in sheet.locator(part).all()), part
    assert sheet.locator("#the-book-on-one-page h1").is_visible()
    cut = """() => [...document.querySelectorAll('#the-book-on-one-page :is(mjx-container[display=true], table)')]
        .filter(e => e.scrollWidth > e.clientWidth + 2).map(e => e.textContent)"""
    assert sheet.evaluate(cut) == []
    assert sheet.evaluate("() => document.documentElement.scrollWidth") <= A4["width"] - 76


def test_it_states_no_measured_number():
    """Numbers go stale; constants of theorems stand in formulas."""
    text = (ROOT / "book" / "reference" / "one_page_summary.md").read_text()
    text = re.sub(r"```\{raw\}.*?```|\$\$.*?\$\$|\$.*?\$|`[^`]*`|A4|w2s", "", text, flags=re.DOTALL)
    assert re.findall(r"\d", text) == []
