"""What the rules of the pages measure: words and minutes, sentences, and the symbols of formulas."""

import pytest
from chapter_source import Chapter
from reading import Length, length, with_reading_time
from sentences import has_finite_verb, sentences
from symbols import bound, symbols, undeclared

PAGE = """---
kernelspec: {name: python3}
---

# Two words

Three words here, and $x + y$ and {eval}`number.pairs` and [a link](a.md): `code`.

Reading time: 1 minutes, and 1 for the exercises.

```{code-cell}
---
mystnb: {figure: {name: fig-a, caption: "Four words are here."}}
tags: [hide-input]
jupyter: {source_hidden: true}
---
draw()
draw()
```

```{code-cell}
print(1)

print(2)
```

```{prf:proof}
:class: dropdown
Not counted, as it is folded.
```

````{admonition} Two words
:class: prediction
```{dropdown} Two words
Counted.
```
````

````{exercise} ★★ Not counted
:label: a
Nor here.
````

````{solution-start} a
:class: dropdown
````

Nor here.

```{code-cell}
print(3)
```

````{solution-end}
````
"""


@pytest.fixture
def page(tmp_path):
    """page(text) as a page that belongs to no copy of the book."""

    def written(text):
        path = tmp_path / "page.md"
        path.write_text(text)
        return Chapter(path)

    return written


def test_what_is_read_is_counted(page):
    words = 2 + (3 + 1 + 1 + 1 + 1 + 1 + 2 + 1) + 9 + 4 + 2 + 3
    assert length(page(PAGE)) == Length(words=words, lines=2, figures=1, exercises=1, exercise_minutes=6)


@pytest.mark.parametrize(
    ("measured", "minutes"),
    [(Length(2000, 0, 0, 0, 0), 10), (Length(2001, 0, 0, 0, 0), 11), (Length(400, 60, 4, 5, 30), 20)],
)
def test_minutes(measured, minutes):
    assert measured.minutes == minutes


def test_the_reading_time_is_written(page):
    text = with_reading_time(page(PAGE))
    assert "\nReading time: 3 minutes, and 6 for the exercises.\n" in text
    assert with_reading_time(page(text)) == text
    assert with_reading_time(page("# A\n\nReading time: 9 minutes.\n")) == "# A\n\nReading time: 1 minutes.\n"
    old = "# A\n\nReading time: 9 minutes, without the exercises.\n"
    assert with_reading_time(page(old)) == old


def test_sentences_end_where_new_ones_begin():
    text = "It gains .3 of 1.2, see Xu et al. {cite}`a`. *Why?* Because.\n$x$ is so. Nothing e.g. Here is."
    assert [sentence[:6] for sentence in sentences(text)] == ["It gai", "*Why?*", "Becaus", "$x$ is", "Nothin"]


STATES = """The student gains most at a middle penalty.
Students on soft labels beat their teacher at every penalty.
Of {eval}`number.pairs` pairs most lose.
Gains fall as the penalty grows.
Teacher and student disagree on a tenth of the images.
The fourth model, trained on the teacher's own labels, beats both students.
Models that share one training set show too little variance.
With the centre first, no class that it believes in may be ruled out.
What a student averages away is its gain.
The residual turns negative.
Both means minimise a divergence.
The two areas overlap where the student passes the truth.
"""
NAMES = """The ledger of each pair: misfit, gain, and the residual between them.
Test accuracy of teacher and student on the digits, means and 95% intervals.
Gain against misfit of {eval}`number.pairs` pairs.
What the teacher sees (above) and what the student sees (below).
The ledger of a student whose logits are divided by a temperature.
Ledger of a student that multiplies the log-odds.
How the time of the core grows.
The teacher's gains of each kind.
Two reliability diagrams of students, all classes pooled.
Where the student wins (shaded), by the formula.
"""


@pytest.mark.parametrize(
    ("sentence", "states"),
    [(line, True) for line in STATES.splitlines()] + [(line, False) for line in NAMES.splitlines()],
)
def test_a_finding_is_told_from_a_name(sentence, states):
    assert has_finite_verb(sentence) == states


@pytest.mark.parametrize(
    ("formula", "found"),
    [
        (r"f_w", {"f_w"}),
        (r"\theta_{w}^* + \mathbb{E}[Y \mid x]", {r"\theta_w", r"\mathbb{E}", "Y", "x"}),
        (r"\frac{\min(N, d_s)}{2}", {"N", "d_s"}),
        (r"\underbrace{D(a, b)}_{\text{the gain}} = O(n)", {"D", "a", "b", "n"}),
        (r"\hat f_{\mathrm{best}} \log p", {"f", "p"}),
        (r"2e^{-z} + e_k", {"z", "e_k"}),
        (r"\sum_{k = 1}^K p_k", {"k", "K", "p_k"}),
    ],
)
def test_symbols_of_a_formula(formula, found):
    assert {f"{letter}_{subscript}" if subscript else letter for letter, subscript in symbols(formula)} == found


@pytest.mark.parametrize(
    ("formula", "letters"),
    [
        (r"\sum_{k = 1}^K p_k", {"k"}),
        (r"\int_a^b z(u)\,du", {"u"}),
        (r"h(r, s) = r + s", {"r", "s"}),
        ("r + s", set()),
    ],
)
def test_letters_that_a_formula_binds(formula, letters):
    assert bound(formula) == letters


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("It is $\\tau$.", ["\\tau"]),
        ("$$\n\\tau + f_w + z_s\n$$", ["\\tau"]),
        ("The weight $\\tau$ is so. Then $\\tau^2$ and $\\tau_{k}$.", []),
        ("It is $\\tau + v$, where $\\tau$ is a weight.", ["v"]),
        ("For every $\\tau > 0$ it is so.", []),
        ("```{prf:theorem}\nIf $\\tau$ and $v$ are weights, so is $r$.\n```", []),
        ("```{prf:theorem}\n$$\n\\tau\n$$\n```", ["\\tau"]),
        ("It is $f_v$.", ["f_v"]),
        ("It is $f_w$ of $\\tau$; $\\sum_r p_r$.", ["\\tau"]),
    ],
)
def test_symbols_are_declared(text, unknown, page):
    assert [symbol for _, symbol in undeclared(page(text))] == unknown
