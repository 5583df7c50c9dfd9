"""Pages that do not keep the rules of test_editorial_rules.py yet, and the older rules that they keep meanwhile.

A page is taken off the list when it is rewritten, and a test sees to it; no page is added. With the last of them this
file goes, and what test_editorial_rules.py takes from it.
"""

import re

import pytest
from browser import ROOT
from chapter_run import is_chapter
from chapter_source import MARKDOWN, Chapter, course, numbers_in_prose, shows_explorable
from editorial import complaints
from measure_pages import every_page

NOT_YET_REWRITTEN = [
    "06_capacity",
    "07_overfitting_and_entropy",
    "08_forward_and_reverse_cross_entropy",
    "09_images_and_text",
    "10_recipe",
    "audit_your_pair",
    "training_core",
]
WHEN_THE_RULES_WERE_MADE = {
    *("index", "01_phenomenon", "02_bregman_divergences", "03_bias_variance_decomposition", "04_gap_ledger"),
    *("05_posterior_mean_teacher", "06_capacity", "07_overfitting_and_entropy", "08_forward_and_reverse_cross_entropy"),
    *("09_images_and_text", "10_recipe", "audit_your_pair", "training_core"),
}


def each(pages, name):
    return pytest.mark.parametrize(name, [Chapter(path) for path in pages], ids=lambda page: page.path.stem)


def listed(path):
    return path.stem in NOT_YET_REWRITTEN


every_chapter = each([path for path in course() if listed(path)], "chapter")


def test_the_list_only_shrinks():
    assert set(NOT_YET_REWRITTEN) <= WHEN_THE_RULES_WERE_MADE
    assert len(NOT_YET_REWRITTEN) == len(set(NOT_YET_REWRITTEN))
    assert set(NOT_YET_REWRITTEN) <= {path.stem for path in every_page()}, "a page that is not in the book"


@each(filter(listed, every_page()), "page")
def test_what_keeps_the_rules_is_taken_off_the_list(page):
    assert complaints(page), f"{page.path.stem} is rewritten: take it off NOT_YET_REWRITTEN"


@each([path for path in (ROOT / "book").rglob("*.md") if is_chapter(path)], "page")
def test_cells_are_short(page):
    """On the pages of the reference too, which have no other rules for their cells."""
    if listed(page.path) or page.path not in every_page():
        for cell in page.code:
            assert len(cell.body.splitlines()) <= 20, f"a cell of {len(cell.body.splitlines())} lines:\n{cell.body}"


@every_chapter
def test_goals_and_reading_time(chapter):
    assert re.search(r"^Reading time: \d+ minutes\b", chapter.text, re.MULTILINE), "no line 'Reading time: N minutes'"
    _, introduced, rest = chapter.text.partition("\nAfter this chapter you can\n")
    assert introduced, "no paragraph 'After this chapter you can'"
    goals, depth = 0, 0
    for token in MARKDOWN.parse(rest):
        goals += token.type == "list_item_open" and token.level == 1
        depth += token.nesting
        if depth == 0:
            break
    assert 3 <= goals <= 5, f"3 to 5 goals after 'After this chapter you can', not {goals}"


@every_chapter
def test_a_prediction_before_each_explorable(chapter):
    predicted, shown = False, 0
    for block in chapter.blocks:
        if block.name == "admonition" and block.has_class("prediction"):
            predicted = True
        elif block.name == "code-cell" and shows_explorable(block.body):
            assert predicted, f"line {block.line}: no {{admonition}} of class prediction before this explorable"
            predicted, shown = False, shown + 1
    assert shown, "no explorable figure: no cell shows a figures.Explorable(...) or figures.Lab(...)"


@every_chapter
def test_exercises_have_stubs_checks_and_solutions(chapter):
    exercises = chapter.named("exercise")
    assert len(exercises) >= 3, f"{len(exercises)} exercises; at least three"
    code = "\n".join(cell.body for cell in chapter.code)
    for exercise in exercises:
        where, label = f"exercise in line {exercise.line}", exercise.options.get("label")
        assert label, f"{where} has no label"
        stubs = exercise.inside("python")
        assert len(stubs) == 1, f"{where} has {len(stubs)} ```python stubs; one"
        check = re.search(r"\bcheck_\w+(?=\()", stubs[0].body)
        assert check, f"{where}: its stub calls no check_... function"
        assert label in chapter.solutions, f"{where}: no {{solution-start}} {label}"
        opening, cells = chapter.solutions[label]
        assert opening.has_class("dropdown"), f"solution in line {opening.line} lacks :class: dropdown"
        solution = "\n".join(cell.body for cell in cells)
        assert f"{check[0]}(" in solution, f"solution in line {opening.line} does not call {check[0]}"
        definition = re.search(rf"^def {check[0]}\(.*\n(?:(?:[ \t].*)?\n)*", code + "\n", re.MULTILINE)
        assert definition, f"{where}: {check[0]} is defined nowhere"
        assert "assert" in solution + definition[0], f"solution in line {opening.line} and {check[0]} assert nothing"


@every_chapter
def test_self_check_questions(chapter):
    questions = chapter.named("admonition", "self-check")
    assert len(questions) >= 2, f"{len(questions)} admonitions of class self-check; at least two"
    for question in questions:
        where = f"question in line {question.line}"
        answers = {answer.argument: " ".join(answer.body.split()) for answer in question.inside("dropdown")}
        assert len(answers) >= 2, f"{where} has {len(answers)} {{dropdown}} answers; at least two"
        for answer, explanation in answers.items():
            assert len(explanation) >= 40, f"{where}, answer {answer!r}: explain it, in 40 characters or more"
        assert any(text.startswith("Right") for text in answers.values()), f"{where}: none starts with 'Right'"


@every_chapter
def test_closing_sections(chapter):
    headings = set(re.findall(r"^## .*$", chapter.text, re.MULTILINE))
    assert {"## What we learnt", "## Limits"} <= headings, sorted(headings)


@every_chapter
def test_no_number_in_prose_is_typed(chapter):
    found = numbers_in_prose(chapter.passages)
    lines = "\n".join(f"{chapter.path.name}:{line}: {text}" for line, text in found)
    assert not found, f"report these and glue them, or write them in words:\n{lines}"


@every_chapter
def test_glued_numbers_are_printed(chapter, book):
    assert not [cell.line for cell in chapter.code if re.search(r"\bglue\(", cell.body)], "glue through figures.report"
    keys = {key.split(":")[0] for key in re.findall(r"\{glue:text\}`([^`]+)`", chapter.text)}
    assert keys, "no {glue:text} in the chapter: its prose states no result"
    outputs = chapter.built.select(".cell_output .stream pre")
    printed = "\n".join(output.get_text() for output in outputs)
    missing = keys - set(re.findall(r"^(\S+) = ", printed, re.MULTILINE))
    assert not missing, f"glued, but never printed: {sorted(missing)}"
