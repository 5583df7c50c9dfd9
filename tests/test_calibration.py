"""Scores against their definitions, the temperature against a grid and known answers; bad input."""

import numpy as np
import pytest
import torch
from scipy.special import entr
from test_losses import draw

from w2s_lib import KL
from w2s_lib.bregman import log_softmax
from w2s_lib.calibration import entropy, expected_calibration_error, fit_temperature, scores
from w2s_lib.losses import CE


def test_scores_by_their_definitions():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(2, 300, 4)), rng.integers(0, 4, 300)
    found, p, hard = scores(y, z), KL.mean(z), np.eye(4)[y]
    np.testing.assert_array_equal(found.accuracy, (z.argmax(-1) == y).mean(-1))
    np.testing.assert_allclose(found.cross_entropy, KL.loss(hard, z).mean(-1), rtol=1e-12)
    np.testing.assert_allclose(found.brier, ((p - hard) ** 2).sum(-1).mean(-1), rtol=1e-12)
    np.testing.assert_allclose(found.entropy, entr(p).sum(-1).mean(-1), rtol=1e-12)
    for m in range(2):
        bins = np.array_split(p[m].max(1).argsort(), 15)
        gaps = [abs(p[m][b].max(1).mean() - (z[m][b].argmax(1) == y[b]).mean()) * len(b) for b in bins]
        assert found.calibration_error[m] == pytest.approx(sum(gaps) / 300)
    for other in (scores(hard, z), scores(torch.tensor(y), torch.tensor(z))):
        np.testing.assert_allclose(other.brier, found.brier, rtol=1e-12)
        np.testing.assert_array_equal(other.calibration_error, found.calibration_error)


def test_calibration_error_by_hand():
    correct, confidence = [1, 0, 1, 1], [0.6, 0.9, 0.7, 0.8]
    assert expected_calibration_error(correct, confidence, bins=1) == pytest.approx(0)  # .75 and .75
    assert expected_calibration_error(correct, confidence, bins=2) == pytest.approx((0.7 + 0.7) / 4)
    assert expected_calibration_error(correct, confidence) == pytest.approx((0.4 + 0.9 + 0.3 + 0.2) / 4)  # one a bin
    assert expected_calibration_error([correct] * 3, [confidence] * 3).shape == (3,)


def test_entropy_and_log_softmax_of_both_libraries():
    z = np.array([[1e4, 0.0, -1e4], [0.3, -0.2, 0.1]])
    for x in (z, torch.tensor(z)):
        log_p = log_softmax(x)
        np.testing.assert_allclose(log_p, torch.tensor(z).log_softmax(-1), rtol=1e-14)
        np.testing.assert_allclose(entropy(log_p), entr(np.exp(np.asarray(log_p))).sum(-1), rtol=1e-12)
    np.testing.assert_array_equal(entropy(log_softmax(z.T, axis=0), axis=0), entropy(log_softmax(z)))


def test_temperature_is_the_least_of_a_fine_grid():
    z, q = draw(models=4, examples=60)
    z = z * torch.tensor([0.2, 1.0, 3.0, 20.0])[:, None, None]
    T = fit_temperature(z, q)
    grid = torch.exp(torch.linspace(-4.6, 4.6, 20001, dtype=torch.float64))
    for m in range(4):
        risk = CE(z[m] / grid[:, None, None], q[m].expand(len(grid), -1, -1)).mean(-1)
        assert CE(z[m] / T[m], q[m]).mean() <= risk.min() + 1e-12


def test_temperature_known_exactly_and_at_the_ends():
    """Separable labels: the colder the better, or the hotter, so that the end of the bracket is the answer."""
    z, _ = draw()
    for known in (0.25, 1.0, 5.0):
        torch.testing.assert_close(fit_temperature(z, (z / known).softmax(-1)), torch.full((3,), known).double())
    for hard in (z.argmax(-1), (z == z.amax(-1, keepdim=True)).double()):
        torch.testing.assert_close(
            fit_temperature(z, hard), torch.full((3,), 0.01, dtype=torch.float64), rtol=0, atol=0
        )
        torch.testing.assert_close(
            fit_temperature(-z, hard), torch.full((3,), 100.0, dtype=torch.float64), rtol=0, atol=0
        )
    assert fit_temperature(z.float(), z.float().softmax(-1)).dtype == torch.float64


def test_temperature_of_class_labels_shared_labels_and_arrays():
    z, _ = draw()
    y = np.random.default_rng(1).integers(0, 4, (3, 40))
    T = fit_temperature(z.numpy(), y)
    assert isinstance(T, np.ndarray) and T.shape == (3,)
    np.testing.assert_allclose(fit_temperature(z, torch.tensor(y)), T)
    np.testing.assert_allclose(fit_temperature(z, torch.eye(4, dtype=torch.float64)[torch.tensor(y)]), T)
    shared = fit_temperature(z, torch.tensor(y[0]))
    np.testing.assert_allclose(shared[0], T[0])
    np.testing.assert_allclose(shared[2], fit_temperature(z[2], torch.tensor(y[0])))


@pytest.mark.parametrize("mask", [-1e9, -1e16, float(np.finfo(np.float32).min), -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_temperature_does_not_see_a_masked_class(mask, dtype):
    z = 3 * np.random.default_rng(2).normal(size=(2, 50, 3)).astype(dtype)
    y = np.random.default_rng(3).integers(0, 3, 50)
    masked = np.concatenate([z, np.full((2, 50, 1), mask, dtype)], -1)
    np.testing.assert_allclose(fit_temperature(masked, y), fit_temperature(z, y), rtol=1e-7)
    for name, value in vars(scores(y, z)).items():
        np.testing.assert_allclose(vars(scores(y, masked))[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, q: fit_temperature(z, 2 * q), "targets: does not sum to one"),
        (lambda z, q: fit_temperature(z, q[..., :3]), "targets: "),
        (lambda z, q: fit_temperature(z[0, 0], q[0, 0]), "logits: need shape"),
        (lambda z, q: fit_temperature(0 * z + 1, q), "logits: are the same"),
        (lambda z, q: fit_temperature(torch.cat([0 * z[:1], z[1:]]), q), "logits: are the same"),  # one model of three
        (lambda z, q: fit_temperature(z / 0, q), "logits: holds NaN or infinity"),
        (lambda z, q: fit_temperature(z.where(z > 0, -torch.inf), q), "logits: .*mask"),
        (lambda z, q: scores(q[0, :7], z), "truth: shape"),
        (lambda z, q: scores(torch.full((40,), 4), z), "truth: class labels must lie in"),
        (lambda z, q: scores(q[0, 0], z[0, 0]), "logits: need shape"),
        (lambda z, q: expected_calibration_error([1, 0], [0.5]), "confidence: "),
        (lambda z, q: expected_calibration_error([1, 0], [0.5, 0.6], 0), "bins: "),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(*draw())


@pytest.mark.parametrize("mask", [-np.inf, -1e9])
def test_scores_refuse_a_label_that_the_logits_mask(mask):
    with pytest.raises(ValueError, match=r"^logits: a logit of -inf"):
        scores([1, 0], [[0.0, mask], [0.0, 1.0]])
