"""Half-blind worlds: a teacher that sees the left half of an image, and students that see all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from .._checks import one_hot, require, to_numpy
from ..training import fit_probes
from .tasks import load_images


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
        # few images may lack a class, and the teacher may never name one;
        # at tol 1e-5 probabilities are within about 1e-4 of the optimum's, far inside every interval
        chosen = {"weights": weights[:, pool], "mask": mask, "l2": config.l2, "tol": 1e-5}
        return fit_probes(X[pool], targets[:, pool], allow_empty=True, **chosen).logits(X)

    truth = torch.eye(10)[y].expand(config.seeds, -1, -1)
    teacher = fit(truth, gold, np.tile(images.left_half(), (config.seeds, 1)))
    soft = fit(teacher.softmax(-1), transfer)
    hard = fit(torch.eye(10)[teacher.argmax(-1)], transfer)
    ceiling = fit(truth, transfer)
    return HalfBlindRun(config, X[test], y[test], *(to_numpy(m)[:, test] for m in (teacher, soft, hard, ceiling)))


@dataclass(frozen=True)
class Transfer:
    """What a student of the half-blind teacher is trained, tuned and judged on; each seed has images of its own."""

    X: np.ndarray  # (seeds, inputs, features), the student's images
    labels: np.ndarray  # (seeds, inputs), their true classes, which the student is not shown
    teacher: np.ndarray  # (seeds, inputs, classes), the teacher's logits on them
    held_X: np.ndarray  # (seeds, held_out, features), further images for choices that the truth has no part in
    held_teacher: np.ndarray  # (seeds, held_out, classes), the teacher's logits on them
    test_X: np.ndarray  # (inputs, features), shared by all seeds
    test_labels: np.ndarray  # (inputs,)
    test_teacher: np.ndarray  # (seeds, inputs, classes)


def half_blind_transfer(config=HalfBlind(), held_out=200, classes=range(10)):
    """Train the half-blind teacher for `config.seeds` seeds and deal out images with her labels; returns a Transfer.

    held_out : images of each seed beside those of teacher and student, for a choice on the teacher's labels alone
    classes  : the class of each of the ten digits; [0, 1] * 5 asks whether a digit is odd
    Seeds 0, 1, 2, ... give the teacher the images that they give her in `half_blind`.
    Raises ValueError for too few images, and for classes that are not numbered 0, 1, 2, ... for all ten digits.
    """
    classes = np.asarray(classes)
    numbered = len(classes) == 10 and set(classes.tolist()) == set(range(len(set(classes.tolist()))))
    require(numbered, "classes", "must number the classes of the ten digits 0, 1, 2, ..., none left out")
    images, pool, test = _split(config)
    left = len(pool) - config.teacher_labels - config.student_inputs
    require(0 < held_out <= left, "held_out", f"must lie between 1 and the number of images that are left, {left}")
    X, y = images.pixels, classes[images.labels]
    gold, own, held = np.zeros((config.seeds, len(pool))), [], []
    for seed in range(config.seeds):
        mine, others = _deal(config, images.labels, pool, seed)
        gold[seed] = np.isin(pool, mine)
        order = np.random.default_rng(seed).permutation(others)
        own.append(order[: config.student_inputs])
        held.append(order[config.student_inputs :][:held_out])
    logits, each = to_numpy(_teach(config, images, y, pool, gold).logits(X)), np.arange(config.seeds)[:, None]
    own, held = np.array(own), np.array(held)
    student, spare = (X[own], y[own], logits[each, own]), (X[held], logits[each, held])
    return Transfer(*student, *spare, X[test], y[test], logits[:, test])


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


@dataclass(frozen=True)
class School:
    """Half-blind teachers, the images that they label, which none of them was taught on, and common test images.

    Pixels have shape (images, side * side), labels (images,), logits (teachers, images, classes).
    """

    transfer_pixels: np.ndarray
    transfer_labels: np.ndarray  # for the ceiling alone
    transfer_logits: np.ndarray
    pixels: np.ndarray  # of the test images
    labels: np.ndarray
    logits: np.ndarray


def half_blind_school(config=HalfBlind(), teachers=20):
    """Train `teachers` half-blind teachers on `config.teacher_labels` images each; returns a School.

    The pool is cut once (by `config.test_seed`) into `config.student_inputs` images for students and a rest from which
    teacher number s draws hers, stratified, with seed s. `config.seeds` is not used.
    """
    images, pool, test = _split(config)
    X, y = images.pixels, images.labels
    cut = {"test_size": config.student_inputs, "stratify": y[pool], "random_state": config.test_seed}
    rest, transfer = train_test_split(pool, **cut)
    gold = np.array([np.isin(rest, _deal(config, y, rest, s)[0]) for s in range(teachers)], dtype=float)
    probes = _teach(config, images, y, rest, gold)
    seen = (part for where in (transfer, test) for part in (X[where], y[where], to_numpy(probes.logits(X[where]))))
    return School(*seen)


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


def _teach(config, images, y, rows, gold):
    """Half-blind teachers on the images `rows` with classes y, one a row of the example weights `gold`: Probes."""
    mask, truth = np.tile(images.left_half(), (len(gold), 1)), torch.eye(int(y.max()) + 1)[y[rows]]
    return fit_probes(images.pixels[rows], truth, weights=gold, mask=mask, l2=config.l2, tol=1e-5)
