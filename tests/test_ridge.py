"""Ridge paths against scikit-learn, NumPy's pseudo-inverse and gradient descent."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as Peer

from w2s_lib.losses import SQUARED_LOSS
from w2s_lib.ridge import decompose_features
from w2s_lib.training import SGD, Compute, Network, train

LAMBDAS = [0.0, 1e-6, 1e-3, 0.1, 10.0]


def draw(n=30, p=12, m=20, teachers=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=(m, p)), rng.normal(size=(teachers, n + m)), rng.normal(size=m)


@pytest.mark.parametrize("p", [5, 30, 80])
def test_paths_equal_scikit_learn(p):
    Phi, new, W, _ = draw(p=p)
    ridge, Y = decompose_features(Phi), W[:, :30]
    got, theta = ridge.predict(new, Y, LAMBDAS), ridge.coefficients(Y, LAMBDAS)
    assert got.shape == (5, 5, 20) and theta.shape == (5, 5, p)
    for i, lam in enumerate(LAMBDAS[1:], 1):
        peer = Peer(alpha=30 * lam, fit_intercept=False, solver="svd").fit(Phi, Y.T)
        np.testing.assert_allclose(theta[i], peer.coef_, atol=1e-8)
        np.testing.assert_allclose(got[i], peer.predict(new).T, atol=1e-8)
    np.testing.assert_allclose(ridge.smoother(new, 0.1) @ Y.T, got[3].T, atol=1e-12)


def test_the_penalty_stands_beside_the_mean_loss_as_in_training():
    """Gradient steps on the mean squared loss + l2/2 |W|^2 end at the ridge solution of lambda = l2/2."""
    Phi, _, W, _ = draw(p=4)
    Phi, y = Phi - Phi.mean(0), W[0, :30] - W[0, :30].mean()  # so that the bias, which ridge lacks, is zero
    how = {"optimizer": SGD(), "loss": SQUARED_LOSS, "compute": Compute(dtype=torch.float64)}
    run = train(Network(()), Phi, y[None, :, None], steps=500, lr=0.1, l2=[0.2, 2.0], seeds=[0, 1], **how)
    trained = run.models.weights[0][:, 0].numpy()
    np.testing.assert_allclose(trained, decompose_features(Phi).coefficients(y[None], [0.1, 1.0])[:, 0], atol=1e-9)


@pytest.mark.parametrize("p", [5, 80])
def test_no_penalty_is_the_minimum_norm_limit(p):
    """Exact, also for features without full rank, where a small penalty is not."""
    Phi, _, W, _ = draw(p=p)
    Phi[:, -1] = Phi[:, 0]  # a lost rank
    ridge = decompose_features(Phi)
    expected = W[:, :30] @ np.linalg.pinv(Phi).T
    np.testing.assert_allclose(ridge.coefficients(W[:, :30], 0.0)[0], expected, atol=1e-9)
    near = ridge.coefficients(W[:, :30], [1e-10, 1e-12])
    assert np.abs(near[1] - expected).max() < np.abs(near[0] - expected).max() < 1e-5
    if p > 30:
        np.testing.assert_allclose(ridge.predict(Phi, W[:, :30], 0.0)[0], W[:, :30], atol=1e-9)
    assert sorted(ridge.s == 0) == [False] * (min(p, 30) - (p == 5)) + [True] * (p == 5)


def test_a_stack_equals_a_loop():
    rng = np.random.default_rng(0)
    for n, p in ((20, 7), (7, 20)):
        Phi, Y, new = rng.normal(size=(6, n, p)), rng.normal(size=(6, n)), rng.normal(size=(9, p))
        got = decompose_features(Phi).predict(new, Y, LAMBDAS)
        assert got.shape == (5, 6, 9)
        for i in range(6):
            alone = decompose_features(Phi[i]).predict(new, Y[i : i + 1], LAMBDAS)
            np.testing.assert_allclose(got[:, i], alone[:, 0], atol=1e-10)
        smoother = decompose_features(Phi).smoother(new[:6], 0.1)
        np.testing.assert_allclose((smoother @ Y[:, :, None])[:, :, 0], got[3, :, :6], atol=1e-10)
        with pytest.raises(ValueError, match=r"^features: "):
            decompose_features(Phi).predict(Phi, Y, LAMBDAS)
        scaled = Phi * np.geomspace(1, 1e-10, 6)[:, None, None]
        assert (decompose_features(scaled).s > 0).all()  # a sample's rank does not depend on the others


DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.mark.parametrize("device", DEVICES)
def test_torch_and_numpy_agree(device):
    Phi, new, W, _ = draw(p=40)
    Phi_t, new_t, W_t = (torch.as_tensor(x, device=device) for x in (Phi, new, W))
    predicted = decompose_features(Phi_t).predict(new_t, W_t[:, :30], LAMBDAS).cpu()
    np.testing.assert_allclose(predicted, decompose_features(Phi).predict(new, W[:, :30], LAMBDAS), atol=1e-9)
    single = decompose_features(Phi.astype(np.float32)).predict(new, W[:, :30], LAMBDAS)
    assert single.dtype == np.float64


def test_bad_input_names_the_argument():
    Phi, new, W, _ = draw()
    ridge = decompose_features(Phi)
    calls = {
        "features": lambda: decompose_features(Phi[0]),
        "lambdas": lambda: ridge.predict(new, W[:, :30], -1.0),
        "targets": lambda: ridge.predict(new, W, 0.1),
        "lam": lambda: ridge.smoother(new, [0.1, 0.2]),
    }
    for argument, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{argument}: "):
            call()
    with pytest.raises(ValueError, match=r"^features: holds NaN"):
        decompose_features(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match=r"^features: need shape \(inputs, 12\)"):
        ridge.predict(new[:, :5], W[:, :30], 0.1)
