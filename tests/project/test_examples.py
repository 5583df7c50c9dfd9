"""The examples in the docstrings of the core run, and the main entry points have one."""

import doctest
import importlib
import pkgutil

import pytest

import w2s_lib

CORE = [
    m.name
    for m in pkgutil.iter_modules(w2s_lib.__path__)
    if m.name not in ("__main__", "cli", "experiments", "figures")
]
ENTRY_POINTS = (
    "audit.audit", "bregman.Generator.divergence", "calibration.fit_temperature", "decomposition.decompose",
    "gain.ledger", "gain.performance_gap_recovered", "gain.split_residual", "intervals.crossed_mean",
    "losses.symmetric_loss", "selection.one_standard_error",
)  # fmt: skip


def examples(module):
    """The docstrings of a module that hold examples."""
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("name", CORE)
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"w2s_lib.{name}"))
    assert not result.failed


def test_the_entry_points_have_examples():
    found = {test.name for name in CORE for test in examples(importlib.import_module(f"w2s_lib.{name}"))}
    assert {f"w2s_lib.{name}" for name in ENTRY_POINTS} <= found
