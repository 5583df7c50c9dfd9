"""Newton's method with a bracket, for many convex functions of one variable at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._checks import require


def argmin_convex(
    derivatives: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    low: float,
    high: float,
    start: np.ndarray,
    name: str,
) -> np.ndarray:
    """The minimisers over [low, high] of convex functions, (functions,); an end of it where a function is monotone.

    derivatives : first and second derivative of each function at t (functions,)
    A step that leaves the bracket, or is longer than half of the last one, is replaced by half of the bracket: 200
    steps are enough for whatever is convex. Raises ValueError under `name` if they are not.
    """
    lower, upper = np.full(len(start), low), np.full(len(start), high)
    rising, falling = derivatives(lower)[0] >= 0, derivatives(upper)[0] <= 0
    t, done, last = np.where(rising, lower, np.where(falling, upper, start)), rising | falling, upper - lower
    for _ in range(200):
        if done.all():
            return t
        slope, curvature = derivatives(t)
        lower, upper = np.where(slope < 0, t, lower), np.where(slope < 0, upper, t)
        step = np.divide(slope, curvature, out=np.full(len(t), np.inf), where=curvature > 0)
        close = abs(step) <= 1e-10 * (1 + abs(t))
        inside = (t - step >= lower) & (t - step <= upper) & (abs(step) <= last / 2)
        new = np.where(inside | close, np.clip(t - step, lower, upper), (lower + upper) / 2)
        last, t = abs(new - t), np.where(done, t, new)
        done |= close | (upper - lower <= 1e-12 * (1 + abs(t)))
    require(False, name, "Newton's method did not converge; do they hold numbers that are not finite?")
    return t
