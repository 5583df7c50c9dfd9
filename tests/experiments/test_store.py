"""The result store: kills, versions, damage, processes and a small cluster."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from browser import ROOT

from w2s_lib import KL, LOGISTIC
from w2s_lib.experiments.store import Store, code_digest, digest, grid
from w2s_lib.losses import CE, KL_FORWARD, SQUARED_LOSS


@dataclass(frozen=True)
class Config:
    width: int = 1
    seed: int = 0
    name: str = "a"


def cell(config):
    return {"draw": np.random.default_rng(config.seed).normal(size=config.width), "name": config.name}


CONFIGS = grid(Config(), width=[2, 3], seed=range(3))


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
    with pytest.raises(RuntimeError, match=r"Config\(width=2, seed=2.*failed: oh"):
        store.sweep(CONFIGS, progress=False)
    assert store.load(CONFIGS[1])["draw"].shape == (2,)
    with pytest.raises(FileNotFoundError, match="run the sweep"):
        store.load(CONFIGS[2])
    store.path(CONFIGS[0]).write_bytes(store.path(CONFIGS[0]).read_bytes()[:50])
    with pytest.raises(ValueError, match=r"is damaged .*delete it"):
        store.load(CONFIGS[0])
    with pytest.raises(ValueError, match=r"^thing: "):
        Store(lambda config: {"thing": [{}, object()]}, tmp_path / "objects").sweep(CONFIGS)


SWEEP = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from w2s_lib.experiments.store import Store, grid

folder = Path(sys.argv[1])

@dataclass(frozen=True)
class Config:
    seed: int = 0

def cell(config):
    time.sleep(0.05)
    (folder / "log").open("a").write(f"{config.seed}\\n")
    return {"draw": np.random.default_rng(config.seed).normal(size=20000)}

configs = grid(Config(), seed=range(24))
"""


def script(tmp_path, text):
    path = tmp_path / "sweep.py"
    path.write_text(SWEEP + textwrap.dedent(text))
    return [sys.executable, str(path), str(tmp_path)]


@pytest.mark.parametrize(("jobs", "kills"), [(1, 5), (2, 1)])
def test_killed_it_ends_with_the_same_table(tmp_path, jobs, kills):
    """SIGKILL to the whole process group at random moments; finished cells are neither lost nor computed again."""
    command = script(tmp_path, f'Store(cell, folder / "cells").sweep(configs, jobs={jobs}, progress=False)')
    rng, cells, seen = np.random.default_rng(0), tmp_path / "cells", {}
    for _ in range(kills):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        finished = len(list(cells.glob("*.npz")))
        deadline = time.time() + 60
        while len(list(cells.glob("*.npz"))) == finished and time.time() < deadline:
            time.sleep(0.01)  # it works
        time.sleep(rng.uniform(0, 0.15))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in cells.glob("*.npz"):
            with np.load(path) as file:
                assert file["draw"].shape == (20000,)  # whole
            assert seen.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    assert kills <= len(seen) < 24
    subprocess.run(command, check=True, timeout=120)
    files = sorted(cells.glob("*.npz"))
    assert len(files) == 24 and all(seen.get(f, f.stat().st_mtime_ns) == f.stat().st_mtime_ns for f in files)
    seeds = [json.loads(str(np.load(f)["about"]))["config"]["seed"] for f in files]
    for seed, f in zip(seeds, files):
        np.testing.assert_array_equal(np.load(f)["draw"], np.random.default_rng(seed).normal(size=20000))
    assert sorted(seeds) == list(range(24))


def test_a_cluster_survives_the_death_of_a_worker(tmp_path):
    """The recipe of the book, run as it is printed there, but for a cell that kills its worker once."""
    recipe = (ROOT / "book/depth/cluster_sweep.py").read_text()
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
        log.write(f"{config.teacher_labels} {config.l2}\\n")
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
