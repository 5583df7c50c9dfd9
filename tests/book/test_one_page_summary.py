"""The book on one page: one sheet of A4 in print, and nothing on it but what readers of it need."""

import re

import pytest
from browser import ROOT, WIDE

A4 = {"width": 794, "height": 1123}  # CSS pixels


# The fonts of a machine decide nothing: DejaVu is the widest of the common ones, and wider ones are emulated.
TEXT = "#the-book-on-one-page :not(mjx-container, mjx-container *)"
FONTS = {
    "fonts of this machine": f"{TEXT} {{}}",
    "DejaVu": f"{TEXT} {{ font-family: 'DejaVu Sans' !important; }}",
    "wider than DejaVu": f"{TEXT} {{ font-family: 'DejaVu Sans' !important; letter-spacing: 0.03em; }}",
}
SMALLEST = """() => {
  const sheet = document.querySelector('#the-book-on-one-page'), sizes = [];
  const texts = document.createTreeWalker(sheet, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const {textContent, parentElement} = texts.currentNode, svg = parentElement.closest('svg');
    if (!textContent.trim() || !parentElement.checkVisibility() || parentElement.closest('mjx-container')) continue;
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    sizes.push(parseFloat(getComputedStyle(parentElement).fontSize) * scale);
  }
  return Math.min(...sizes) * 72 / 96;
}"""


@pytest.fixture
def sheet(tab):
    with tab("book/reference/one_page_summary.html", "file") as (page, _, _):
        yield page
        page.emulate_media(media="null")
        page.set_viewport_size(WIDE)


@pytest.mark.parametrize("fonts", FONTS)
@pytest.mark.parametrize("margin", ["0.4in", "0.5in", "15mm"])
def test_it_prints_on_one_sheet(sheet, margin, fonts):
    """The browsers' own margins are 0.4 and 0.5 inches; pages are counted in the file."""
    style = sheet.add_style_tag(content=FONTS[fonts])
    pdf = sheet.pdf(format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), margin))
    style.evaluate("style => style.remove()")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1


def test_its_print_is_legible(sheet):
    sheet.emulate_media(media="print")
    sheet.set_viewport_size({"width": A4["width"] - 76, "height": A4["height"] - 76})
    assert sheet.evaluate(SMALLEST) >= 7.5  # points


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
    text = re.sub(r"```\{raw\}.*?```|\$\$.*?\$\$|\$.*?\$|`[^`]*`|\]\([^)]*\)|A4|w2s", "", text, flags=re.DOTALL)
    assert re.findall(r"\d", text) == []
