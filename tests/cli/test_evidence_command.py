"""python -m w2s_lib evidence: it goes on where it was interrupted, and needs neither git nor a place of its own."""

import os
import shutil

import numpy as np

from w2s_lib.cli.evidence_command import main
from w2s_lib.experiments import evidence


def command(folder, *more):
    return main(["--size", "tiny", "--folder", str(folder), "--out", str(folder / "tables"), *more])


def assert_equal_tables(one, two):
    assert one.configs == two.configs and len(one.configs) == 4
    for a, b in zip(one.results, two.results):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_sweep_interrupted_in_every_write_ends_with_the_same_table(tmp_path, monkeypatch):
    """Interrupted in the write of each of four cells and of the table; a finished cell is not computed again."""
    assert command(tmp_path / "whole") == 0
    cells, finished, sync = tmp_path / "killed" / "digits", {}, os.fsync
    for so_far in range(5):
        allowed = [True, False] if so_far else [False]  # the first run writes nothing, each of the others one cell

        def interrupted(file, allowed=allowed):
            if not allowed.pop(0):
                raise KeyboardInterrupt
            sync(file)

        monkeypatch.setattr(os, "fsync", interrupted)
        assert command(tmp_path / "killed") == 130
        for path in cells.iterdir():
            assert finished.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns, "computed again"
        assert len(finished) == so_far and not list((tmp_path / "killed").glob("tables/*"))
    monkeypatch.setattr(os, "fsync", sync)
    assert command(tmp_path / "killed") == 0
    assert_equal_tables(*(evidence.read(tmp_path / x / "tables" / "digits.npz") for x in ("whole", "killed")))


def test_the_command_needs_no_git_and_writes_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert shutil.which("git") is None
    assert main(["--size", "tiny"]) == 0
    table = evidence.read(tmp_path / "evidence" / "tables" / "digits.npz")
    assert table.provenance["commit"] == "unknown" and [x.name for x in tmp_path.iterdir()] == ["evidence"]
