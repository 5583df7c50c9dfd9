"""The store that keeps results of a sweep, and the writing of whole files.

A sweep is a function `cell(config) -> {name: array}` and a list of frozen dataclasses. Each cell becomes one small .npz
file, written under another name and then renamed, so that it is there whole or not at all; a sweep that was killed goes
on where it stood. A file's name says which config, data and code it is of. Nothing is pickled into it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import inspect
import itertools
import json
import os
import textwrap
import time
import uuid
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import joblib
import numpy as np
from tqdm.auto import tqdm

from .._checks import require

MODULES = ("_checks", "bregman", "calibration", "decomposition", "gain", "intervals", "losses", "ridge")
MODULES += tuple(f"training.{name}" for name in ("compute", "data", "loop", "network", "optimisers", "probes"))
MODULES += tuple(f"experiments.{name}" for name in ("encoders", "fetch", "half_blind", "tasks"))


def write_whole(path, write):
    """Call write(file) on a temporary file beside `path`, then rename it: `path` is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep_up(folder):
    """Delete the temporary files of `write_whole` whose process was killed: those older than an hour."""
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # another process may have renamed it just now
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


def grid(config, **axes):
    """All combinations: grid(Config(), width=[1, 2], seed=range(3)) is a list of six configs."""
    return [replace(config, **dict(zip(axes, values))) for values in itertools.product(*axes.values())]


def digest(*things):
    """Hash (16 hex digits) of arrays (values, shape, dtype), numbers, strings, None, tuples, dicts and dataclasses."""
    return hashlib.sha256(json.dumps([_plain(thing) for thing in things], sort_keys=True).encode()).hexdigest()[:16]


def _plain(x):
    """x as JSON can write it, so that different things stay different."""
    if hasattr(x, "__dataclass_fields__") and not isinstance(x, type):
        kind = f"{type(x).__module__}.{type(x).__qualname__}"
        return {"": kind} | {f.name: _plain(getattr(x, f.name)) for f in fields(x) if f.init}
    if isinstance(x, dict):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, (tuple, list)):
        return [_plain(v) for v in x]
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else x
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, np.ndarray) and x.dtype.kind in "biufcUS":
        return {"": f"array {x.dtype}{x.shape}", "sha256": hashlib.sha256(np.ascontiguousarray(x)).hexdigest()}
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    if inspect.isfunction(x) or inspect.isclass(x):
        return {"": "code", "sha256": code_digest(x)}
    if " at 0x" not in repr(x):  # a generator of divergences, say
        return {"": f"{type(x).__module__}.{type(x).__qualname__}", "repr": repr(x)}
    remedy = "use numbers, strings, None, tuples, arrays or dataclasses of these"
    raise ValueError(f"config (or a variable that the cell encloses): {x!r} cannot be hashed; {remedy}")


def code_digest(*code):
    """Hash of the source of modules or functions, and of a function's defaults and the variables that it encloses.

    Comments and docstrings do not count. Functions that a function calls are not followed: name them too.
    """
    total = hashlib.sha256()
    for part in code:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(part)))
        except (OSError, SyntaxError, TypeError) as error:
            raise ValueError(f"code: no source of {part}; define it with def, in a file or a notebook") from error
        for node in ast.walk(tree):
            first = node.body[:1] if isinstance(getattr(node, "body", None), list) else []
            if first and isinstance(first[0], ast.Expr) and isinstance(first[0].value, ast.Constant):
                first[0].value.value = ""  # a docstring
        total.update(ast.dump(tree).encode())
        if inspect.isfunction(part):  # values that are not in the source
            outside = inspect.getclosurevars(part).nonlocals, part.__defaults__, part.__kwdefaults__
            total.update(digest(outside).encode())
    return total.hexdigest()[:16]


@dataclass(frozen=True)
class Store:
    """A folder with one file a finished cell of a sweep.

    cell   : function of a config that returns {name: number, string or array}; importable, or defined in the notebook
    folder : where the files are; made if absent
    data   : hash of the data that the cells use (`digest(X, y)`), or a name with a version
    code   : modules or functions that matter beside `cell` and the library (without its figures)
    arguments : further keyword arguments of `cell` that change nothing beyond rounding (where to compute); not hashed
    Files of another version of code or data in the folder are refused with a ValueError, never mixed in.
    """

    cell: object
    folder: Path | str
    data: str = ""
    code: tuple = ()
    arguments: dict = field(default_factory=dict, hash=False, compare=False)
    version: str = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "folder", Path(self.folder))
        object.__setattr__(self, "version", digest(code_digest(self.cell, *self.code, *_library()), self.data))

    def path(self, config):
        """The file of a cell, there or not."""
        return self.folder / f"{digest(config)}-{self.version}.npz"

    def check(self):
        """Raise ValueError if the folder holds cells of another version."""
        others = [f.name for f in self.folder.glob("*.npz") if not f.stem.endswith(f"-{self.version}")]
        what = f"{self.folder} holds {len(others)} cells of other code or data (such as {others[:1]})"
        require(not others, "folder", f"{what}; move them away, or use a new folder")

    def sweep(self, configs, *, jobs=None, progress=True):
        """Compute the cells that are missing; returns the results of all, in order.

        jobs : processes; None: joblib's default, 1, or what the surrounding `joblib.parallel_config` says. Under
               `parallel_config(backend="dask")` the cells go to a cluster; workers must see the same folder
        A cell that fails ends the sweep; what was finished is kept.
        """
        configs = list(configs)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.check()
        sweep_up(self.folder)
        paths = {self.path(c): c for c in configs}
        missing = [c for path, c in paths.items() if not path.exists()]
        work = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        tasks = work(joblib.delayed(self.compute)(c) for c in missing)
        bar = {"total": len(paths), "initial": len(paths) - len(missing), "unit": "cell", "disable": not progress}
        for _ in tqdm(tasks, **bar) if missing else ():
            pass
        return [self.load(c) for c in configs]

    def compute(self, config):
        """Compute and keep one cell, unless it is there."""
        path = self.path(config)
        if path.exists():
            return
        try:
            result = self.cell(config, **self.arguments)
        except Exception as error:
            raise RuntimeError(f"the cell {config} failed: {error}") from error
        require(isinstance(result, dict), "cell", f"must return a dict of numbers, strings and arrays, not {result!r}")
        arrays = {k: x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x) for k, x in result.items()}
        for name, x in arrays.items():
            require(
                name not in ("about", "file", "allow_pickle"), name, "is a reserved name; call the result otherwise"
            )
            require(x.dtype != object, name, "must be a number, a string or an array of these")
        about = json.dumps({"config": _plain(config), "data": self.data, "version": self.version})
        write_whole(path, lambda file: np.savez_compressed(file, about=np.asarray(about), **arrays))

    def load(self, config):
        """The result of a cell, {name: array}. FileNotFoundError if it is missing, ValueError if it is damaged."""
        path = self.path(config)
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files if name != "about"}
        except FileNotFoundError:
            raise FileNotFoundError(f"no cell {config} in {self.folder}; run the sweep") from None
        except Exception as error:
            raise ValueError(f"{path} is damaged ({error}); delete it and run the sweep again") from error


def _library():
    """The modules of the library that a cell may call."""
    return [importlib.import_module(f"w2s_lib.{name}") for name in MODULES]
