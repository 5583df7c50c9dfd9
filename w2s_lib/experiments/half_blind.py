"""Half-blind worlds: a teacher that sees the left half of an image, and students that see all of it.

Every model is a softmax regression, at scikit-learn's default penalty unless told otherwise, so nothing was tuned.
`split_images` deals out the images; the four worlds differ in what they train on them and return:

    half_blind               teacher, students, ceiling and strong on gold of each seed, judged on the test images
    half_blind_transfer_sets one teacher a seed, and the images that it labels: for students trained elsewhere
    half_blind_teachers      many teachers, by penalty, training set and resample of it
    half_blind_ensemble      many teachers that label the same images
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from .._checks import one_hot, require, to_numpy
from ..training import fit_probes
from .tasks import Images, load_images

DIGITS = 10  # classes of every data set here


@dataclass(frozen=True)
class HalfBlind:
    """A teacher that sees the left half of an image and has few labels; a student that sees all of it and no label.

    One test part is shared by all seeds; a seed draws the teacher's and the student's images, disjoint, from the rest.
    Raises ValueError for sizes below what a run needs, and for a precision that is not positive.
    """

    data: str = "digits"
    pool: int = 1  # images are averaged over pool x pool pixels first
    teacher_labels: int = 60  # stratified: 6 a class
    student_inputs: int = 700  # labelled by the teacher alone
    test_inputs: int = 597
    # of a Gaussian prior on each weight: l2 = prior_precision / number of training inputs beside the mean loss; 1 is
    # scikit-learn's default, C = 1, for three classes and more
    prior_precision: float = 1.0
    seeds: int = 20
    test_seed: int = 0  # draws the common test part

    def __post_init__(self):
        least = {"pool": 1, "teacher_labels": DIGITS, "student_inputs": 1, "test_inputs": DIGITS, "seeds": 1}
        for name, low in least.items():
            size = getattr(self, name)
            whole = isinstance(size, (int, np.integer)) and size >= low
            require(whole, name, f"must be a whole number of at least {low}, not {size!r}")
        require(self.prior_precision > 0, "prior_precision", "must be positive: separable data have no optimum without")


@dataclass(frozen=True)
class ImageSplit:
    """Which images a half-blind world uses for what, as rows of `images`. Those of one seed are disjoint."""

    images: Images
    pool: np.ndarray  # (pool,), what the teachers' images are drawn from
    gold: np.ndarray  # (seeds, teacher_labels), those that the teacher has true labels of
    transfer: np.ndarray  # (seeds, student_inputs), those that the teacher labels for the student
    held_out: np.ndarray  # (seeds, held_out), those that the teacher labels for choices
    test: np.ndarray  # (test_inputs,), shared by all seeds

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """Example weights over the pool that pick the images `rows` (models, k): zeros and ones (models, pool)."""
        return np.array([np.isin(self.pool, of_model) for of_model in rows], dtype=float)


@dataclass(frozen=True)
class HalfBlindRun:
    """Test images of one run and the logits that its models give them, each (seeds, inputs, classes)."""

    config: HalfBlind
    pixels: np.ndarray  # (inputs, side * side)
    labels: np.ndarray  # (inputs,)
    teacher: np.ndarray
    soft: np.ndarray  # student on the teacher's probabilities
    hard: np.ndarray  # student on the teacher's most probable class
    ceiling: np.ndarray  # the student's model and inputs, with true labels
    gold: np.ndarray  # the student's model on the teacher's inputs and their true labels: strong on gold

    def correct(self, role: str) -> np.ndarray:
        """1.0 where the model named `role` is right: (seeds, inputs)."""
        return (getattr(self, role).argmax(-1) == self.labels).astype(float)


@dataclass(frozen=True)
class TransferSets:
    """What a student of the half-blind teacher is trained, tuned and judged on; each seed has images of its own."""

    X: np.ndarray  # (seeds, inputs, features), the student's images
    labels: np.ndarray  # (seeds, inputs), their true classes, which the student is not shown
    teacher: np.ndarray  # (seeds, inputs, classes), the teacher's logits on them
    held_X: np.ndarray  # (seeds, held_out, features), further images for choices that the truth has no part in
    held_teacher: np.ndarray  # (seeds, held_out, classes), the teacher's logits on them
    test_X: np.ndarray  # (inputs, features), shared by all seeds
    test_labels: np.ndarray  # (inputs,)
    test_teacher: np.ndarray  # (seeds, inputs, classes)


@dataclass(frozen=True)
class TeachersRun:
    """Test labels of one run and the logits of its teachers."""

    labels: np.ndarray  # (inputs,)
    logits: np.ndarray  # (prior_precisions, sets, resamples, inputs, classes)

    @property
    def truth(self) -> np.ndarray:
        """One-hot labels (inputs, classes)."""
        return one_hot(self.labels, self.logits.shape[-1])


@dataclass(frozen=True)
class TeacherEnsemble:
    """Half-blind teachers, the images that all of them label, which none was trained on, and common test images."""

    transfer_pixels: np.ndarray  # (transfer, side * side)
    transfer_labels: np.ndarray  # (transfer,), for the ceiling alone
    transfer_logits: np.ndarray  # (teachers, transfer, classes)
    pixels: np.ndarray  # (inputs, side * side), the test images
    labels: np.ndarray  # (inputs,)
    logits: np.ndarray  # (teachers, inputs, classes)


def split_images(config: HalfBlind, seeds: int, *, held_out: int = 0, common_transfer: bool = False) -> ImageSplit:
    """Deal out the images of a half-blind world.

    The test part is drawn with `config.test_seed`, stratified. From the pool that is left seed 0, 1, ... draws the
    teacher's images, the same number of each class, then the student's and those held out. With `common_transfer` the
    student's are drawn first and once, with `config.test_seed`, stratified, and the pool is without them.
    Raises ValueError if there are too few images.
    """
    images = load_images(config.data)
    images = images.pooled(config.pool) if config.pool > 1 else images
    asked, there = config.teacher_labels + config.student_inputs + config.test_inputs, len(images.labels)
    require(asked <= there, "config", f"asks for {asked} images, {config.data} has {there}; lower one of its sizes")
    left = there - asked
    require(0 <= held_out <= left, "held_out", f"must be at most the number of images that are left, {left}")

    def part(rows, seed, **size):  # stratified
        return train_test_split(rows, stratify=images.labels[rows], random_state=seed, **size)

    pool, test = part(np.arange(there), config.test_seed, test_size=config.test_inputs)
    if common_transfer:
        pool, common = part(pool, config.test_seed, test_size=config.student_inputs)
    gold, transfer, held = [], [], []
    for seed in range(seeds):
        of_teacher, rest = part(pool, seed, train_size=config.teacher_labels)
        rng = np.random.default_rng(seed)
        if common_transfer:
            drawn = common
        elif held_out:
            drawn = rng.permutation(rest)
        else:  # another stream than permutation's: the book's numbers rest on both, so both stay
            drawn = rng.choice(rest, config.student_inputs, replace=False)
        gold.append(of_teacher)
        transfer.append(drawn[: config.student_inputs])
        held.append(drawn[config.student_inputs :][:held_out])
    return ImageSplit(images, pool, np.array(gold), np.array(transfer), np.array(held), test)


def _fit(split, targets, weights, prior_precision, *, mask=None, tol=1e-5):
    """Probes on the images of the pool: targets ([models,] pool, classes), example weights (models, pool).

    At tol 1e-5 probabilities are within about 1e-4 of the optimum's, far inside every interval of the book.
    """
    X = split.images.pixels[split.pool]
    l2 = prior_precision / weights.sum(1)
    # allow_empty: few images may lack a class, and the teacher may never name one
    return fit_probes(X, targets, weights=weights, mask=mask, l2=l2, tol=tol, allow_empty=True)


def _fit_teachers(config, split, labels):
    """Probes of the teachers, one a seed of the split, on the left half of their images; `labels` (images,)."""
    weights, truth = split.weights(split.gold), one_hot(labels, labels.max() + 1)
    mask = np.tile(split.images.left_half(), (len(weights), 1))
    return _fit(split, truth[split.pool], weights, config.prior_precision, mask=mask)


def half_blind(config: HalfBlind = HalfBlind()) -> HalfBlindRun:
    """Train teacher, students, ceiling and strong on gold for the seeds 0, 1, ..., `config.seeds` - 1.

    Raises ValueError if the data set has too few images.
    """
    split = split_images(config, config.seeds)
    X, y, pool, test = split.images.pixels, split.images.labels, split.pool, split.test
    teacher = _fit_teachers(config, split, y).logits(X)
    truth, weights = one_hot(y, DIGITS), split.weights(split.transfer)
    targets = {"soft": teacher.softmax(-1)[:, pool], "hard": torch.eye(DIGITS)[teacher.argmax(-1)][:, pool]}
    targets["ceiling"] = truth[pool]
    models = {name: _fit(split, q, weights, config.prior_precision).logits(X) for name, q in targets.items()}
    gold = _fit(split, truth[pool], split.weights(split.gold), config.prior_precision).logits(X)
    models |= {"teacher": teacher, "gold": gold}
    on_test = {name: to_numpy(logits)[:, test] for name, logits in models.items()}
    return HalfBlindRun(config, X[test], y[test], **on_test)


def half_blind_transfer_sets(
    config: HalfBlind = HalfBlind(), held_out: int = 200, classes: Sequence[int] = range(DIGITS)
) -> TransferSets:
    """Train the half-blind teacher of the seeds 0, 1, ..., and let it label images for students.

    held_out : images of each seed beside those of teacher and student, for a choice on the teacher's labels alone
    classes  : the class of each of the ten digits; [0, 1] * 5 asks whether a digit is odd
    A seed gives the teacher the images that it gives it in `half_blind`; the student's are others.
    Raises ValueError for too few images, and for classes that are not numbered 0, 1, 2, ... for all ten digits.
    """
    of_digit = np.asarray(classes)
    numbered = len(of_digit) == DIGITS and set(of_digit.tolist()) == set(range(len(set(of_digit.tolist()))))
    require(numbered, "classes", "must number the classes of the ten digits 0, 1, 2, ..., none left out")
    require(held_out > 0, "held_out", "must be at least 1")
    split = split_images(config, config.seeds, held_out=held_out)
    X, y, test = split.images.pixels, of_digit[split.images.labels], split.test
    logits, seeds = to_numpy(_fit_teachers(config, split, y).logits(X)), np.arange(config.seeds)[:, None]
    transfer, held = split.transfer, split.held_out
    student = X[transfer], y[transfer], logits[seeds, transfer]
    return TransferSets(*student, X[held], logits[seeds, held], X[test], y[test], logits[:, test])


def half_blind_teachers(
    config: HalfBlind = HalfBlind(),
    prior_precisions: Sequence[float] = (1.0,),
    sets: int = 100,
    resamples: int = 1,
    bootstrap: bool = False,
    pixel_share: float = 1.0,
) -> TeachersRun:
    """Train the half-blind teacher on `sets` training sets, `resamples` times each, at each precision of its prior.

    bootstrap   : a resample draws as many images of each class with replacement from its set; else it has the set
    pixel_share : of the left half's pixels, drawn at random, a resample sees so many: luck beside the training set's
    Set number s has the images of seed s of `half_blind`. `config.prior_precision` and `config.seeds` are not used.
    Raises ValueError for too few images, and where resamples would all be equal.
    """
    differ = resamples == 1 or bootstrap or pixel_share < 1
    require(differ, "resamples", "would all be equal: bootstrap, or let pixel_share < 1")
    require(0 < pixel_share <= 1, "pixel_share", "must be in (0, 1]")
    split = split_images(config, sets)
    y, left = split.images.labels[split.pool], np.flatnonzero(split.images.left_half())
    weights = np.repeat(split.weights(split.gold), resamples, axis=0)  # (sets * resamples, pool)
    mask = np.zeros((len(weights), split.images.pixels.shape[1]))
    for model in range(len(weights)):
        rng = np.random.default_rng(model)
        if bootstrap:
            weights[model] = _bootstrapped(weights[model], y, rng)
        mask[model, rng.choice(left, round(pixel_share * len(left)), replace=False)] = 1
    test, truth = split.test, one_hot(y, DIGITS)
    fits = [_fit(split, truth, weights, precision, mask=mask, tol=1e-4) for precision in prior_precisions]
    logits = np.stack([to_numpy(probes.logits(split.images.pixels[test])) for probes in fits])
    shape = len(prior_precisions), sets, resamples, len(test), DIGITS
    return TeachersRun(split.images.labels[test], logits.reshape(shape))


def _bootstrapped(weights, labels, rng):
    """How often each image of weight one is drawn, with replacement, as many of each class as there were."""
    counts = np.zeros_like(weights)
    for k in range(DIGITS):
        rows = np.flatnonzero((weights > 0) & (labels == k))
        counts[rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)))
    return counts


def half_blind_ensemble(config: HalfBlind = HalfBlind(), teachers: int = 20) -> TeacherEnsemble:
    """Train `teachers` half-blind teachers that label the same images.

    `config.test_seed` cuts off `config.student_inputs` images for the students once; teacher number s draws its own
    from the rest, stratified, with seed s. `config.seeds` is not used. Raises ValueError for too few images.
    """
    split = split_images(config, teachers, common_transfer=True)
    X, y, transfer, test = split.images.pixels, split.images.labels, split.transfer[0], split.test
    probes = _fit_teachers(config, split, y)
    transfer_logits, logits = to_numpy(probes.logits(X[transfer])), to_numpy(probes.logits(X[test]))
    return TeacherEnsemble(X[transfer], y[transfer], transfer_logits, X[test], y[test], logits)
