"""The split of a data set: which inputs the teacher learns, which the student, and which are for choices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..._checks import require
from ..encoders import features
from ..tasks import Task, load_task

if TYPE_CHECKING:
    from . import Protocol


@lru_cache(maxsize=4)
def load_features(data: str, *names: str) -> tuple:
    """A task and its features of those names (inputs, features), standardised by the inputs outside its test part."""
    task = load_task(data)
    train_part = task.part != "test"
    standardised = []
    for name in names:
        X = features(task, name)
        mean, sd = X[train_part].mean(0), X[train_part].std(0)
        standardised.append((X - mean) / np.where(sd > 1e-6, sd, 1))
    return task, *standardised


@dataclass(frozen=True)
class Split:
    """Which inputs of a task have which part in a run: places, disjoint, none of them in the test part."""

    gold: np.ndarray  # (config.gold,) the teacher learns their true labels
    transfer: np.ndarray  # (config.transfer,) the student learns the teacher's labels of them
    validation: np.ndarray  # (config.validation,) choices are made on the teacher's labels of them


def split_data(task: Task, config: Protocol, seed: int) -> Split:
    """The Split of a seed; data sets with a split of their own keep to it. ValueError if there are too few inputs."""
    rng, published = np.random.default_rng([seed, 0]), (task.part == "gold").any()
    gold = rng.permutation(np.flatnonzero(task.part == ("gold" if published else "pool")))
    rest = rng.permutation(np.flatnonzero(task.part == "transfer")) if published else gold[config.gold :]
    need = config.transfer + config.validation
    enough = len(gold) >= config.gold and len(rest) >= need
    require(enough, "config", f"asks for {config.gold} + {need} inputs, {task.name} has {len(gold)} + {len(rest)}")
    return Split(gold[: config.gold], rest[: config.transfer], rest[config.transfer : need])
