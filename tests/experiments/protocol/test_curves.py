"""What is measured along the path: identities, and the same numbers by other means."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from w2s_lib import KL, SQUARED
from w2s_lib.experiments.protocol.curves import _scores, blend_weight, tune_cace
from w2s_lib.experiments.protocol.teachers_and_students import QUANTILES
from w2s_lib.gain import best_blend


def test_the_ledger_balances_for_every_loss_at_every_point(result):
    terms = abs(result["misfit"]) + abs(result["residual"]) + result["teacher_ce"]
    assert (abs(result["gain"] - result["misfit"] + result["residual"]) < 1e-9 * terms).all()
    assert (abs(result["gain"] - result["teacher_ce"] + result["ce"]) < 1e-5).all()
    assert result["acc"].shape == (9, 4, 3)


def test_risk_is_bias_and_variance(result):
    total = result["bias"][..., 0] + result["variance"][..., 0]
    np.testing.assert_allclose(total, result["ce"].mean(-1), rtol=1e-5)


def test_scores_by_other_means():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(2, 300, 4)), rng.integers(0, 4, 300)
    found = _scores(y, z)
    for m in range(2):
        p = KL.mean(z[m])
        assert found["acc"][m] == pytest.approx(accuracy_score(y, p.argmax(1)))
        assert found["ce"][m] == pytest.approx(log_loss(y, p))
        assert found["brier"][m] == pytest.approx(np.mean(((p - np.eye(4)[y]) ** 2).sum(1)))
        assert found["entropy"][m] == pytest.approx(np.mean(-(p * np.log(p)).sum(1)))
        rows = np.array_split(np.argsort(p.max(1)), 15)
        gaps = [abs((p[b].max(1) - (p[b].argmax(1) == y[b])).mean()) * len(b) for b in rows]
        assert found["ece"][m] == pytest.approx(sum(gaps) / 300)


def test_squared_blend_weight_is_the_library_s():
    rng = np.random.default_rng(0)
    w, s = (KL.mean(rng.normal(size=(200, 3))) for _ in range(2))
    y = np.eye(3)[rng.integers(0, 3, 200)]
    assert blend_weight(s[None], w, y)[0] == pytest.approx(best_blend(y, w, s, SQUARED).weight.value, abs=1e-8)


def test_cace_takes_the_candidate_that_weak_labels_prefer(result):
    assert set(np.unique(result["cace_c"])) <= set(QUANTILES) and result["cace_c"].shape == (4, 3)
    names = (*(f"CACE {c}" for c in QUANTILES), "ceiling")
    weak_ce = np.array([[[w], [1 - w]] for w in (0.2, 0.1, 0.3, 0.0)])  # (candidates, path, runs)
    rows, chosen = tune_cace(("CACE",), names, weak_ce)
    np.testing.assert_array_equal(chosen["cace_c"], [[0.5], [0.75]])
    np.testing.assert_array_equal(rows, [[[1], [2]], [[3], [3]]])
