"""Checks that every public function makes on its arguments. Each raises a ValueError that names argument and remedy."""

from typing import Any

import array_api_compat
import numpy as np
import torch

SUM_TOLERANCE = 1e-4  # how far from one probabilities may sum; within it they are rescaled
Array = Any  # a NumPy array or a torch tensor; where a function says so, a list too


def require(condition, name, message):
    """Raise ValueError(f"{name}: {message}") unless the condition holds."""
    if not bool(condition):
        raise ValueError(f"{name}: {message}")


def require_all(conditions, name, message):
    """`require` for all entries of an array; the message names the first that fails, counted from 0."""
    if not bool(conditions.all()):
        first = np.argwhere(~np.asarray(conditions.cpu() if hasattr(conditions, "cpu") else conditions))[0]
        raise ValueError(f"{name}: {message}; first at {first.tolist()}")


def as_real(**named):
    """(namespace, *arrays): real floats of one array library; lists, integers are converted. ValueError for others."""
    arrays = {k: v if array_api_compat.is_array_api_obj(v) else np.asarray(v) for k, v in named.items()}
    for name, x in arrays.items():
        require(not isinstance(x, np.ndarray) or x.dtype.kind in "biuf", name, f"dtype {x.dtype} is not real numbers")
    try:
        xp = array_api_compat.array_namespace(*arrays.values())
    except TypeError:
        raise ValueError(f"{', '.join(named)}: several array libraries; pass all as NumPy or all as torch") from None
    for name, x in arrays.items():
        if not xp.isdtype(x.dtype, "real floating"):
            require(xp.isdtype(x.dtype, ("integral", "bool")), name, f"dtype {x.dtype} is not real numbers")
            arrays[name] = xp.astype(x, xp.float64)
    return xp, *arrays.values()


def as_arrays(**named):
    """`as_real`, and ValueError for NaN or infinity."""
    xp, *arrays = as_real(**named)
    for name, x in zip(named, arrays):
        require_all(xp.isfinite(x), name, "holds NaN or infinity; drop those rows, or clip logits before the call")
    return xp, *arrays


def to_numpy(x):
    """A float64 NumPy copy of a NumPy or torch array, for statistics."""
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else x
    return np.asarray(x, dtype=np.float64)


def one_hot(labels, classes, name="labels", like=None):
    """Class labels (...), whole numbers in 0..classes-1, as one-hot float64 (..., classes); `like`: where that lies."""
    y = to_numpy(labels)
    require_all(y == np.round(y), name, "class labels must be whole numbers")
    require_all((y >= 0) & (y < classes), name, f"class labels must lie in 0..{classes - 1}; recode them")
    y = np.eye(classes)[y.astype(int)]
    if like is None:
        return y
    return array_api_compat.array_namespace(like).asarray(y, device=array_api_compat.device(like))


def as_targets(labels, logits, name):
    """`labels` beside logits (..., inputs, classes); class labels, which lack the last axis, become one-hot."""
    shape, wanted = np.shape(labels), tuple(logits.shape[-2:])
    classes = len(shape) == 1 or (shape[-1:] == wanted[:1] and shape[-2:] != wanted)
    return one_hot(labels, wanted[1], name, logits) if classes else labels


def broadcast(labels, shape, name):
    """`labels` broadcast to `shape`, or ValueError."""
    try:
        return np.broadcast_to(labels, shape)
    except ValueError:
        raise ValueError(f"{name}: need shape {shape}, or one that broadcasts to it; got {np.shape(labels)}") from None


def check_labels(q, axis=-1, name="q"):
    """Raise ValueError unless `q` holds probability vectors along `axis` (entries >= 0, sums within 1e-4 of one)."""
    xp = array_api_compat.array_namespace(q)
    require_all(xp.isfinite(q), name, "holds NaN or infinity")
    require_all(q >= 0, name, "holds negative numbers; pass probabilities (the softmax of the logits)")
    sums = f"does not sum to one over axis {axis}; normalise it (logits: softmax; class labels: one-hot)"
    require_all(xp.abs(xp.sum(q, axis=axis) - 1) <= SUM_TOLERANCE, name, sums)


def one_each(value, models, name):
    """A number, or one a model, as float64 (models,)."""
    value = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
    require(len(value) in (1, models), name, f"need one number, or one a model: {models}, got {len(value)}")
    require(torch.isfinite(value).all() and (value >= 0).all(), name, "must be finite and >= 0")
    return value.expand(models).clone()
