"""`make bench`: the training core beside what people use otherwise. Prints a table and writes book/_data/bench.json.

CPU seconds of one thread, the median of five runs in which all contenders take turns; one run before, to warm up, is
not counted. Slow ways are timed on a stated sample of the models and scaled. jax takes part if it is installed. The
two-core comparison is in wall seconds. With a GPU: W1 with 4,096 models beside the module loop there, wall seconds.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import warnings
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from workloads import RidgePaths, cpu_seconds, gemm_peak, w1, w2, wall_seconds

SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
SINGLE["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
ROOT = Path(__file__).resolve().parents[2]
REPEATS = 5


def medians(contenders, repeats=REPEATS, clock=cpu_seconds):
    """Median seconds of every contender {name: (work, share)}, scaled by `share`; they take turns."""
    times = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, (work, share) in contenders.items():
            seconds = clock(work) * share
            if turn:
                times[name].append(seconds)
    return {name: float(np.median(t)) for name, t in times.items()}


def contenders(sample=8, models=256):
    """{workload: {way: (work, factor that scales its time to all models)}}."""
    full, mini, probes, ridge = w1(models), w1(models, batch=64), w2(models), RidgePaths()
    scale = models / sample
    ways = {
        "W1 full batch": {
            "core": (lambda: full.core(models), 1),
            "module loop": (lambda: full.loop(sample), scale),
            "scikit-learn": (lambda: full.sklearn_mlp(sample), scale),
            "vmap, chunks of 16": (lambda: full.vmap(32), models / 32),
            "bmm + autograd, chunks of 16": (lambda: full.bmm(32), models / 32),
        },
        "W1 minibatch": {
            "core": (lambda: mini.core(models), 1),
            "module loop": (lambda: mini.loop(sample), scale),
            "scikit-learn": (lambda: mini.sklearn_mlp(sample), scale),
            "vmap, chunks of 64": (lambda: mini.vmap(64, 64), models / 64),
        },
        "W2 200 Adam steps": {
            "core, two logits": (lambda: probes.core(models), 1),
            "core, one logit": (lambda: probes.core(models, one_logit=True), 1),
            "module loop": (lambda: probes.loop(sample), scale),
            "vmap, chunks of 64": (lambda: probes.vmap(64, 64), models / 64),
        },
        "W2 to the optimum": {
            "core, fit_probes": (lambda: probes.core_optimum(models), 1),
            "scikit-learn": (lambda: probes.sklearn_logistic(models // 4), 4),
        },
        "W3": {
            "core": (ridge.core, 1),
            "shared Cholesky": (ridge.cholesky, 1),
            "shared Cholesky, smaller side": (lambda: ridge.cholesky(smaller=True), 1),
            "scikit-learn, all teachers": (ridge.sklearn_multi, 1),
            "scikit-learn, fit by fit": (lambda: ridge.sklearn_fit_by_fit(64), 64),
        },
    }
    try:
        for name, probe, chunk in (
            ("W1 full batch", full, 16),
            ("W1 minibatch", mini, 64),
            ("W2 200 Adam steps", probes, 64),
        ):
            run = probe.jax(chunk)
            ways[name][f"jax, chunks of {chunk}"] = (lambda run=run: run(64), models / 64)
    except ImportError:
        print("jax is not installed: no row for it", file=sys.stderr)
    return ways, {"W1 full batch": full.flops, "W1 minibatch": mini.flops, "W2 200 Adam steps": probes.flops}


def growth():
    """Seconds of the core as one size grows, {what: [[size, seconds], ...]}."""
    sizes = {
        "models (W1)": ([32, 64, 128, 256, 512], lambda k: w1(k)),
        "width (W1, 64 models)": ([16, 32, 64, 128, 256], lambda k: w1(64, width=k)),
        "penalties (W3)": ([1, 4, 16, 64, 256], lambda k: RidgePaths(lambdas=k)),
        "teachers (W3)": ([128, 512, 2048, 8192], lambda k: RidgePaths(teachers=k)),
    }
    result = {}
    for what, (values, make) in sizes.items():
        ways = {}
        for k in values:
            made = make(k)
            ways[str(k)] = (made.core if isinstance(made, RidgePaths) else lambda made=made: made.core(made.models)), 1
        times = medians(ways, 3)
        result[what] = [[k, times[str(k)]] for k in values]
    return result


def stacking(models=256):
    """Seconds for 256 models of W1 and W2 as the core trains k of them at a time: {workload: ...}."""
    result, sizes = {}, [1, 2, 4, 8, 16, 32, 64, 128, 256]
    workloads = {"W1 full batch": w1(models), "W1 minibatch": w1(models, batch=64), "W2 200 Adam steps": w2(models)}
    for name, probe in workloads.items():
        ways = {}
        for k in sizes:
            sample = max(k, 4)
            ways[str(k)] = (lambda k=k, sample=sample, probe=probe: probe.core(sample, chunk=k), models / sample)
        ways["loop"] = lambda probe=probe: probe.loop(4), models / 4
        times = medians(ways, 3)
        result[name] = {"stack": [[k, times[str(k)]] for k in sizes], "loop": times["loop"]}
    return result


def two_cores(models=256):
    """Wall seconds of W1 on one thread and with two chunks at a time."""
    full = w1(models)
    ways = {str(k): (lambda k=k: full.core(models, threads=k), 1) for k in (1, 2)}
    return medians(ways, 3, wall_seconds)


def gpu(models=4096, sample=16):
    """Wall seconds of W1 on the GPU."""
    probe = w1(models, device="cuda")

    def timed(work):
        def run():
            work()
            torch.cuda.synchronize()

        return run

    return {
        "device": torch.cuda.get_device_name(),
        "models": models,
        **medians(
            {
                "core": (timed(lambda: probe.core(models)), 1),
                "module loop": (timed(lambda: probe.loop(sample)), models / sample),
            },
            clock=wall_seconds,
        ),
    }


def gate():
    """{ratio: (measured on small samples, target)}, within a minute."""
    full, mini, probes, ridge = w1(64), w1(256, batch=64), w2(256), RidgePaths()
    peak = gemm_peak(seconds=0.5)
    a = medians({"core": (lambda: full.core(32), 2), "loop": (lambda: full.loop(2), 32)}, 3)
    b = medians({"core": (lambda: mini.core(256), 1), "loop": (lambda: mini.loop(4), 64)}, 1)
    ways = {"core": (lambda: probes.core(256, one_logit=True), 1), "loop": (lambda: probes.loop(2), 128)}
    ways |= {"optimum": (lambda: probes.core_optimum(256), 1), "sklearn": (lambda: probes.sklearn_logistic(16), 16)}
    c = medians(ways, 1)
    ways = {"core": (ridge.core, 1), "cholesky": (lambda: ridge.cholesky(smaller=True), 1)}
    ways |= {"sklearn": (lambda: ridge.sklearn_fit_by_fit(512), 512)}
    d = medians(ways, 1)
    e = medians({str(k): (lambda k=k: full.core(32, threads=k), 1) for k in (1, 2)}, 3, wall_seconds)
    return {
        "W1 against the module loop": (a["loop"] / a["core"], 5),
        "W1 against the peak": (full.flops / a["core"] / 1e9 / peak, 0.5),
        "W1 minibatch against the module loop": (b["loop"] / b["core"], 10),
        "W2 against the module loop": (c["loop"] / c["core"], 20),
        "W2 against scikit-learn": (c["sklearn"] / c["optimum"], 1.5),
        "W3 against scikit-learn": (d["sklearn"] / d["core"], 1200),
        "W3 against Cholesky of the smaller side": (d["cholesky"] / d["core"], 6),
        "two cores against one": (e["1"] / e["2"], 1 / 0.7),
    }


def provenance():
    """What it was measured on."""
    versions = {}
    for package in ("torch", "numpy", "scikit-learn", "jax"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    python = platform.python_version()
    seen = {"date": date.today().isoformat(), "commit": commit, "cpu": cpu, "cores": os.cpu_count(), "python": python}
    return seen | {"versions": versions, "repeats": REPEATS}


def comparison():
    """All contenders, printed as they finish."""
    peaks = {"float32": gemm_peak(), "float64": gemm_peak(np.float64)}
    (ways, flops), seconds = contenders(), {}
    for workload, entries in ways.items():
        seconds[workload] = times = medians(entries)
        first = next(iter(times.values()))
        print(f"\n{workload}")
        for way, t in times.items():
            share = f"{flops[workload] / t / 1e9 / peaks['float32']:6.0%}" if workload in flops else ""
            print(f"  {way:32s} {t:9.2f} s  {t / first:8.1f} x {share}", flush=True)
    return {"peak_gflops": peaks, "flops": flops, "seconds": seconds}


SECTIONS = {
    "comparison": comparison,
    "stacking": lambda: {"seconds": stacking()},
    "growth": lambda: {"seconds": growth()},
    "two_cores": lambda: {"wall_seconds": two_cores()},
    "gpu": lambda: gpu() if torch.cuda.is_available() else None,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "book/_data/bench.json")
    parser.add_argument("--only", choices=list(SECTIONS), help="measure this section anew, keep the others of the file")
    parser.add_argument("--gate", action="store_true", help="only print the ratios that the tests watch, as JSON")
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in SINGLE.items()):  # read when the libraries are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | SINGLE)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is fixed: they all say so
    if arguments.gate:
        print(json.dumps({name: [float(x) for x in pair] for name, pair in gate().items()}))
        return
    result = json.loads(arguments.out.read_text()) if arguments.only else {}
    for name in [arguments.only] if arguments.only else SECTIONS:
        result[name] = {"provenance": provenance(), **(SECTIONS[name]() or {})}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
