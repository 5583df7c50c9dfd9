r"""The evidence of the book: sweeps of `protocol.run` over real data, and the small tables that are kept of them.

    python -m w2s_lib evidence                    all data sets at full size: an hour or two on two cores
    python -m w2s_lib evidence --data mnist       one of them
    python -m w2s_lib evidence --size default     minutes, on digits alone

Each setting is a cell of a `Store`, so a sweep that was killed goes on where it stood. When all cells of a data set are
there, its table is written: one .npz with all settings, the numbers of each run that the chapters use, means over runs
of the others, crossed estimates of every rule and comparison, and the provenance (code, data, machine, versions).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from .._checks import require
from ..intervals import Estimate, crossed_mean
from . import encoders, fetch, protocol, tasks
from .protocol import Protocol, run
from .store import Store, code_digest, digest, write_whole

WIDTHS = {2: (64, 256, 512, 1024, 2048), 10: (64, 128, 256, 512, 1024)}  # of students, by the number of classes
CONFIDENCES = (1.0, 0.5, 0.2, 0.05)
NOISES = (0.0, 0.1, 0.2, 0.3)
TEXT = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)  # penalties; two classes need larger ones than ten
BASES = {
    "digits": Protocol("digits", teacher="left", gold=60, transfer=400, validation=200, width=64, steps=50,
                       stages=(5, 15), l2s=(1e-3, 1e-2, 1e-1), lr=0.05, losses=("CE", "RCE", "AUX"), splits=6),
    "mnist": Protocol("mnist", teacher="pool:7", student="pixels", gold=100, width=256),
    "fashion": Protocol("fashion", teacher="pca:10", student="lite0", gold=100, width=256),
    "movie": Protocol("movie", teacher="bag:300", student="minilm:6", gold=1000, l2s=TEXT),
    "hh": Protocol("hh", teacher="minilm:1", student="minilm:6", gold=500, l2s=TEXT),
}  # fmt: skip
GOLDS = {"mnist": (50, 100, 300, 1000), "fashion": (50, 100, 300, 1000)}
TEACHERS = {
    "mnist": ("pool:7", "pool:4", "left"),
    "fashion": ("pca:10", "pool:7", "pixels"),
    "movie": ("bag:300", "minilm:0", "minilm:2"),
    "hh": ("minilm:1", "bag:300", "length"),
}
# stored for each run; of the other arrays (losses, path, runs) the mean over runs is kept
EACH = ("acc", "ce_cal", "gain", "misfit", "distance")
CROSSED = ("gain_", "pair_", "pgr_", "parts_", "over_", "luck_")


def settings(name, size="full"):
    """The Protocols of a data set: its base, one ladder at a time; width x confidence crossed on the reviews.

    Axes: width, confidence, gold (labels of the teacher), noise (in them), teacher (her features), teacher_l2, bag,
    student (the encoder's depth), and the base once more with three bootstraps of the teacher and three initialisations
    of the student a split, which tells the sources of luck apart.
    """
    require(name in BASES, "data", f"must be one of {', '.join(BASES)}")
    base = BASES[name]
    if size == "tiny":  # for a test
        made = replace(base, width=16, steps=4, stages=(2,), transfer=100, validation=200, losses=("CE",), splits=2)
        return [replace(made, gold=n) for n in (40, 60, 80, 100)]
    if size == "default":
        return [replace(base, confidence=a) for a in (1.0, 0.2)]
    text = name in ("movie", "hh")
    made = [
        replace(base, width=w, confidence=a)
        for w in WIDTHS[2 if text else 10]
        for a in (CONFIDENCES if name == "movie" else CONFIDENCES[:1])
    ]
    made += [replace(base, confidence=a) for a in CONFIDENCES]
    made += [replace(base, gold=n) for n in GOLDS.get(name, (100, 300, 1000, 3000))]
    made += [replace(base, noise=x) for x in NOISES]
    made += [replace(base, teacher=t) for t in TEACHERS.get(name, ())]
    made += [replace(base, teacher_l2=x) for x in (1.0, 10.0, 100.0)]
    made += [replace(base, bag=b) for b in (0, 5)]
    made += [replace(base, student=f"minilm:{k}") for k in (0, 2, 4, 6)] if text else []
    made += [replace(base, splits=10, teachers=3, students=3, losses=("CE", "RCE"))]
    return list(dict.fromkeys(made))


def store(name, folder):
    """The Store of a data set's cells below `folder`."""
    task = tasks.load_task(name)
    version = digest(task.labels, task.part, code_digest(tasks, fetch, encoders))
    return Store(run, Path(folder) / name, data=f"{name} {version}", code=(protocol,))


@dataclass(frozen=True)
class Evidence:
    """The table of one data set; index it by what differs from the base: `evidence.at(width=64)["acc"]`."""

    name: str
    configs: tuple[Protocol, ...]
    results: tuple[dict, ...]
    provenance: dict

    def at(self, **changes):
        """{name: array} of the setting that differs from the base so. KeyError if there is none."""
        wanted = replace(BASES[self.name], **changes)
        for config, result in zip(self.configs, self.results):
            if config == wanted:
                return result
        raise KeyError(f"{self.name} has no setting with {changes}")

    def ladder(self, axis, **fixed):
        """[(value, {name: array}), ...] of all settings that differ from the base (with `fixed`) in `axis` alone."""
        base = replace(BASES[self.name], **fixed)
        found = [(getattr(c, axis), r) for c, r in zip(self.configs, self.results)
                 if c == replace(base, **{axis: getattr(c, axis)})]  # fmt: skip
        return sorted(found, key=lambda pair: pair[0]) if axis not in ("teacher", "student") else found

    def estimate(self, result, key, *index):
        """One crossed estimate of a result: `estimate(r, "pair_weak", 0, 0)`."""
        value, se, df = (float(x) for x in result[key][index])
        runs = result["teacher_acc"].size
        return Estimate(value, se, df, runs, runs, int(self.provenance["test_inputs"]))


def over_runs(values):
    """Estimate of the mean of one number a run, (R,): interval over runs, the test inputs given."""
    return crossed_mean(np.asarray(values, dtype=float)[:, None])


def chosen(result, key, rule):
    """`key`, one of EACH, at the point of the path that `rule` picked: (losses, runs)."""
    return np.take_along_axis(result[key], result[f"choice_{rule}"][:, None].astype(int), 1)[:, 0]


def usual(result, loss=0, rule="weak"):
    """The point of the path that a rule picks in most runs, for arrays of which the table keeps means alone."""
    return int(np.bincount(result[f"choice_{rule}"][loss]).argmax())


def each_run(result, key, loss=0, rule="weak"):
    """One number a run, (R,), of the students that a rule picked.

    key : one of EACH, or acc_gain, cal_gain (what a student, or a recalibrated one, has over his teacher in accuracy or
          cross-entropy: larger is better), residual = misfit - gain
    """
    if key == "residual":
        return each_run(result, "misfit", loss, rule) - each_run(result, "gain", loss, rule)
    if key == "acc_gain":
        return each_run(result, "acc", loss, rule) - result["teacher_acc"]
    if key == "cal_gain":
        return result["teacher_ce"] - each_run(result, "ce_cal", loss, rule)
    return chosen(result, key, rule)[loss]


def reduce(result):
    """What the table keeps of a cell."""
    kept = {}
    for name, x in result.items():
        x = np.asarray(x)
        if x.shape == result["acc"].shape and name not in EACH and not name.startswith(CROSSED):
            x = x.mean(2)
        kept[name] = _rounded(x)
    return kept


def _rounded(x):
    """Floats to 12 binary digits (a relative error of 3e-4 at most): zeros pack well, and every interval is wider."""
    if x.dtype.kind != "f":
        return x
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 2**12), exponent - 12).astype(np.float32)


def sweep(name, folder, *, size="full", jobs=1, progress=True):
    """Compute the missing cells of a data set; returns its Evidence."""
    cells, configs = store(name, folder), settings(name, size)
    results = cells.sweep(configs, jobs=jobs, progress=progress)
    return Evidence(name, tuple(configs), tuple(reduce(r) for r in results), _provenance(name, size, cells))


def _provenance(name, size, cells):
    """Where a table comes from."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    task = tasks.load_task(name)
    return {
        "data": cells.data, "code": cells.version, "size": size, "commit": git.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version(),
        "torch": torch.__version__, "numpy": np.__version__, "date": time.strftime("%Y-%m-%d"),
        "inputs": len(task.labels), "test_inputs": int((task.part == "test").sum()), "classes": task.classes,
        "dropped": [[reason, int(count)] for reason, count in task.dropped],
    }  # fmt: skip


def write(evidence, path):
    """Write the table, under another name first and then renamed: each cell one vector, and a list of what is in it."""
    vectors = [np.concatenate([np.ravel(x).astype(np.float32) for x in r.values()]) for r in evidence.results]
    layouts = [[[name, x.dtype.str, x.shape] for name, x in r.items()] for r in evidence.results]
    configs = [asdict(config) for config in evidence.configs]
    about = json.dumps({"configs": configs, "layouts": layouts, "provenance": evidence.provenance})
    arrays = {f"cell_{i}": vector for i, vector in enumerate(vectors)}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: np.savez_compressed(file, about=np.asarray(about), **arrays))


@lru_cache
def read(path):
    """The Evidence of a table. Raises ValueError that names a damaged or foreign file, FileNotFoundError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            results = [_unpack(file[f"cell_{i}"], layout) for i, layout in enumerate(about["layouts"])]
        lists = [{k: tuple(v) if isinstance(v, list) else v for k, v in c.items()} for c in about["configs"]]
        configs = tuple(Protocol(**c) for c in lists)
        return Evidence(configs[0].data, configs, tuple(results), about["provenance"])
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; make it with `make evidence`") from None
    except Exception as error:
        raise ValueError(f"{path} is damaged or no table of evidence ({error}); `make evidence` makes it") from error


def _unpack(vector, layout):
    """{name: array} of a cell's vector."""
    sizes = [int(np.prod(shape)) for _, _, shape in layout]
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    return {name: part.reshape(shape).astype(dtype) for part, (name, dtype, shape) in zip(parts, layout)}


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m w2s_lib evidence", description="Compute the tables of evidence.")
    full = ["mnist", "movie", "hh"]
    parser.add_argument("--data", nargs="+", choices=list(BASES), help=f"default: {' '.join(full)}, or digits")
    parser.add_argument("--size", choices=("full", "default", "tiny"), default="full")
    parser.add_argument("--folder", type=Path, default=Path("evidence"), help="of the finished cells")
    parser.add_argument("--out", type=Path, default=Path("book/_data/evidence"), help="of the tables")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    chosen = parser.parse_args(arguments)
    for name in chosen.data or (full if chosen.size == "full" else ["digits"]):
        try:
            found = sweep(name, chosen.folder, size=chosen.size, jobs=chosen.jobs)
        except KeyboardInterrupt:
            print(f"interrupted; finished cells are kept in {chosen.folder}, the same command goes on", file=sys.stderr)
            return 130
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            parser.exit(2, f"{parser.prog}: {name}: {error}\n")
        write(found, chosen.out / f"{name}.npz")
        print(f"{chosen.out / name}.npz: {len(found.configs)} settings")
    return 0
