"""Never a stale page: a change in the library, the requirements, the data or a static file reaches the built site."""

import json
import os
import shutil
import subprocess

import pytest
from browser import ROOT, build_book

PROBE = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# Probe

```{code-cell} ipython3
from w2s_lib import KL
print("tolerance", KL.tolerance)
```
"""


@pytest.fixture
def clone(tmp_path):
    """The working tree as git sees it, with a book of two pages."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\n"):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "book" / "probe.md").write_text(PROBE)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/probe\n")
    (tmp_path / "book" / "index.md").write_text("# Index\n\n[Probe](probe.md)\n")
    return tmp_path


def build(clone, **environment):
    """Build with the clone's library (the installed one is the original's) and return the probe page's text."""
    return (build_book(clone, PYTHONPATH=str(clone), **environment) / "book" / "probe.html").read_text()


def replace_in(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} in {path}"
    path.write_text(text.replace(old, new))


def executions(clone):
    """When the probe chapter was last executed, as its notebook in the cache tells."""
    return {p: p.stat().st_mtime_ns for p in (clone / "_build" / ".jupyter_cache").glob("*/executed/*/base.ipynb")}


def cpu_seconds_of_children():
    """Not wall time: the machine may be shared, also with another worker of these tests."""
    times = os.times()
    return times.children_user + times.children_system


def test_changes_reach_the_page(clone, tmp_path_factory):
    assert "tolerance 0.0001" in build(clone)
    first = executions(clone)
    assert len(first) == 1

    start = cpu_seconds_of_children()
    build(clone)
    assert executions(clone) == first, "an unchanged book was executed again"
    assert cpu_seconds_of_children() - start < 10

    replace_in(clone / "book" / "probe.md", "# Probe", "# Probe, with other prose")
    assert "tolerance 0.0001" in build(clone)
    assert executions(clone) == first, "changed prose executed the chapter again"
    executed = json.loads((clone / "_build" / "jupyter_execute" / "book" / "probe.ipynb").read_text())
    assert any(cell.get("outputs") for cell in executed["cells"]), "`make reproduce` would have nothing to compare"

    replace_in(clone / "w2s_lib" / "bregman.py", "tolerance = 1e-4", "tolerance = 0.000217")
    assert "tolerance 0.000217" in build(clone)

    (clone / "book" / "_static" / "book.css").write_text("/* changed */")
    build(clone)
    assert "/* changed */" in (clone / "_build" / "html" / "_static" / "book.css").read_text()

    before = executions(clone)
    replace_in(clone / "requirements.txt", "numpy==", "numpy ==")
    build(clone)
    assert set(executions(clone)).isdisjoint(before), "changed requirements did not run the chapter again"

    before = executions(clone)
    data = tmp_path_factory.mktemp("data")
    (data / "pairs.jsonl").write_text("{}")
    build(clone, W2S_DATA=str(data))
    assert set(executions(clone)).isdisjoint(before), "changed data did not run the chapter again"


def test_a_failing_chapter_fails_every_build_until_it_is_mended(clone):
    chapter = clone / "book" / "probe.md"
    replace_in(chapter, 'print("tolerance", KL.tolerance)', "assert KL is None")
    for _ in range(2):  # the second build changes nothing, and must not pass for that
        with pytest.raises(AssertionError, match="the strict build failed"):
            build(clone)
    replace_in(chapter, "assert KL is None", "print('mended')")
    assert "mended" in build(clone)
