"""Softmax regression to its optimum, against scikit-learn, and cut up differently."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from w2s_lib.training import Compute, Network, fit_probes, train

n = 300
L2 = 1 / n  # scikit-learn's default, C = 1


@pytest.fixture(scope="module")
def problem():
    X, y = load_digits(return_X_y=True)
    used = np.random.default_rng(0).choice(len(y), n, replace=False)
    return X[used] / 16, y[used]


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_probes_equal_scikit_learn(problem, strength):
    """C = 1 / (n l2). Three models in one batch: all inputs; a bootstrap as weights; the left half of the image."""
    X, y = problem
    left, l2 = np.tile(np.arange(8) < 4, 8), strength / n
    weights = np.stack(
        [np.ones(300), np.bincount(np.random.default_rng(1).integers(0, 300, 300), minlength=300), np.ones(300)]
    )
    masks = np.stack([np.ones(64), np.ones(64), left])
    targets = np.tile(np.eye(10)[y], (3, 1, 1))
    got = fit_probes(X, targets, weights=weights, mask=masks, l2=l2, tol=1e-11).logits(X).softmax(-1).numpy()
    for m in range(3):
        peer = LogisticRegression(C=1 / (n * l2), tol=1e-10, max_iter=10_000)
        peer.fit(X * masks[m], y, sample_weight=weights[m])
        np.testing.assert_allclose(got[m], peer.predict_proba(X * masks[m]), atol=2e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_two_classes_and_a_penalty_a_model(problem, weighted):
    """C = 2 / (n l2): scikit-learn penalises the one logit w of two classes, we both rows, -w/2 and w/2.

    Penalties differ between models, or models share one metric.
    """
    X, y = problem
    odd, l2 = y % 2, np.array([0.3, 3.0]) / n
    weights = np.bincount(np.random.default_rng(1).integers(0, 300, 300), minlength=300)
    for penalties in (l2, l2[:1].repeat(2)):
        both = np.stack([weights] * 2) if weighted else None
        fits = fit_probes(X, np.eye(2)[odd][None].repeat(2, 0), weights=both, l2=penalties, tol=1e-9)
        for m in range(2):
            peer = LogisticRegression(C=2 / (n * penalties[m]), tol=1e-10, max_iter=10_000)
            peer.fit(X, odd, sample_weight=weights if weighted else None)
            got = fits.logits(X).softmax(-1)[m].numpy()
            np.testing.assert_allclose(got, peer.predict_proba(X), atol=2e-5)


def test_probes_in_chunks_are_the_same(problem):
    X, y = problem
    weights = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), size=4).astype(float)
    targets = np.stack([np.eye(10)[y]] * 4)
    whole = fit_probes(X, targets, weights=weights, l2=L2, tol=1e-8).logits(X)
    few = fit_probes(
        X, targets, weights=weights, l2=L2, tol=1e-8, compute=Compute(dtype=torch.float64, memory=3e5)
    ).logits(X)
    torch.testing.assert_close(few, whole, atol=1e-4, rtol=0)
    single = fit_probes(X, targets, weights=weights, l2=L2, tol=1e-5, compute=Compute()).logits(X)
    torch.testing.assert_close(single.double(), whole, atol=0.02, rtol=0)


def test_soft_labels_equal_weighted_copies(problem):
    """Soft labels are ten weighted copies of each input, one a class: scikit-learn can fit that too."""
    X, _y = problem
    soft = np.random.default_rng(2).dirichlet(np.ones(10), 300)
    got = fit_probes(X, soft[None], l2=L2, tol=1e-9).logits(X).softmax(-1).numpy()[0]
    peer = LogisticRegression(tol=1e-10, max_iter=10_000)
    peer.fit(np.repeat(X, 10, 0), np.tile(np.arange(10), 300), sample_weight=soft.ravel())
    np.testing.assert_allclose(got, peer.predict_proba(X), atol=2e-5)


def test_a_model_does_not_depend_on_its_neighbours(problem):
    X, _y = problem
    targets = np.random.default_rng(3).dirichlet(np.ones(10), (4, 300))
    together = fit_probes(X, targets, l2=L2, tol=1e-8).logits(X)
    alone = fit_probes(X, targets[2:3], l2=L2, tol=1e-8).logits(X)
    np.testing.assert_allclose(together[2], alone[0], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"X": np.zeros(5)}, "X"),
        ({"X": np.full((4, 2), np.nan)}, "X"),
        ({"targets": np.ones(4)}, "targets"),
        ({"targets": np.ones((1, 4, 3), dtype=int)}, "targets"),
        ({"targets": np.eye(3)[[0, 0, 1, 1]]}, "targets"),
        ({"targets": np.ones((1, 5, 3)) / 3}, "targets"),
        ({"targets": np.ones((1, 4, 3))}, "targets"),
        ({"weights": np.zeros((1, 4))}, "weights"),
        ({"weights": np.ones((2, 3))}, "weights"),
        ({"mask": np.ones((1, 3))}, "mask"),
        ({"l2": 0.0}, "l2"),
        ({"l2": [1.0, 1.0], "targets": np.ones((3, 4, 3)) / 3}, "l2"),
    ],
)
def test_bad_training_input_names_the_argument(change, argument):
    call = {"X": np.zeros((4, 2)), "targets": np.ones((1, 4, 3)) / 3, "l2": 1.0} | change
    with pytest.raises(ValueError, match=rf"^{argument}: "):
        fit_probes(**call)


def test_training_that_does_not_converge_says_so(problem):
    with pytest.raises(RuntimeError, match="raise max_steps"):
        fit_probes(problem[0], np.eye(10)[problem[1]][None], l2=L2, max_steps=3)


def test_probes_on_their_own_rows_equal_probes_on_shared_rows():
    """Few inputs a model: each works on copies of its rows. One model that uses all inputs keeps them shared."""
    rng = np.random.default_rng(0)
    X, targets = rng.normal(size=(60, 5)), rng.dirichlet(np.ones(3), size=(4, 60))
    weights = np.zeros((4, 60))
    for m, count in enumerate((5, 12, 20)):
        weights[m, rng.choice(60, count, replace=False)] = rng.integers(1, 4, size=count)
    weights[3] = 1
    l2 = 1 / weights.sum(1)
    shared = fit_probes(X, targets, weights=weights, l2=l2)
    own = fit_probes(X, targets[:3], weights=weights[:3], l2=l2[:3])
    torch.testing.assert_close(own.logits(X), shared.logits(X)[:3], atol=1e-3, rtol=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_train_and_fit_probes_minimise_the_same(classes):
    """With example weights and a mask: one convention. Adam has gone the rest of the way when its gradient is gone."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 4)), rng.integers(0, classes, size=(2, 50))
    shared = {
        "weights": rng.integers(0, 4, size=(2, 50)),
        "mask": np.array([[1, 1, 1, 1], [1, 1, 0, 1]]),
        "l2": [0.1, 0.3],
    }
    fit = fit_probes(X, y, tol=1e-12, **shared)
    for one_logit in (False, True)[: 4 - classes]:
        network, exact = Network(one_logit=one_logit), Compute(dtype=torch.float64)
        run = train(network, X, y, steps=4000, lr=0.01, compute=exact, **shared)
        expected = fit.logits(X).log_softmax(-1)
        torch.testing.assert_close(run.logits(X).log_softmax(-1), expected, atol=1e-6, rtol=0)


def test_class_labels_are_integers(problem):
    X, y = problem
    expected = fit_probes(X, np.eye(10)[y], l2=L2).logits(X)
    assert torch.equal(fit_probes(X, y, l2=L2).logits(X), expected)
    both = fit_probes(X, np.stack([y, y]), l2=L2).logits(X)  # a wider product, which may add in another order
    torch.testing.assert_close(both[1], expected[0], atol=1e-6, rtol=0)


def test_penalties_may_be_a_tensor(problem):
    X, y = problem
    plain, tensor = (
        fit_probes(X, y, l2=l2).logits(X) for l2 in ([0.1, 0.2], torch.tensor([0.1, 0.2], dtype=torch.float64))
    )
    torch.testing.assert_close(tensor, plain)
