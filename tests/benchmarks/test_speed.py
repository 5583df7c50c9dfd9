"""The regression gate: each ratio of the benchmark at half of its target, on small samples, within a minute."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from workloads import RidgePaths, w2  # noqa: E402

RATIOS = ["W1 against the module loop", "W1 against the peak", "W1 minibatch against the module loop"]
RATIOS += ["W2 against the module loop", "W2 against scikit-learn"]
RATIOS += ["W3 against scikit-learn", "W3 against Cholesky of the smaller side"]


@pytest.fixture(scope="module")
def ratios():
    """Measured in a process of its own, because threads are counted when the libraries are loaded."""
    command = [sys.executable, "bench.py", "--gate"]
    run = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*RATIOS, "two cores against one"])
def test_ratio_is_above_half_its_target(ratios, name):
    if name == "two cores against one" and os.cpu_count() < 2:
        pytest.skip("one core")
    measured, target = ratios[name]
    print(f"{name}: {measured:.2f}, target {target:.2f}")
    assert measured > target / 2


def test_contenders_do_the_same_work():
    """All ways of W3 end at the same ledgers; the core's probes reach scikit-learn's objective."""
    ridge = RidgePaths(teachers=20, widths=(20, 700), lambdas=3, n=50, m=40)
    for other in (ridge.cholesky(), ridge.cholesky(smaller=True), ridge.sklearn_multi()):
        np.testing.assert_allclose(ridge.core(), other, rtol=1e-6, atol=1e-9)
    probes = w2(4)
    core, peers = probes.core_optimum(4), probes.sklearn_logistic(4)
    w, b = (torch.as_tensor(np.stack([getattr(p, name) for p in peers])) for name in ("coef_", "intercept_"))
    theirs = probes.objectives(torch.cat([-w, w], 1) / 2, torch.cat([-b, b], 1) / 2)
    assert (probes.objectives(core.weight, core.bias) <= theirs).all()
