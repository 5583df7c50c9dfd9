"""Every page keeps the rules of tests/support/editorial.py, each of which can fail; pictures are described."""

import json

import pytest
from browser import ROOT
from chapter_source import Chapter, course, numbers_in_prose, passages
from editorial import CHAPTER, DEPTH, LANDING, complaints, rules_for
from measure_pages import every_page
from test_not_yet_rewritten import NOT_YET_REWRITTEN

PAGES = [Chapter(path) for path in every_page() if path.stem not in NOT_YET_REWRITTEN]
KEPT = [(page, rule) for page in PAGES for rule in rules_for(page.path)]
TEMPLATE = (ROOT / "book" / "chapter_template.md").read_text()


@pytest.mark.parametrize(("page", "rule"), KEPT, ids=[f"{page.path.stem}-{rule.__name__}" for page, rule in KEPT])
def test_a_page_keeps_the_rule(page, rule):
    broken = [f"{page.path.name}:{line}: {complaint}" for line, complaint in rule(page)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("chapter", [Chapter(path) for path in course()], ids=lambda chapter: chapter.path.stem)
def test_every_picture_is_numbered_and_described(chapter, book):
    pictures = chapter.built.select(".bd-article img, .bd-article .explorable")
    assert pictures, "no picture on the page"
    for picture in pictures:
        figure = picture.find_parent("figure")
        assert figure and figure.select_one(".caption-number"), f"outside a numbered figure: {str(picture)[:300]}"
        description = picture.get("alt") or ""
        if picture.name == "div":
            description = json.loads(picture.script.string)["description"]
            assert picture.img["alt"] == description
        assert len(description) > 40, f"{figure['id']}: {description!r} does not say what the picture shows"


# --------------------------------------------------------------------------------------- each of the rules can fail

MESSAGE = (
    "**One number, the temperature, repairs a model\nthat is too sure of itself without changing a single answer.**"
)
LESSON = 'for T in (1, 2, 4, 8):\n    print(f"temperature {T}: {risk(T):.2f} nats")\n'
PROOF = "```{prf:proof}\n" + "A long proof. " * 70 + "\n```\n"
FOLDED = PROOF.replace("\n", "\n:class: dropdown\n", 1)
DRAWING = "tags: [hide-input]\njupyter: {source_hidden: true}\n---\ndef draw(columns):"
# of the template: what is put in place of what, and the complaint that it meets
BROKEN = [
    ("message_first", MESSAGE, MESSAGE.replace("**", ""), "does not end in a bold sentence"),
    ("message_first", MESSAGE, "**Which number repairs it?**", "not one sentence that states something"),
    ("message_first", MESSAGE, "**A number repairs it. It is one.**", "not one sentence that states something"),
    ("message_first", "A model may\nanswer well", "A model **may**\nanswer well", "more than the message is bold"),
    ("message_first", "# A chapter to copy\n", "# A chapter to copy\n\n- a list\n", "does not follow the title"),
    ("message_last", "## Limits", "## Limit", "not '## What we learnt' and '## Limits'"),
    ("message_last", "**One number, the temperature, repairs a model that", "**It repairs what", "word for word"),
    ("message_last", "- A temperature below one repairs a model that is too timid.\n", "", "2 points"),
    ("link_back", "[The landing page](../index.md)", "The landing page", "links to no page"),
    ("aims", "Aims: ", "This page: ", "not a line 'Aims:"),
    ("aims", "; find it from labels.", ".", "2 aims"),
    ("reading_time", "Reading time: 8 minutes", "Reading time: 5 minutes", "not 'Reading time: 8 minutes"),
    ("reading_time", "Reading time: 8 minutes", "It takes 8 minutes", "no line 'Reading time: 8 minutes"),
    ("first_screen", "````{admonition} Before", "$$\nT > 0\n$$\n\n````{admonition} Before", "a formula before"),
    ("first_screen", "````{admonition} Before", "```{code-cell}\n1\n```\n\n````{admonition} Before", "code before"),
    ("lengths", "We make the logits", "word " * 2500 + "We make the logits", "words; at most 2,500"),
    ("lengths", LESSON, "1\n" * 100 + LESSON, "109 lines; at most 100"),
    ("proofs", "## Exercises", PROOF + "## Exercises", "lines without :class: dropdown"),
    ("proofs", "## Exercises", FOLDED + "## Exercises", "begins with '*Idea.*'"),
    ("proofs", "## Exercises", "*Idea.* It is long. Very.\n\n" + FOLDED + "## Exercises", "one sentence that begins"),
    ("cell_heads", "tags: [remove-cell]\njupyter", "tags: [hide-cell]\njupyter", "neither a lesson"),
    ("cell_heads", DRAWING, DRAWING.replace("jupyter: {source_hidden: true}\n", ""), "neither a lesson"),
    ("lessons", LESSON, "1\n" * 6 + LESSON, "a lesson of 15 lines"),
    ("lessons", LESSON, "figures.report(inputs=3)\n", "figures.report in a lesson"),
    ("lessons", LESSON, "half = risk(1) / 2\n", "ends in no output"),
    ("drawings", '    " that of the second to the left.",\n)\n', '    "",\n)\nhalf = 2\n', "not end in its figure"),
    ("drawings", "def draw(columns):", "figures.report(inputs=3)\ndef draw(columns):", "in a drawing"),
    ("drawings", "name: fig-template-risk", "name: fig-template-curve", "two figures are called"),
    ("widths", LESSON, LESSON.replace("\n", "  # " + "wide " * 15 + "\n", 1), "wider than 80"),
    ("pronouns", "what a chapter is made of", "what he is made of", "'he'"),
    ("pronouns", "# one-hot", "# her labels", "'her'"),
    ("pronouns", "An S-shaped curve", "His S-shaped curve", "'His'"),
    ("names_of_data", "We make the logits", "On scikit-learn's digits", "called digits"),
    ("names_of_data", "We make the logits", "On the MNIST digits", "called MNIST"),
    ("names_of_data", "We make the logits", "On the movie reviews", "called film reviews"),
    ("names_of_data", "We make the logits", "On HH-RLHF pairs", "called preference pairs"),
    ("intervals", "{eval}`number.least`", "{eval}`number.a_interval` {eval}`number.b_interval`", "in a sentence"),
    ("intervals", "{eval}`number.least` nats.", "[{eval}`number.a`, {eval}`number.b`]. " * 3, "in a paragraph"),
    ("numbers", "We make the logits", "We make 3 logits", "'We make 3 logits"),
    ("computed_numbers", "{eval}`number.least`", "{glue:text}`least`", "write {eval}"),
    ("computed_numbers", "{eval}`number.least`", "{eval}`number.as_made`", "least is reported, and stands nowhere"),
    ("computed_numbers", "{eval}`number.least`", "{eval}`number.least` {eval}`other`", "{eval}`other`: write"),
    ("computed_numbers", "grid = 2 **", "figures.report(least=1)\ngrid = 2 **", "least is reported twice"),
    ("symbols", "a temperature $T$", "a temperature of $T > \\tau$", "$\\tau$ is not under Notation"),
    ("captions", "A higher temperature makes every answer less sure.", "Sureness of every answer.", "what is found"),
    ("captions", "A higher temperature makes every answer less sure.", "How sure is an answer?", "what is found"),
    ("captions", ", computed from the formula as you move", "", "without n and seeds"),
    ("figures_are_read", "Both curves have one valley,", "## Curves\n\nThey have one valley,", "no paragraph behind"),
    ("predictions", "Where does the probability", "Is it so? Where does the probability", "asks one question"),
    ("predictions", "2. to one\n3. to an equal share\n", "", "1 answers; two to four"),
    ("predictions", "**Answer 3.**", "Right.", "begins with '**Answer N.**'"),
    ("predictions", "**Answer 3.**", "**Answer 4.**", "answer 4 of 3"),
    ("predictions", "{dropdown} The answer", "{dropdown} Answer", "no {dropdown} The answer"),
    ("predicted", ":class: prediction", ":class: note", "no prediction before this explorable"),
    ("predicted", "## Exercises", "```{admonition} A\n:class: prediction\n```\n\n## Exercises", "no figure behind"),
    ("explorable", "figures.Explorable(", "figures.Still(", "no figure to move"),
    ("grades", "{exercise} ★ Two", "{exercise} ★★★ Two", "no exercise of grade ★"),
    ("grades", "{exercise} ★ Two", "{example} ★ Two", "2 exercises; three to five"),
    ("exercises", "{exercise} ★★★ One", "{exercise} One", "begins with its grade"),
    ("exercises", ":label: ex-template-valley\n", "", "without a label"),
    ("exercises", "{solution-start} ex-template-valley", "{solution-start} ex-other", "without a folded solution"),
    ("exercises", "\ncheck_temperature(my_temperature)\n```\n", "\nmy_temperature\n```\n", "not one ```python stub"),
    ("exercises", "{solution-start} ex-template-find", "{solution-start} ex-other", "no folded solution"),
    ("exercises", "\n\ncheck_temperature(my_temperature)\nassert", "\n\nassert", "does not call check_temperature"),
    ("exercises", "def check_temperature(", "def check_other(", "no bookkeeping cell defines"),
]  # fmt: skip


@pytest.fixture
def page(tmp_path):
    """page(old, new): the template with a change."""

    def changed(old, new):
        assert old in TEMPLATE
        path = tmp_path / "page.md"
        path.write_text(TEMPLATE.replace(old, new, 1))
        return Chapter(path)

    return changed


@pytest.mark.parametrize(("name", "old", "new", "complaint"), BROKEN, ids=[name for name, *_ in BROKEN])
def test_a_broken_rule_is_seen(name, old, new, complaint, page):
    (rule,) = (rule for rule in CHAPTER if rule.__name__ == name)
    seen = [text for _, text in rule(page(old, new))]
    assert any(complaint in text for text in seen), seen


def test_every_rule_is_seen_to_fail():
    assert {name for name, *_ in BROKEN} == {rule.__name__ for rule in {*CHAPTER, *DEPTH, *LANDING}}


def test_a_complaint_names_its_line(page):
    ((line, rule, text),) = complaints(page("Both curves have one valley,", "Both curves have 1 valley,"))
    assert TEMPLATE.splitlines()[line - 1].startswith("Both curves") and rule == "numbers"
    assert "Both curves have 1 valley," in text


def test_numbers_are_found_in_prose_only():
    caught = "# 3 models\n\nIt gains 4 points,\nof 12.\n\n- 5k images\n\n"
    caught += "```{admonition} Of 6\n:class: prediction7\n8 of\n```\n"
    fine = (
        "Reading time: 25 minutes, and 9 for the exercises.\n\n95% of $T = 1$, `9`, {cite}`a2000`, [1](2.md), the 0–1"
        " loss in float32, GPT-2, answer 2\n\n|a|\n|-|\n|3|\n\n$$\n4\n$$\n\n```python\n5\n```\n\n"
        "````{exercise}\n6\n````\n\n"
        "````{solution-start} x\n````\n\n7\n\n````{solution-end}\n````\n"
    )
    caption = '```{code-cell} ipython3\n---\nmystnb:\n  figure:\n    caption: "Of 8 in $9$"\n---\n10\n```\n'
    assert [line for line, _ in numbers_in_prose(passages(caught))] == [1, 3, 4, 6, 8, 10]
    assert numbers_in_prose(passages(fine)) == []
    assert numbers_in_prose(passages(caption)) == [(1, "Of 8 in ")]
