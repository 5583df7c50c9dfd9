"""The page Paper map, made from the table _data/paper_map.yaml, whose head describes its columns.

    ```{papermap} PART      the results of a part: statements, claims, experiments, neighbours
    ```{papermap} verdicts  what each verdict means, and how many results have it
    ```{papermap} own       theorems of the book that stand for no published result

Each result becomes an item of a definition list. Its places become roles of MyST, so that a label or a function that
does not exist is a warning of the build.
"""

from collections import Counter
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

TABLE = Path(__file__).parents[1] / "_data" / "paper_map.yaml"
PARTS = ("statements", "claims", "experiments", "neighbours")
VERDICTS = {
    "proved": "The book has the statement, in the form given in the note, and its proof.",
    "reproduced": "A cell or a test of the book measures it, with the limits given in the note.",
    "not seen": "We looked, and did not find it as generally as it is stated. The note says when it holds.",
    "not run": "The book has not tried it. A place, if there is one, is something near.",
    "not accessible": "The full text was not at hand, so we cannot say.",
}


def load():
    return yaml.safe_load(TABLE.read_text())


def split(place):
    """("course/04_gap_ledger", "thm-ledger") of "course/04_gap_ledger#thm-ledger"."""
    page, _, label = place.partition("#")
    return page, label


def reference(label):
    return f"{{numref}}`{label}`" if label.startswith("fig-") else f"{{prf:ref}}`{label}`"


def in_the_book(places):
    """[The gap ledger](ledger.md), Theorem 4.1, Fig. 4.4; the next page after a semicolon."""
    pages = {}
    for page, label in map(split, places):
        pages.setdefault(page, []).append(reference(label))
    return "; ".join(", ".join([f"[](../{page}.md)", *labels]) for page, labels in pages.items())


def places(result):
    lines = {
        "Book": in_the_book(result.get("where", ())),
        "Library": ", ".join(f"{{py:obj}}`{name} <w2s_lib.{name}>`" for name in result.get("function", ())),
        "Test": ", ".join(f"`{name}`" for name in result.get("test", ())),
    }
    return "\n".join(f"- {name}: {text}" for name, text in lines.items() if text)


def badge(verdict):
    return nodes.inline("", verdict, classes=["verdict", f"verdict-{verdict.replace(' ', '-')}"])


class PaperMap(SphinxDirective):
    required_arguments = 1

    def run(self):
        for file in (TABLE, __file__):
            self.env.note_dependency(str(file))
        table, (part,) = load(), self.arguments
        if part == "own":
            lines = [f"- {in_the_book([place])}: {text}" for place, text in table["own"].items()]
            return self.parsed("\n".join(lines))
        if part == "verdicts":
            given = Counter(result["verdict"] for result in table["results"])
            items = [
                self.item([badge(v), nodes.Text(f" {given[v]} of the results")], text) for v, text in VERDICTS.items()
            ]
        elif part in PARTS:
            items = [self.result(result) for result in table["results"] if result["part"] == part]
        else:
            raise self.error(f"no part {part!r}; there are verdicts, own, {', '.join(PARTS)}")
        return [nodes.definition_list("", *items, classes=["papermap", part])]

    def result(self, result):
        source = f", {{cite:t}}`{result['source']}`" if result["part"] == "neighbours" else ""
        head = self.parsed(f"**{result['name']}**{source}")[0]
        name = nodes.inline("", "", *head.children)
        return self.item(
            [name, nodes.Text(" "), badge(result["verdict"])], result["result"], result.get("note", ""), places(result)
        )

    def item(self, head, *paragraphs):
        definition = nodes.definition("", *self.parsed("\n\n".join(paragraphs)))
        return nodes.definition_list_item("", nodes.term("", "", *head), definition)

    def parsed(self, text):
        """The nodes of a text in MyST."""
        parent = nodes.Element()
        self.state.nested_parse(StringList(text.splitlines(), str(TABLE)), self.content_offset, parent)
        return parent.children


def setup(app):
    app.add_directive("papermap", PaperMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
