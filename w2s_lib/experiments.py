"""Experiments that several chapters share. So far: the half-blind teacher, the running example of the book."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from .data import load_images
from .estimates import require, to_numpy
from .ledger import one_hot
from .train import fit_probes


@dataclass(frozen=True)
class HalfBlind:
    """A teacher that sees the left half of an image and has few labels; a student that sees all of it and no label.

    Every model is a softmax regression at scikit-learn's default penalty, so nothing was tuned. One test split is
    shared by all seeds; a seed draws the teacher's and the student's inputs, disjoint, from the rest.
    """

    data: str = "digits"
    pool: int = 1  # images are averaged over pool x pool pixels first
    teacher_labels: int = 60  # stratified: 6 a class
    student_inputs: int = 700  # labelled by the teacher alone
    test_inputs: int = 597
    l2: float = 1.0
    seeds: int = 20
    test_seed: int = 0  # draws the common test split


@dataclass(frozen=True)
class HalfBlindRun:
    """Test labels and logits of one run; logits have shape (seeds, inputs, classes)."""

    config: HalfBlind
    pixels: np.ndarray  # (inputs, side * side), the test images
    labels: np.ndarray  # (inputs,)
    teacher: np.ndarray
    soft: np.ndarray  # student on the teacher's probabilities
    hard: np.ndarray  # student on the teacher's most probable class
    ceiling: np.ndarray  # the student's model and inputs, with true labels

    def correct(self, role):
        """1.0 where the model named `role` is right: (seeds, inputs)."""
        return (getattr(self, role).argmax(-1) == self.labels).astype(float)


@dataclass(frozen=True)
class TeachersRun:
    """Test labels of one run and the logits of its teachers, (l2s, sets, resamples, inputs, classes)."""

    labels: np.ndarray
    logits: np.ndarray

    @property
    def truth(self):
        """One-hot labels (inputs, classes)."""
        return one_hot(self.labels, self.logits.shape[-1])


def half_blind(config=HalfBlind()):
    """Run the half-blind teacher for `config.seeds` seeds; returns a HalfBlindRun. Seeds are 0, 1, 2, ..."""
    images, pool, test = _split(config)
    X, y = images.pixels, images.labels
    gold, transfer = np.zeros((2, config.seeds, len(y)))  # example weights: which images a seed gives to whom
    for seed in range(config.seeds):
        mine, others = _deal(config, y, pool, seed)
        gold[seed, mine] = 1
        transfer[seed, np.random.default_rng(seed).choice(others, config.student_inputs, replace=False)] = 1

    def fit(targets, weights, mask=None):
        # at tol 1e-5 probabilities are within about 1e-4 of the optimum's, far inside every interval
        chosen = {"weights": weights[:, pool], "mask": mask, "l2": config.l2, "tol": 1e-5}
        return fit_probes(X[pool], targets[:, pool], **chosen).logits(X)

    truth = torch.eye(10)[y].expand(config.seeds, -1, -1)
    teacher = fit(truth, gold, np.tile(images.left_half(), (config.seeds, 1)))
    soft = fit(teacher.softmax(-1), transfer)
    hard = fit(torch.eye(10)[teacher.argmax(-1)], transfer)
    ceiling = fit(truth, transfer)
    return HalfBlindRun(config, X[test], y[test], *(to_numpy(m)[:, test] for m in (teacher, soft, hard, ceiling)))


def half_blind_teachers(config=HalfBlind(), l2s=(1.0,), sets=100, resamples=1, bootstrap=False, seen=1.0):
    """Train the half-blind teacher on `sets` training sets, `resamples` times each, at each penalty; a TeachersRun.

    bootstrap : a resample draws as many images of each class with replacement from its set; else it has the set itself
    seen      : share of her pixels that a resample sees, drawn at random: luck that is not in the training set
    Set number s has the images of seed s of `half_blind`. `config.l2` and `config.student_inputs` are not used.
    """
    require(resamples == 1 or bootstrap or seen < 1, "resamples", "would all be equal: bootstrap, or let seen < 1")
    require(0 < seen <= 1, "seen", "is a share, in (0, 1]")
    images, pool, test = _split(config)
    X, y = images.pixels, images.labels
    gold = np.array([np.isin(pool, _deal(config, y, pool, seed)[0]) for seed in range(sets)], dtype=float)
    weights = np.repeat(gold, resamples, axis=0)  # (sets * resamples, pool)
    left = np.flatnonzero(images.left_half())
    mask = np.zeros((len(weights), X.shape[1]))
    for m, w in enumerate(weights):
        rng = np.random.default_rng(m)
        for k in range(10) if bootstrap else ():
            own = np.flatnonzero((w > 0) & (y[pool] == k))
            w[own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)))
        mask[m, rng.choice(left, round(seen * len(left)), replace=False)] = 1
    targets = torch.eye(10)[y[pool]].expand(len(weights), -1, -1)
    fits = [fit_probes(X[pool], targets, weights=weights, mask=mask, l2=l2, tol=1e-4) for l2 in l2s]
    logits = np.stack([to_numpy(probes.logits(X[test])) for probes in fits])
    return TeachersRun(y[test], logits.reshape(len(l2s), sets, resamples, len(test), 10))


def _split(config):
    """Images, and the indices of those to draw from and of the common test split."""
    images = load_images(config.data)
    images = images.pooled(config.pool) if config.pool > 1 else images
    asked, there = config.teacher_labels + config.student_inputs + config.test_inputs, len(images.labels)
    require(asked <= there, "config", f"asks for {asked} images, {config.data} has {there}; lower one of its sizes")
    sizes = {"test_size": config.test_inputs, "stratify": images.labels, "random_state": config.test_seed}
    return images, *train_test_split(np.arange(there), **sizes)


def _deal(config, y, pool, seed):
    """The teacher's images, the same number of each class, and all others of the pool."""
    return train_test_split(pool, train_size=config.teacher_labels, stratify=y[pool], random_state=seed)
