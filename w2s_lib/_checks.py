"""Checks that every public function makes on its arguments. Each raises a ValueError that names argument and remedy."""

from __future__ import annotations

import array_api_compat
import numpy as np
import torch


def require(condition, name, message):
    """Raise ValueError(f"{name}: {message}") unless the condition holds."""
    if not bool(condition):
        raise ValueError(f"{name}: {message}")


def common_namespace(**arrays):
    """The array library that all of `arrays` belong to; ValueError if they mix several."""
    try:
        return array_api_compat.array_namespace(*arrays.values())
    except TypeError as error:
        raise ValueError(f"{', '.join(arrays)}: several array libraries; pass all as NumPy or all as torch") from error


def as_arrays(**named):
    """(namespace, *arrays): real, finite floats of one array library, NumPy or torch; lists and integers are converted.

    Raises ValueError that names the argument for NaN or infinity, for complex or object data, for mixed libraries.
    """
    arrays = {k: v if array_api_compat.is_array_api_obj(v) else np.asarray(v) for k, v in named.items()}
    for name, x in arrays.items():
        require(not isinstance(x, np.ndarray) or x.dtype.kind in "biuf", name, f"dtype {x.dtype} is not real numbers")
    xp = common_namespace(**arrays)
    for name, x in arrays.items():
        if not xp.isdtype(x.dtype, "real floating"):
            require(xp.isdtype(x.dtype, ("integral", "bool")), name, f"dtype {x.dtype} is not real numbers")
            arrays[name] = x = xp.astype(x, xp.float64)
        require(xp.all(xp.isfinite(x)), name, "holds NaN or infinity; drop those rows, or clip logits before the call")
    return xp, *arrays.values()


def to_numpy(x):
    """A float64 NumPy copy of a NumPy or torch array, for statistics."""
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else x
    return np.asarray(x, dtype=np.float64)


def one_hot(labels, classes, name="labels"):
    """Integer class labels (n,), each in 0..classes-1, as a one-hot float64 array (n, classes)."""
    y = to_numpy(labels)
    require(y.ndim == 1, name, f"need shape (inputs,), got {y.shape}")
    require(np.all(y == np.round(y)), name, "class labels must be whole numbers")
    require(np.all((y >= 0) & (y < classes)), name, f"class labels must lie in 0..{classes - 1}; recode them")
    return np.eye(classes)[y.astype(int)]


def check_labels(q, axis=-1, name="q"):
    """Raise ValueError unless `q` holds probability vectors along `axis` (entries >= 0, sums within 1e-4 of one)."""
    require(torch.isfinite(q).all(), name, "holds NaN or infinity")
    require((q >= 0).all(), name, "holds negative numbers; pass probabilities (the softmax of the teacher's logits)")
    require(((q.sum(axis) - 1).abs() < 1e-4).all(), name, f"does not sum to one over axis {axis}; normalise it")


def one_each(value, models, name):
    """A number, or one a model, as float64 (models,)."""
    value = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
    require(len(value) in (1, models), name, f"need one number, or one a model: {models}, got {len(value)}")
    require(torch.isfinite(value).all() and (value >= 0).all(), name, "must be finite and >= 0")
    return value.expand(models).clone()
