r"""Calibration of predictions: proper scores, the expected calibration error, and one temperature.

For NumPy and torch arrays alike. Sources: Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural
networks", for the temperature; Naeini, Cooper and Hauskrecht (2015) for the calibration error.
"""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from ._checks import Array, as_targets, require, to_numpy
from ._newton import argmin_convex
from .bregman import KL, MASKED, log_softmax


def entropy(log_p: Array, axis: int = -1) -> Array:
    """H(p) = -sum_k p_k log p_k from log p; p = 0 counts nothing. Shape of log_p without `axis`."""
    xp = array_namespace(log_p)
    p = xp.exp(log_p)
    return -xp.sum(p * xp.where(p > 0, log_p, xp.zeros_like(p)), axis=axis)


def expected_calibration_error(correct: Array, confidence: Array, bins: int = 15) -> np.ndarray:
    """ECE = sum_b n_b/n |mean confidence - share correct| over bins b of equal size (to one) of the confidence.

    correct    : (..., inputs), whether the most probable class was right, 0 or 1
    confidence : (..., inputs), its probability
    Returns (...). At most one bin an input is made.
    """
    require(np.shape(correct) == np.shape(confidence), "confidence", "needs the shape of correct, (..., inputs)")
    excess = to_numpy(confidence) - to_numpy(correct)
    require(bins >= 1 and excess.shape[-1:] != (0,), "bins", "must be at least 1, and so must the inputs")
    n = excess.shape[-1]
    excess = np.take_along_axis(excess, to_numpy(confidence).argsort(-1), -1)
    return sum(abs(part.sum(-1)) for part in np.array_split(excess, min(bins, n), axis=-1)) / n


@dataclass(frozen=True)
class Scores:
    """Means over inputs, in the leading shape of the logits."""

    accuracy: np.ndarray
    cross_entropy: np.ndarray
    brier: np.ndarray  # sum_k (p_k - y_k)^2
    calibration_error: np.ndarray  # expected calibration error
    entropy: np.ndarray  # of the predictions


def scores(truth: Array, logits: Array, bins: int = 15) -> Scores:
    """Accuracy, cross-entropy, Brier score, expected calibration error and entropy of softmax(logits).

    truth  : (inputs,) class labels, or (inputs, classes) probabilities, whose most probable class is the right one
    logits : (..., inputs, classes); bins : of the calibration error
    """
    z = to_numpy(KL.prediction(logits, "logits"))
    require(z.ndim >= 2, "logits", f"need shape (..., inputs, classes), got {z.shape}")
    y = to_numpy(KL._truth_beside(z, truth, "truth"))
    KL._check_masks(y, z, "logits", truth=True)
    log_p = log_softmax(z)
    p = np.exp(log_p)
    correct = p.argmax(-1) == y.argmax(-1)
    cross_entropy, brier = -(y * log_p).sum(-1), ((p - y) ** 2).sum(-1)
    calibration_error = expected_calibration_error(correct, p.max(-1), bins)
    return Scores(correct.mean(-1), cross_entropy.mean(-1), brier.mean(-1), calibration_error, entropy(log_p).mean(-1))


def fit_temperature(logits: Array, targets: Array) -> Array:
    """The temperature T of each model that makes the mean of CE(softmax(z / T), q) over its examples least.

    logits  : z, (..., examples, classes)
    targets : q, probabilities that broadcast to the shape of z, or class labels (examples,) or (..., examples)
    Returns float64 in the leading shape. Convex in 1/T, which is sought in [0.01, 100]: T = 0.01 where colder is always
    better (the labels are separable: every top class is right), T = 100 where hotter is. No truth is needed.
    Raises ValueError for logits that are equal for all classes.

    >>> p = np.array([[0.9, 0.1], [0.3, 0.7]])
    >>> float(fit_temperature(3 * np.log(p), p).round(6))  # three times too sure
    3.0
    """
    z = KL.prediction(logits, "logits")
    require(z.ndim >= 2, "logits", f"need shape (..., examples, classes), got {tuple(z.shape)}")
    xp, lead = array_namespace(z), tuple(z.shape[:-2])
    q = KL.truth(as_targets(targets, z, "targets"), "targets")
    fits = q.ndim <= z.ndim and all(m in (1, n) for m, n in zip(q.shape[::-1], z.shape[::-1]))
    require(fits, "targets", f"shape {tuple(q.shape)} does not broadcast to that of the logits, {tuple(z.shape)}")
    KL._check_masks(q, z, "logits", truth=True)
    z, q = xp.astype(z, xp.float64, copy=False), xp.astype(q, xp.float64, copy=False)
    z = z - xp.max(z, axis=-1, keepdims=True)
    differ = xp.any((z < 0) & (z > MASKED), axis=(-2, -1))
    require(xp.all(differ), "logits", "are the same for all classes: every temperature fits them equally")

    def derivatives(beta):
        """Of the mean cross-entropy in beta = 1/T."""
        beta = xp.asarray(beta.reshape(*lead, 1, 1), device=device(z))
        p = KL.mean(beta * z)
        mean = xp.sum(p * z, axis=-1, keepdims=True)
        slope = xp.mean(xp.sum((p - q) * z, axis=-1), axis=-1)
        curvature = xp.mean(xp.sum(p * (z - mean) ** 2, axis=-1), axis=-1)
        return to_numpy(slope).ravel(), to_numpy(curvature).ravel()

    beta = argmin_convex(derivatives, 0.01, 100.0, np.ones(int(np.prod(lead))), "logits")
    return xp.asarray(1 / beta.reshape(lead), device=device(z))
