"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the repository.

All are followed in one copy, and their checks are one run of pytest, as starting it takes longer than most checks.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from browser import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^## (Add a \w+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(
    r"(?:^`(?P<path>[^`\n]+)`, (?:at the end|below `(?P<line>[^`\n]+)`):\n\n)?"
    r"^```(?P<language>\w+)\n(?P<content>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture
def copy(tmp_path):
    """The repository, without what is built from it."""
    copied = tmp_path / "copy"
    for folder in ("w2s_lib", "tests", "book"):
        shutil.copytree(ROOT / folder, copied / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, copied)
    return copied


def put(block, copy):
    """Put a block where it says: at the end of a file, after two empty lines, or below its only line that begins so."""
    file = copy / block["path"]
    lines = file.read_text().splitlines(keepends=True)
    if block["line"]:
        places = [i for i, line in enumerate(lines, 1) if line.startswith(block["line"])]
        assert len(places) == 1, f"{len(places)} lines of {block['path']} begin with {block['line']!r}"
        lines.insert(places[0], block["content"])
    else:
        lines += ["\n\n", block["content"]]
    file.write_text("".join(lines))


def follow(recipe, copy):
    """Do what a recipe says; its checks: the arguments of pytest and the expression that chooses among the tests."""
    checks = []
    for block in BLOCK.finditer(recipe):
        if block["language"] != "sh":
            assert block["path"], f"where does this belong?\n{block['content']}"
            put(block, copy)
            continue
        for command in block["content"].splitlines():
            program, *arguments = shlex.split(command)
            if program == "pytest":
                *paths, option, expression = arguments
                assert option == "-k"
                checks.append((paths, expression))
            else:
                subprocess.run([program, *arguments], cwd=copy, check=True)
    return checks


def check(checks, copy):
    """(lines of outcomes, output) of the checks in the copy, with its library."""
    paths = [path for paths, _ in checks for path in paths]
    expression = " or ".join(f"({expression})" for _, expression in checks)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *paths, "-k", expression]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment |= {"PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    return re.findall(r"^(PASSED|FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_every_block_is_read():
    assert len(RECIPES) == 3
    assert 2 * sum(len(BLOCK.findall(recipe)) for recipe in RECIPES.values()) == TEXT.count("```")


def test_the_recipes_work(copy):
    checks = [check for recipe in RECIPES.values() for check in follow(recipe, copy)]
    assert len(checks) == len(RECIPES)
    outcomes, output = check(checks, copy)
    assert {outcome for outcome, _ in outcomes} == {"PASSED"}, output
    for path in (path for paths, _ in checks for path in paths):
        assert any(test.startswith(path) for _, test in outcomes), f"{path}: no test has run\n{output}"
    for identity in ("test_gradient_equals_autograd", "test_three_point_identity"):
        assert any(identity in test for _, test in outcomes), output


def test_a_wrong_gradient_is_noticed(copy):
    outcomes, output = check(follow(RECIPES["Add a loss"].replace("d = 2 *", "d = 3 *"), copy), copy)
    failed = [test for outcome, test in outcomes if outcome == "FAILED"]
    assert failed and all("test_gradient_equals_autograd" in test for test in failed), output
