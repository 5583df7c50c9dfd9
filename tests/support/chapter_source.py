"""The chapters as they are written: their directives, their prose, their code."""

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jupytext
import yaml
from browser import ROOT
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin
from mdit_py_plugins.myst_role import myst_role_plugin

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
class Chapter:
    path: Path

    @cached_property
    def text(self):
        return self.path.read_text()

    @cached_property
    def blocks(self):
        return blocks(self.text)

    @cached_property
    def cells(self):
        """Cells of the notebook, markdown and code, in order."""
        return jupytext.reads(self.text, fmt="md:myst").cells

    @cached_property
    def code(self):
        return [block for block in self.blocks if block.name == "code-cell"]

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
    """True for a cell that displays an explorable or a lab: it makes one, and ends with an expression."""
    made = re.search(r"\bfigures\.(Explorable|Lab)\(", source)
    return bool(made) and isinstance(ast.parse(source).body[-1], ast.Expr)


# ------------------------------------------------------------------------------------------------ numbers in prose

NO_PROSE = {"exercise", "code-cell", "math", "bibliography", "list-table", "csv-table", "table", "code-block", "raw"}
ALLOWED = re.compile(r"^Reading time: \d+ minutes|\b95%|\b0–1 loss|\b[A-Za-z][\w.-]*", re.MULTILINE)


def prose(text, first=1):
    """(line, text) of all that a reader reads as prose: no code, mathematics, roles, links, tables, exercises."""
    table = solution = False
    for token in MARKDOWN.parse(text):
        table = token.type == "table_open" or (table and token.type != "table_close")
        if token.type in ("fence", "colon_fence"):
            block = to_block(token, first)
            solution = block.name == "solution-start" or (solution and block.name != "solution-end")
            if not solution and token.info.startswith("{"):
                yield from prose_of_directive(block)
        elif token.type == "inline" and not table and not solution:
            line, link = first + token.map[0], False
            for part in token.children:
                link = part.type == "link_open" or (link and part.type != "link_close")
                if part.type == "text" and not link:
                    yield line, part.content
                line += part.type in ("softbreak", "hardbreak") or part.content.count("\n")


def prose_of_directive(block):
    if block.name == "code-cell":
        caption = block.options.get("mystnb", {}).get("figure", {}).get("caption", "")
        yield from ((block.line, text) for _, text in prose(caption))
    elif block.name not in NO_PROSE:
        yield from ((block.line, text) for _, text in prose(block.argument))
        yield from prose(block.body, block.body_line)


def numbers_in_prose(text):
    """(line, text) with a digit that is neither computed nor allowed. Digits in a name (float32, GPT-2) are letters."""
    return [(line, part) for line, part in prose(text) if re.search(r"\d", ALLOWED.sub("", part))]
