"""The regression gate: each ratio of the benchmark at half of its target, on small samples, within a minute."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GATE = """
import warnings
from bench import medians, gemm_peak
from workloads import RidgePaths, w1, w2, wall_seconds
import torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
full, mini, probes, ridge = w1(64), w1(256, batch=64), w2(256), RidgePaths()
peak = gemm_peak(seconds=0.5)
a = medians({"core": (lambda: full.core(32), 2), "loop": (lambda: full.loop(2), 32)}, 3)
b = medians({"core": (lambda: mini.core(256), 1), "loop": (lambda: mini.loop(4), 64)}, 1)
c = medians({"core": (lambda: probes.core(256, one_logit=True), 1), "loop": (lambda: probes.loop(2), 128),
             "optimum": (lambda: probes.core_optimum(256), 1), "sklearn": (lambda: probes.sklearn_logistic(16), 16)}, 3)
d = medians({"core": (ridge.core, 1), "cholesky": (ridge.cholesky, 1), "each": (lambda: ridge.sklearn_each(512), 512)}, 1)
e = medians({"1": (lambda: full.core(64, threads=1), 1), "2": (lambda: full.core(64, threads=2), 1)}, 3, wall_seconds)
print({
    "W1 against the module loop": (a["loop"] / a["core"], 5),
    "W1 against the peak": (full.flops / a["core"] / 1e9 / peak, 0.5),
    "W1 minibatch against the module loop": (b["loop"] / b["core"], 10),
    "W2 against the module loop": (c["loop"] / c["core"], 20),
    "W2 against scikit-learn": (c["sklearn"] / c["optimum"], 1.5),
    "W3 against scikit-learn": (d["each"] / d["core"], 1200),
    "W3 against Cholesky": (d["cholesky"] / d["core"], 6),
    "two cores against one": (e["1"] / e["2"], 1 / 0.7),
})
"""


@pytest.fixture(scope="module")
def ratios():
    """Measured in a process of its own: threads are set before the libraries are loaded."""
    here = Path(__file__).parent
    sys.path.insert(0, str(here))
    from bench import SINGLE

    command = [sys.executable, "-c", GATE]
    run = subprocess.run(command, cwd=here, env=os.environ | SINGLE, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return eval(run.stdout.splitlines()[-1], {"__builtins__": {}})


RATIOS = ["W1 against the module loop", "W1 against the peak", "W1 minibatch against the module loop"]
RATIOS += ["W2 against the module loop", "W2 against scikit-learn", "W3 against scikit-learn", "W3 against Cholesky"]


@pytest.mark.parametrize("name", [*RATIOS, "two cores against one"])
def test_ratio_is_above_half_its_target(ratios, name):
    measured, target = ratios[name]
    if name == "two cores against one" and os.cpu_count() < 2:
        pytest.skip("one core")
    assert measured > target / 2, f"{name}: {measured:.2f}, target {target:.2f}"


def test_contenders_do_the_same_work():
    """All ways of W1 end at the same parameters, and those of W3 at the same ledgers."""
    sys.path.insert(0, str(Path(__file__).parent))
    import numpy as np
    from workloads import RidgePaths

    ridge = RidgePaths(teachers=20, widths=(20, 700), lambdas=3, n=50, m=40)
    for other in (ridge.cholesky(), ridge.cholesky(smaller=True), ridge.sklearn_multi()):
        np.testing.assert_allclose(ridge.core(), other, rtol=1e-6, atol=1e-9)
