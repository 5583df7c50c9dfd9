"""Closed forms against simulation and values worked out by hand."""

import doctest

import numpy as np
import pytest
import torch
from test_ridge import DEVICES, LAMBDAS, draw

from w2s_lib import SQUARED, ledger
from w2s_lib.experiments import closed_forms
from w2s_lib.experiments.closed_forms import (
    best_smoother,
    fewer_labels_factor,
    naive_gold_optimism,
    posterior_mean_distance,
    random_feature_ledger,
    ridge_teachers,
    sampled_teachers,
    smoother_path,
    student_path,
)
from w2s_lib.ridge import decompose_features


@pytest.mark.parametrize(("teachers", "rank", "columns"), [(1, 20, 1), (40, 20, 40), (200, 50, 30), (200, 3, 4)])
@pytest.mark.parametrize("p", [12, 60])
def test_moments_equal_the_ledger_of_every_teacher(p, teachers, rank, columns):
    """Factors as they are; of more teachers than twice the inputs, brought to rank n; of a low rank, to that."""
    Phi, new, _, g = draw(p=p)
    rng = np.random.default_rng(1)
    W = rng.normal(size=(teachers, rank)) @ rng.normal(size=(rank, 50)) / rank**0.5
    ridge, moments = decompose_features(Phi), sampled_teachers(W, 30)
    assert moments.train.shape == (30, columns) and moments.test.shape == (20, columns)
    path = student_path(ridge, new, LAMBDAS, g, moments)
    students = ridge.predict(new, W[:, :30], LAMBDAS)
    for i in range(len(LAMBDAS)):
        book = ledger(g[:, None], W[:, 30:, None], students[i][:, :, None], SQUARED)
        for name in ("gain", "misfit", "residual", "teacher_risk", "student_risk"):
            assert float(getattr(path, name)[i]) == pytest.approx(getattr(book, name).value, rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(path.gain, path.misfit - path.residual, atol=1e-10)


def test_closed_form_over_label_noise_equals_monte_carlo():
    """4,000 teachers trained on fresh label noise: within 4 standard errors at every penalty."""
    rng = np.random.default_rng(0)
    n_t, n, m, d, noise, lam = 25, 30, 40, 8, 0.7, 0.05
    beta = rng.normal(size=d)
    gold, X, test = (rng.normal(size=(k, d)) for k in (n_t, n, m))
    weak, strong = rng.normal(size=(d, 5)), rng.normal(size=(d, 60))
    teacher = decompose_features(gold @ weak)
    both = np.concatenate([X, test]) @ weak
    moments = ridge_teachers(teacher, both, lam, gold @ beta, noise, n)
    ridge = decompose_features(np.maximum(X @ strong, 0))
    new, g, lambdas = np.maximum(test @ strong, 0), test @ beta, [0.0, 0.01, 1.0]
    exact = student_path(ridge, new, lambdas, g, moments)
    labels = gold @ beta + noise * rng.normal(size=(4000, n_t))
    W = teacher.predict(both, labels, lam)[0]
    students = ridge.predict(new, W[:, :n], lambdas)
    for name, of_each in {
        "misfit": ((students - W[:, n:]) ** 2).mean(2),
        "student_risk": ((students - g) ** 2).mean(2),
        "teacher_risk": ((W[:, n:] - g) ** 2).mean(1)[None],
    }.items():
        z = (of_each.mean(1) - getattr(exact, name)) / (of_each.std(1) / 4000**0.5)
        assert np.abs(z).max() < 4


@pytest.mark.parametrize("device", DEVICES)
def test_torch_and_numpy_agree(device):
    Phi, new, W, g = draw(p=40)
    Phi_t, new_t, W_t, g_t = (torch.as_tensor(x, device=device) for x in (Phi, new, W, g))
    path = student_path(decompose_features(Phi), new, LAMBDAS, g, sampled_teachers(W, 30))
    same = student_path(decompose_features(Phi_t), new_t, LAMBDAS, g_t, sampled_teachers(W_t, 30))
    for name in ("gain", "misfit", "residual", "teacher_risk", "student_risk"):
        np.testing.assert_allclose(getattr(same, name).cpu(), getattr(path, name), atol=1e-9)


def test_moments_and_paths_check_their_shapes():
    Phi, new, W, g = draw()
    ridge, teachers = decompose_features(Phi), sampled_teachers(W, 30)
    calls = {
        "teachers": lambda: student_path(ridge, new[:4], 0.1, g[:4], teachers),
        "truth": lambda: student_path(ridge, new, 0.1, g[:3], teachers),
        "features": lambda: student_path(ridge, new[:, :5], 0.1, g, teachers),
        "predictions": lambda: sampled_teachers(W[0], 2),
        "n": lambda: sampled_teachers(W, 50),
        "noise": lambda: ridge_teachers(ridge, new, 0.1, W[0, :30], -1.0, 5),
        "lam": lambda: ridge_teachers(ridge, new, [0.1, 1.0], W[0, :30], 1.0, 5),
        "ridge": lambda: student_path(decompose_features(Phi[None]), new, 0.1, g, teachers),
    }
    for argument, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{argument}: "):
            call()
    for n in (0, 20):
        with pytest.raises(ValueError, match=r"^n: "):
            ridge_teachers(ridge, new, 0.1, W[0, :30], 1.0, n)
        with pytest.raises(ValueError, match=r"^n: "):
            sampled_teachers(W[:, :20], n)
    with pytest.raises(ValueError, match=r"^teachers: are for 30 \+ 20 inputs, not 25 \+ 20"):
        student_path(decompose_features(Phi[:25]), new, 0.1, g, teachers)


def test_the_example_runs():
    result = doctest.testmod(closed_forms)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("bias", [0.0, 1.0])
@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_smoothers_equal_monte_carlo(bias, noise):
    """The ledger of 400 sampled teachers, within 4 standard errors, for a grid of penalties and a crooked smoother."""
    rng = np.random.default_rng(5)
    features, _, _, _ = draw(n=25, p=25)
    truth, shift, factor = rng.normal(size=25), bias * rng.normal(size=25), noise * rng.normal(size=(25, 25)) / 5
    ridge = decompose_features(features)
    smoothers = np.stack([*(ridge.smoother(features, lam) for lam in (0.0, 0.1, 3.0)), rng.normal(size=(25, 25)) / 9])
    path = smoother_path(smoothers, truth + shift, factor @ factor.T, truth)
    teachers = truth + shift + rng.normal(size=(400, 25)) @ factor.T
    for i, S in enumerate(smoothers):
        book = ledger(truth[:, None], teachers[:, :, None], (teachers @ S.T)[:, :, None], SQUARED)
        for name in ("gain", "misfit", "residual"):
            values, exact = getattr(book, f"pair_{name}"), getattr(path, name)[i]
            assert abs(values.mean() - exact) <= 4 * values.std() / 20 + 1e-12, (name, i)
    np.testing.assert_allclose(path.gain, path.misfit - path.residual, atol=1e-12)
    np.testing.assert_allclose(path.gain, path.teacher_risk - path.student_risk, atol=1e-12)
    np.testing.assert_allclose(path.misfit[0], 0, atol=1e-12)  # the mimic


def test_best_smoother_has_no_residual_and_least_risk():
    rng = np.random.default_rng(6)
    truth, mean, factor = rng.normal(size=10), rng.normal(size=10), rng.normal(size=(10, 10))
    given = mean, factor @ factor.T, truth
    best = best_smoother(*given)
    path = smoother_path(best, *given)
    assert abs(path.residual) < 1e-10 and path.gain > 0
    nearby = smoother_path(best + 0.01 * rng.normal(size=(50, 10, 10)), *given)
    assert np.all(nearby.student_risk > path.student_risk)
    as_torch = [torch.as_tensor(x) for x in (best, *given)]
    assert float(smoother_path(*as_torch).gain) == pytest.approx(path.gain)
    torch.testing.assert_close(best_smoother(*as_torch[1:]), as_torch[0])


def test_bad_smoothers_name_the_argument():
    good = {"smoothers": np.eye(3), "mean": np.ones(3), "covariance": np.eye(3), "truth": np.ones(3)}
    bad = {"smoothers": np.eye(2), "mean": np.ones(2), "covariance": np.ones(3)}
    for name, value in bad.items():
        with pytest.raises(ValueError, match=rf"^{name}: "):
            smoother_path(**good | {name: value})
    with pytest.raises(ValueError, match=r"for a truth of shape \(3, 3\)"):
        smoother_path(**good | {"truth": np.eye(3)})


def test_random_features_give_the_values_worked_out_by_hand():
    """d = 60, N = 30, M = 2.5, C = 1."""
    book = random_feature_ledger(60, 30, [5, 10, 20, 400], 2.5, 1.0)
    np.testing.assert_allclose(book.misfit, [2.769, 3.180, 5.370, 1.352], atol=6e-4)
    np.testing.assert_allclose(book.gain, [-0.019, -0.680, -3.370, 0.148], atol=6e-4)
    np.testing.assert_allclose(book.gain, book.misfit - book.residual)
    short = random_feature_ledger(60, 30, [5, 10, 20, 400], 0.025, 0.01)  # entries are linear in the moments
    np.testing.assert_allclose(100 * short.gain, book.gain)
    assert random_feature_ledger(60, 30, 1, 0.0, 0.0).misfit == random_feature_ledger(1, 1, 1, 1.0, 0.5).misfit == 0
    assert random_feature_ledger(4, 1, 3, 1.0, 0.0).misfit == pytest.approx(1.5)  # one label: (1 - 1/4) (1 + 1)
    even = random_feature_ledger(60, 30, 181, 2.5, 1.0)
    assert even.gain == pytest.approx(0) and even.residual == pytest.approx(even.misfit)
    assert posterior_mean_distance(60, 30, 32, 1.0) == pytest.approx(15)  # q = 30
    sizes = [60, 120, 400, 2000]
    no_centre = posterior_mean_distance(60, 30, sizes, 1.0)
    np.testing.assert_allclose(no_centre, [0.517, 0.169, 0.0407, 0.0076], atol=6e-4)
    np.testing.assert_allclose(
        random_feature_ledger(60, 30, sizes, 1.0, 0.0).misfit, [1.017, 0.669, 0.541, 0.508], atol=6e-4
    )
    around_truth = posterior_mean_distance(60, 30, sizes, 2.5, centre=1.0)
    np.testing.assert_allclose(around_truth, [1.793, 0.921, 0.602, 0.519], atol=6e-4)


@pytest.mark.parametrize(("d", "N"), [(20, 10), (12, 15)])
@pytest.mark.parametrize("d_s", [2, 5, 16, 30, 60])
def test_random_features_equal_monte_carlo(d, N, d_s):
    """Both sides of d_s = N and of d: every mean within 4 standard errors of the closed form."""
    rng, draws = np.random.default_rng(d_s), 4000
    truth = np.eye(d)[0]
    X, W = rng.normal(size=(draws, N, d)), rng.normal(size=(draws, d_s, d))
    noise = rng.normal(size=(draws, d)) * (1.5 / d) ** 0.5
    teacher = truth + noise
    labels = (X @ teacher[:, :, None])[:, :, 0]
    student = (decompose_features(X @ W.mT).coefficients(labels, 0.0)[0][:, None] @ W)[:, 0]
    each = {
        "misfit": ((teacher - student) ** 2).sum(1),
        "residual": 2 * ((teacher - student) * (truth - student)).sum(1),
        "gain": ((teacher - truth) ** 2).sum(1) - ((student - truth) ** 2).sum(1),
    }
    book = random_feature_ledger(d, N, d_s, 2.5, 1.0)
    for name, values in each.items():
        error = abs(values.mean() - getattr(book, name))
        assert error < 4 * values.std() / draws**0.5 + 1e-9, name
    if min(d, d_s) > N:
        basis = decompose_features(X).V  # (draws, d, N)
        for centre in (truth, 0 * truth):  # the closed form of the mean needs a teacher of that centre
            scattered = centre + noise
            labels = (X @ scattered[:, :, None])[:, :, 0]
            student = (decompose_features(X @ W.mT).coefficients(labels, 0.0)[0][:, None] @ W)[:, 0]
            posterior = centre + ((noise[:, None] @ basis) @ basis.mT)[:, 0]
            away = ((student - posterior) ** 2).sum(1)
            expected = posterior_mean_distance(d, N, d_s, centre @ centre + 1.5, centre=centre @ centre)
            assert abs(away.mean() - expected) < 4 * away.std() / draws**0.5


def test_random_features_check_their_sizes():
    assert random_feature_ledger(10, 12, 12, 1.0, 0.5).gain == 0  # the student is the teacher, q or no q
    calls = {
        "d_s": lambda: random_feature_ledger(20, 10, 11, 1.0, 0.0),
        "N": lambda: random_feature_ledger(20, 0, 5, 1.0, 0.0),
        "power": lambda: random_feature_ledger(20, 10, 5, -1.0, 0.0),
        "alignment": lambda: random_feature_ledger(20, 10, 5, 1.0, np.nan),
    }
    calls_distance = {
        "N": lambda: posterior_mean_distance(10, 10, 20, 1.0),
        "d_s": lambda: posterior_mean_distance(20, 10, 5, 1.0),
        "centre": lambda: posterior_mean_distance(20, 10, 30, 1.0, centre=2.0),
    }
    for group in (calls, calls_distance):
        for argument, call in group.items():
            with pytest.raises(ValueError, match=rf"^{argument}: "):
                call()


@pytest.mark.parametrize("penalty", [0.0, 1.0, 30.0])
def test_optimism_of_naive_gold_equals_monte_carlo(penalty):
    """Ridge on ridge, 40 gold labels: 20,000 draws within 4 standard errors; largest for the mimic, falls to zero."""
    rng = np.random.default_rng(7)
    n, m, noise, penalties = 40, 200, 0.8, np.array([0.0, 1.0, 10.0, 100.0, 1000.0, 1e9])
    gold, transfer, lift = rng.normal(size=(n, 30)), rng.normal(size=(m, 30)), rng.normal(size=(30, 60))
    teacher = decompose_features(gold[:, :15]).smoother(transfer[:, :15], penalty / n)
    ridge = decompose_features(np.maximum(transfer @ lift, 0))
    students = np.stack([ridge.smoother(np.maximum(gold @ lift, 0), lam / m) for lam in penalties])
    formula = naive_gold_optimism(students, teacher, noise)
    assert (np.diff(formula) < 0).all() and formula[-1] < 1e-3 < formula[-2]
    truth = gold @ rng.normal(size=30) / 5
    seen, fresh = truth + noise * rng.normal(size=(2, 20_000, n))
    predictions = np.einsum("pnm,mk,rk->prn", students, teacher, seen, optimize=True)
    excess = ((fresh - predictions) ** 2 - (seen - predictions) ** 2).mean(2)
    z = (excess.mean(1) - formula) / (excess.std(1) / 20_000**0.5)
    assert np.abs(z).max() < 4


def test_optimism_of_a_mimic_is_that_of_the_teacher():
    """A student without a penalty that can follow its teacher: 2 s^2 d / n for least squares on d features."""
    rng = np.random.default_rng(8)
    gold, transfer = rng.normal(size=(40, 15)), rng.normal(size=(90, 15))
    teacher = decompose_features(gold).smoother(transfer, 0.0)
    mimic = decompose_features(transfer).smoother(gold, 0.0)
    assert naive_gold_optimism(mimic, teacher, 1.0) == pytest.approx(2 * 15 / 40)  # .75
    both = naive_gold_optimism(torch.as_tensor(mimic), torch.as_tensor(teacher), 2.0)
    assert float(both) == pytest.approx(4 * 0.75)
    calls = {
        "teacher": lambda: naive_gold_optimism(mimic, teacher[0], 1.0),
        "smoothers": lambda: naive_gold_optimism(mimic[:, :5], teacher, 1.0),
        "noise": lambda: naive_gold_optimism(mimic, teacher, -1.0),
    }
    for argument, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{argument}: "):
            call()


@pytest.mark.parametrize("folds", [2, 3, 6])
def test_fewer_labels_make_teacher_and_student_worse_by_one_factor(folds):
    """Least squares on 8 of 12 features, 48 gold labels, student on 9 others: both variances, 4 standard errors."""
    rng, n, d, draws = np.random.default_rng(folds), 48, 8, 4000
    variances = {}
    for labels in (n, n - n // folds):
        X, noise = rng.normal(size=(draws, labels, d)), rng.normal(size=(draws, labels))
        teacher = decompose_features(X).coefficients(noise, 0.0)[0]
        transfer = rng.normal(size=(draws, 40, 12))
        answers = (transfer[:, :, :d] @ teacher[:, :, None])[:, :, 0]
        student = decompose_features(transfer[:, :, 3:]).coefficients(answers, 0.0)[0]
        for name, theta in (("teacher", teacher), ("student", student)):
            each = (theta**2).sum(1)
            variances[name, labels] = each.mean(), each.std() / draws**0.5
    factor = fewer_labels_factor(n, d, folds)
    for name in ("teacher", "student"):
        (few, se_few), (all_of, se_all) = variances[name, n - n // folds], variances[name, n]
        assert abs(few - factor * all_of) < 4 * np.hypot(se_few, factor * se_all)
    assert factor > 1


def test_too_few_folds_have_an_infinite_factor():
    np.testing.assert_allclose(fewer_labels_factor(100, [40, 80], 2), [59 / 9, np.inf])
    for argument, given in {"d": (100, 0, 2), "folds": (100, 40, 1), "n": (41, 40, 5)}.items():
        with pytest.raises(ValueError, match=rf"^{argument}: "):
            fewer_labels_factor(*given)
