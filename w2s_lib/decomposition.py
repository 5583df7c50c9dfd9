r"""The bias-variance decomposition of a Bregman divergence over models, with corrections for a finite ensemble.

    E D(Y, f) = E D(Y, EY) + D(EY, E*f) + E D(E*f, f)     noise + bias + variance, E*f = (grad phi)^-1(E z)

Sources: Pfau (2013), "A generalized bias-variance decomposition for Bregman divergences", theorem 0.1; Gupta, Smith,
Adlam and Mariet (TMLR 2022, arXiv 2206.10566), sections 3-4; for the corrections the book, "The decomposition".
"""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from ._checks import Array, as_targets, require, to_numpy
from .bregman import KL, Generator
from .intervals import Estimate, crossed_mean

CORRECTIONS = {"none": 1, "scaled": 2, "delta": 2, "jackknife": 3}  # and the least number of models


@dataclass(frozen=True)
class Decomposition:
    """total = noise + bias + variance + cross, each an Estimate over models and inputs; see `decompose`."""

    total: Estimate
    noise: Estimate  # E D(Y, g); zero when no labels were given
    bias: Estimate  # corrected for the finite ensemble; may be negative, and is not clipped
    variance: Estimate
    cross: Estimate  # E<z_g - z, Y - g>, mean zero: what chance in the labels adds
    bias_values: np.ndarray  # (models, inputs) influence values: of mean bias over all, and over models at each input
    variance_values: np.ndarray  # (models, inputs)
    correction: str

    def __str__(self) -> str:
        rows = ("total", "noise", "bias", "variance", "cross")
        return "\n".join(f"{row:>9}  {getattr(self, row)}" for row in rows)


def decompose(
    truth: Array, predictions: Array, generator: Generator = KL, *,
    slot: int = 2, correction: str = "delta", labels: Array = None, clusters: Array = None,
) -> Decomposition:  # fmt: skip
    r"""Bias-variance decomposition of the risk of an ensemble of trained models.

    With fhat the (dual) mean of K models, bhat = D(y, fhat), vhat = mean_k D(fhat, f_k): bhat + vhat = mean_k D(y, f_k)
    exactly, but E bhat = B + V_K and E vhat = V - V_K, V_K the (dual) variance of fhat itself. Corrections of bhat:

        none       0
        scaled     vhat / (K - 1)                         exact for quadratic generators
        delta      tr(H S) / (2K), S the covariance of z, H = Hess phi*(mean z)      exact for quadratic generators
        jackknife  (K - 1) (mean_j bhat_(-j) - bhat), K >= 3; error O(1/K^2)

    truth       : (inputs, outputs), g = E[Y|x], or labels (then noise is inside the bias); KL: also (inputs,) classes
    predictions : (models, inputs, outputs), in the generator's coordinates: logits for KL
    slot        : 2, E D(y, f), dual mean; or 1, E D(f, g), primal mean, g interior
    labels      : (inputs, outputs) or (draws, inputs, outputs), drawn from an interior g (for KL also classes, without
                  the last axis): adds noise and cross
    clusters    : (models,), as in `crossed_mean`
    A model enters the standard error of the bias through its influence <fhat - y, z_k - zhat>, the jackknife exactly.

    >>> from w2s_lib import SQUARED
    >>> parts = decompose([[0.0], [1.0]], [[[1.0], [1.0]], [[3.0], [2.0]]], SQUARED, correction="none")
    >>> parts.total.value, parts.bias.value, parts.variance.value
    (2.75, 2.125, 0.625)
    """
    f = generator.prediction(predictions, "predictions")
    require(f.ndim == 3, "predictions", f"need shape (models, inputs, outputs), got {tuple(f.shape)}")
    require(slot in (1, 2), "slot", "must be 1 or 2")
    require(correction in CORRECTIONS, "correction", f"must be one of {', '.join(CORRECTIONS)}")
    few = f"{len(f)} models are too few for correction='{correction}'"
    require(CORRECTIONS[correction] <= len(f), "predictions", few)
    y = generator._truth_beside(f, truth, "truth", interior=slot == 1 or labels is not None)
    xp, K = array_namespace(f), len(f)

    if slot == 2:  # x: the coordinates that are averaged
        generator._check_masks(y, f, "predictions", truth=True)
        x, centre = generator.dual(f), generator.dual_mean(f)
        variance, slope = generator._divergence(xp, centre, f), generator.mean(centre) - y
    else:
        x, centre, g = generator.mean(f), generator.primal_mean(f), generator.from_mean(y)
        variance, slope = generator._divergence(xp, f, centre), -generator._dual_step(xp, g, centre)

    def risk(prediction):
        return generator._loss(xp, y, prediction) if slot == 2 else generator._divergence(xp, prediction, g)

    bias, step = risk(centre), x - xp.mean(x, axis=0)  # of the mean (inputs,); (models, inputs, outputs)
    influence = xp.sum(slope * step, axis=-1)  # (models, inputs); risk(f) = bias + influence + variance, exactly
    if correction == "none":
        excess = 0 * variance
    elif correction == "scaled":
        excess = variance / (K - 1)
    elif correction == "delta":
        excess = generator.curvature(centre, step, slot) / (2 * (K - 1))
    else:  # others: the predictions without each model in turn
        if slot == 2:
            others = (1 - xp.eye(K, dtype=x.dtype, device=device(x))) / (K - 1)
            others = generator.from_dual(xp.tensordot(others, x, axes=1))
        else:  # through logarithms: a probability may be zero
            others = xp.stack([generator.primal_mean(xp.concat([f[:k], f[k + 1 :]])) for k in range(K)])
        excess = influence + (K - 1) * (risk(others) - bias)
    total, noise, cross = risk(f), 0 * influence, 0 * influence
    if labels is not None:
        require(slot == 2, "labels", "are for slot=2; in slot 1 the truth is compared as it is")
        drawn = generator.truth(as_targets(labels, f, "labels") if generator.classes else labels, "labels")
        drawn = drawn[None] if drawn.ndim == 2 else drawn
        interior = generator.from_mean(y)
        noise = noise + xp.mean(generator.loss(drawn, interior), axis=0)
        cross = xp.sum(generator._dual_step(xp, interior, f) * (xp.mean(drawn, axis=0) - y), axis=-1)
        total = xp.mean(xp.stack([generator.loss(d, f) for d in drawn]), axis=0)
    bias, variance = to_numpy(bias + influence - excess), to_numpy(variance + excess)
    e = [crossed_mean(x, clusters) for x in (total, noise, bias, variance, cross)]
    return Decomposition(e[0], e[1], e[2], e[3], e[4], bias, variance, correction)
