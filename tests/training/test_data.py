"""What models are trained on: shared or own inputs, class labels, example weights."""

import numpy as np
import pytest
import torch
from test_loop import DOUBLE, agree, loop, models, n, problem
from test_losses import LOSSES

from w2s_lib.losses import CE
from w2s_lib.training import Network, train


def test_shared_targets_and_own_inputs():
    X, Q, weights, _ = problem()
    network, how = Network((6,)), {"steps": 20, "lr": 0.02, "loss": LOSSES["SL"], "seeds": range(3), "compute": DOUBLE}
    same = np.stack([Q[0]] * models)
    expected = train(network, X, same, **how).logits(X)
    agree(train(network, X, Q[0], **how).logits(X), expected)
    agree(train(network, np.stack([X] * models), Q[0], **how).logits(X), expected)
    # few examples a model: each works on its own rows
    few = weights * (np.arange(n) < 15)
    rows = train(network, X, Q, weights=few, **how).logits(X)
    agree(rows, loop(network, X, Q, steps=20, lr=0.02, loss=LOSSES["SL"], weights=few, optimizer="Adam"))


def test_quantiles_are_of_the_examples_that_a_model_uses():
    """CACE by quantile: of the training set, whatever the batch; examples of weight zero have no say, nor for AUX."""
    X, Q, _, _ = problem()
    weights = np.zeros((models, n))
    weights[:, :30] = 1
    for name in ("CACE, quantile", "AUX"):
        how = {"steps": 30, "lr": 0.02, "loss": LOSSES[name], "compute": DOUBLE}
        kept = train(Network(), X[:30], Q[:, :30], **how).logits(X)
        agree(train(Network(), X, Q, weights=weights, **how).logits(X), kept)


def test_batches_without_a_used_example_do_no_harm():
    """Six of forty examples in batches of four: some batches are empty for a model, also for losses with quantiles."""
    X, Q, _, _ = problem()
    weights = np.zeros((models, n))
    weights[:, :6] = 1
    for loss in (CE, LOSSES["AUX"], LOSSES["CACE, quantile"]):
        run = train(Network(), X, Q, steps=30, lr=0.1, batch=4, weights=weights, loss=loss, compute=DOUBLE)
        assert torch.isfinite(run.logits(X)).all()


def test_class_labels_are_integers():
    """(models, inputs) or (inputs,), of any integer type, for train as one-hot rows are."""
    X, _, weights, _ = problem()
    y = np.random.default_rng(3).integers(0, 3, size=(models, n))
    how = {"steps": 20, "lr": 0.02, "seeds": range(models), "weights": weights, "compute": DOUBLE}
    expected = train(Network((6,)), X, np.eye(3)[y], **how).logits(X)
    for labels in (y, torch.as_tensor(y), y.astype(np.uint8), y.tolist()):
        assert torch.equal(train(Network((6,)), X, labels, **how).logits(X), expected)
    shared = train(Network((6,)), X, y[0], **how).logits(X)
    assert torch.equal(shared, train(Network((6,)), X, np.eye(3)[y[0]], **how).logits(X))
    for bad in (y - 1, y[:, :-1], y[None], y.astype(float), np.eye(3, dtype=int)[y[0]]):
        with pytest.raises(ValueError, match=r"^targets: .*class labels"):
            train(Network(), X, bad, **how)
