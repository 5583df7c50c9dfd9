"""The symbols of formulas: which ones a page uses, and which ones the table under Notation or its own words declare.

A symbol is a Greek letter, a letter, or a letter in a script (`\\mathcal{G}`), with its subscript. It is known

- if it has a place in the first column of the table, or the page declares it: in a sentence, behind "where", "let",
  "with", "for every" and the like; behind a noun ("the weight $t$"); in the words of a definition or a theorem;
- if its letter is, and its subscript is made of numbers, indices and subscripts of the table;
- where the formula binds it: a variable of summation or integration, an argument of the function that it defines.

That is a rule for letters, not for meanings: it cannot see one symbol used in two senses.
"""

import re
from functools import cache

GREEK = re.findall(
    r"\w+",
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho varrho sigma"
    " tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell",
)
SCRIPT = r"\\(?:mathbb|mathcal|mathscr|mathfrak)\s*(?:\{\s*\w\s*\}|\w)"
# words in a formula, what it is laid out with, the O of an order, and the number e with its exponent
WORDS = re.compile(
    r"\\(?:text|textbf|textit|textsf|mathrm|mathsf|mathit|operatorname|label|tag|begin|end|color|hspace|vspace|phantom"
    r"|ref|eqref)\*?\s*\{[^{}]*\}(?:\{[clr|]*\})?|\bO(?=\s*(?:\\big+l?)?\()|(?<![A-Za-z\\])e(?=\s*\^)"
)
LETTER = rf"{SCRIPT}|\\[A-Za-z]+|[A-Za-z]"
SUBSCRIPT = rf"_\s*(?:\{{(?P<braced>(?:[^{{}}]|\{{[^{{}}]*\}})*)\}}|(?P<bare>{LETTER}|\d))"
SYMBOL = re.compile(
    rf"(?P<letter>{LETTER})(?:\s*\}})*(?:\s*\^\s*(?:\*|\\ast|\{{\s*\*\s*\}}|\\top|'))?'*(?:\s*{SUBSCRIPT})?"
)
BOUND = re.compile(
    rf"\\(?:sum|prod|max|min|sup|inf|lim|bigcup|bigcap|arg\\?m\w+)(?:\\limits)?\s*_\s*\{{?\s*(?:\(?\s*)?({LETTER})"
    rf"|(?:\\[,;:!]|\\mathrm\{{d\}}\s*|(?<=[\s)}}])d)\s*d?({LETTER})(?![A-Za-z(])"
)
DEFINED = re.compile(rf"^\s*(?:{LETTER})(?:_\S+?)?\(([^()]*)\)\s*(?::=|=|\\to|\\mapsto)")
DECLARING = re.compile(
    r"\b(?:where|let|with|write|call|denote|given|suppose|assume|take|set|draw|means|stands? for|be"
    r"|for (?:all|every|each|any|some|an?|two|one|no))\b",
    re.IGNORECASE,
)
FORMULA = re.compile(r"\$([^$]+)\$")
BEHIND_A_NOUN = re.compile(
    r"\b(?!(?:and|are|but|for|from|has|have|into|not|over|than|that|the|then|when|with|equals|minus|plus|times|where"
    r"|which|between|beyond|below|above|exceeds|under|until|while|gives|only|its|this)\b)[A-Za-z-]{3,}[*_]?\s*,?\s+"
    + FORMULA.pattern
)
STATEMENTS = ("definition", "theorem", "proposition", "lemma", "corollary", "assumption", "algorithm", "example")


def parts_of(subscript):
    """What a subscript is made of, outside words."""
    return [match["letter"] for match in SYMBOL.finditer(WORDS.sub(" ", subscript))] if subscript else []


def symbols(formula):
    """(letter, subscript) of each symbol in a formula, those in subscripts of operators included."""
    for match in SYMBOL.finditer(WORDS.sub(" ", formula)):
        letter, subscript = "".join(match["letter"].split()), match["braced"] or match["bare"] or ""
        if is_symbol(letter):
            yield letter, "".join(subscript.split())
        elif subscript:
            yield from symbols(subscript)


def is_symbol(letter):
    return not letter.startswith("\\") or letter[1:] in GREEK or letter.startswith("\\math")


def bound(formula):
    """Letters that a formula binds itself."""
    found = {letter for match in BOUND.finditer(formula) for letter in match.groups() if letter}
    if arguments := DEFINED.match(formula):
        found |= {letter for letter, _ in symbols(arguments[1])}
    return found


@cache
def notation(path):
    """Symbols and subscripts of the first column of the table under Notation."""
    rows = re.findall(r"^\| (\$.*?) \|", path.read_text(), re.MULTILINE)
    found = {symbol for row in rows for formula in FORMULA.findall(row) for symbol in symbols(formula)}
    return found | {(letter, "") for letter, _ in found}, {part for _, sub in found for part in parts_of(sub)}


def declared(page):
    """Symbols that the words of a page declare."""
    found = set()
    for passage in page.passages:
        if "formula" not in passage.inside:
            stated = any(f"prf:{name}" in passage.inside for name in STATEMENTS)
            for sentence in passage.sentences:
                found |= declared_in(sentence, stated)
    return found


def declared_in(sentence, stated):
    """Symbols that a sentence declares; one of a theorem or definition (`stated`) declares all that it names."""
    word = DECLARING.search(sentence)
    behind = sentence if stated else sentence[word.end() :] if word else ""
    named = {symbol for formula in FORMULA.findall(behind) for symbol in symbols(formula)}
    return named | {symbol for formula in BEHIND_A_NOUN.findall(sentence) for symbol in [*symbols(formula)][:1]}


def undeclared(page):
    """(line, symbol) of symbols that neither Notation nor the page declares, each once."""
    table, subscripts = notation(page.root / "book" / "reference" / "notation.md")
    known, found = table | declared(page), {}
    for passage in page.passages:
        for formula in passage.formulas:
            here = {(letter, "") for letter in bound(formula)}
            for symbol in symbols(formula):
                if not is_known(symbol, known | here, subscripts):
                    found.setdefault(symbol, passage.line)
    for (letter, subscript), line in found.items():
        yield line, f"{letter}_{subscript}" if subscript else letter


def is_known(symbol, known, subscripts):
    """True for a symbol that is, or for a letter that is with a subscript that is made of what is."""
    letter, subscript = symbol
    parts = (part in subscripts or (part, "") in known for part in parts_of(subscript))
    return symbol in known or ((letter, "") in known and bool(subscript) and all(parts))
