"""The decomposition balances, its corrections are unbiased, its intervals honest; masked classes; bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_bregman import balance, every, predictions, truths

from w2s_lib import GENERALIZED_KL, ITAKURA_SAITO, KL, SQUARED, decompose


@every
@given(data=st.data())
def test_decomposition_balances_in_both_slots(gen, data):
    f, y = data.draw(predictions(gen, (4, 2, 3), extreme=500)), data.draw(truths(gen, (2, 3), interior=True))
    total, size = gen.loss(y, f).mean(0), 1 + np.abs(f).max()
    centre = gen.dual_mean(f)
    balance(total, -gen.loss(y, centre), -gen.divergence(centre, f).mean(0), size=size)
    result = decompose(y, f, gen, correction="none")
    balance(result.total.value, -result.bias.value, -result.variance.value, size=size)
    # slot 1: the primal mean must itself be representable, so moderate predictions
    f, y = data.draw(predictions(gen, (4, 2, 3), extreme=30)), data.draw(truths(gen, (2, 3), interior=True))
    g, centre, size = gen.from_mean(y), gen.primal_mean(f), 1 + np.abs(f).max()
    balance(gen.divergence(f, g).mean(0), -gen.divergence(centre, g), -gen.divergence(f, centre).mean(0), size=size)
    result = decompose(y, f, gen, slot=1, correction="none")
    balance(result.total.value, -result.bias.value, -result.variance.value, size=size)


@pytest.mark.parametrize("correction", ["none", "scaled", "delta", "jackknife"])
@pytest.mark.parametrize("slot", [1, 2])
@every
def test_corrected_decomposition_still_balances(gen, slot, correction):
    rng = np.random.default_rng(0)
    f = np.exp(rng.normal(size=(5, 7, 3))) if gen in (ITAKURA_SAITO, GENERALIZED_KL) else rng.normal(size=(5, 7, 3))
    y = gen.mean(f[0] * 0.9 + 0.05)
    r = decompose(y, f[1:], gen, slot=slot, correction=correction)
    balance(r.total.value, -r.noise.value, -r.bias.value, -r.variance.value, -r.cross.value)
    assert r.bias.value == pytest.approx(r.bias_values.mean())
    assert r.variance.value == pytest.approx(r.variance_values.mean())


def ensemble_means(gen, draw, y, K, repeats, corrections):
    """Mean over `repeats` ensembles of K models of each corrected bias; one input a repeat: they are independent."""
    f = draw((K, repeats, y.shape[-1]))
    return {c: decompose(np.tile(y, (repeats, 1)), f, gen, correction=c).bias_values.mean(0) for c in corrections}


def test_squared_corrections_are_unbiased():
    rng, y, spread, repeats = np.random.default_rng(7), np.array([0.0, 1.0]), 2.0, 40_000
    got = ensemble_means(
        SQUARED, lambda s: 0.5 + spread * rng.normal(size=s), y, 3, repeats, ["none", "scaled", "delta", "jackknife"]
    )
    B, V_K = 0.5, 2 * spread**2 / 3
    for name, values in got.items():
        expected = B + V_K if name == "none" else B
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(repeats), name
    np.testing.assert_allclose(got["scaled"], got["delta"])
    np.testing.assert_allclose(got["scaled"], got["jackknife"])
    assert got["scaled"].min() < 0  # a corrected bias may be negative and is not clipped


@pytest.mark.parametrize("K", [3, 5, 16])
def test_kl_corrections_beat_the_plug_in(K):
    """E bhat = B + V_K, with B and V_K from a large ensemble; the corrections leave a small part of V_K."""
    rng, y, repeats = np.random.default_rng(8), np.array([0.6, 0.3, 0.1]), 20_000
    centre, spread = np.array([0.5, 0.1, -0.4]), 1.0

    def draw(shape):
        return centre + spread * rng.normal(size=shape)

    B = float(KL.loss(y, centre))
    big = draw((400_000 // K, K, 3))
    V_K = float(KL.divergence(centre, big.mean(1)).mean())
    got = {
        k: v - B for k, v in ensemble_means(KL, draw, y, K, repeats, ["none", "scaled", "delta", "jackknife"]).items()
    }
    se = {name: v.std() / np.sqrt(repeats) for name, v in got.items()}
    assert abs(got["none"].mean() - V_K) < 4 * se["none"] + 0.01 * V_K
    for name in ("scaled", "delta", "jackknife"):
        assert abs(got[name].mean()) < 0.15 * V_K + 4 * se[name], (name, got[name].mean(), V_K)
    assert abs(got["delta"].mean()) < 0.25 * abs(got["none"].mean())


def test_noise_and_cross_complete_the_identity():
    rng = np.random.default_rng(9)
    g = rng.dirichlet(np.ones(3), 400)
    f = np.log(g) + rng.normal(size=(6, 400, 3))
    labels = np.stack([np.eye(3)[[rng.choice(3, p=p) for p in g]] for _ in range(4)])
    r = decompose(g, f, KL, labels=labels)
    balance(r.total.value, -r.noise.value, -r.bias.value, -r.variance.value, -r.cross.value)
    entropy = -(g * np.log(g)).sum(-1).mean()
    assert abs(r.noise.value - entropy) < 4 * r.noise.se
    assert abs(r.cross.value) < 4 * r.cross.se
    assert r.total.value == pytest.approx(np.mean([KL.loss(y, f).mean() for y in labels]))


@pytest.mark.parametrize("correction", ["delta", "jackknife"])
@pytest.mark.parametrize("gen", [SQUARED, KL], ids=lambda g: g.name)
def test_standard_errors_match_the_spread_over_fresh_models_and_inputs(gen, correction):
    """Models share an effect over inputs and inputs differ in difficulty, so both samples matter."""
    rng, K, n, repeats, rows = np.random.default_rng(13), 12, 60, 300, []
    for _ in range(repeats):
        difficulty = rng.normal(size=(1, n, 1)) * np.array([1.0, -0.5, 0.2])
        f = difficulty + 0.6 * rng.normal(size=(K, 1, 3)) + 0.6 * rng.normal(size=(K, n, 3))
        y = np.tile([0.7, 0.2, 0.1], (n, 1)) if gen is KL else np.full((n, 3), 0.8)
        r = decompose(y, f, gen, correction=correction)
        rows.append([(e.value, e.se) for e in (r.total, r.bias, r.variance)])
    values, errors = np.moveaxis(np.array(rows), -1, 0)
    ratio = np.sqrt((errors**2).mean(0)) / values.std(0)
    assert np.all((ratio > 0.8) & (ratio < 1.3)), ratio


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mask", [-1e9, -1e16, float(np.finfo(np.float32).min), -np.inf])
def test_a_masked_class_is_as_good_as_removed(mask, dtype):
    """In all models; where it is masked in some, the geometric mean masks it too."""
    rng = np.random.default_rng(14)
    f, y = (2 * rng.normal(size=(5, 40, 3))).astype(dtype), rng.integers(0, 3, 40)
    wide = np.concatenate([f, np.full((5, 40, 1), mask, dtype)], -1)
    g = KL.mean(rng.normal(size=(40, 3)))
    padded = np.concatenate([g * (1 - 1e-13), np.full((40, 1), 1e-13)], -1)

    def values(truth, f, **how):
        result = decompose(truth, f, KL, **how)
        return [(x.value, x.se) for x in (result.total, result.bias, result.variance)]

    close = {"rtol": 1e-3, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-8}
    for correction in ("none", "scaled", "delta", "jackknife"):
        how = {"correction": correction}
        np.testing.assert_allclose(values(y, wide, **how), values(y, f, **how), **close)
        np.testing.assert_allclose(values(torch.tensor(y), torch.tensor(wide), **how), values(y, f, **how), **close)
        np.testing.assert_allclose(values(padded, wide, slot=1, **how), values(g, f, slot=1, **how), **close)
    wide[1:, :, 3] = 0.5  # masked in one model of five
    some = decompose(y, wide, KL)
    centre = KL.mean(KL.dual_mean(wide))
    assert centre[:, 3].max() == 0
    assert some.total.value == pytest.approx(KL.loss(np.eye(4)[y], wide).mean(), rel=1e-5)
    balance(some.total.value, -some.bias.value, -some.variance.value, size=10 if dtype == np.float64 else 1e9)


def test_the_jackknife_is_that_of_its_definition():
    """(K - 1) (mean_j bhat_(-j) - bhat), also where a class is masked in all models but one, or a probability is 0."""
    rng = np.random.default_rng(16)
    f, g = rng.normal(size=(4, 30, 3)), KL.mean(rng.normal(size=(30, 3)))
    rare, sure = f.copy(), f.copy()
    rare[1:, :, 2] = -np.inf
    sure[:, :5] *= 1e3
    for slot, models in ((1, f), (2, f), (1, rare), (1, sure), (2, sure)):

        def bias(models, correction, slot=slot):
            return decompose(g, models, slot=slot, correction=correction).bias_values.mean(0)

        plain, without = bias(models, "none"), [bias(np.delete(models, j, 0), "none") for j in range(4)]
        expected = plain - 3 * (np.mean(without, 0) - plain)
        np.testing.assert_allclose(bias(models, "jackknife"), expected, rtol=1e-9, atol=1e-9)


def test_class_labels_are_one_hot_labels():
    rng = np.random.default_rng(15)
    f, y, draws = rng.normal(size=(4, 30, 3)), rng.integers(0, 3, 30), rng.integers(0, 3, (6, 30))
    assert decompose(y, f).bias == decompose(np.eye(3)[y], f).bias
    g = KL.mean(f[0])
    by_class, by_row = decompose(g, f, labels=draws), decompose(g, f, labels=np.eye(3)[draws])
    assert (by_class.noise, by_class.cross, by_class.total) == (by_row.noise, by_row.cross, by_row.total)
    assert decompose(g, f, labels=draws[0]).noise == decompose(g, f, labels=np.eye(3)[draws[0]]).noise


@pytest.mark.parametrize("correction", ["scaled", "delta", "jackknife"])
@every
def test_torch_and_numpy_agree(gen, correction):
    rng = np.random.default_rng(10)
    f = np.exp(rng.normal(size=(5, 4, 3))) if gen in (ITAKURA_SAITO, GENERALIZED_KL) else rng.normal(size=(5, 4, 3))
    y = gen.mean(f[0])
    a = decompose(torch.tensor(y), torch.tensor(f), gen, correction=correction)
    b = decompose(y, f, gen, correction=correction)
    assert a.bias.value == pytest.approx(b.bias.value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "argument", "remedy"),
    [
        (lambda: decompose([0, 2], np.array([[[0, 0, -np.inf]] * 2] * 3), KL), "predictions", "a label"),
        (lambda: decompose([0, 3], np.zeros((4, 2, 3)), KL), "truth", "recode"),
        (lambda: decompose(np.eye(3), np.zeros((4, 3)), KL), "predictions", "(models, inputs, outputs)"),
        (lambda: decompose(np.eye(3), np.zeros((4, 2, 3)), KL), "truth", "must be"),
        (lambda: decompose(np.eye(3), np.zeros((4, 3, 3)), KL, slot=1), "truth", "smooth"),
        (lambda: decompose(np.eye(3), np.zeros((4, 3, 3)), KL, slot=3), "slot", "1 or 2"),
        (lambda: decompose(np.eye(3), np.zeros((2, 3, 3)), KL, correction="jackknife"), "predictions", "too few"),
        (lambda: decompose(np.eye(3), np.zeros((4, 3, 3)), KL, correction="magic"), "correction", "one of"),
    ],
)
def test_bad_input_names_the_argument_and_the_remedy(call, argument, remedy):
    with pytest.raises(ValueError, match=rf"^{argument}: ") as error:
        call()
    assert remedy in str(error.value)
