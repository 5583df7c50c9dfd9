"""Experiments that several chapters share. So far: the half-blind teacher, the running example of the book."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from .data import load_images
from .estimates import require, to_numpy
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


def half_blind(config=HalfBlind()):
    """Run the half-blind teacher for `config.seeds` seeds; returns a HalfBlindRun. Seeds are 0, 1, 2, ..."""
    images = load_images(config.data)
    images = images.pooled(config.pool) if config.pool > 1 else images
    X, y = images.pixels, images.labels
    asked, there = config.teacher_labels + config.student_inputs + config.test_inputs, len(y)
    require(asked <= there, "config", f"asks for {asked} images, {config.data} has {there}; lower one of its sizes")
    pool, test = train_test_split(
        np.arange(there), test_size=config.test_inputs, stratify=y, random_state=config.test_seed
    )
    one_hot, E = np.eye(10)[y], config.seeds
    gold, transfer = np.zeros((2, E, there))  # example weights: which images a seed gives to whom
    for seed in range(E):
        mine, others = train_test_split(pool, train_size=config.teacher_labels, stratify=y[pool], random_state=seed)
        gold[seed, mine] = 1
        transfer[seed, np.random.default_rng(seed).choice(others, config.student_inputs, replace=False)] = 1

    def fit(targets, weights, mask=None):
        # at tol 1e-5 probabilities are within about 1e-4 of the optimum's, far inside every interval
        chosen = {"weights": weights[:, pool], "mask": mask, "l2": config.l2, "tol": 1e-5}
        return fit_probes(X[pool], targets[:, pool], **chosen).logits(X)

    truth = np.broadcast_to(one_hot, (E, there, 10))
    teacher = fit(truth, gold, np.tile(images.left_half(), (E, 1)))
    soft = fit(teacher.softmax(-1), transfer)
    hard = fit(np.eye(10)[teacher.argmax(-1)], transfer)
    ceiling = fit(truth, transfer)
    return HalfBlindRun(config, X[test], y[test], *(to_numpy(m)[:, test] for m in (teacher, soft, hard, ceiling)))
