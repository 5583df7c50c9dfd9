"""Calibration of a student: one temperature, and the entropy of its predictions."""

from __future__ import annotations

import torch

from ._checks import check_labels, require


def entropy(log_p, axis=-1):
    """H(p) = -sum_k p_k log p_k from log p; p = 0 counts nothing. Shape of log_p without `axis`."""
    p = log_p.exp()
    return -torch.where(p > 0, p * log_p, torch.zeros_like(p)).sum(axis)


def fit_temperature(z, q, axis=-1):
    """The temperature T of each model that makes the mean of CE(softmax(z / T), q) over its examples least.

    z, q : (..., examples, classes), or with axis=-2 (..., classes, examples); T has the leading shape, float64
    The objective is convex in 1/T, which is sought in [0.01, 100] by Newton's steps, or half of the bracket where they
    leave it. Labels of the teacher will do: whatever they say of the truth, no truth is used.
    Raises ValueError for shapes that differ, q that is no distribution, and logits that do not differ between classes.
    """
    require(z.shape == q.shape, "q", f"shape {tuple(q.shape)} must be that of z, {tuple(z.shape)}")
    require(axis in (-1, -2), "axis", "must be -1 (classes last) or -2 (class-first)")
    require(z.ndim >= -axis, "z", f"has no axis {axis}")
    require(z.ndim >= 2, "z", "needs an axis of the examples")
    check_labels(q, axis)
    z, q = (x.movedim(axis, -1).double() for x in (z, q))
    z = z - z.mean(-1, keepdim=True)
    require((z.abs().amax((-2, -1)) > 0).all(), "z", "is the same for all classes: every temperature fits it equally")
    low, high = (torch.full(z.shape[:-2], x, dtype=torch.float64, device=z.device) for x in (0.01, 100.0))
    beta = torch.ones_like(low)
    for _ in range(60):
        p = (beta[..., None, None] * z).softmax(-1)
        slope = ((p - q) * z).sum(-1).mean(-1)
        bend = (p * (z - (p * z).sum(-1, keepdim=True)) ** 2).sum(-1).mean(-1)
        low, high = torch.where(slope < 0, beta, low), torch.where(slope < 0, high, beta)
        step = beta - slope / bend
        new = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
        beta, moved = new, (new - beta).abs().max()
        if moved < 1e-12:
            break
    return 1 / beta
