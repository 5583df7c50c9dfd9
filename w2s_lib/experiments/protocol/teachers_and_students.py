"""The teachers and students of all runs: the first stage of the protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..._checks import to_numpy
from ...bregman import KL
from ...losses import (
    CE,
    KL_REVERSE,
    AuxiliaryConfidence,
    ConfidenceSwitch,
    Loss,
    ReverseFamily,
    symmetric_loss,
)
from ...training import Compute, Network, fit_probes, initialise, train
from ..loss_per_model import PerModel
from ..tasks import Task
from .data_split import Split, load_features, split_data

if TYPE_CHECKING:
    from . import Protocol

# forward KL has CE's gradient: the same student
LOSSES = ("CE", "RCE", "reverse KL", "J", "SL", "CACE", "AUX", "hard")
QUANTILES = (0.25, 0.5, 0.75)  # of the teacher's confidence: CACE's candidates for c


@dataclass(frozen=True)
class Trained:
    """Stage one: the teachers and students of all runs."""

    config: Protocol
    task: Task
    splits: tuple[Split, ...]  # one a run
    rows: np.ndarray  # (runs, inputs) places of each run's transfer, validation and test inputs, one behind the other
    test: np.ndarray  # (test inputs,) places of the test inputs, the same in all runs
    teacher: np.ndarray  # (runs, all inputs, classes) logits
    weak_labels: np.ndarray  # (runs, all inputs, classes) the teacher's labels, at the confidence that config keeps
    names: tuple[str, ...]  # of the first axis of `student`: losses, CACE once for each candidate of c, the ceiling
    student: np.ndarray  # (losses, path, runs, inputs, classes) float32 logits on the inputs `rows`


def train_models(config: Protocol, compute: Compute = Compute()) -> Trained:
    """Train the teachers and students of all runs."""
    task, X_w, X_s = load_features(config.data, config.teacher, config.student)
    test = np.flatnonzero(task.part == "test")
    splits = tuple(split_data(task, config, seed) for seed, _, _ in config.runs)
    rows = np.array([np.concatenate([split.transfer, split.validation, test]) for split in splits])
    teacher = np.repeat(fit_teachers(task, X_w, config, compute), config.students, axis=0)
    weak_labels = config.confidence * KL.mean(teacher) + (1 - config.confidence) / task.classes
    names = tuple(student_losses(config))
    student = np.empty((len(names), len(config.path), *rows.shape, task.classes), dtype=np.float32)
    for r, seeds in enumerate(config.runs):
        transfer = splits[r].transfer
        q, y = weak_labels[r, transfer], task.labels[transfer]
        seed = int(np.random.default_rng([seeds[0], 3, *seeds[1:]]).integers(2**31))
        student[:, :, r] = fit_students(X_s, q, y, rows[r], config, seed, compute)
    return Trained(config, task, splits, rows, test, teacher, weak_labels, names, student)


def fit_teachers(task: Task, X: np.ndarray, config: Protocol, compute: Compute = Compute()) -> np.ndarray:
    """Logits of the teachers, trained on features X of all inputs, on all inputs: (splits * teachers, inputs, K)."""
    K, pool = task.classes, np.flatnonzero(task.part != "test")
    weights, labels = [], []
    for split, teacher, _ in [seeds for seeds in config.runs if seeds[2] == 0]:
        gold = split_data(task, config, split).gold
        y = _noisy_labels(task, gold, config.noise, split)
        for b in range(max(1, config.bag)):
            rng = np.random.default_rng([split, 2, teacher, b])
            all_once = config.teachers == 1 and not config.bag
            counts = 1 if all_once else rng.multinomial(len(gold), np.full(len(gold), 1 / len(gold)))
            w = np.zeros(len(task.labels))
            w[gold] = counts
            weights.append(w[pool])
            labels.append(np.eye(K)[y[pool]])
    probes = fit_probes(
        X[pool],
        np.array(labels),
        weights=np.array(weights),
        l2=config.teacher_prior_precision / np.sum(weights, 1),
        tol=1e-7,
        allow_empty=True,  # a few gold inputs may lack a class
        # optima, so in double precision; the memory decides which teachers stop together, and is not the machine's
        compute=replace(compute, dtype=torch.float64, memory=1e9),
    )
    z = KL.dual(to_numpy(probes.logits(X)))
    return z.reshape(-1, max(1, config.bag), *z.shape[1:]).mean(1)


def _noisy_labels(task, gold, noise, split):
    """True labels of all inputs, the share `noise` of those of `gold` replaced by another class: (inputs,)."""
    rng, y = np.random.default_rng([split, 1]), task.labels.copy()
    wrong = gold[rng.random(len(gold)) < noise]
    y[wrong] = (y[wrong] + rng.integers(1, task.classes, len(wrong))) % task.classes
    return y


def student_losses(config: Protocol) -> dict[str, tuple[Loss, str]]:
    """{name: (loss, kind of label)}: those of config, CACE last and once for each candidate of c, then the ceiling."""
    # log q is taken of max(q, 1e-4): a sure teacher's odds end at ten thousand to one
    reverse = ReverseFamily(lam=0.0, clamp=1e-4)
    known = {
        "CE": (CE, "soft"),
        "RCE": (reverse, "soft"),
        "reverse KL": (ReverseFamily(lam=KL_REVERSE.lam, clamp=1e-4), "soft"),
        "J": (ReverseFamily(lam=0.3, clamp=1e-4), "soft"),
        "SL": (symmetric_loss(clamp=1e-4), "soft"),
        "AUX": (AuxiliaryConfidence(alpha=0.5, warmup=config.steps // 5), "soft"),
        "hard": (CE, "hard"),
    }
    losses = {name: known[name] for name in config.losses if name in known}
    if "CACE" in config.losses:
        losses |= {f"CACE {c}": (ConfidenceSwitch(c, quantile=True, reverse=reverse), "soft") for c in QUANTILES}
    return losses | {"ceiling": (CE, "true")}


def fit_students(
    X: np.ndarray,
    q: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
    config: Protocol,
    seed: int,
    compute: Compute = Compute(),
) -> np.ndarray:
    """Logits of one run's students by every loss along the path: (losses, path, inputs `rows`, classes), float32.

    X    : strong features of all inputs, (inputs, features)
    q, y : the teacher's labels (transfer, classes) and the true labels (transfer,) of the transfer inputs
    rows : places of the transfer inputs, then of other inputs
    seed : of the random features. Losses are in the order of `student_losses`
    """
    n, K = q.shape
    Phi = torch.as_tensor(X[rows])
    if config.width:
        net = Network((config.width,), init="normal")
        Phi = initialise(net, Phi.shape[1], K, [seed]).logits(Phi, layers=1)[0]
    labels = {"soft": q, "hard": np.eye(K)[q.argmax(-1)], "true": np.eye(K)[y]}
    losses, m = student_losses(config), len(config.l2s)
    targets = np.repeat([labels[kind] for _, kind in losses.values()], m, axis=0)
    l2 = np.tile(config.l2s, len(losses))
    trained = train(
        Network(init="zeros", one_logit=K == 2),
        Phi[:n],
        torch.as_tensor(targets, dtype=torch.float32),
        loss=PerModel(tuple(loss for loss, _ in losses.values()), (m,) * len(losses)),
        l2=l2,
        steps=config.steps,
        lr=config.lr,
        snapshots=(Phi, (*config.stages, config.steps)),
        seeds=[0] * len(l2),  # no part: all start from zero
        allow_empty=True,
        compute=replace(compute, chunk=len(l2), memory=8e9, threads=1),  # one chunk, as PerModel needs it
    )
    assert trained.snapshots is not None  # they were asked for
    z = trained.snapshots.cpu().numpy().reshape(len(config.stages) + 1, len(losses), m, -1, K)
    return np.concatenate([z[-1], z[:-1, :, 0].swapaxes(0, 1)], 1)
