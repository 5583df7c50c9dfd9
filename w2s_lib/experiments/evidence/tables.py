r"""The tables of evidence: `protocol.run` over the settings of a data set, and the small part that is kept of it.

Each setting is a cell of a `Store`, so a sweep that was killed goes on where it stood. When all cells of a data set are
there, its table is written: one .npz with all settings, the numbers of each run that the chapters use, means over runs
of the others, crossed estimates of every rule and comparison, and the provenance (code, data, machine, versions).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...intervals import Estimate, crossed_mean
from ...training import Compute
from ..protocol import Protocol, run
from ..sweep_store import LIBRARY, Store, digest, write_whole
from ..tasks import load_task
from .table_settings import BASES, settings

# arrays (losses, path, runs) that a table keeps whole; of the others of that shape it keeps the mean over runs
PER_RUN = ("acc", "ce_cal", "gain", "misfit", "distance")
# arrays whose names begin so are never averaged over their last axis, whatever their shape: it does not number the runs
ESTIMATED = ("gain_", "pair_", "pgr_", "parts_", "over_", "components_", "bias", "variance", "beta_")


# -------------------------------------------------------------------------------------------------------- the sweep


def store(name: str, folder: Path | str, compute: Compute = Compute()) -> Store:
    """The Store of a data set's cells below `folder`; `compute` says where they are computed, and is not hashed."""
    task = load_task(name)
    version = digest(task.labels, task.part)  # the code that reads and encodes the data is in `library_digest`
    rooms = LIBRARY / "experiments"  # whose code decides what a cell holds
    code = (*sorted((rooms / "protocol").glob("*.py")), rooms / "loss_per_model.py")
    return Store(run, Path(folder) / name, data=f"{name} {version}", code=code, arguments={"compute": compute})


def sweep(
    name: str,
    folder: Path | str,
    *,
    size: str = "full",
    jobs: int = 1,
    progress: bool = True,
    compute: Compute = Compute(),
) -> Table:
    """Compute the missing cells of a data set below `folder`; returns its Table."""
    cells, configs = store(name, folder, compute), settings(name, size)
    results = cells.sweep(configs, jobs=jobs, progress=progress)
    return Table(name, tuple(configs), tuple(condense(result) for result in results), _provenance(name, size, cells))


def condense(result: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a table keeps of a cell: all estimates, the runs of PER_RUN, of other curves the mean over runs."""
    kept = {}
    for name, x in result.items():
        x = np.asarray(x)
        if x.shape == result["acc"].shape and name not in PER_RUN and not name.startswith(ESTIMATED):
            x = x.mean(2)
        kept[name] = _rounded(x)
    return kept


def _rounded(x):
    """Floats to 12 binary digits (a relative error of 3e-4 at most): zeros pack well, and every interval is wider."""
    if x.dtype.kind != "f":
        return x
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 2**12), exponent - 12).astype(np.float32)


def _provenance(name, size, cells):
    """Where a table comes from."""
    task = load_task(name)
    return {
        "data": cells.data, "code": cells.version, "size": size, "commit": _commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version(),
        "torch": torch.__version__, "numpy": np.__version__, "date": time.strftime("%Y-%m-%d"),
        "inputs": len(task.labels), "test_inputs": int((task.part == "test").sum()), "classes": task.classes,
        "dropped": [[reason, int(count)] for reason, count in task.dropped],
    }  # fmt: skip


def _commit():
    """The commit of this file's repository; "unknown" without git, or where the library is not in a checkout."""
    here = Path(__file__)
    for command in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
        try:
            git = subprocess.run(["git", *command], cwd=here.parent, capture_output=True, text=True)
        except OSError:
            return "unknown"
        if git.returncode:
            return "unknown"
    return git.stdout.strip()


# -------------------------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Table:
    """The table of one data set; index it by what differs from the base: `table.at(width=64)["acc"]`."""

    name: str
    configs: tuple[Protocol, ...]
    results: tuple[dict[str, np.ndarray], ...]  # one a config: what `condense` keeps of `protocol.run`
    provenance: dict

    def at(self, **changes: Any) -> dict[str, np.ndarray]:
        """{name: array} of the setting that differs from the base so. KeyError if there is none."""
        wanted = replace(BASES[self.name], **changes)
        for config, result in zip(self.configs, self.results):
            if config == wanted:
                return result
        raise KeyError(f"{self.name} has no setting with {changes}")

    def ladder(self, axis: str, **fixed: Any) -> list[tuple]:
        """[(value, {name: array}), ...] of all settings that differ from the base (with `fixed`) in `axis` alone."""
        base = replace(BASES[self.name], **fixed)
        steps = [(getattr(c, axis), r) for c, r in zip(self.configs, self.results)
                 if c == replace(base, **{axis: getattr(c, axis)})]  # fmt: skip
        return sorted(steps, key=lambda step: step[0]) if axis not in ("teacher", "student") else steps

    def estimate(self, result: dict[str, np.ndarray], key: str, *index: int) -> Estimate:
        """One crossed estimate of a result: `table.estimate(result, "pair_weak", 0, 0)`."""
        value, se, df = (float(x) for x in result[key][index])
        runs = result["teacher_acc"].size
        return Estimate(value, se, df, runs, runs, int(self.provenance["test_inputs"]))


def write(table: Table, path: Path | str) -> None:
    """Write a table, under another name first and then renamed: each cell one vector, and a list of what is in it."""
    vectors = [np.concatenate([np.ravel(x).astype(np.float32) for x in r.values()]) for r in table.results]
    layouts = [[[name, x.dtype.str, x.shape] for name, x in r.items()] for r in table.results]
    configs = [asdict(config) for config in table.configs]
    about = json.dumps({"configs": configs, "layouts": layouts, "provenance": table.provenance})
    arrays: dict[str, Any] = {f"cell_{i}": vector for i, vector in enumerate(vectors)}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: np.savez_compressed(file, about=np.asarray(about), **arrays))


@lru_cache
def read(path: Path | str) -> Table:
    """The Table of a file. Raises ValueError that names a damaged or foreign file, FileNotFoundError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            results = [_unpack(file[f"cell_{i}"], layout) for i, layout in enumerate(about["layouts"])]
        configs = tuple(_protocol(fields) for fields in about["configs"])
        return Table(configs[0].data, configs, tuple(results), about["provenance"])
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; make it with `make evidence`") from None
    except Exception as error:
        raise ValueError(f"{path} is damaged or no table of evidence ({error}); `make evidence` makes it") from error


def _protocol(fields: dict[str, Any]) -> Protocol:
    """The Protocol of fields from JSON, where tuples are lists."""
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return Protocol(**settings)


def _unpack(vector, layout):
    """{name: array} of a cell's vector."""
    sizes = [int(np.prod(shape)) for _, _, shape in layout]
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    return {name: part.reshape(shape).astype(dtype) for part, (name, dtype, shape) in zip(parts, layout)}


# ------------------------------------------------------------------------------------------------ numbers of a result


def mean_over_runs(values: Sequence[float] | np.ndarray) -> Estimate:
    """Estimate of the mean of one number a run, (runs,): interval over runs, the test inputs given."""
    return crossed_mean(np.asarray(values, dtype=float)[:, None])


def at_rule(result: dict[str, np.ndarray], key: str, rule: str) -> np.ndarray:
    """`key`, one of PER_RUN, at the point of the path that `rule` picked: (losses, runs)."""
    return np.take_along_axis(result[key], result[f"choice_{rule}"][:, None].astype(int), 1)[:, 0]


def modal_point(result: dict[str, np.ndarray], loss: int = 0, rule: str = "weak") -> int:
    """The point of the path that a rule picks in most runs, for arrays of which the table keeps means alone."""
    return int(np.bincount(result[f"choice_{rule}"][loss]).argmax())


def per_run(result: dict[str, np.ndarray], key: str, loss: int = 0, rule: str = "weak") -> np.ndarray:
    """One number a run, (runs,), of the students that a rule picked.

    key : one of PER_RUN, or acc_gain, cal_gain (what a student, or a recalibrated one, has over its teacher in accuracy
          or cross-entropy: larger is better), residual = misfit - gain
    """
    if key == "residual":
        return per_run(result, "misfit", loss, rule) - per_run(result, "gain", loss, rule)
    if key == "acc_gain":
        return per_run(result, "acc", loss, rule) - result["teacher_acc"]
    if key == "cal_gain":
        return result["teacher_ce"] - per_run(result, "ce_cal", loss, rule)
    return at_rule(result, key, rule)[loss]
