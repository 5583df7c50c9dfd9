"""The result store: versions, damage, faults of the disk, kills, processes and a small cluster."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import ROOT

from w2s_lib import KL, LOGISTIC
from w2s_lib.experiments import sweep_store as store_module
from w2s_lib.experiments.sweep_store import Store, code_digest, digest, grid, library_digest, write_whole
from w2s_lib.losses import CE, KL_FORWARD, SQUARED_LOSS


@dataclass(frozen=True)
class Config:
    width: int = 1
    seed: int = 0
    name: str = "a"


def cell(config):
    return {"draw": np.random.default_rng(config.seed).normal(size=config.width), "name": config.name}


CONFIGS = grid(Config(), width=[2, 3], seed=range(3))
RECIPE = ROOT / "book" / "depth" / "cluster_sweep.py"


def test_grid_lists_all_combinations():
    assert len(CONFIGS) == 6 == len(set(CONFIGS))
    assert CONFIGS[4] == Config(width=3, seed=1)


def test_results_come_back_in_order_and_are_computed_once(tmp_path, capsys):
    calls = []

    def counting(config):
        calls.append(config)
        return cell(config)

    store = Store(counting, tmp_path / "new")
    results = store.sweep(CONFIGS)
    assert calls == CONFIGS and "6/6" in capsys.readouterr().err
    for config, result in zip(CONFIGS, results):
        np.testing.assert_array_equal(result["draw"], cell(config)["draw"])
        assert str(result["name"]) == "a"
    again = store.sweep([*CONFIGS[::-1], replace(CONFIGS[0], seed=9), CONFIGS[0]], progress=False)
    assert len(again) == 8 and len(calls) == 7 and capsys.readouterr().err == ""
    np.testing.assert_array_equal(again[0]["draw"], results[-1]["draw"])
    about = json.loads(str(np.load(store.path(CONFIGS[1]))["about"]))
    assert about["config"] == {"": f"{__name__}.Config", "width": 2, "seed": 1, "name": "a"}
    assert not list((tmp_path / "new").glob(".*"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_processes_give_the_same(tmp_path, jobs):
    results = Store(cell, tmp_path).sweep(CONFIGS, jobs=jobs, progress=False)
    for config, result in zip(CONFIGS, results):
        np.testing.assert_array_equal(result["draw"], cell(config)["draw"])


def test_other_versions_are_refused(tmp_path):
    Store(cell, tmp_path, data="v1").sweep(CONFIGS[:2], progress=False)

    def changed(config):
        return {"draw": np.zeros(1)}

    for other in (
        Store(cell, tmp_path, data="v2"),
        Store(changed, tmp_path, data="v1"),
        Store(cell, tmp_path, "v1", (Config,)),
    ):
        with pytest.raises(ValueError, match=r"^folder: .*2 cells of other code or data"):
            other.sweep(CONFIGS)
    assert len(Store(cell, tmp_path, data="v1").sweep(CONFIGS[:2])) == 2


def test_comments_do_not_change_the_version_and_code_does(tmp_path):
    def loaded(source):
        name = f"m{abs(hash(source))}"
        (tmp_path / f"{name}.py").write_text(source)
        sys.path.insert(0, str(tmp_path))
        try:
            return __import__(name)
        finally:
            sys.path.remove(str(tmp_path))

    plain = loaded("def f(x):\n    return x + 1\n")
    same = loaded('"""About."""\n\n\ndef f(x):\n    """Doc."""\n    # why\n    return x + 1\n')
    other = loaded("def f(x):\n    return x + 2\n")
    doc = loaded('"""Else."""\n\n\ndef f(x):\n    """Another."""\n    return x + 1\n')
    assert code_digest(same) == code_digest(doc)
    assert code_digest(plain) != code_digest(other)


def test_digests_see_values_types_and_names():
    x = np.arange(6.0)
    assert digest(x) == digest(torch.as_tensor(x)) != digest(x.reshape(2, 3))
    assert digest(x) != digest(x.astype(np.float32)) != digest(x + 1)
    assert digest(Config(seed=1)) != digest(Config(seed=2))
    assert digest(Config(width=np.int64(1))) == digest(Config())
    with pytest.raises(ValueError, match=r"^config .* cannot be hashed"):
        digest(Config(name=object()))


@dataclass(frozen=True)
class Nested:
    loss: object


def test_nested_settings_and_enclosed_variables_count(tmp_path):
    """Losses without fields differ by their class; a cell that encloses a variable is another cell when it changes."""
    losses = [CE, KL_FORWARD, SQUARED_LOSS]
    results = Store(lambda c: {"x": type(c.loss).__name__}, tmp_path / "a").sweep(
        [Nested(x) for x in losses], progress=False
    )
    assert [str(r["x"]) for r in results] == ["CrossEntropy", "ForwardKL", "Squared"]

    def maker(k):
        def made(config):
            return {"x": k}

        return made

    Store(maker(1), tmp_path / "b").sweep(CONFIGS[:1], progress=False)
    with pytest.raises(ValueError, match=r"^folder: "):
        Store(maker(2), tmp_path / "b").sweep(CONFIGS[:1])
    assert digest(KL, CE) != digest(LOGISTIC, CE)
    assert digest(1, 23) != digest(12, 3) and digest((1, 2)) != digest(np.array([1, 2]))


@pytest.mark.parametrize(("result", "name"), [(None, "cell"), ({"file": 1}, "file"), ({"about": 1}, "about")])
def test_results_need_names_of_their_own(tmp_path, result, name):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        Store(lambda config: result, tmp_path).sweep(CONFIGS[:1], progress=False)


def test_errors_name_the_cell_and_lose_nothing(tmp_path):
    def fails(config):
        if config.seed == 2:
            raise ZeroDivisionError("oh")
        return cell(config)

    store = Store(fails, tmp_path)
    with pytest.raises(RuntimeError, match=r"Config\(width=2, seed=2.*failed: ZeroDivisionError: oh"):
        store.sweep(CONFIGS, progress=False)
    assert store.load(CONFIGS[1])["draw"].shape == (2,)
    with pytest.raises(FileNotFoundError, match="run the sweep"):
        store.load(CONFIGS[2])
    store.path(CONFIGS[0]).write_bytes(store.path(CONFIGS[0]).read_bytes()[:50])
    with pytest.raises(ValueError, match=r"is damaged .*delete it"):
        store.load(CONFIGS[0])
    with pytest.raises(ValueError, match=r"^thing: "):
        Store(lambda config: {"thing": [{}, object()]}, tmp_path / "objects").sweep(CONFIGS)


def test_hashing_imports_nothing():
    """The code of modules that a cell may call is hashed from their files; nothing heavy comes with the store."""
    heavy = ["sklearn", "joblib", "matplotlib", "altair", "transformers", "huggingface_hub", "pooch", "mlxtend"]
    source = f"""
import sys
from w2s_lib.experiments import encoders, fetch, sweep_store as store
store.Store(store.grid, "nowhere", code=(encoders, store.LIBRARY / "experiments" / "loss_per_model.py"))
print([name for name in {heavy} if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "counts"),
    {
        "bregman.py": True,
        "_checks.py": True,
        "training/loop.py": True,
        "experiments/closed_forms.py": True,
        "experiments/half_blind.py": True,
        "experiments/tasks.py": True,
        "cli/__init__.py": False,
        "experiments/sweep_store.py": False,
        "experiments/evidence/tables.py": False,
        "figures/style.py": False,
    }.items(),
)
def test_the_library_counts_and_its_figures_do_not(tmp_path, monkeypatch, name, counts):
    copy = tmp_path / "w2s_lib"
    shutil.copytree(store_module.LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(store_module, "LIBRARY", copy)
    before = library_digest.__wrapped__()
    assert before == library_digest()
    with (copy / name).open("a") as file:
        file.write("\nADDED = 1\n")
    assert (library_digest.__wrapped__() != before) == counts


@pytest.mark.parametrize("draw", [np.zeros(2), np.array("text"), np.arange(3000.0)], ids=["two", "text", "many"])
def test_no_flipped_bit_changes_a_number(tmp_path, draw):
    """NumPy stops reading an array before the archive's checksum; the hash finds what that lets through."""
    store = Store(lambda config: {"draw": draw}, tmp_path)
    store.sweep(CONFIGS[:1], progress=False)
    path, rng = store.path(CONFIGS[0]), np.random.default_rng(0)
    whole, messages = path.read_bytes(), []
    for i in range(min(len(whole), 900)):
        damaged = bytearray(whole)
        damaged[i] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = store.load(CONFIGS[0])["draw"]
        except ValueError as error:
            messages.append(str(error))
        else:  # a bit of the archive's own book-keeping, such as the date
            assert loaded.dtype == draw.dtype
            np.testing.assert_array_equal(loaded, draw)
    assert len(messages) > min(len(whole), 900) / 2
    assert all(str(path) in message and "is damaged" in message for message in messages)


def test_another_cells_file_is_refused(tmp_path):
    store, other = (Store(cell, tmp_path / name, data=name) for name in "ab")
    store.sweep(CONFIGS[:2], progress=False)
    other.sweep(CONFIGS[:1], progress=False)
    for source in (store.path(CONFIGS[1]), other.path(CONFIGS[0])):
        store.path(CONFIGS[0]).write_bytes(source.read_bytes())
        with pytest.raises(ValueError, match=r"holds another cell, .*width"):
            store.load(CONFIGS[0])


def test_nan_in_a_config_is_a_value_like_another(tmp_path):
    store = Store(lambda config: {"x": 1}, tmp_path)
    assert store.sweep([Config(width=np.nan)], progress=False)[0]["x"] == 1


def test_what_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    store = Store(cell, tmp_path)
    store.sweep(CONFIGS[:1], progress=False)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError, match=r"cannot read .*Permission denied; look at its permissions") as caught:
        store.load(CONFIGS[0])
    assert str(store.path(CONFIGS[0])) in str(caught.value)
    assert "delete" not in str(caught.value)


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store(cell, tmp_path)
    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match=r"cannot write .*: No space left on device") as caught:
        store.sweep(CONFIGS[:1], progress=False)
    assert caught.value.errno == errno.ENOSPC and str(store.path(CONFIGS[0])) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(tmp_path):
    def half(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "entry", half)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_names_the_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*entry"):
        write_whole(tmp_path / "file" / "entry", lambda file: None)


def test_an_interrupted_write_leaves_nothing_and_the_sweep_goes_on(tmp_path, monkeypatch):
    """An exception inside the write of each cell in turn; finished cells are neither lost nor computed again."""
    computed, save = [], np.savez_compressed

    def counting(config):
        computed.append(config)
        return cell(config)

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    store, seen = Store(counting, tmp_path), {}
    for finished in range(len(CONFIGS)):
        writes = iter([save] * min(finished, 1) + [interrupted])
        monkeypatch.setattr(np, "savez_compressed", lambda file, writes=writes, **arrays: next(writes)(file, **arrays))
        with pytest.raises(KeyboardInterrupt):
            store.sweep(CONFIGS, progress=False)
        files = sorted(tmp_path.iterdir())  # with hidden ones
        assert len(files) == finished and all(path.suffix == ".npz" for path in files)
        assert all(seen.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns for path in files)
    monkeypatch.setattr(np, "savez_compressed", save)
    for config, result in zip(CONFIGS, store.sweep(CONFIGS, progress=False)):
        np.testing.assert_array_equal(result["draw"], cell(config)["draw"])
    assert [computed.count(config) for config in CONFIGS] == [2] * len(CONFIGS)  # once for nothing, once kept


def test_half_files_of_killed_processes_are_swept_up_when_they_are_old(tmp_path):
    old, new = tmp_path / ".a.npz.1.tmp", tmp_path / ".a.npz.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    Store(cell, tmp_path).sweep(CONFIGS[:1], progress=False)
    assert not old.exists() and new.exists()


KILLED = """
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from w2s_lib.experiments.sweep_store import Store, grid


@dataclass(frozen=True)
class Config:
    seed: int = 0


def cell(config):
    time.sleep(float(os.environ.get("PAUSE", 0)))
    with (Path(__file__).parent / "log").open("a") as log:
        log.write(f"{config.seed}\\n")
    return {"draw": np.random.default_rng(config.seed).normal(size=20000)}


def sweep(jobs):
    folder = Path(__file__).parent / "cells"
    return Store(cell, folder).sweep(grid(Config(), seed=range(24)), jobs=jobs, progress=False)
"""


def test_killed_it_ends_with_the_same_table(tmp_path, monkeypatch):
    """SIGKILL to all processes of a sweep while they work: what is there is whole, and is not computed again."""
    (tmp_path / "killed_sweep.py").write_text(KILLED)
    monkeypatch.syspath_prepend(str(tmp_path))
    cells, command = tmp_path / "cells", [sys.executable, "-c", "import killed_sweep; killed_sweep.sweep(jobs=2)"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "PAUSE": "0.2"}
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 60
    while len(list(cells.glob("*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    seen = {path: path.stat().st_mtime_ns for path in cells.glob("*.npz")}
    assert 3 <= len(seen) < 24
    for path in seen:
        with np.load(path) as file:
            assert file["draw"].shape == (20000,)  # whole
    before = (tmp_path / "log").read_text().split()
    results = __import__("killed_sweep").sweep(jobs=1)  # goes on in this process
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(result["draw"], np.random.default_rng(seed).normal(size=20000))
    files = list(cells.glob("*.npz"))
    assert len(files) == 24 and all(
        seen.get(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns for path in files
    )
    after = (tmp_path / "log").read_text().split()[len(before) :]
    assert len(after) == len(set(after)) == 24 - len(seen)


def test_the_recipe_of_the_book_gives_its_cells(tmp_path, monkeypatch):
    """Its function and its grid, in this process; `test_a_cluster_survives_the_death_of_a_worker` runs all of it."""
    monkeypatch.syspath_prepend(str(RECIPE.parent))
    recipe = __import__("cluster_sweep")
    (result,) = Store(recipe.cell, tmp_path).sweep([recipe.CONFIGS[0]], progress=False)
    assert len(recipe.CONFIGS) == 6 and result.keys() == {"teacher", "hard"} and result["hard"].shape == (2,)


@pytest.mark.nightly
def test_a_cluster_survives_the_death_of_a_worker(tmp_path):
    """The recipe of the book, run as it is printed there, but for a cell that kills its worker once."""
    recipe = RECIPE.read_text()
    old = "def cell(config):\n"
    assert recipe.count(old) == 1
    deadly = """import os, signal
from pathlib import Path

def cell(config):
    mark = Path(sys.argv[1]) / "died"
    if config.teacher_labels == 60 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with (Path(sys.argv[1]) / "log").open("a") as log:
        log.write(f"{config.teacher_labels} {config.prior_precision}\\n")
"""
    script = tmp_path / "cluster.py"
    script.write_text(recipe.replace(old, deadly).replace("Store(cell, folder)", 'Store(cell, folder + "/cells")'))
    (tmp_path / "cells").mkdir()
    command = [sys.executable, str(script), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "died").exists() and run.stdout.count("accuracy gain") == 6
    computed = (tmp_path / "log").read_text().split("\n")[:-1]
    assert len(computed) == len(set(computed)) == 6  # none twice
    assert len(list((tmp_path / "cells").glob("*.npz"))) == 6
