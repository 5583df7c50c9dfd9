"""The chapters as they are written: their directives, their prose, their code."""

import ast
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import jupytext
import yaml
from browser import HTML, ROOT
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from sentences import sentences

# of a page with code to run
HEAD = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
MARKDOWN = MarkdownIt("commonmark").enable("table")
for plugin in (front_matter_plugin, dollarmath_plugin, myst_role_plugin, colon_fence_plugin):
    MARKDOWN.use(plugin)
OPTIONS = re.compile(r"\A(?:---\n(?P<yaml>.*?)^---\n|(?P<lines>(?::[\w-]+:[^\n]*\n)+))", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"(?:\{(?P<directive>[\w:-]+)\}|(?P<language>[\w-]*))\s*(?P<argument>.*)")


def course():
    """Sources of the parts "The course" and "In depth" of _toc.yml, in order."""
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    files = [c["file"] for part in parts if part["caption"] in ("The course", "In depth") for c in part["chapters"]]
    return [ROOT / f"{file}.md" for file in files]


@dataclass(frozen=True)
class Block:
    """A fenced block: a directive, or code of a language (then `name` is the language)."""

    name: str
    argument: str
    content: str
    line: int  # of the fence, from 1

    @cached_property
    def _head(self):
        return OPTIONS.match(self.content)

    @cached_property
    def options(self):
        if not self._head:
            return {}
        lines = re.sub(r"^:([\w-]+):", r"\1:", self._head["lines"] or "", flags=re.MULTILINE)
        return yaml.safe_load(self._head["yaml"] or lines)

    @cached_property
    def body(self):
        return self.content[self._head.end() :] if self._head else self.content

    @cached_property
    def body_line(self):
        return self.line + 1 + self.content[: self._head.end() if self._head else 0].count("\n")

    @property
    def figure(self):
        """Of a cell that makes a figure: its name and caption."""
        return self.options.get("mystnb", {}).get("figure", {})

    @property
    def cell_kind(self):
        """'lesson', 'drawing' or 'bookkeeping', by the head of a cell; None of any other head."""
        head = self.options
        if not head:
            return "lesson"
        if head.get("jupyter") != {"source_hidden": True}:
            return None
        if head.get("tags") == ["hide-input"] and {"name", "caption"} <= self.figure.keys():
            return "drawing"
        return "bookkeeping" if head.keys() == {"tags", "jupyter"} and head["tags"] == ["remove-cell"] else None

    @cached_property
    def code_lines(self):
        """Lines of code, empty ones not counted."""
        return [line for line in self.body.splitlines() if line.strip()]

    def has_class(self, name):
        return name in str(self.options.get("class", "")).split()

    def inside(self, name):
        return [block for block in blocks(self.body, self.body_line) if block.name == name]


def to_block(token, first=1):
    head = FENCE.match(token.info.strip())
    name = head["directive"] or head["language"]
    return Block(name, head["argument"].strip(), token.content, first + token.map[0])


def blocks(text, first=1):
    """The outermost fenced blocks of a text whose first line has number `first`."""
    return [to_block(token, first) for token in MARKDOWN.parse(text) if token.type in ("fence", "colon_fence")]


@dataclass(frozen=True)
class Item:
    """What stands at the top of a page, from one thing to the next: a heading, a paragraph, a block, ..."""

    line: int
    kind: str  # as markdown-it names it: "heading", "paragraph", "bullet_list", "fence", "math_block", ...
    source: str
    block: Block | None  # of a fence


@dataclass(frozen=True)
class Chapter:
    path: Path

    @cached_property
    def text(self):
        return self.path.read_text()

    @property
    def root(self):
        """The folder of the book to which it belongs, which may be a copy."""
        return next((folder for folder in self.path.resolve().parents if (folder / "_toc.yml").exists()), ROOT)

    @cached_property
    def built(self):
        """Its page in the built book."""
        page = HTML / self.path.relative_to(ROOT).with_suffix(".html")
        return BeautifulSoup(page.read_text(), "html.parser")

    @cached_property
    def blocks(self):
        return blocks(self.text)

    @cached_property
    def items(self):
        lines, found = self.text.splitlines(keepends=True), []
        for token in MARKDOWN.parse(self.text):
            if token.level == 0 and token.map and token.nesting >= 0 and token.type != "front_matter":
                block = to_block(token) if token.type in ("fence", "colon_fence") else None
                source = "".join(lines[token.map[0] : token.map[1]]).strip()
                found.append(Item(token.map[0] + 1, token.type.removesuffix("_open"), source, block))
        return found

    @cached_property
    def sections(self):
        """(title, items) of each section of the second level, in order."""
        found = []
        for item in self.items:
            if item.kind == "heading" and item.source.startswith("## "):
                found.append((item.source.removeprefix("## "), []))
            elif found:
                found[-1][1].append(item)
        return found

    @cached_property
    def passages(self):
        return list(passages(self.text))

    @cached_property
    def cells(self):
        """Cells of the notebook, markdown and code, in order."""
        return jupytext.reads(self.text, fmt="md:myst").cells

    @cached_property
    def code(self):
        return self.named("code-cell")

    @cached_property
    def lessons(self):
        solved = {cell.line for _, cells in self.solutions.values() for cell in cells}
        return [cell for cell in self.code if cell.cell_kind == "lesson" and cell.line not in solved]

    @cached_property
    def drawings(self):
        return [cell for cell in self.code if cell.cell_kind == "drawing"]

    @cached_property
    def bookkeeping(self):
        return [cell for cell in self.code if cell.cell_kind == "bookkeeping"]

    def named(self, name, css=None):
        return [block for block in self.blocks if block.name == name and (css is None or block.has_class(css))]

    @cached_property
    def solutions(self):
        """Of each solution, by the label of its exercise: its opening directive and its code cells."""
        found, label = {}, None
        for block in self.blocks:
            if block.name == "solution-start":
                label = block.argument
                found[label] = (block, [])
            elif block.name == "solution-end":
                label = None
            elif label and block.name == "code-cell":
                found[label][1].append(block)
        return found


def last_assertion(tree):
    """The last assert statement of a syntax tree, or None."""
    return next((node for node in reversed(list(ast.walk(tree))) if isinstance(node, ast.Assert)), None)


def negated(source):
    """`source` with its last `assert condition` turned into `assert not (condition)`, or None if it has none."""
    tree = ast.parse(source)
    if assertion := last_assertion(tree):
        assertion.test = ast.UnaryOp(ast.Not(), assertion.test)
        return ast.unparse(tree)
    return None


def shows_explorable(source):
    """True for a cell that displays a figure to move: it makes one, and ends with an expression."""
    made = re.search(r"\bfigures\.(Explorable|Lab|LiveLedger)\(", source)
    return bool(made) and isinstance(ast.parse(source).body[-1], ast.Expr)


# ---------------------------------------------------------------------------------------------------- what is read

NOT_MARKDOWN = {"code-cell", "math", "bibliography", "csv-table", "code-block", "raw", "eval-rst"}
TABLES = {"list-table", "table"}
ALLOWED = re.compile(
    r"^Reading time: \d+ minutes(?:, and \d+ for the exercises)?|\b[Aa]nswer \d\b|\b\d+ [x×] \d+\b|\b95%|\b0–1 loss"
    r"|\b[A-Za-z][\w.-]*",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Passage:
    """A paragraph, a heading, a cell of a table, a title or a caption, or a formula that stands alone."""

    line: int
    source: str  # as it is written: Markdown, or TeX where "formula" is in `inside`
    parts: tuple  # tokens: text, roles, formulas, links, ...
    inside: frozenset  # names of the directives around it; "table", "caption", "solution", "folded", "formula"

    @cached_property
    def formulas(self):
        if "formula" in self.inside:
            return [self.source]
        return [part.content for part in self.parts if part.type.startswith("math_inline")]

    @cached_property
    def words(self):
        """Words as a reader counts them: a formula in the text, a number or a reference is one."""
        alone = ("math_inline", "math_inline_double", "myst_role")
        return sum(
            1 if part.type in alone else len(re.findall(r"\S*\w\S*", part.content))
            for part in self.parts
            if part.type in ("text", "code_inline", *alone)
        )

    @cached_property
    def sentences(self):
        return sentences(self.source)


def passages(text, first=1, inside=frozenset()):
    """All that a page says outside its code, in order, with what it stands in."""
    table = solution = False
    for token in MARKDOWN.parse(text):
        table = token.type == "table_open" or (table and token.type != "table_close")
        names = {"table": table, "solution": solution}
        here = inside | {name for name, within in names.items() if within}
        if token.type in ("fence", "colon_fence") and token.info.startswith("{"):
            block = to_block(token, first)
            solution = block.name == "solution-start" or (solution and block.name != "solution-end")
            yield from passages_of_directive(block, here | ({"solution"} if solution else set()))
        elif token.type.startswith("math_block"):
            yield Passage(first + token.map[0], token.content, (), here | {"formula"})
        elif token.type == "inline":
            yield Passage(first + token.map[0], token.content, tuple(token.children), here)


def passages_of_directive(block, inside):
    inside = inside | {block.name} | ({"folded"} if block.has_class("dropdown") else set())
    if block.name == "code-cell":
        if caption := block.figure.get("caption"):
            yield from (replace(p, line=block.line) for p in passages(caption, 1, inside | {"caption"}))
    elif block.name == "math":
        yield Passage(block.line, block.body, (), inside | {"formula"})
    elif block.name not in NOT_MARKDOWN:
        within = inside | ({"table"} if block.name in TABLES else set())
        yield from (replace(p, line=block.line) for p in passages(block.argument, 1, within))
        yield from passages(block.body, block.body_line, within)


def plain_text(passage):
    """(line, text) of what stands in a passage outside formulas, roles, code and links."""
    line, link = passage.line, False
    for part in passage.parts:
        link = part.type == "link_open" or (link and part.type != "link_close")
        if part.type == "text" and not link:
            yield line, part.content
        line += "caption" not in passage.inside and (
            part.type in ("softbreak", "hardbreak") or part.content.count("\n")
        )


def numbers_in_prose(passages):
    """(line, text) with a digit that is neither computed nor allowed. Digits in a name (float32, GPT-2) are letters."""
    prose = (p for p in passages if not p.inside & {"exercise", "solution", "table", "formula"})
    found = (part for passage in prose for part in plain_text(passage))
    return [(line, part) for line, part in found if re.search(r"\d", ALLOWED.sub("", part))]
