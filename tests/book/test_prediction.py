"""Predictions on the built pages, by mouse and keyboard, in print and without scripts; and what the build refuses."""

from contextlib import contextmanager

import pytest
from browser import HTML, LIVE, ROOT, opened, pages
from chapter_source import Chapter
from small_site import build_page

PREDICTING = [
    name
    for name in pages()
    if any(p.inside("dropdown") for p in Chapter((ROOT / name).with_suffix(".md")).named("admonition", "prediction"))
]
predicting_pages = pytest.mark.parametrize("name", PREDICTING)
# what prediction.js and the style do on any page is seen on two: with few figures and with many
two_pages = pytest.mark.parametrize("name", [PREDICTING[0], PREDICTING[-1]])


def pairs(page):
    """[(admonition, figure), ...]"""
    return list(zip(page.locator(".prediction.choices").all(), page.locator("figure.veiled").all(), strict=True))


@contextmanager
def untouched(browser, name):
    """(page, pairs) of an opening of a page in which no other test has chosen an answer."""
    with opened(browser, (HTML / name).as_uri()) as (page, _, _):
        page.wait_for_function(LIVE)
        yield page, pairs(page)


def answers(prediction):
    """The button of the right answer, and those of the others."""
    return prediction.locator(".right > button"), prediction.locator("li:not(.right) > button")


def is_veiled(prediction, figure):
    caption, answer = figure.locator("figcaption").is_visible(), prediction.locator("details").is_visible()
    assert caption == answer, "the figure and the answer show together"
    return not caption


def test_there_are_predictions():
    assert PREDICTING


@predicting_pages
def test_a_click_lifts_the_veil_and_moves_nothing_above_it(name, browser, book):
    with untouched(browser, name) as (page, found):
        for prediction, figure in found:
            assert is_veiled(prediction, figure)
            right, wrong = answers(prediction)
            wrong.first.scroll_into_view_if_needed()
            before, button = figure.bounding_box(), wrong.first.bounding_box()
            wrong.first.click()
            assert not is_veiled(prediction, figure)
            after, answer = figure.bounding_box(), prediction.locator("details > :not(summary)")
            assert (after["width"], after["height"]) == (before["width"], before["height"])
            assert wrong.first.bounding_box() == button
            assert answer.is_visible() and "Answer" in answer.inner_text()
            assert prediction.get_by_role("status").inner_text().startswith("✗")
            right.click(force=True)  # too late
            assert right.get_attribute("aria-pressed") is None
        drawings = page.locator("figure.veiled .explorable svg").all()
        under_the_veil = [drawing.bounding_box()["width"] for drawing in drawings]
        assert all(width > 250 for width in under_the_veil)
        page.evaluate("dispatchEvent(new Event('resize'))")
        page.wait_for_timeout(300)
        assert under_the_veil == [drawing.bounding_box()["width"] for drawing in drawings]


@two_pages
def test_a_prediction_by_keyboard(name, browser, book):
    with untouched(browser, name) as (page, found):
        for prediction, figure in found:
            for control in figure.locator("input, select, a").all():
                control.evaluate("control => control.focus()")
                assert not control.evaluate("control => control == document.activeElement"), "reached under the veil"
            right, _ = answers(prediction)
            right.focus()
            page.keyboard.press("Enter")
            assert not is_veiled(prediction, figure)
            assert prediction.get_by_role("status").inner_text().startswith("✓")
            assert right.get_attribute("aria-pressed") == "true"
            assert right.evaluate("button => button == document.activeElement")


@two_pages
def test_a_prediction_can_be_skipped(name, browser, book):
    with untouched(browser, name) as (page, found):
        for prediction, figure in found:
            prediction.get_by_role("button", name="Skip").focus()
            page.keyboard.press("Space")
            assert not is_veiled(prediction, figure)
            assert not prediction.locator("details > :not(summary)").is_visible()
            assert prediction.locator("summary").evaluate("summary => summary == document.activeElement")


@two_pages
def test_print_shows_the_figure_and_the_answer(name, browser, book):
    with untouched(browser, name) as (page, found):
        page.emulate_media(media="print")
        for prediction, figure in found:
            assert not is_veiled(prediction, figure)
            assert prediction.locator("details > :not(summary)").is_visible()
            assert not prediction.get_by_text("Skip", exact=True).is_visible()


@predicting_pages
def test_without_scripts_nothing_is_veiled(name, tab):
    with tab(name, "no scripts") as (page, _, _):
        for prediction, figure in pairs(page):
            assert not is_veiled(prediction, figure)
            assert prediction.locator("li").count() >= 2 and not prediction.locator("button").count()


# ------------------------------------------------------------------------------------------- what the build says

FIGURE = "```{figure} picture.png\n:alt: A picture.\nCaption.\n```\n"


def source(items, folded="```{dropdown} The answer\n**Answer 2.** Why.\n```", behind=FIGURE):
    listed = "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
    return f"````{{admonition}} Before\n:class: prediction\nA question?\n\n{listed}\n\n{folded}\n````\n\n{behind}\n"


def build(folder, text):
    (folder / "picture.png").write_bytes((ROOT / "book/_images/readme_ledger.png").read_bytes())
    return build_page(folder, f"# Page\n\n{text}", "sphinx_design", "prediction")


def test_the_build_marks_question_answer_and_figure(tmp_path):
    html, warnings = build(tmp_path, FIGURE + source(["first", "second"]) + FIGURE)
    assert not warnings
    assert html.count("choices") == html.count("veiled") == html.count('class="right"') == 1
    assert html.index("choices") < html.index('class="right"') < html.index("second") < html.index("veiled")
    assert "prediction.js" in html


def test_an_admonition_without_a_list_is_left_as_it_is(tmp_path):
    html, warnings = build(tmp_path, "```{admonition} Before\n:class: prediction\nThink.\n```\n" + FIGURE)
    assert not warnings and "veiled" not in html and "choices" not in html and "prediction.js" not in html


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (source(["one"]), "1 answers; two to four"),
        (source(["first", "second", "third", "fourth", "fifth"]), "5 answers; two to four"),
        (source(["first", "second\n\n   and more"]), "an answer is one paragraph"),
        (source(["first", "second"], folded=""), "has to begin with"),
        (source(["first", "second"], folded="```{dropdown} The answer\nWhy.\n```"), "has to begin with"),
        (source(["first", "second"], folded="```{dropdown} The answer\n**Answer 3.**\n```"), "has to begin with"),
        (source(["first", "second"], behind=""), "no figure behind it"),
        (source(["first", "second"], behind="") + source(["first", "second"]), "no figure before the next one"),
    ],
)
def test_what_the_build_refuses(text, warning, tmp_path):
    _, warnings = build(tmp_path, text)
    assert warnings.count("WARNING") == 1 and "index.md:3: WARNING: prediction: " in warnings and warning in warnings
