"""Checks of arguments: what is converted, and that a ValueError names argument and remedy."""

import numpy as np
import pytest
import torch

from w2s_lib._checks import as_arrays, as_targets, check_labels, one_each, one_hot, require, to_numpy

HALVES = np.full((2, 2), 0.5)


def test_lists_and_integers_become_floats_of_their_library():
    _, x, y = as_arrays(x=[1, 2], y=np.ones(2, np.float32))
    assert (x.dtype, y.dtype) == (np.float64, np.float32)
    _, x = as_arrays(x=torch.tensor([1, 2]))
    assert x.dtype == torch.float64
    assert to_numpy(torch.ones(2, requires_grad=True)).dtype == np.float64


@pytest.mark.parametrize("like", [np.zeros((5, 3)), torch.zeros(5, 3)])
def test_class_labels_lack_the_axis_of_the_classes(like):
    """On the device of the logits; an array in the shape of the logits is left alone, also one of integers."""
    y = np.array([0, 2, 1, 1, 0])
    found = as_targets(y, like, "y")
    assert type(found) is type(like) and tuple(found.shape) == (5, 3)
    np.testing.assert_array_equal(found, np.eye(3)[y])
    np.testing.assert_array_equal(as_targets(np.stack([y, y]), like, "y"), np.eye(3)[[y, y]])
    for probabilities in (np.eye(3, dtype=int)[y], np.eye(3)[[y, y]], np.full((5, 2), 0.5)):
        assert as_targets(probabilities, like, "y") is probabilities
    square = np.eye(3, dtype=int)
    assert as_targets(square, np.zeros((3, 3)), "y") is square


@pytest.mark.parametrize("device", ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])])
def test_class_labels_go_to_the_device_of_the_logits(device):
    logits = torch.zeros(5, 3, device=device)
    for y in ([0, 1, 2, 0, 1], torch.tensor([0, 1, 2, 0, 1])):
        assert as_targets(y, logits, "y").device == logits.device


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: require(np.False_, "x", "mend it"), "x: mend it"),
        (lambda: as_arrays(x=[1.0, np.nan]), r"x: holds NaN or infinity.*; first at \[1\]$"),
        (lambda: as_arrays(x=torch.tensor([[0.0, 1.0], [2.0, np.inf]])), r"x: holds NaN or .*; first at \[1, 1\]$"),
        (lambda: as_arrays(x=np.nan), "x: holds NaN or infinity"),
        (lambda: as_arrays(x=["a"]), "x: dtype .* is not real numbers"),
        (lambda: as_arrays(x=torch.tensor([1j])), "x: dtype .* is not real numbers"),
        (lambda: as_arrays(x=np.ones(2), y=torch.ones(2)), "x, y: several array libraries"),
        (lambda: one_hot([0, 3], 3, "y"), r"y: class labels must lie in 0\.\.2"),
        (lambda: one_hot([0, -1], 3, "y"), "y: class labels must lie in"),
        (lambda: one_hot([0.5], 3, "y"), "y: class labels must be whole numbers"),
        (lambda: check_labels(2 * HALVES), "q: does not sum to one over axis -1"),
        (lambda: check_labels(torch.tensor(HALVES) * 1.001, -2, "p"), "p: does not sum to one over axis -2"),
        (lambda: check_labels(-HALVES), "q: holds negative"),
        (lambda: check_labels(torch.tensor(HALVES) / 0), "q: holds NaN"),
        (lambda: one_each([1, 2], 3, "lr"), "lr: need one number, or one a model: 3, got 2"),
        (lambda: one_each(-1.0, 3, "lr"), "lr: must be finite and >= 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
    check_labels(HALVES * (1 + 9e-5))
