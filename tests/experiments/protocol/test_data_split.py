"""Splits: disjoint, and those that a data set was published with are kept."""

import numpy as np
from small_protocol import SMALL

from w2s_lib.experiments.protocol.data_split import split_data
from w2s_lib.experiments.tasks import Task, load_task


def test_parts_are_disjoint_and_published_splits_are_kept():
    task = load_task("digits")
    for seed in range(3):
        split = split_data(task, SMALL, seed)
        parts = [split.gold, split.transfer, split.validation, np.flatnonzero(task.part == "test")]
        assert [len(p) for p in parts[:3]] == [60, 200, 200]
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
    part = np.repeat(["gold", "transfer", "test"], [100, 500, 50]).astype("U8")
    split = split_data(Task("published", 2, np.arange(650) % 2, part, None), SMALL, 0)
    for places, name in ((split.gold, "gold"), (split.transfer, "transfer"), (split.validation, "transfer")):
        assert (part[places] == name).all()
