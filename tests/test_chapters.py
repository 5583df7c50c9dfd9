"""nbval runs the chapters when pytest collects book/; here we make sure that it would notice."""

import ast
import re
import shutil
import subprocess
import sys

import jupytext
import pytest
from browser import ROOT

SOURCES = sorted(p for p in (ROOT / "book").glob("*.md") if "kernelspec:" in p.read_text())
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


def negate_last_assertion(notebook):
    """Turn `assert condition` into `assert not (condition)` in the last cell that has one; its cell number."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in reversed(list(enumerate(code))):
        tree = ast.parse(cell.source)
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        if found:
            found[-1].test = ast.UnaryOp(ast.Not(), found[-1].test)
            cell.source = ast.unparse(tree)
            return number
    raise AssertionError("the chapter has no assertion")


def test_there_are_chapters():
    assert {"index", "phenomenon"} <= {p.stem for p in SOURCES}


@chapters
def test_every_code_cell_is_collected(source, tmp_path):
    copy_of(source, tmp_path)
    code, output = pytest_in(tmp_path, "--collect-only", "-q")
    assert code == 0, output
    assert len(re.findall(rf"{source.name}::Cell \d+", output)) == len(FENCE.findall(source.read_text())) > 0


@chapters
def test_a_negated_assertion_fails_the_chapter(source, tmp_path):
    copy = copy_of(source, tmp_path)
    notebook = jupytext.read(copy)
    number = negate_last_assertion(notebook)
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
            assert len([line for line in lines if line.strip()]) <= 20, f"a cell of {len(lines)} lines:\n{cell.source}"
            assert max(map(len, lines)) <= 80, max(lines, key=len)
