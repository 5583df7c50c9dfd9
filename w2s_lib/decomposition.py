r"""The bias-variance decomposition of a Bregman divergence over models, with corrections for a finite ensemble.

    E D(Y, f) = E D(Y, EY) + D(EY, E*f) + E D(E*f, f)     noise + bias + variance, E*f = (grad phi)^-1(E z)

Sources: Pfau (2013), "A generalized bias-variance decomposition for Bregman divergences"; Gupta, Smith, Adlam and
Mariet (TMLR 2022, arXiv 2206.10566).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from ._checks import require, to_numpy
from .bregman import KL
from .intervals import Estimate, crossed_mean


@dataclass(frozen=True)
class Decomposition:
    """total = noise + bias + variance + cross, each an Estimate over models and inputs; see `decompose`."""

    total: Estimate
    noise: Estimate  # E D(Y, g); zero when no labels were given
    bias: Estimate  # corrected for the finite ensemble; may be negative, and is not clipped
    variance: Estimate
    cross: Estimate  # E<z_g - z, Y - g>, mean zero: what chance in the labels adds
    bias_values: np.ndarray  # (models, inputs) influence values: their mean is the bias; for paired comparisons
    variance_values: np.ndarray  # (models, inputs)
    correction: str

    @property
    def bias_per_input(self):
        """Bias at each input, (inputs,)."""
        return self.bias_values.mean(0)

    @property
    def variance_per_input(self):
        """Variance at each input, (inputs,)."""
        return self.variance_values.mean(0)

    def __str__(self):
        rows = ("total", "noise", "bias", "variance", "cross")
        return "\n".join(f"{row:>9}  {getattr(self, row)}" for row in rows)


def decompose(truth, predictions, generator=KL, *, slot=2, correction="delta", labels=None, clusters=None):
    r"""Bias-variance decomposition of the risk of an ensemble of trained models.

    With fhat the (dual) mean of K models, bhat = D(y, fhat), vhat = mean_k D(fhat, f_k): bhat + vhat = mean_k D(y, f_k)
    exactly, but E bhat = B + V_K and E vhat = V - V_K, V_K the (dual) variance of fhat itself. Corrections of bhat:

        none       0
        scaled     vhat / (K - 1)                         exact for quadratic generators
        delta      tr(H S) / (2K), S the covariance of z, H = Hess phi*(mean z)      exact for quadratic generators
        jackknife  (K - 1) (mean_j bhat_(-j) - bhat), K >= 3; error O(1/K^2)

    truth       : (inputs, outputs), g = E[Y|x], or the labels themselves (then noise is inside the bias)
    predictions : (models, inputs, outputs), in the generator's coordinates: logits for KL
    slot        : 2, E D(y, f), dual mean; or 1, E D(f, g), primal mean, g interior
    labels      : (inputs, outputs) or (draws, inputs, outputs), labels drawn from g: adds noise and cross; g interior
    clusters    : (models,) models with equal labels share luck (see `crossed_mean`)
    Standard errors treat models and inputs as crossed samples; a model enters through the influence
    <fhat - y, z_k - zhat> of its dual coordinates on the bias (exact for the jackknife correction).
    Source: Pfau 2013, theorem 0.1; Gupta et al. 2022, sections 3-4; corrections: chapter "The decomposition".
    """
    f = generator.prediction(predictions, "predictions")
    require(f.ndim == 3, "predictions", f"need shape (models, inputs, outputs), got {tuple(f.shape)}")
    xp, K = array_namespace(f), f.shape[0]
    y = generator.truth(truth, "truth", interior=slot == 1 or labels is not None)
    require(tuple(y.shape) == tuple(f.shape[1:]), "truth", f"shape {tuple(y.shape)} must be {tuple(f.shape[1:])}")
    require(slot in (1, 2), "slot", "must be 1 or 2")
    least = {"none": 1, "scaled": 2, "delta": 2, "jackknife": 3}
    require(correction in least, "correction", f"must be one of {', '.join(least)}")
    require(least[correction] <= K, "predictions", f"{K} models are too few for correction='{correction}'")

    if slot == 2:  # x: the coordinates that are averaged; back: from them to a prediction
        x, back, centre = generator.dual(f), generator.from_dual, generator.dual_mean(f)
        spread, slope = generator.divergence(centre, f), generator.mean(centre) - y

        def score(prediction):
            return generator.loss(y, prediction)
    else:
        g = generator.from_mean(y)
        x, back, centre = generator.mean(f), generator.from_mean, generator.primal_mean(f)
        spread, slope = generator.divergence(f, centre), generator.dual(centre) - generator.dual(g)

        def score(prediction):
            return generator.divergence(prediction, g)

    plug_in, step = score(centre), x - xp.mean(x, axis=0)  # (inputs,), (models, inputs, outputs)
    # (models, inputs), mean zero over models; score(f) = plug_in + influence + spread, exactly
    influence = xp.sum(slope * step, axis=-1)
    if correction == "none":
        excess = 0 * spread
    elif correction == "scaled":
        excess = spread / (K - 1)
    elif correction == "delta":
        excess = generator.curvature(centre, step, slot) / (2 * (K - 1))
    else:
        before, after = xp.cumulative_sum(x, axis=0), xp.flip(xp.cumulative_sum(xp.flip(x, axis=0), axis=0), axis=0)
        others = xp.concat([after[1:2], before[:-2, ...] + after[2:, ...], before[-2:-1]], axis=0) / (K - 1)
        excess = influence + (K - 1) * (score(back(others)) - plug_in)
    if labels is None:
        total = score(f)
        noise = cross = 0 * total
    else:
        require(slot == 2, "labels", "are for slot=2; in slot 1 the truth is compared as it is")
        drawn = generator.truth(labels, "labels")
        drawn = drawn[None] if drawn.ndim == 2 else drawn
        interior = generator.from_mean(y)
        noise = xp.mean(generator.loss(drawn, interior), axis=0) + 0 * influence
        cross = xp.sum((generator.dual(interior) - generator.dual(f)) * (xp.mean(drawn, axis=0) - y), axis=-1)
        total = xp.mean(xp.stack([generator.loss(d, f) for d in drawn]), axis=0)
    bias, variance = plug_in + influence - excess, spread + excess
    rows = [crossed_mean(v, clusters) for v in (total, noise, bias, variance, cross)]
    return Decomposition(*rows, to_numpy(bias), to_numpy(variance), correction)
