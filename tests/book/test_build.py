"""The book is built strictly, never stale, and takes the outputs of a run of its chapters by the tests."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from browser import HTML, ROOT, build_book, build_environment, pages
from chapter_source import HEAD
from fresh import execution_cache

PROBE = (
    HEAD
    + """
# Probe

```{code-cell} ipython3
import time
import matplotlib.pyplot as plt
from w2s_lib import figures
from w2s_lib.probe import text

print(text, flush=True)
time.sleep(0.5)  # a kernel sends what is printed in pieces
print("printed later")
figures.report(half=0.5)
```

```{code-cell} ipython3
---
mystnb:
  image:
    alt: A straight line from the lower left to the upper right corner.
---
plt.plot([0, 1])
plt.show()
```

```{code-cell} ipython3
x = figures.slider("x", 0, 1, 0.5, 0, "x")
chart = figures.computed(y="x").mark_point().encode(y="y:Q").add_params(x)
figures.Explorable(chart, "A point that goes up and down as you move the slider.")
```

Glued: {glue:text}`half`. Computed: {eval}`number.half`.
"""
)
FAILING = (
    HEAD
    + """
# Failing

```{code-cell} ipython3
assert False
```

Reported nowhere: {eval}`number.nowhere`.
"""
)


def test_the_book_is_built(book):
    assert all((HTML / name).is_file() for name in pages())


@pytest.fixture
def clone(tmp_path):
    """The working tree as git sees it, with a book of three pages; one of them fails."""
    folder = tmp_path / "clone"
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\n"):
        if (ROOT / name).is_file() and not (name.startswith("book/") and name.endswith(".md")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "book" / "probe.md").write_text(PROBE)
    (folder / "book" / "failing.md").write_text(FAILING)
    (folder / "w2s_lib" / "probe.py").write_text('text = "the library as it was"')
    toc = "format: jb-book\nroot: book/index\nchapters:\n- file: book/probe\n- file: book/failing\n"
    (folder / "_toc.yml").write_text(toc)
    (folder / "book" / "index.md").write_text("# Index\n\n[Probe](probe.md)\n")
    return folder


def build(clone):
    """Build with the clone's library; the installed one is the original's."""
    build_book(clone, PYTHONPATH=str(clone))


def page(clone, name="probe"):
    """Text of a built page; that a first build cannot sum up all style sheets yet is left aside."""
    return re.sub(r"\.css\?v=\w+", ".css", (clone / "_build" / "html" / "book" / f"{name}.html").read_text())


def outputs(clone):
    """Of each cell of the probe's notebook as the build writes it."""
    notebook = json.loads((clone / "_build" / "jupyter_execute" / "book" / "probe.ipynb").read_text())
    return [cell.get("outputs") for cell in notebook["cells"]]


def chapters_in(clone):
    """Run the clone's chapters as `make test` does."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "book"]
    environment = build_environment(PYTHONPATH=str(clone))
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def replace_in(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} in {path}"
    path.write_text(text.replace(old, new))


def executions(clone):
    """When each chapter in the cache was executed, by its notebook there."""
    return {p: p.stat().st_mtime_ns for p in (clone / "_build" / ".jupyter_cache").glob("*/executed/*/base.ipynb")}


def cpu_seconds_of_children():
    """Not wall time: the machine may be shared, also with another worker of these tests."""
    times = os.times()
    return times.children_user + times.children_system


def test_four_builds(clone):
    with pytest.raises(AssertionError, match="no cell of this page reports 'number\\.nowhere'"):
        build(clone)
    assert "the library as it was" in page(clone)
    assert re.search(r'Computed: <span class="computed"[^>]*>0\.50</span>\.', page(clone))
    first = executions(clone)
    assert len(first) == 1, "a failing chapter has no outputs to keep"

    # other prose and style; the failing chapter has not changed, and the build must not pass for that
    replace_in(clone / "book" / "probe.md", "# Probe", "# Probe, with other prose")
    (clone / "book" / "_static" / "book.css").write_text("/* changed */")
    start = cpu_seconds_of_children()
    with pytest.raises(AssertionError, match="the strict build failed"):
        build(clone)
    assert cpu_seconds_of_children() - start < 10
    assert executions(clone) == first, "changed prose executed the chapter again"
    assert "with other prose" in page(clone) and "the library as it was" in page(clone)
    assert "/* changed */" in (clone / "_build" / "html" / "_static" / "book.css").read_text()
    assert any(outputs(clone)), "`make reproduce` would have nothing to compare"

    # the failing chapter mended, the library changed
    replace_in(clone / "book" / "failing.md", "assert False", "print('mended')")
    replace_in(clone / "book" / "failing.md", "{eval}`number.nowhere`", "nothing")
    replace_in(clone / "w2s_lib" / "probe.py", "as it was", "as it is now")
    build(clone)
    assert "the library as it is now" in page(clone) and "mended" in page(clone, "failing")
    assert len(executions(clone)) == 2 and executions(clone).keys().isdisjoint(first)

    # from nothing, with the outputs of a run of the chapters by the tests: nothing is executed, the pages are the same
    plain = [page(clone), page(clone, "failing"), outputs(clone)]
    shutil.rmtree(clone / "_build")
    chapters_in(clone)
    ran = executions(clone)
    assert len(ran) == 2
    build(clone)
    assert executions(clone) == ran
    assert [page(clone), page(clone, "failing"), outputs(clone)] == plain


def test_what_outputs_depend_on_names_the_cache(clone, tmp_path, monkeypatch):
    """The library, the requirements and the data; not the prose, which MyST-NB looks at itself, and not the tests."""
    monkeypatch.delenv("W2S_DATA", raising=False)
    seen = [execution_cache(clone)]
    replace_in(clone / "book" / "probe.md", "# Probe", "# Probe, with other prose")
    (clone / "conftest.py").write_text("")
    assert execution_cache(clone) == seen[0]
    for path in ("w2s_lib/probe.py", "w2s_lib/training/__init__.py", "requirements.txt", "pyproject.toml"):
        with (clone / path).open("a") as file:
            file.write("# changed\n")
        seen.append(execution_cache(clone))
    (clone / "book" / "_data" / "new.json").write_text("{}")
    seen.append(execution_cache(clone))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.jsonl").write_text("{}")
    monkeypatch.setenv("W2S_DATA", str(tmp_path / "data"))
    seen.append(execution_cache(clone))
    assert len(set(seen)) == len(seen)
