"""nbval runs the chapters when pytest collects book/; here we make sure that it would notice, and play with each."""

import ast
import linecache
import re
import shutil
import subprocess
import sys

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pytest
from browser import ROOT
from chapter_source import Chapter, blocks, course, negated

from w2s_lib.figures import Explorable, Lab

SOURCES = sorted(p for p in (ROOT / "book").rglob("*.md") if "kernelspec:" in p.read_text())
FENCE = re.compile(r"^```\{code-cell\}.*?^```$", re.MULTILINE | re.DOTALL)
chapters = pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)


def pytest_in(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    command += ["--rootdir", str(folder), str(folder), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def copy_of(source, folder):
    shutil.copy(ROOT / "conftest.py", folder)
    return shutil.copy(source, folder)


def test_there_are_chapters():
    assert {"index", "01_phenomenon"} <= {p.stem for p in SOURCES}


def test_every_code_cell_is_collected(tmp_path):
    for source in SOURCES:
        copy_of(source, tmp_path)
    code, output = pytest_in(tmp_path, "--collect-only", "-q")
    assert code == 0, output
    for source in SOURCES:
        assert len(re.findall(rf"{source.name}::Cell \d+", output)) == len(FENCE.findall(source.read_text())) > 0


def test_a_negated_assertion_fails_the_page(tmp_path):
    """On the cheapest page, through nbval; `test_the_last_assertion_can_fail` looks at the chapters."""
    copy = copy_of(ROOT / "book" / "index.md", tmp_path)
    notebook = jupytext.read(copy)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    number, changed = next((i, new) for i, cell in reversed([*enumerate(code)]) if (new := negated(cell.source)))
    code[number].source = changed
    jupytext.write(notebook, copy, fmt="md:myst")
    code, output = pytest_in(tmp_path, "-q")
    assert code == 1, output
    failed = re.findall(r"^FAILED .*::Cell (\d+)", output, re.MULTILINE)
    assert failed == [str(number)], output[-3000:]
    assert "AssertionError" in output


@chapters
def test_no_outputs_in_git_and_code_fits_the_page(source):
    for cell in jupytext.read(source).cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            lines = cell.source.splitlines()
            assert len(lines) <= 20, f"a cell of {len(lines)} lines:\n{cell.source}"
            assert max(map(len, lines)) <= 80, max(lines, key=len)


# -------------------------------------------------------------------------------- one run of each chapter, in-process


class Run:
    """What one run of a chapter, cell by cell in one namespace, showed.

    moving  : the explorables and labs that cells displayed or left in the namespace
    stubs   : for each exercise the exception of its unsolved stub (None: it passed)
    negated : the exception of the last cell with an assertion, that assertion negated
    """

    def __init__(self, chapter):
        self.names, self.stubs, self.negated, shown = {"__name__": "__main__"}, [], None, []
        code = [cell for cell in chapter.cells if cell.cell_type == "code"]
        last = [cell for cell in code if negated(cell.source)][-1]
        for cell in chapter.cells:
            if cell.cell_type != "code":
                exercises = [block for block in blocks(cell.source) if block.name == "exercise"]
                self.stubs += [self.attempt(stub.body) for e in exercises for stub in e.inside("python")]
                continue
            if cell is last:
                self.negated = self.attempt(negated(cell.source))
            shown.append(execute(cell.source, self.names))
            plt.close("all")
        found = {id(thing): thing for thing in (*shown, *self.names.values()) if isinstance(thing, (Explorable, Lab))}
        self.moving = list(found.values())

    def attempt(self, source):
        """The exception that `source` raises here (or None); the chapter does not notice that it ran."""
        generators = [x.bit_generator for x in self.names.values() if isinstance(x, np.random.Generator)]
        states = [generator.state for generator in generators]
        try:
            execute(source, dict(self.names))
        except Exception as error:
            return error
        finally:
            plt.close("all")
            for generator, state in zip(generators, states):
                generator.state = state
        return None


def execute(source, names):
    """Run a cell as Jupyter does; the value of its last line, if that is an expression."""
    tree, value, name = ast.parse(source), None, f"<cell {hash(source)}>"
    linecache.cache[name] = len(source), None, source.splitlines(True), name  # as in a notebook, the source is at hand
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    if last:
        value = eval(compile(ast.Expression(last.value), name, "eval"), names)
    return value


@pytest.fixture(scope="module", params=course(), ids=lambda path: path.stem)
def run(request):
    plt.switch_backend("Agg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plt, "show", lambda *args, **kwargs: None)
        patch.chdir(request.param.parent)
        yield Run(Chapter(request.param))


def test_an_unsolved_exercise_fails(run):
    assert len(run.stubs) >= 3
    for error in run.stubs:
        assert error is not None, "a stub passes its check unsolved"
        assert not isinstance(error, (NameError, SyntaxError)), repr(error)


def test_the_last_assertion_can_fail(run):
    assert isinstance(run.negated, AssertionError), repr(run.negated)


def test_explorables_are_small_and_the_same_in_every_build(run):
    assert run.moving, "no explorable figure"
    for thing in run.moving:
        figure = thing.twin if isinstance(thing, Lab) else thing
        assert len(figure.static_html.encode()) <= 500_000
        assert " at 0x" not in repr(thing)


def test_labs_draw_a_picture_of_its_own_for_every_state(run):
    for lab in (thing for thing in run.moving if isinstance(thing, Lab)):
        pictures = {tuple(state.values()): picture(lab, state) for state in lab.grid()}
        assert picture(lab, lab.grid()[0]) == pictures[tuple(lab.grid()[0].values())], "it draws by chance: seed it"
        for i, (control, states) in enumerate(lab.states.items()):
            for here, drawn in pictures.items():
                if here[i] != states[-1]:
                    there = (*here[:i], states[states.index(here[i]) + 1], *here[i + 1 :])
                    assert drawn != pictures[there], f"dead control {control}: {here} and {there} look the same"


def picture(lab, state):
    """The pixels that a lab draws."""
    plt.close("all")
    lab.draw(**state)
    assert len(plt.get_fignums()) == 1, f"{state}: {len(plt.get_fignums())} figures instead of one"
    canvas = plt.gcf().canvas
    canvas.draw()
    pixels = bytes(canvas.buffer_rgba())
    plt.close("all")
    return hash(pixels)
