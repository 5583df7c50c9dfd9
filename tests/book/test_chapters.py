"""nbval runs the chapters when pytest collects book/ (chapter_run.py): here we make sure that it would notice."""

import re
import shutil
import subprocess
import sys

import jupytext
import pytest
from browser import ROOT
from chapter_run import MOVING, is_chapter
from chapter_source import HEAD, Chapter
from editorial import widths

SOURCES = sorted(path for path in (ROOT / "book").rglob("*.md") if is_chapter(path))
FENCE = re.compile(r"^```\{code-cell\}.*?^```$", re.MULTILINE | re.DOTALL)
# whatever the checks behind a chapter are there to find; the first exercise and the first lab are in order
BAD = (
    HEAD
    + """
```{code-cell} ipython3
import os
import matplotlib.pyplot as plt
from w2s_lib import figures

def check_half(half):
    assert half(4) == 2

controls = {}
```

````{exercise}
:label: ex-fine
```python
def half(x):
    return ...

check_half(half)
```
````

````{exercise}
:label: ex-solved
```python
check_half(lambda x: x / 2)
```
````

````{exercise}
:label: ex-too-early
```python
check_later(lambda x: ...)
```
````

```{code-cell} ipython3
def check_later(solution):
    assert solution(1)

x = figures.slider("x", 0, 1, 0.5, 0, "x")
chart = figures.computed(y="x").mark_point().encode(y="y:Q").add_params(x)
twin = figures.Explorable(chart, "A point that goes up and down as you move the slider.")
twin
```

```{code-cell} ipython3
def line(n):
    plt.figure()
    plt.plot(range(n))
    plt.show()

def still(n):
    if "W2S_STATIC" not in os.environ:
        raise RuntimeError("not with a kernel")
    line(4)

figures.Lab(line, twin, n=(2, 3, 4))
```

```{code-cell} ipython3
lab = figures.Lab(still, twin, n=(2, 3, 4))
for never in ():
    assert never
```
"""
)
RED = (
    HEAD
    + """
```{code-cell} ipython3
half = 4 / 2
```

```{code-cell} ipython3
assert not (half == 2)
```
"""
)


def pytest_in(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    command += ["--rootdir", str(folder), str(folder), "--color=no", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def copy_of(source, folder):
    shutil.copy(ROOT / "conftest.py", folder)
    return shutil.copy(source, folder)


def test_there_are_chapters():
    assert {"index", "01_phenomenon"} <= {p.stem for p in SOURCES}


def test_every_code_cell_is_collected_with_the_checks_behind_it(tmp_path):
    for source in SOURCES:
        copy_of(source, tmp_path)
    code, output = pytest_in(tmp_path, "--collect-only", "-q")
    assert code == 0, output
    for source in SOURCES:
        tests = re.findall(rf"{source.name}::(.*)", output)
        assert sum(test.startswith("Cell ") for test in tests) == len(FENCE.findall(source.read_text())) > 0
        assert "last assertion can fail" in tests
        chapter = Chapter(source)
        exercises = [exercise for exercise in chapter.named("exercise") if exercise.inside("python")]
        stubs = [f"unsolved exercise {exercise.options['label']} fails" for exercise in exercises]
        assert [test for test in tests if test.startswith("unsolved")] == stubs
        if source.parent.name == "course":
            assert stubs
        if MOVING.search(chapter.text):
            assert "moving figures come alive" in tests
            assert "moving figures are small and the same in every build" in tests
        if "figures.Lab(" in source.read_text():
            assert "labs draw a picture of its own for every state" in tests


def test_what_is_wrong_with_a_chapter_is_found(tmp_path):
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "bad.md").write_text(BAD)
    (tmp_path / "red.md").write_text(RED)
    code, output = pytest_in(tmp_path, "-v", "-rf")
    assert code == 1, output
    results = {}
    for name, test, result in re.findall(r"^(bad|red)\S*::(.+?) (PASSED|FAILED|SKIPPED)", output, re.MULTILINE):
        results.setdefault(name, {})[test] = result
    assert results["bad"] == {f"Cell {i}": "PASSED" for i in range(4)} | {
        "unsolved exercise ex-fine fails": "PASSED",
        "unsolved exercise ex-solved fails": "FAILED",
        "unsolved exercise ex-too-early fails": "FAILED",
        "last assertion can fail": "FAILED",
        "moving figures come alive": "FAILED",
        "moving figures are small and the same in every build": "PASSED",
        "labs draw a picture of its own for every state": "FAILED",
    }, output
    assert results["red"] == {"Cell 0": "PASSED", "Cell 1": "FAILED", "last assertion can fail": "SKIPPED"}, output
    reasons = ["stub passes its check unsolved", "NameError", "not with a kernel", "dead control n: (2,) and (3,)"]
    for reason in (*reasons, "assert not (half == 2)"):
        assert reason in output, reason


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_no_outputs_in_git_and_code_fits_the_page(source):
    assert not [cell for cell in jupytext.read(source).cells if cell.cell_type == "code" and cell.outputs]
    assert not [*widths(Chapter(source))]
