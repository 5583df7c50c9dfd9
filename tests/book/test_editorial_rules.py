"""What every chapter owes the reader, read off its source and, for figures and printed numbers, off the built book."""

import json
import re
from functools import cache

import pytest
from browser import HTML, ROOT
from bs4 import BeautifulSoup
from chapter_source import MARKDOWN, Chapter, course, numbers_in_prose, shows_explorable

every_chapter = pytest.mark.parametrize("chapter", [Chapter(path) for path in course()], ids=lambda c: c.path.stem)


@cache
def built(chapter):
    page = HTML / chapter.path.relative_to(ROOT).with_suffix(".html")
    return BeautifulSoup(page.read_text(), "html.parser")


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
def test_every_picture_is_a_numbered_figure_that_is_described(chapter, book):
    pictures = built(chapter).select(".bd-article img, .bd-article .explorable")
    assert pictures, "no picture on the page"
    for picture in pictures:
        figure = picture.find_parent("figure")
        assert figure and figure.select_one(".caption-number"), f"outside a numbered figure: {str(picture)[:300]}"
        description = picture.get("alt") or ""
        if picture.name == "div":
            description = json.loads(picture.script.string)["description"]
            assert picture.img["alt"] == description
        assert len(description) > 40, f"{figure['id']}: {description!r} does not say what the picture shows"


def test_numbers_are_found_in_prose_only():
    caught = "# 3 models\n\nIt gains 4 points,\nof 12.\n\n- 5k images\n\n"
    caught += "```{admonition} Of 6\n:class: prediction7\n8 of\n```\n"
    fine = (
        "Reading time: 25 minutes.\n\n95% of $T = 1$, `9`, {cite}`a2000`, [1](2.md), the 0–1 loss in float32, GPT-2\n\n"
        "|a|\n|-|\n|3|\n\n$$\n4\n$$\n\n```python\n5\n```\n\n````{exercise}\n6\n````\n\n"
        "````{solution-start} x\n````\n\n7\n\n````{solution-end}\n````\n"
    )
    caption = '```{code-cell} ipython3\n---\nmystnb:\n  figure:\n    caption: "Of 8 in $9$"\n---\n10\n```\n'
    assert [line for line, _ in numbers_in_prose(caught)] == [1, 3, 4, 6, 8, 10]
    assert numbers_in_prose(fine) == []
    assert numbers_in_prose(caption) == [(1, "Of 8 in ")]


@every_chapter
def test_no_number_in_prose_is_typed(chapter):
    found = numbers_in_prose(chapter.text)
    lines = "\n".join(f"{chapter.path.name}:{line}: {text}" for line, text in found)
    assert not found, f"report these and glue them, or write them in words:\n{lines}"


@every_chapter
def test_glued_numbers_are_printed(chapter, book):
    assert not [cell.line for cell in chapter.code if re.search(r"\bglue\(", cell.body)], "glue through figures.report"
    keys = {key.split(":")[0] for key in re.findall(r"\{glue:text\}`([^`]+)`", chapter.text)}
    assert keys, "no {glue:text} in the chapter: its prose states no result"
    outputs = built(chapter).select(".cell_output .stream pre")
    printed = "\n".join(output.get_text() for output in outputs)
    missing = keys - set(re.findall(r"^(\S+) = ", printed, re.MULTILINE))
    assert not missing, f"glued, but never printed: {sorted(missing)}"
