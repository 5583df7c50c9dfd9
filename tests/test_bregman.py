"""Every identity of bregman.py for every generator: float64, to 1e-10 of the sum of the absolute terms."""

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from w2s_lib import GENERALIZED_KL, ITAKURA_SAITO, KL, LOGISTIC, SQUARED, mahalanobis

MATRIX = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.2], [0.0, -0.2, 0.5]])
GENERATORS = [SQUARED, KL, LOGISTIC, ITAKURA_SAITO, GENERALIZED_KL, mahalanobis(MATRIX)]
every = pytest.mark.parametrize("gen", GENERATORS, ids=lambda g: g.name)
LOGITS = [KL, LOGISTIC]


def predictions(gen, shape, extreme=1e4):
    """Strategy: predictions of `shape`; logits and values up to `extreme`, positive ones from e^-8 to e^8."""
    if gen in (ITAKURA_SAITO, GENERALIZED_KL):
        return hnp.arrays(float, shape, elements=st.floats(-8, 8)).map(np.exp)
    return hnp.arrays(float, shape, elements=st.floats(-extreme, extreme))


def truths(gen, shape, interior=False):
    """Strategy: truths of `shape`; on the simplex also one-hot labels, unless interior."""
    if gen is KL:
        soft = hnp.arrays(float, shape, elements=st.floats(-20, 20)).map(KL.mean)
        hard = hnp.arrays(int, shape[:-1], elements=st.integers(0, shape[-1] - 1)).map(lambda k: np.eye(shape[-1])[k])
        return soft if interior else soft | hard
    if gen is LOGISTIC:
        edge = (1e-6, 1 - 1e-6) if interior else (0, 1)
        return hnp.arrays(float, shape, elements=st.floats(*edge))
    if gen is GENERALIZED_KL and not interior:
        return hnp.arrays(float, shape, elements=st.floats(0, 1e3, allow_subnormal=False))
    return predictions(gen, shape)


def balance(*terms, size=0.0):
    """Assert that the arrays `terms` sum to zero, to 1e-10 of the sum of their absolute values.

    `size` is the largest coordinate that went in. It was rounded by delta = eps * size, which moves a divergence D by
    about delta sqrt(D) + delta^2 whatever is computed next; that much is allowed on top (it matters for equal points).
    """
    total, scale = sum(terms), sum(np.abs(t) for t in terms)
    delta = 4 * np.finfo(float).eps * size
    noise = delta * (np.sqrt(scale) + delta)
    assert np.all(np.abs(total) <= 1e-10 * scale + noise), np.max(np.abs(total) / (scale + 1e-300))


@every
@given(data=st.data())
def test_three_point_identity(gen, data):
    a, b, c = (data.draw(predictions(gen, (2, 3))) for _ in range(3))
    step = gen.dual(b) - gen.dual(c)
    cross = np.concatenate([step * gen.mean(a), -step * gen.mean(b)], -1)
    size = 1 + max(np.abs(x).max() for x in (a, b, c))
    balance(gen.divergence(a, c), -gen.divergence(a, b), -gen.divergence(b, c), *np.moveaxis(-cross, -1, 0), size=size)


@every
@given(data=st.data())
def test_three_point_identity_with_a_truth(gen, data):
    y, b, c = data.draw(truths(gen, (2, 3))), data.draw(predictions(gen, (2, 3))), data.draw(predictions(gen, (2, 3)))
    step = gen.dual(b) - gen.dual(c)
    cross = np.concatenate([step * y, -step * gen.mean(b)], -1)
    size = 1 + max(np.abs(x).max() for x in (b, c))
    balance(gen.loss(y, c), -gen.loss(y, b), -gen.divergence(b, c), *np.moveaxis(-cross, -1, 0), size=size)


@every
@given(data=st.data())
def test_divergence_is_nonnegative_and_zero_on_the_diagonal(gen, data):
    a, b = data.draw(predictions(gen, (4, 3))), data.draw(predictions(gen, (4, 3)))
    assert np.all(gen.divergence(a, b) >= 0)
    assert np.all(gen.divergence(a, a) == 0)


@every
@given(data=st.data())
def test_maps_are_inverse_to_each_other(gen, data):
    f = data.draw(predictions(gen, (5, 3), extreme=10))
    np.testing.assert_allclose(gen.dual(gen.from_dual(gen.dual(f))), gen.dual(f), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gen.mean(gen.from_mean(gen.mean(f))), gen.mean(f), rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(gen.loss(gen.mean(f), f), 0, atol=1e-10 * (1 + np.abs(f).max() ** 2))


@every
def test_curvature_is_the_second_order_of_the_divergence(gen):
    rng = np.random.default_rng(1)
    f = np.exp(rng.normal(size=(6, 3))) if gen in (ITAKURA_SAITO, GENERALIZED_KL) else rng.normal(size=(6, 3))
    v, eps = rng.normal(size=(6, 3)), 1e-5
    v = v - v.mean(-1, keepdims=True)  # a direction inside the simplex too
    step = gen.from_dual(gen.dual(f) + eps * v)
    np.testing.assert_allclose(2 * gen.divergence(f, step) / eps**2, gen.curvature(f, v), rtol=1e-3)
    p = gen.mean(f)
    step = gen.from_mean(p + eps * p.min() * v)
    expected = gen.curvature(f, p.min() * v, slot=1)
    np.testing.assert_allclose(2 * gen.divergence(step, f) / eps**2, expected, rtol=1e-3)


@every
def test_dual_mean_never_raises_the_risk_and_minimises_the_spread(gen):
    rng = np.random.default_rng(2)
    f = np.exp(rng.normal(size=(6, 50, 3))) if gen in (ITAKURA_SAITO, GENERALIZED_KL) else rng.normal(size=(6, 50, 3))
    y, centre = gen.mean(f[0]), gen.dual_mean(f[1:])
    assert np.all(gen.loss(y, centre) <= gen.loss(y, f[1:]).mean(0) + 1e-12)
    spread = gen.divergence(centre, f[1:]).mean(0)
    for other in f:
        assert np.all(spread <= gen.divergence(other, f[1:]).mean(0) + 1e-12)


# ------------------------------------------------------------------------------------ precision, against mpmath


def phi_and_gradient(gen, p):
    if gen is SQUARED:
        return sum(x**2 for x in p), [2 * x for x in p]
    if gen.name == "Mahalanobis":
        ap = [mp.fsum(mp.mpf(MATRIX[i, j]) * p[j] for j in range(3)) for i in range(3)]
        return sum(x * y for x, y in zip(p, ap)), [2 * x for x in ap]
    if gen is LOGISTIC:
        return sum(x * mp.log(x) + (1 - x) * mp.log(1 - x) for x in p), [mp.log(x) - mp.log(1 - x) for x in p]
    if gen is ITAKURA_SAITO:
        return -sum(mp.log(x) for x in p), [-1 / x for x in p]
    return sum(x * mp.log(x) for x in p), [1 + mp.log(x) for x in p]


def exact_mean(gen, f):
    f = [mp.mpf(x) for x in f]
    if gen is KL:
        total = mp.fsum(mp.e**x for x in f)
        return [mp.e**x / total for x in f]
    return [1 / (1 + mp.e**-x) for x in f] if gen is LOGISTIC else f


def exact_divergence(gen, a, b):
    with mp.workdps(80):
        p, q = exact_mean(gen, a), exact_mean(gen, b)
        (phi_p, _), (phi_q, gradient) = phi_and_gradient(gen, p), phi_and_gradient(gen, q)
        return phi_p - phi_q - sum(z * (x - y) for z, x, y in zip(gradient, p, q))


@pytest.mark.parametrize("distance", [1e-8, 1e-4, 1e-1])
@every
def test_divergence_near_the_diagonal_keeps_six_digits(gen, distance):
    rng = np.random.default_rng(3)
    for scale in (0.1, 1.0, 10.0):
        a = scale * rng.normal(size=(20, 3))
        a = np.exp(a / 4) if gen in (ITAKURA_SAITO, GENERALIZED_KL) else a
        b = a * (1 + distance * rng.uniform(-1, 1, size=a.shape))
        with mp.workdps(80):
            expected = [float(exact_divergence(gen, *pair)) for pair in zip(a, b)]
        np.testing.assert_allclose(gen.divergence(a, b), expected, rtol=1e-6)


@every
def test_loss_near_the_diagonal_is_as_precise_as_the_truth(gen):
    """y near f at a distance of 1e-6: y itself is rounded by 1e-16, so the distance is known to ten digits."""
    rng = np.random.default_rng(4)
    f = np.exp(rng.normal(size=(20, 3))) if gen in (ITAKURA_SAITO, GENERALIZED_KL) else rng.normal(size=(20, 3))
    g = f * (1 + 1e-6 * rng.uniform(-1, 1, size=f.shape))
    np.testing.assert_allclose(gen.loss(gen.mean(g), f), gen.divergence(g, f), rtol=1e-6)


@pytest.mark.parametrize("gen", LOGITS, ids=lambda g: g.name)
def test_huge_logits_match_exact_arithmetic(gen):
    rng = np.random.default_rng(5)
    a, b = 1e4 * rng.normal(size=(2, 20, 3))
    with mp.workdps(80):
        if gen is KL:  # in closed form: probabilities of e^-20000 are beyond even mpmath's subtraction at 80 digits
            lse = [mp.log(mp.fsum(mp.e ** mp.mpf(x) for x in row)) for row in np.vstack([a, b])]
            rows = [(exact_mean(KL, x), x, y, s, t) for x, y, s, t in zip(a, b, lse[:20], lse[20:])]
            expected = [sum(p * mp.mpf(u - v) for p, u, v in zip(q, x, y)) - s + t for q, x, y, s, t in rows]
            got = gen.divergence(a, b)
            np.testing.assert_allclose(got, [float(e) for e in expected], rtol=1e-12, atol=1e-9)
    assert np.all(np.isfinite(gen.divergence(a, b)))
    assert np.all(np.isfinite(gen.loss(np.eye(3)[[0] * 20], a)))


# --------------------------------------------------------------------------------------- reference values of the theory


def test_itakura_saito_ensemble_reference():
    """y = 1, members 3 and 20: mean risk 1.239; averaging the values raises it to 1.529, the duals lower it to .844."""
    members, y = np.array([[3.0], [20.0]]), np.ones(1)
    assert ITAKURA_SAITO.loss(y, members).mean() == pytest.approx(1.239, abs=5e-4)
    assert ITAKURA_SAITO.loss(y, ITAKURA_SAITO.primal_mean(members)) == pytest.approx(1.529, abs=5e-4)
    assert ITAKURA_SAITO.loss(y, ITAKURA_SAITO.dual_mean(members)) == pytest.approx(0.844, abs=5e-4)


def test_dual_mean_of_kl_is_the_softmax_of_mean_logits_and_the_geometric_mean():
    z = np.random.default_rng(6).normal(size=(4, 5, 3))
    geometric = np.exp(np.log(KL.mean(z)).mean(0))
    np.testing.assert_allclose(KL.mean(KL.dual_mean(z)), geometric / geometric.sum(-1, keepdims=True))
    np.testing.assert_allclose(KL.mean(KL.primal_mean(z)), KL.mean(z).mean(0))
    np.testing.assert_allclose(LOGISTIC.mean(LOGISTIC.primal_mean(z)), LOGISTIC.mean(z).mean(0))
    np.testing.assert_allclose(GENERALIZED_KL.dual_mean(np.exp(z)), np.exp(z.mean(0)))  # unnormalised on the orthant
    for axis in (1, -2):
        np.testing.assert_allclose(LOGISTIC.mean(LOGISTIC.primal_mean(z, axis)), LOGISTIC.mean(z).mean(axis))
        np.testing.assert_allclose(KL.mean(KL.primal_mean(z, axis)), KL.mean(z).mean(axis))


# -------------------------------------------------------------------------------------- NumPy, torch, dtypes, bad input


@every
def test_torch_and_numpy_agree_and_dtypes_are_kept(gen):
    rng = np.random.default_rng(10)
    f = np.exp(rng.normal(size=(5, 4, 3))) if gen in (ITAKURA_SAITO, GENERALIZED_KL) else rng.normal(size=(5, 4, 3))
    y, t = gen.mean(f[0]), torch.tensor(f)
    for name in ("mean", "dual", "dual_mean", "primal_mean"):
        np.testing.assert_allclose(getattr(gen, name)(t).numpy(), getattr(gen, name)(f), rtol=1e-12)
    np.testing.assert_allclose(gen.divergence(t[1:], t[:1]).numpy(), gen.divergence(f[1:], f[:1]), rtol=1e-12)
    np.testing.assert_allclose(gen.loss(torch.tensor(y), t).numpy(), gen.loss(y, f), rtol=1e-12, atol=1e-14)
    single = gen.divergence(f[1:].astype(np.float32), f[:1].astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, gen.divergence(f[1:], f[:1]), rtol=1e-4, atol=1e-6)
    assert gen.divergence(t.float()[1:], t.float()[:1]).dtype == torch.float32


@every
def test_gradients_flow_through_torch(gen):
    rng = np.random.default_rng(11)
    f = np.exp(rng.normal(size=(4, 3))) if gen in (ITAKURA_SAITO, GENERALIZED_KL) else rng.normal(size=(4, 3))
    a, b = torch.tensor(f), torch.tensor(f[::-1].copy(), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gen.divergence(a, x), b)


@every
def test_any_leading_axes(gen):
    rng = np.random.default_rng(12)
    f = (
        np.exp(rng.normal(size=(2, 3, 4, 3)))
        if gen in (ITAKURA_SAITO, GENERALIZED_KL)
        else rng.normal(size=(2, 3, 4, 3))
    )
    whole = gen.divergence(f, f[0, 0])
    assert whole.shape == (2, 3, 4)
    np.testing.assert_allclose(whole[1, 2], gen.divergence(f[1, 2], f[0, 0]))


@pytest.mark.parametrize(
    ("call", "argument", "remedy"),
    [
        (lambda: KL.loss([0.5, 0.4], [0.0, 1.0]), "y", "normalise"),
        (lambda: KL.loss([1.5, -0.5], [0.0, 1.0]), "y", "softmax"),
        (lambda: KL.loss([0.5, 0.5], [0.0, np.nan]), "f", "NaN"),
        (lambda: KL.divergence([0.0, 1.0], [0.0, np.inf]), "b", "infinity"),
        (lambda: KL.divergence([0.0, 1.0], [0.0, 1.0, 2.0]), "b", "does not match"),
        (lambda: KL.divergence(np.zeros((2, 3)), np.zeros((4, 3))), "b", "does not match"),
        (lambda: KL.from_mean([1.0, 0.0]), "y", "smooth"),
        (lambda: LOGISTIC.loss([1.2], [0.0]), "y", "not log-odds"),
        (lambda: LOGISTIC.from_mean([1.0]), "y", "smooth"),
        (lambda: ITAKURA_SAITO.divergence([1.0], [-1.0]), "b", "floor"),
        (lambda: ITAKURA_SAITO.loss([0.0], [1.0]), "y", "floor"),
        (lambda: GENERALIZED_KL.divergence([0.0], [1.0]), "a", "floor"),
        (lambda: GENERALIZED_KL.loss([-1.0], [1.0]), "y", "floor"),
        (lambda: SQUARED.divergence(np.zeros(2), torch.zeros(2)), "a, b", "all as NumPy or all as torch"),
        (lambda: SQUARED.divergence(["a"], [1.0]), "a", "real numbers"),
        (lambda: SQUARED.divergence([1j], [1.0]), "a", "real numbers"),
        (lambda: mahalanobis([[1.0, 2.0], [0.0, 1.0]]), "matrix", "symmetric"),
        (lambda: mahalanobis([[1.0, 2.0], [2.0, 1.0]]), "matrix", "positive definite"),
        (lambda: mahalanobis(np.eye(2)).divergence(np.zeros(3), np.zeros(3)), "matrix", "2 outputs"),
    ],
)
def test_bad_input_names_the_argument_and_the_remedy(call, argument, remedy):
    with pytest.raises(ValueError, match=rf"^{argument}: ") as error:
        call()
    assert remedy in str(error.value)


@pytest.mark.parametrize("array", [np.asarray, torch.tensor])
def test_a_logit_of_minus_infinity_is_a_probability_of_zero(array):
    z, inf = array(np.array([[0.3, -0.2, 0.1], [0.0, 2.0, -1.0]])), np.inf
    wide = array(np.array([[0.3, -inf, -0.2, 0.1], [0.0, -inf, 2.0, -1.0]]))
    np.testing.assert_allclose(KL.divergence(wide[:1], wide[1:]), KL.divergence(z[:1], z[1:]), rtol=1e-12)
    np.testing.assert_array_equal(KL.divergence(wide, wide), np.zeros(2))
    np.testing.assert_allclose(KL.loss([1.0, 0, 0, 0], np.asarray(wide)), KL.loss([1.0, 0, 0], np.asarray(z)))
    np.testing.assert_allclose(KL.mean(wide)[:, 0], KL.mean(z)[:, 0])
    np.testing.assert_allclose(np.asarray(KL.dual(KL.prediction(wide)))[:, [0, 2, 3]], KL.dual(z), rtol=1e-12)
    full = array(np.array([0.3, -5.0, -0.2, 0.1]))
    assert np.all(np.asarray(KL.divergence(wide, full)) > 0)
    for name, call in {
        "b": lambda: KL.divergence(full, wide),
        "f": lambda: KL.loss(full.__abs__() / 5.6, wide),
    }.items():
        with pytest.raises(ValueError, match=rf"^{name}: .*infinite divergence"):
            call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mask", [-1e9, -1e16, float(np.finfo(np.float32).min), -np.inf])
def test_a_mask_is_refused_where_it_is_needed_and_a_large_logit_is_a_number(mask, dtype):
    """Of whatever size the mask is: a number of 1e9 nats would drown all others without a word."""
    masked, full = np.array([0.0, mask, 1.0], dtype), np.array([0.0, 0.0, 1.0], dtype)
    for argument, call in {
        "f": lambda: KL.loss(np.array([0.0, 1.0, 0.0], dtype), masked),
        "b": lambda: KL.divergence(full, masked),
    }.items():
        with pytest.raises(ValueError, match=rf"^{argument}: .*infinite divergence; mask the class everywhere"):
            call()
    assert KL.loss(np.array([0.0, 0.0, 1.0], dtype), masked) == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-6)
    assert KL.divergence(masked, full) > 0
    with pytest.raises(ValueError, match=r"^f: masks all classes of a row"):
        KL.prediction(np.full((2, 3), mask, dtype))
    large = np.array([0.0, -1e7, 1.0], dtype)
    assert KL.loss(np.array([0.0, 1.0, 0.0], dtype), large) == pytest.approx(1e7, rel=1e-6)


def test_class_labels_are_one_hot_rows_here():
    """Three class labels might as well be one vector of probabilities: `ledger` and its like, which know, take both."""
    with pytest.raises(ValueError, match=r"^y: .*class labels: one-hot"):
        KL.loss(np.array([0, 1, 2]), np.zeros((3, 3)))


def test_probabilities_within_tolerance_are_rescaled():
    y = np.array([0.3, 0.7])
    np.testing.assert_allclose(KL.loss(y * (1 + 5e-5), [0.2, 0.1]), KL.loss(y, [0.2, 0.1]), rtol=1e-12)


def test_the_mean_probability_of_a_class_that_all_mask_is_zero():
    f = np.array([[0.0, 1.0, -np.inf], [0.0, 2.0, -np.inf]])
    p = KL.mean(KL.primal_mean(f))
    np.testing.assert_allclose(p[:2], KL.mean(KL.primal_mean(f[:, :2])))
    assert p[2] == 0
