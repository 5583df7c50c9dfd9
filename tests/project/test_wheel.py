"""A wheel, installed alone into an empty environment, brings a core that works: nobody needs the repository for it.

The environment holds w2s_lib from the wheel, the five packages that the core depends on and what those need in turn,
linked from the running environment (a copy of torch would cost minutes), and nothing else that could be imported.
"""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import venv

import pytest
from browser import ROOT
from packaging.requirements import Requirement

CORE = ("torch", "numpy", "scipy", "array-api-compat", "tqdm")
EXTRAS = ("w2s_lib.experiments", "w2s_lib.figures", "w2s_lib.cli.evidence_command", "w2s_lib.__main__")
EVERY_ROOM = f"""
import importlib, pkgutil, sys, w2s_lib
assert not hasattr(sys, "ps1") and "site-packages" in w2s_lib.__file__, w2s_lib.__file__
for room in pkgutil.walk_packages(w2s_lib.__path__, "w2s_lib."):
    if not room.name.startswith({EXTRAS}):
        print(importlib.import_module(room.name).__name__)
"""


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def with_requirements(names):
    """These distributions and all that they need, without extras."""
    needed, waiting = set(), list(names)
    while waiting:
        name = canonical(waiting.pop())
        if name not in needed:
            needed.add(name)
            requirements = map(Requirement, importlib.metadata.requires(name) or ())
            waiting += [r.name for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    return needed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from what git would hand out, not from a folder in which an old build may lie."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "w2s_lib", source / "w2s_lib", ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", target, source)
    (built,) = target.glob("*.whl")
    return built


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """`python(*arguments)` runs the interpreter of an environment that holds the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in map(importlib.metadata.distribution, with_requirements(CORE)):
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not top.endswith(".pth"):
                (site / top).symlink_to(distribution.locate_file(top))
    interpreter = folder / "bin" / "python"
    # with its dependencies, and from nowhere: pip refuses if the wheel wants more than lies here
    pip("--python", interpreter, "install", "--no-index", wheel)

    def run(*arguments, cwd=folder):
        return subprocess.run([interpreter, "-I", *arguments], cwd=cwd, capture_output=True, text=True)

    return run


def test_the_core_needs_five_packages_and_all_else_is_an_extra(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {Requirement(r).name for r in project["dependencies"]} == set(CORE)
    extras = {Requirement(r).name for rs in project["optional-dependencies"].values() for r in rs} - {"w2s_lib"}
    pinned = (ROOT / "requirements.txt").read_text()
    for name in {*CORE, *extras}:
        assert re.search(rf"^{name}==", pinned, re.MULTILINE), f"{name} is not pinned in requirements.txt"


def test_the_wheel_holds_every_module_and_what_it_reads_the_types_and_the_licence(wheel):
    from zipfile import ZipFile

    names = set(ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "w2s_lib").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}
    assert {f"w2s_lib/figures/live_ledger.{suffix}" for suffix in ("js", "css")} | {"w2s_lib/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_core_room_imports_without_the_packages_of_the_experiments(python):
    done = python("-c", EVERY_ROOM)
    assert done.returncode == 0, done.stderr
    rooms = {str(p.relative_to(ROOT).with_suffix("")).replace("/", ".") for p in (ROOT / "w2s_lib").rglob("*.py")}
    core = {room for room in rooms if not room.startswith((*EXTRAS, "w2s_lib.__"))}
    assert set(done.stdout.split()) == {room.removesuffix(".__init__") for room in core}
    for package in ("sklearn", "joblib", "matplotlib", "pandas", "altair", "pytest"):
        assert "ModuleNotFoundError" in python("-c", f"import {package}").stderr, f"the environment has {package}"


def test_readme_example_runs_from_the_wheel_alone(python):
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    done = python("-c", example)
    assert done.returncode == 0, done.stderr
    assert "gain" in done.stdout and "residual" in done.stdout


def test_the_command_of_the_wheel_audits_a_file(python, tmp_path):
    write = "import numpy as np; r = np.random.default_rng(0); y = r.integers(0, 2, 50); "
    write += "w, s = r.normal(size=(2, 50, 2)) + np.eye(2)[y]; "
    write += "np.savez('pair.npz', truth=y, teacher=w, student=s)"
    assert python("-c", write, cwd=tmp_path).returncode == 0
    done = python("-m", "w2s_lib", "audit", "pair.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "misfit" in done.stdout
