"""The rules of a page: each takes a page (chapter_source.Chapter) and yields (line, complaint) of what breaks it.

They read the source alone. What a machine cannot judge is not here: whether a message is the right one, a figure worth
its place, a symbol used in one sense. CONTRIBUTING.md says what a page is for.
"""

import ast
import re

from chapter_source import numbers_in_prose, shows_explorable
from reading import TIME, length
from sentences import has_finite_verb, sentences
from symbols import undeclared

MOST_WORDS, MOST_LINES, MOST_FIGURES, MOST_MINUTES = 2500, 100, 6, 35
LESSON_LINES, LESSON_WIDTH = 12, 80
PROOF_LINES, COLUMN = 8, 100  # lines of a page, of so many characters

# ------------------------------------------------------------------------------------------- message and first screen


def first_paragraph(page):
    return next(item for item in page.items if item.kind == "paragraph")


def message(page):
    """The bold sentence at the end of the first paragraph, in one line, or None."""
    found = re.search(r"\*\*([^*]+(?:\*(?!\*)[^*]*)*)\*\*$", first_paragraph(page).source)
    return " ".join(found[1].split()) if found else None


def message_first(page):
    paragraph, stated = first_paragraph(page), message(page)
    if page.items.index(paragraph) != 1:
        yield paragraph.line, "the first paragraph does not follow the title"
    if not stated:
        yield paragraph.line, "the first paragraph does not end in a bold sentence, the message"
    elif paragraph.source.count("**") != 2:
        yield paragraph.line, "more than the message is bold in the first paragraph"
    elif not stated.endswith(".") or len(sentences(stated)) != 1:
        yield paragraph.line, f"the message is not one sentence that states something: {stated!r}"


def message_last(page):
    titles = [title for title, _ in page.sections]
    if titles[-2:] != ["What we learnt", "Limits"]:
        yield 1, "the last two sections are not '## What we learnt' and '## Limits'"
        return
    (_, learnt), (_, limits) = page.sections[-2:]
    if not learnt or " ".join(learnt[0].source.split()) != f"**{message(page)}**":
        yield learnt[0].line if learnt else 1, "What we learnt does not begin with the message, word for word"
    points = [item.source for item in learnt if item.kind == "bullet_list"]
    count = len(re.findall(r"^[-*+] ", "\n".join(points), re.MULTILINE))
    if not 3 <= count <= 5:
        yield learnt[-1].line if learnt else 1, f"{count} points under What we learnt; three to five"
    if not limits:
        yield 1, "nothing stands under Limits"


def link_back(page):
    if not re.search(r"\]\([^)]+\.md\b", first_paragraph(page).source):
        yield first_paragraph(page).line, "the first paragraph links to no page before this one"


def aims(page):
    stated = [item for item in page.items if item.source.startswith("Aims: ")]
    if len(stated) != 1 or page.items.index(stated[0]) != 2:
        yield 1, "the second paragraph is not a line 'Aims: ...; ...; ....'"
        return
    paragraph = stated[0].source.split("\nReading time:")[0]
    count = paragraph.count(";") + 1
    if not 3 <= count <= 5 or not paragraph.endswith("."):
        yield stated[0].line, f"{count} aims; three to five, separated by semicolons, with a stop at the end"


def reading_time(page):
    expected, found = length(page).sentence, TIME.search(page.text)
    if not found:
        yield 1, f"no line {expected!r}; write it with any number, and run make times"
    elif found[0] != expected:
        yield page.text[: found.start()].count("\n") + 1, f"not {expected!r}: run make times"


def first_screen(page):
    """A figure comes before code that can be seen and before any formula that stands alone."""
    for item in page.items:
        if item.block in page.lessons:
            yield item.line, "code before the first figure"
            return
        if item.kind.startswith("math_block") or "$$" in item.source or (item.block and item.block.name == "math"):
            yield item.line, "a formula before the first figure"
            return
        if item.block in [*page.drawings, *page.named("figure")] or "![" in item.source:
            return
    yield 1, "no figure"


# ------------------------------------------------------------------------------------------------------------- length


def lengths(page):
    measured = length(page)
    for name, most in (("words", MOST_WORDS), ("lines", MOST_LINES), ("figures", MOST_FIGURES)):
        if (count := getattr(measured, name)) > most:
            yield 1, f"{count:,} {name}; at most {most:,}"
    if measured.minutes > MOST_MINUTES:
        yield 1, f"{measured.minutes} minutes; at most {MOST_MINUTES}"


def proofs(page):
    """A long proof is folded, and its idea stands before it."""
    for before, item in zip([None, *page.items], page.items):
        if not item.block or item.block.name != "prf:proof":
            continue
        lines, folded = lines_on_the_page(item.block.body), item.block.has_class("dropdown")
        if lines > PROOF_LINES and not folded:
            yield item.line, f"a proof of {lines} lines without :class: dropdown"
        idea = before.source if before and before.kind == "paragraph" else ""
        if folded and (not idea.startswith("*Idea.* ") or len(sentences(idea.removeprefix("*Idea.* "))) != 1):
            yield item.line, "before a folded proof stands one sentence that begins with '*Idea.*'"


def lines_on_the_page(text):
    """About how many lines a text takes in the column: paragraphs are filled, formulas break where they say."""
    count = 0
    for formula, paragraph in re.findall(r"\$\$(.+?)\$\$|((?:(?!\$\$)[^\n])+(?:\n(?!\$\$)[^\n]+)*)", text, re.DOTALL):
        filled = -(-len(" ".join(paragraph.split())) // COLUMN)
        count += 1 + formula.count(r"\\") if formula else filled
    return count


# -------------------------------------------------------------------------------------------------------------- cells

DRAWN = re.compile(r"\b(figures\.\w+|plt\.\w+|alt\.\w+)\(")


def cell_heads(page):
    for cell in page.code:
        if not cell.cell_kind:
            yield cell.line, "neither a lesson (no head), nor a drawing (hide-input), nor bookkeeping (remove-cell)"


def lessons(page):
    for cell in page.lessons:
        if len(cell.code_lines) > LESSON_LINES:
            yield cell.line, f"a lesson of {len(cell.code_lines)} lines; at most {LESSON_LINES}"
        if drawn := DRAWN.search(cell.body):
            yield cell.line, f"{drawn[1]} in a lesson: what is drawn or reported has cells of its own"
        if not shows_something(cell.body):
            yield cell.line, "a lesson that ends in no output: end it with print(...) or an expression"


def shows_something(source):
    """True for code whose last statement, before assertions, is an expression, or a loop that prints or the like."""
    statements = [node for node in ast.parse(source).body if not isinstance(node, ast.Assert)]
    last = statements[-1] if statements else None
    prints = isinstance(last, ast.For | ast.While | ast.With | ast.If) and "print(" in ast.unparse(last)
    return isinstance(last, ast.Expr) or prints


def drawings(page):
    for cell in page.drawings:
        if not isinstance(ast.parse(cell.body).body[-1], ast.Expr):
            yield cell.line, "a drawing that does not end in its figure"
        if "figures.report(" in cell.body:
            yield cell.line, "figures.report in a drawing: numbers come from bookkeeping"
    names = [cell.figure["name"] for cell in page.drawings]
    for cell in page.drawings:
        if names.count(cell.figure["name"]) > 1:
            yield cell.line, f"two figures are called {cell.figure['name']}"


def widths(page):
    for cell in page.code:
        most = LESSON_WIDTH if cell.cell_kind != "bookkeeping" else 120
        if too_wide := [line for line in cell.body.splitlines() if len(line) > most]:
            yield cell.line, f"code wider than {most} characters: {too_wide[0].strip()}"


# -------------------------------------------------------------------------------------------------------------- words

PRONOUN = re.compile(r"\b([Ss]he|[Hh]ers?|[Hh]erself|he|He(?! et al| initiali)|[Hh]is|[Hh]im(?:self)?)\b")
INTERVAL = re.compile(
    r"\{eval\}`[^`]*_interval`|\[\s*(?:[−-]?\.?\d|\{eval\}`)[^\[\]]*,\s*(?:[−-]?\.?\d|\{eval\}`)[^\[\]]*\](?!\()"
)
NAMES = {  # one a data set
    "digits": r"(?:scikit-learn|sklearn|UCI)(?:['’]s)? (?:hand-?written )?digits|8 ?[x×] ?8 digits|small digits",
    "MNIST": r"MNIST(?:['’]s)? (?:hand-?written )?(?:digits|numerals)|digits of MNIST|28 ?[x×] ?28 digits|large digits",
    "film reviews": r"movies?\b|movie reviews?|film[- ](?:review )?snippets?|review snippets?|IMDb",
    "preference pairs": r"(?:HH[-_ ]RLHF|helpful(?:ness)?|preferred|dialogue|Anthropic) pairs?"
    r"|HH[-_ ]RLHF (?:data|set|dialogues)|preference data|pairs of HH|the dialogues",
}


def pronouns(page):
    """In prose, captions, code and descriptions of pictures alike."""
    for number, line in enumerate(page.text.splitlines(), 1):
        for found in PRONOUN.findall(line):
            yield number, f"{found!r}: a teacher, a student and a ceiling are it"


def names_of_data(page):
    for passage in page.passages:
        for name, others in NAMES.items():
            if found := re.search(rf"\b(?:{others})", passage.source, re.IGNORECASE):
                yield passage.line, f"{found[0]!r}: this data set is called {name}"


def intervals(page):
    for passage in page.passages:
        if passage.inside & {"table", "formula"}:
            continue
        if len(INTERVAL.findall(passage.source)) > 2:
            yield passage.line, "more than two intervals in a paragraph"
        for sentence in passage.sentences:
            if len(INTERVAL.findall(sentence)) > 1:
                yield passage.line, f"two intervals in a sentence: {sentence[:60]!r} ..."


def numbers(page):
    for line, text in numbers_in_prose(page.passages):
        yield line, f"a number typed into prose: {text!r}"


def computed_numbers(page):
    """They enter the prose as {eval}`number.key`, and each that a cell reports is used."""
    keys = set()
    for line, text in enumerate(page.text.splitlines(), 1):
        if "{glue:" in text:
            yield line, "{glue:text}: write {eval}`number.key`"
        for key in re.findall(r"\{eval\}`([^`]+)`", text):
            keys.add(key.removeprefix("number.").removesuffix("_interval"))
            if not re.fullmatch(r"number\.[A-Za-z]\w*", key):
                yield line, f"{{eval}}`{key}`: write {{eval}}`number.key`"
    reported = [(cell.line, key) for cell in page.code for key in reported_keys(cell.body)]
    for line, key in reported:
        if key not in keys and key.removesuffix("_interval") not in keys:
            yield line, f"{key} is reported, and stands nowhere"
        if [key for _, key in reported].count(key) > 1:
            yield line, f"{key} is reported twice"


def reported_keys(source):
    """Keys that a call of figures.report names."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    reports = (call for call in calls if ast.unparse(call.func) == "figures.report")
    return [keyword.arg for call in reports for keyword in call.keywords if keyword.arg]


def symbols(page):
    for line, symbol in undeclared(page):
        yield line, f"${symbol}$ is not under Notation, and no words of the page say what it is"


# ------------------------------------------------------------------------------------------- figures and predictions


def captions(page):
    for cell in page.drawings:
        caption = " ".join(cell.figure["caption"].split())
        first = sentences(caption)[0]
        if not first.endswith(".") or not has_finite_verb(first):
            yield cell.line, f"the caption does not begin with what is found: {first!r}"
        if "{eval}" not in caption and not re.search(r"\bformulas?\b|\bclosed forms?\b", caption):
            yield cell.line, "a caption without n and seeds ({eval}), which is not 'computed from the formula' either"


def figures_are_read(page):
    """Behind each figure stands a paragraph that reads it."""
    shown = [item for item in page.items if not item.block or item.block not in page.bookkeeping]
    for item, after in zip(shown, [*shown[1:], None]):
        if item.block in page.drawings and (not after or after.kind != "paragraph"):
            yield item.line, "no paragraph behind this figure reads it"


def predictions(page):
    for asked in page.named("admonition", "prediction"):
        answers, folded = answers_of(asked), asked.inside("dropdown")
        if asked.body.partition("\n1. ")[0].count("?") != 1:
            yield asked.line, "a prediction asks one question"
        if not 2 <= answers <= 4:
            yield asked.line, f"a prediction with {answers} answers; two to four, as a numbered list"
        right = re.match(r"\*\*Answer (\d+)\.\*\* +(\S.*)", folded[0].body, re.DOTALL) if len(folded) == 1 else None
        if not right or folded[0].argument != "The answer":
            yield asked.line, "no {dropdown} The answer that begins with '**Answer N.**'"
        elif not 1 <= int(right[1]) <= answers:
            yield asked.line, f"answer {right[1]} of {answers}"
        elif len(right[2].split()) < 8:
            yield asked.line, "the answer is not explained"


def answers_of(prediction):
    """Number of answers that are offered: items of the numbered list."""
    return len(re.findall(r"^\d+\. ", prediction.body.partition("```{dropdown}")[0], re.MULTILINE))


def predicted(page):
    """A prediction stands before each explorable, one figure for one prediction."""
    asked = None
    for block in page.blocks:
        if block.name == "admonition" and block.has_class("prediction"):
            if asked:
                yield asked.line, "no figure between this prediction and the next"
            asked = block
        elif block.name == "code-cell" and block.cell_kind == "drawing":
            if not asked and shows_explorable(block.body):
                yield block.line, "no prediction before this explorable"
            asked = None
    if asked:
        yield asked.line, "no figure behind this prediction"


def explorable(page):
    if not any(shows_explorable(cell.body) for cell in page.drawings):
        yield 1, "no figure to move"


# ---------------------------------------------------------------------------------------------------------- exercises

GRADES = ("★", "★★", "★★★")


def grades(page):
    found = page.named("exercise")
    if not 3 <= len(found) <= 5:
        yield 1, f"{len(found)} exercises; three to five"
    for missing in sorted({*GRADES} - {grade(exercise) for exercise in found}):
        yield 1, f"no exercise of grade {missing}"


def exercises(page):
    for exercise in page.named("exercise"):
        if not grade(exercise):
            yield exercise.line, "the title of an exercise begins with its grade, ★ to ★★★"
        if not exercise.options.get("label"):
            yield exercise.line, "an exercise without a label"
        yield from (code_exercise if grade(exercise) == "★★" else thought_exercise)(page, exercise)


def grade(exercise):
    title = exercise.argument.split(" ")[0]
    return title if title in GRADES and " " in exercise.argument else None


def solution(page, exercise):
    """Opening directive and cells of an exercise's folded solution, or None."""
    opening, cells = page.solutions.get(exercise.options.get("label"), (None, []))
    return (opening, cells) if opening and opening.has_class("dropdown") else None


def thought_exercise(page, exercise):
    hints = [block for block in exercise.inside("dropdown") if block.argument.startswith("Hint")]
    if not hints and not solution(page, exercise):
        yield exercise.line, "an exercise without a folded solution or hint"
    if exercise.inside("python"):
        yield from code_exercise(page, exercise)


def code_exercise(page, exercise):
    """A stub that calls a check, an assertion, and a folded solution that calls the check."""
    stubs, solved = exercise.inside("python"), solution(page, exercise)
    check = re.search(r"\bcheck_\w+(?=\()", stubs[0].body) if len(stubs) == 1 else None
    if not check:
        yield exercise.line, "not one ```python stub that calls a check_... function"
        return
    if not solved:
        yield exercise.line, "no folded solution"
        return
    code = "\n".join(cell.body for cell in solved[1])
    if f"{check[0]}(" not in code:
        yield solved[0].line, f"the solution does not call {check[0]}"
    defined = [cell for cell in page.bookkeeping if re.search(rf"^def {check[0]}\(", cell.body, re.MULTILINE)]
    if not defined:
        yield exercise.line, f"no bookkeeping cell defines {check[0]}"
    elif "assert" not in code + function(check[0], defined[0].body):
        yield exercise.line, f"{check[0]} and the solution assert nothing"


def function(name, source):
    """Source of a function."""
    tree = ast.parse(source).body
    return next(ast.unparse(node) for node in tree if isinstance(node, ast.FunctionDef) and node.name == name)


# ------------------------------------------------------------------------------------------------ which rules for whom

CELLS = (cell_heads, lessons, drawings, widths)
WORDS = (pronouns, names_of_data, intervals, numbers, computed_numbers, symbols)
FIGURES = (captions, figures_are_read, predictions, predicted)
LANDING = (message_first, first_screen, *CELLS, *WORDS, captions, predictions)
DEPTH = (message_first, message_last, reading_time, proofs, *CELLS, *WORDS, *FIGURES, exercises)
CHAPTER = (*DEPTH, link_back, aims, first_screen, lengths, explorable, grades)


def rules_for(path):
    """Of a page by its place: the landing page, a page in depth, or a chapter."""
    if path.stem == "index":
        return LANDING
    return DEPTH if path.parent.name == "depth" else CHAPTER


def complaints(page):
    """(line, name of the rule, complaint) of all that breaks a rule of the page, in the order of its lines."""
    found = [(line, rule.__name__, text) for rule in rules_for(page.path) for line, text in rule(page)]
    return sorted(found, key=lambda complaint: complaint[0])
