"""What JupyterLab makes of a page that it opens and saves: cells stay folded, and values stay out of the text."""

import shutil

import jupytext
import pytest
from browser import ROOT
from chapter_source import HEAD

PAGE = (
    HEAD
    + """
Of {eval}`number.pairs` pairs.

```{code-cell} ipython3
---
tags: [remove-cell]
jupyter: {source_hidden: true}
---
figures.report(pairs=360)
```
"""
)
# as jupyterlab-myst sets it when the cell is run
VALUES = [{"expression": "number.pairs", "result": {"status": "ok", "data": {"text/plain": "'360'"}, "metadata": {}}}]


@pytest.fixture
def lab(tmp_path):
    """The server's store of documents, with the page and the book's settings in it."""
    shutil.copy(ROOT / "book" / "jupytext.toml", tmp_path)
    (tmp_path / "page.md").write_text(PAGE)
    store = jupytext.TextFileContentsManager()
    store.root_dir = str(tmp_path)
    return store


def test_a_page_survives_being_opened_and_saved(lab, tmp_path):
    opened = lab.get("page.md", type="notebook")
    text, code = opened["content"].cells
    assert code.metadata == {"tags": ["remove-cell"], "jupyter": {"source_hidden": True}}
    text.metadata["user_expressions"] = VALUES
    lab.save(opened, "page.md")
    saved = (tmp_path / "page.md").read_text()
    assert "'360'" not in saved and "user_expressions" not in saved
    assert [cell.source for cell in jupytext.reads(saved, "md:myst").cells] == [text.source, code.source]
    assert jupytext.reads(saved, "md:myst").cells[1].metadata == code.metadata
