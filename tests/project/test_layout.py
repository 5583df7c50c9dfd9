"""The order of the house: who may import whom, how large the core may grow, and a test file for every module.

book -> figures, experiments -> core
in the core: audit, selection -> training, ridge -> losses, gain, decomposition -> calibration -> bregman
             -> intervals, _newton -> _checks
"""

import ast
import re
import sys

import pytest
from browser import ROOT

# A room imports from the lines below its own, and from no other room of its line.
LAYERS = (
    ("__main__",),
    ("cli",),  # the command line, which starts what it is asked for
    ("experiments", "figures"),
    ("__init__",),  # what `import w2s_lib` offers; a room imports from the room that has it, never from here
    ("audit", "selection"),
    ("training", "ridge"),
    ("losses", "gain", "decomposition"),
    ("calibration",),
    ("bregman",),
    ("intervals", "_newton"),
    ("_checks",),
)
LEVEL = {room: -depth for depth, rooms in enumerate(LAYERS) for room in rooms}
OUTSIDE_THE_CORE = ("experiments", "figures", "cli", "__main__")
CORE_PACKAGES = {"w2s_lib", "torch", "numpy", "scipy", "array_api_compat", "tqdm"} | sys.stdlib_module_names

CORE_LINES = 2600  # it may shrink, never grow


def library():
    """{module: source} of w2s_lib; a package is named by its __init__."""
    files = sorted((ROOT / "w2s_lib").rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in files}


def room_of(module):
    """'training' of w2s_lib.training.loop; '__init__' of w2s_lib itself."""
    return (module.split(".")[1:] or ["__init__"])[0]


def core(modules):
    return {module: source for module, source in modules.items() if room_of(module) not in OUTSIDE_THE_CORE}


def imports(module, source, modules):
    """(name, line) of each import of a module, also inside functions; names are absolute.

    w2s_lib.bregman stands for `from .bregman import KL` as for `from . import bregman`.
    """
    for node in ast.walk(ast.parse(source)):
        for name in names_imported(node, module):
            while name.startswith("w2s_lib.") and name not in modules and f"{name}.__init__" not in modules:
                name = name.rpartition(".")[0]
            yield name, node.lineno


def names_imported(node, module):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        start = [*module.split(".")[: -node.level], node.module] if node.level else [node.module]
        return [".".join(filter(None, (*start, alias.name))) for alias in node.names]
    called = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
    if called in ("import_module", "__import__") and node.args:
        first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
        return [first.value] if isinstance(first, ast.Constant) else []
    return []


def imports_against_the_direction(modules):
    for module, source in modules.items():
        room = room_of(module)
        if room not in LEVEL:
            yield f"{module}: a new room; give it its place in LAYERS"
            continue
        for name, line in imports(module, source, modules):
            package, other = name.split(".")[0], room_of(name)
            allowed = package != "w2s_lib" or other == room or LEVEL.get(other, 0) < LEVEL[room]
            if not allowed or package in ("book", "tests"):
                yield f"{module}, line {line}: imports {name}"


def foreign_imports_of_the_core(modules):
    for module, source in core(modules).items():
        for name, line in imports(module, source, modules):
            if name.split(".")[0] not in CORE_PACKAGES:
                yield f"{module}, line {line}: imports {name}"


def without_partners(modules, tests):
    """Modules without a test file of their name, test files without a module or a package; `tests`: below tests/."""
    expected, packages = {}, set()
    for module in modules:
        *folders, name = module.removesuffix(".__init__").split(".")[1:] or [""]
        test = "/".join([*folders, f"test_{name.strip('_')}.py"])
        if module.endswith(".__init__"):
            packages.add(test)
        else:
            expected[test] = module
    mirrors = {test for test in tests if not test.startswith(("book/", "benchmarks/", "project/"))}
    yield from (f"{expected[test]} has no tests/{test}" for test in sorted(expected.keys() - mirrors))
    yield from (f"tests/{test} has no module of its name" for test in sorted(mirrors - expected.keys() - packages))


def test_imports_go_one_way():
    wrong = [*imports_against_the_direction(library())]
    assert not wrong, "\n".join(wrong)


def test_the_core_imports_only_what_it_depends_on():
    wrong = [*foreign_imports_of_the_core(library())]
    assert not wrong, "\n".join(wrong)


def test_the_core_stays_small():
    lines = {module: len(source.splitlines()) for module, source in core(library()).items()}
    assert sum(lines.values()) < CORE_LINES, f"{sum(lines.values())} lines, docstrings included: {lines}"


def test_every_module_has_its_tests_and_every_test_its_module():
    tests = {path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    wrong = [*without_partners(library(), tests)]
    assert not wrong, "\n".join(wrong)


def test_every_room_is_documented():
    """By name in the page of the library; two packages stand for their modules, and one has something of its own."""
    page = (ROOT / "book" / "reference" / "library.md").read_text()
    documented = set(re.findall(r"automodule:: (w2s_lib\S+)", page))
    packages = ("w2s_lib.training", "w2s_lib.figures")
    public = {module for module in library() if "._" not in module and room_of(module) != "cli"}
    public.add("w2s_lib.experiments.protocol")
    assert {next((p for p in packages if module.startswith(p)), module) for module in public} == documented


# ------------------------------------------------------------------------------------ each of these tests can fail

HOUSE = {
    "w2s_lib.__init__": "from .gain import ledger",
    "w2s_lib._checks": "import numpy",
    "w2s_lib.bregman": "from ._checks import require",
    "w2s_lib.calibration": "from . import _checks",
    "w2s_lib.gain": "from .bregman import KL",
    "w2s_lib.training.__init__": "from .loop import train",
    "w2s_lib.training.loop": "from ..gain import ledger",
    "w2s_lib.audit": "from .training.loop import train",
    "w2s_lib.experiments.store": "import joblib",
    "w2s_lib.figures.style": "import matplotlib.pyplot as plt",
}


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("w2s_lib.gain", "from .training import train", "line 1: imports w2s_lib.training"),
        ("w2s_lib.gain", "from . import audit", "line 1: imports w2s_lib.audit"),
        ("w2s_lib.gain", "def f():\n    from .training.loop import train", "line 2: imports w2s_lib.training.loop"),
        ("w2s_lib.gain", "import importlib\nimportlib.import_module('w2s_lib.audit')", "line 2: imports w2s_lib.audit"),
        ("w2s_lib.gain", "from w2s_lib import ledger", "line 1: imports w2s_lib"),
        ("w2s_lib._checks", "import w2s_lib.gain", "line 1: imports w2s_lib.gain"),
        ("w2s_lib.training.loop", "from ..figures.style import COLORS", "line 1: imports w2s_lib.figures.style"),
        ("w2s_lib.figures.style", "from ..experiments import store", "line 1: imports w2s_lib.experiments.store"),
        ("w2s_lib.bregman", "from .calibration import scores", "line 1: imports w2s_lib.calibration"),
        ("w2s_lib.gain", "from book import x", "line 1: imports book.x"),
        ("w2s_lib.rooms", "", "a new room"),
    ],
)
def test_an_import_against_the_direction_is_seen(module, source, complaint):
    assert not [*imports_against_the_direction(HOUSE)]
    (seen,) = imports_against_the_direction(HOUSE | {module: source})
    assert seen.startswith(module) and complaint in seen


@pytest.mark.parametrize(
    "source", ["import sklearn.datasets", "def f():\n    from joblib import dump", "import mlxtend"]
)
def test_a_foreign_import_is_seen(source):
    assert not [*foreign_imports_of_the_core(HOUSE)]
    assert len([*foreign_imports_of_the_core(HOUSE | {"w2s_lib.training.loop": source})]) == 1


def test_a_missing_partner_is_seen():
    tests = {"test_checks.py", "test_bregman.py", "test_calibration.py", "test_gain.py", "test_audit.py"}
    tests |= {"training/test_loop.py", "experiments/test_store.py", "figures/test_style.py", "book/test_pages.py"}
    assert not [*without_partners(HOUSE, tests)]
    assert not [*without_partners(HOUSE, tests | {"test_training.py"})]  # of a package
    assert [*without_partners(HOUSE, tests - {"training/test_loop.py"} | {"test_split.py"})] == [
        "w2s_lib.training.loop has no tests/training/test_loop.py",
        "tests/test_split.py has no module of its name",
    ]
