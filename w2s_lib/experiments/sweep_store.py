"""The store that keeps results of a sweep, and the writing of whole files.

A sweep is a function `cell(config) -> {name: array}` and a list of frozen dataclasses. Each cell becomes one small .npz
file, written under another name and then renamed, so that it is there whole or not at all; a sweep that was killed goes
on where it stood. A file's name says which config, data and code it is of, and a hash inside it is compared when it is
read: a damaged file, or one under another cell's name, is refused. Nothing is pickled into it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import io
import itertools
import json
import os
import textwrap
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm.auto import tqdm

from .._checks import require

LIBRARY = Path(__file__).resolve().parents[1]
CALLED = ("closed_forms", "encoders", "fetch", "half_blind", "tasks")  # of the experiments, what a cell may call


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call write(file) on a temporary file beside `path`, then rename it: `path` is there whole or not at all.

    Raises OSError that names `path`, also where the system's message names none (a full disk).
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # the folder itself may be missing
            temporary.unlink(missing_ok=True)


def sweep_up(folder: Path) -> None:
    """Delete the temporary files of `write_whole` whose process was killed: those older than an hour."""
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # another process may have renamed it just now
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


def grid(config: Any, **axes: Iterable) -> list:
    """All combinations: grid(Config(), width=[1, 2], seed=range(3)) is a list of six configs."""
    return [replace(config, **dict(zip(axes, values))) for values in itertools.product(*axes.values())]


def digest(*things: Any) -> str:
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
        return {"": f"array {x.dtype}{x.shape}", "sha256": hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()}
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    if inspect.isfunction(x) or inspect.isclass(x):
        return {"": "code", "sha256": code_digest(x)}
    if " at 0x" not in repr(x):  # a generator of divergences, say
        return {"": f"{type(x).__module__}.{type(x).__qualname__}", "repr": repr(x)}
    remedy = "use numbers, strings, None, tuples, arrays or dataclasses of these"
    raise ValueError(f"config (or a variable that the cell encloses): {x!r} cannot be hashed; {remedy}")


def code_digest(*code: Any) -> str:
    """Hash of source code: modules, functions, classes, and paths of files, which are read and not imported.

    Comments and docstrings do not count; a function's defaults and the variables that it encloses do. Functions that a
    function calls are not followed: name them too. Raises ValueError for what has no source.
    """
    total = hashlib.sha256()
    for part in code:
        total.update(ast.dump(_without_docstrings(_syntax_tree(part))).encode())
        if inspect.isfunction(part):  # values that are not in the source
            outside = inspect.getclosurevars(part).nonlocals, part.__defaults__, part.__kwdefaults__
            total.update(digest(outside).encode())
    return total.hexdigest()[:16]


def _syntax_tree(part):
    try:
        source = part.read_text() if isinstance(part, Path) else inspect.getsource(part)
        return ast.parse(textwrap.dedent(source))
    except (OSError, SyntaxError, TypeError) as error:
        raise ValueError(f"code: no source of {part}; define it with def, in a file or a notebook") from error


def _without_docstrings(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[:1] if isinstance(body, list) else []
        if first and isinstance(first[0], ast.Expr) and isinstance(first[0].value, ast.Constant):
            first[0].value.value = ""
    return tree


@lru_cache
def library_digest() -> str:
    """Hash of the code of this library that a cell may call: all of the core, and CALLED of the experiments."""
    files = sorted(path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.py"))
    core = [path for path in files if path.parts[0] not in ("cli", "experiments", "figures")]
    return code_digest(*(LIBRARY / path for path in [*core, *(Path("experiments", f"{name}.py") for name in CALLED)]))


@dataclass(frozen=True)
class Store:
    """A folder with one file a finished cell of a sweep.

    cell   : function of a config that returns {name: number, string or array}; importable, or defined in the notebook
    folder : where the files are; made if absent
    data   : hash of the data that the cells use (`digest(X, y)`), or a name with a version
    code   : modules, functions or paths of files that matter beside `cell` and the library (`library_digest`)
    arguments : further keyword arguments of `cell` that change nothing beyond rounding (where to compute); not hashed
    Files of another version of code or data in the folder are refused with a ValueError, never mixed in.
    """

    cell: Callable[[Any], dict]
    folder: Path | str
    data: str = ""
    code: tuple = ()
    arguments: dict = field(default_factory=dict, hash=False, compare=False)
    version: str = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "folder", Path(self.folder))
        object.__setattr__(self, "version", digest(code_digest(self.cell, *self.code), library_digest(), self.data))

    def path(self, config: Any) -> Path:
        """The file of a cell, there or not."""
        return Path(self.folder) / f"{digest(config)}-{self.version}.npz"

    def check(self) -> None:
        """Raise ValueError if the folder holds cells of another version."""
        others = [f.name for f in Path(self.folder).glob("*.npz") if not f.stem.endswith(f"-{self.version}")]
        what = f"{self.folder} holds {len(others)} cells of other code or data (such as {others[:1]})"
        require(not others, "folder", f"{what}; move them away, or use a new folder")

    def sweep(self, configs: Iterable, *, jobs: int | None = None, progress: bool = True) -> list[dict]:
        """Compute the cells that are missing; returns the results of all, in order.

        jobs : processes; None: joblib's default, 1, or what the surrounding `joblib.parallel_config` says. Under
               `parallel_config(backend="dask")` the cells go to a cluster; workers must see the same folder
        A cell that fails ends the sweep with a RuntimeError that names it; what was finished is kept.
        """
        import joblib

        configs, folder = list(configs), Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.check()
        sweep_up(folder)
        paths = {self.path(c): c for c in configs}
        missing = [c for path, c in paths.items() if not path.exists()]
        work = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        tasks = work(joblib.delayed(self.compute)(c) for c in missing)
        bar = {"total": len(paths), "initial": len(paths) - len(missing), "unit": "cell", "disable": not progress}
        for _ in tqdm(tasks, **bar) if missing else ():
            pass
        return [self.load(c) for c in configs]

    def compute(self, config: Any) -> None:
        """Compute and keep one cell, unless it is there."""
        path = self.path(config)
        if path.exists():
            return
        try:
            result = self.cell(config, **self.arguments)
        except Exception as error:
            raise RuntimeError(f"the cell {config} failed: {type(error).__name__}: {error}") from error
        arrays = _as_arrays(result)
        about = json.dumps(self._about(config) | {"sha256": digest(self._about(config), arrays)})
        write_whole(path, lambda file: np.savez_compressed(file, about=np.asarray(about), **arrays))

    def load(self, config: Any) -> dict[str, np.ndarray]:
        """The result of a cell, {name: array}.

        Raises FileNotFoundError if it is missing, OSError if its file cannot be read, ValueError if the file is damaged
        or holds another cell.
        """
        path = self.path(config)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(f"no cell {config} in {self.folder}; run the sweep") from None
        except OSError as error:
            raise OSError(error.errno, f"cannot read {path}: {error.strerror}; look at its permissions") from error
        try:
            about, arrays = _unpacked(content)
        except Exception as error:  # a flipped bit may look like anything: an encrypted file, an unknown compression
            raise ValueError(f"{path} is damaged ({error}); delete it and run the sweep again") from error
        same = digest(about) == digest(self._about(config))
        require(same, path, f"holds another cell, {about}; give it its own name back, or move it away")
        return arrays

    def _about(self, config):
        """What a file says about its cell, beside the hash."""
        return {"config": _plain(config), "data": self.data, "version": self.version}


def _as_arrays(result):
    """A cell's result as {name: array}; ValueError for what a file cannot hold without pickling."""
    require(isinstance(result, dict), "cell", f"must return a dict of numbers, strings and arrays, not {result!r}")
    arrays = {k: x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x) for k, x in result.items()}
    for name, x in arrays.items():
        reserved = name in ("about", "file", "allow_pickle")
        require(not reserved, name, "is a reserved name; call the result otherwise")
        require(x.dtype.kind in "biufcUS", name, "must be a number, a string or an array of these")
    return arrays


def _unpacked(content):
    """(what a file says about its cell, {name: array}) of a file's bytes; ValueError if they are not as written."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(str(arrays.pop("about")))
    sha256 = about.pop("sha256")  # NumPy stops reading before the archive's own checksum
    require(sha256 == digest(about, arrays), "sha256", "differs")
    return about, arrays
