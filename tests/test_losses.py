"""Losses: gradients against autograd, identities and reference values of the theory, edge cases."""

import numpy as np
import pytest
import torch

from w2s_lib import KL
from w2s_lib.losses import (
    CE,
    KL_FORWARD,
    KL_REVERSE,
    RCE,
    SQUARED_LOSS,
    AuxiliaryConfidence,
    ConfidenceSwitch,
    ReverseFamily,
    linear_warmup,
    symmetric_loss,
)

LOSSES = {
    "CE": CE,
    "KL": KL_FORWARD,
    "RCE": RCE,
    "reverse KL": KL_REVERSE,
    "J_.3": ReverseFamily(lam=0.3),
    "RCE, clamped": ReverseFamily(clamp=1e-2),
    "RCE, smoothed": ReverseFamily(smoothing=0.1),
    "SL": symmetric_loss(0.1, 1.0),
    "CE, RCE and entropy": ReverseFamily(lam=0.3, a=0.5, b=2.0),
    "CACE": ConfidenceSwitch(0.5),
    "CACE, quantile": ConfidenceSwitch(0.5, quantile=True),
    "AUX": AuxiliaryConfidence(0.3),
    "squared": SQUARED_LOSS,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def draw(models=3, examples=40, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    z = torch.tensor(2 * rng.normal(size=(models, examples, classes)))
    return z, torch.tensor(rng.dirichlet(np.ones(classes), size=(models, examples)))


@pytest.mark.parametrize("axis", [-1, -2])
@every_loss
def test_gradient_equals_autograd(loss, axis):
    z, q = (x.movedim(-1, axis).contiguous() for x in draw())
    z.requires_grad_()
    (expected,) = torch.autograd.grad(loss(z, q, axis).sum(), z)
    torch.testing.assert_close(loss.gradient(z.detach(), q, axis), expected, rtol=1e-10, atol=1e-12)


@every_loss
def test_both_layouts_agree_and_examples_stay_apart(loss):
    z, q = draw()
    values = loss(z, q)
    assert values.shape == (3, 40)
    torch.testing.assert_close(loss(z.mT, q.mT, axis=-2), values)
    torch.testing.assert_close(loss.gradient(z.mT, q.mT, axis=-2), loss.gradient(z, q).mT)
    for m in range(3):  # a model does not feel its neighbours
        torch.testing.assert_close(loss(z[m], q[m]), values[m])


@every_loss
def test_huge_logits_are_fine(loss):
    z, q = draw()
    for scale in (1e3, 1e4):
        assert torch.isfinite(loss(scale * z, q)).all() and torch.isfinite(loss.gradient(scale * z, q)).all()


@pytest.mark.parametrize("loss", [x for x in LOSSES.values() if x is not SQUARED_LOSS])
def test_a_constant_in_the_logits_changes_nothing(loss):
    z, q = draw()
    torch.testing.assert_close(loss(z + 7, q), loss(z, q))
    torch.testing.assert_close(loss.gradient(z, q).sum(-1), torch.zeros(3, 40, dtype=torch.float64), atol=1e-12, rtol=0)


def test_divergences_equal_those_of_the_library():
    z, q = draw()
    f, g = z.numpy(), KL.from_mean(q.numpy())
    np.testing.assert_allclose(KL_FORWARD(z, q), KL.divergence(g, f), rtol=1e-9)
    np.testing.assert_allclose(KL_REVERSE(z, q), KL.divergence(f, g), rtol=1e-9)
    np.testing.assert_allclose(CE(z, q), KL.loss(q.numpy(), f) + (-q * q.log()).sum(-1).numpy(), rtol=1e-9)


@pytest.mark.parametrize("lam", [0.3, 1.0, 2.0])
def test_minimiser_of_the_reverse_family(lam):
    _, q = draw()
    torch.testing.assert_close(
        ReverseFamily(lam=lam).gradient(q.log() / lam, q), torch.zeros_like(q), atol=1e-12, rtol=0
    )


def test_forward_losses_take_hard_labels():
    z, q = draw()
    hard = (q == q.amax(-1, keepdim=True)).double()
    torch.testing.assert_close(KL_FORWARD(z, hard), CE(z, hard))
    torch.testing.assert_close(CE(z, hard), torch.nn.functional.cross_entropy(z.mT, q.argmax(-1), reduction="none"))


def test_rce_goes_to_the_vertex_and_buys_low_entropy_with_misfit():
    q = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    vertex = torch.tensor([[60.0, 0.0, 0.0]], dtype=torch.float64)
    assert RCE(vertex, q).item() == pytest.approx(np.log(2))  # the least cost, -log max q
    assert RCE(q.log(), q) > RCE(vertex, q)
    assert KL_REVERSE(q.log(), q).item() == pytest.approx(0, abs=1e-12)
    assert KL_REVERSE(vertex, q).item() == pytest.approx(0.693, abs=5e-4)
    assert RCE.gradient(vertex, q).abs().max() < 1e-20  # dead: warm-start it


def test_binary_gradients_of_the_theory():
    z, q = torch.tensor(0.7), torch.tensor(0.8)
    two = torch.stack([z, 0 * z]).double(), torch.stack([q, 1 - q]).double()
    p = torch.sigmoid(z.double())
    assert CE.gradient(*two)[0].item() == pytest.approx((p - q).item(), abs=1e-7)
    expected = -p * (1 - p) * torch.logit(q.double())
    assert RCE.gradient(*two)[0].item() == pytest.approx(expected.item(), abs=1e-7)


@pytest.mark.parametrize(("a", "vote"), [(1.0, 0.345), (0.7, 0.0125), (0.5, -0.0098)])
def test_the_vote_flips_when_confidence_shrinks(a, vote):
    """One logit shared by q = .99 (share .15) and q = .40: RCE follows E logit q_a."""
    q = a * torch.tensor([0.99, 0.40], dtype=torch.float64) + (1 - a) / 2
    share = torch.tensor([0.15, 0.85], dtype=torch.float64)
    gradient = RCE.gradient(torch.zeros(2, 2, dtype=torch.float64), torch.stack([q, 1 - q], -1))[:, 0]
    assert (-4 * share @ gradient).item() == pytest.approx(vote, abs=6e-4)


@pytest.mark.parametrize("reverse", [{"clamp": 1e-3}, {"smoothing": 0.1}])
def test_rce_is_a_symmetric_loss_on_hard_labels(reverse):
    """The sum over all labels is the same for every prediction."""
    z, _ = draw()
    loss = ReverseFamily(**reverse)
    total = sum(loss(z, torch.eye(4, dtype=torch.float64)[k].expand_as(z)) for k in range(4))
    torch.testing.assert_close(total, total[0, 0].expand_as(total))
    ce = sum(CE(z, torch.eye(4, dtype=torch.float64)[k].expand_as(z)) for k in range(4))
    assert ce.std() > 0.5


def test_confidence_switch_takes_each_loss_where_it_should():
    z, q = draw()
    sure = q.amax(-1) >= 0.5
    assert 0.1 < sure.double().mean() < 0.9
    values = ConfidenceSwitch(0.5)(z, q)
    torch.testing.assert_close(values[sure], CE(z, q)[sure])
    torch.testing.assert_close(values[~sure], RCE(z, q)[~sure])
    torch.testing.assert_close(ConfidenceSwitch(0.0)(z, q), CE(z, q))
    torch.testing.assert_close(ConfidenceSwitch(1.0)(z, q), RCE(z, q))
    by_share = ConfidenceSwitch(0.25, quantile=True)(z, q) == CE(z, q)
    assert torch.all(by_share.sum(-1) == 30)  # three quarters of 40


def student_label(z):
    return AuxiliaryConfidence().student_label(z.log_softmax(-1), -1, torch.ones(z.shape[:-1], dtype=torch.bool))


def test_own_labels_keep_their_shares():
    z, _ = draw(classes=2, examples=41)
    odds = z[..., 1] - z[..., 0]
    above = odds > odds.median(-1, keepdim=True).values
    torch.testing.assert_close(student_label(z)[..., 1], above.double())
    z, q = draw(examples=4000, models=1)
    shares = student_label(z + torch.tensor([1.0, 0.0, -1.0, 0.0])).mean((0, 1))
    torch.testing.assert_close(shares, torch.full((4,), 0.25).double(), atol=0.06, rtol=0)
    torch.testing.assert_close(AuxiliaryConfidence(0.0)(z, q), CE(z, q))


def test_copies_of_an_input_have_the_same_label():
    """At the median, which three copies share, the classes tie: the first one wins, with one logit as with two."""
    z = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(student_label(z)[:, 1], expected)
    loss, q = AuxiliaryConfidence(1.0), torch.full((1, 2, 5), 0.5, dtype=torch.float64)
    gradient = loss.one_logit_gradient(z.mT[None, 1:], loss.prepare(q, -2))
    torch.testing.assert_close(gradient[0, 0], z[:, 1].sigmoid() - expected)


def test_class_labels_are_one_hot_labels():
    z, _ = draw()
    y = torch.arange(120).reshape(3, 40) % 4
    hard = torch.eye(4, dtype=torch.float64)[y]
    for loss in (CE, KL_FORWARD, symmetric_loss(clamp=1e-3), AuxiliaryConfidence()):
        torch.testing.assert_close(loss(z, y), loss(z, hard))
        torch.testing.assert_close(loss.gradient(z.mT, y, axis=-2), loss.gradient(z, hard).mT)


def test_what_is_taken_unless_told():
    assert (AuxiliaryConfidence().alpha, AuxiliaryConfidence().warmup) == (0.5, 0)
    assert symmetric_loss() == ReverseFamily(lam=0.0, a=1.0, b=1.0) != RCE
    assert ReverseFamily(lam=0.0, clamp=0.0, smoothing=0.0, a=0.0, b=1.0) == RCE and KL_REVERSE.lam == 1.0
    assert ConfidenceSwitch(0.5) == ConfidenceSwitch(0.5, quantile=False, reverse=RCE)


def test_hard_labels_make_rce_an_absolute_error_and_clamp_and_smoothing_its_scale():
    z, _ = draw(classes=5)
    label = torch.eye(5, dtype=torch.float64)[torch.arange(40) % 5].expand(3, -1, -1)
    error = 1 - (label * z.softmax(-1)).sum(-1)
    torch.testing.assert_close(ReverseFamily(clamp=1e-3)(z, label), -np.log(1e-3) * error)
    s = 0.1
    own = 1 - s + s / 5
    expected = -np.log(own) + np.log(own / (s / 5)) * error
    torch.testing.assert_close(ReverseFamily(smoothing=s)(z, label), expected)
    same = ReverseFamily(clamp=(s / 5) / own)
    torch.testing.assert_close(same.gradient(z, label), ReverseFamily(smoothing=s).gradient(z, label))


def test_weights_add_losses_and_the_clamp_is_for_rce_alone():
    z, q = draw()
    for reverse in ({}, {"clamp": 0.2}, {"smoothing": 0.1}):
        expected = 0.7 * CE(z, q) + 0.2 * ReverseFamily(**reverse)(z, q)
        torch.testing.assert_close(symmetric_loss(0.7, 0.2, **reverse)(z, q), expected)
    expected = 0.7 * CE(z, q) + 0.2 * RCE(z, q) + 0.5 * (KL_REVERSE(z, q) - RCE(z, q))
    torch.testing.assert_close(ReverseFamily(lam=0.5, a=0.7, b=0.2)(z, q), expected)
    switch = ConfidenceSwitch(0.5, reverse=symmetric_loss(0.7, 0.2))
    expected = torch.where(q.amax(-1) >= 0.5, CE(z, q), 0.7 * CE(z, q) + 0.2 * RCE(z, q))
    torch.testing.assert_close(switch(z, q), expected)


def test_labels_smoothed_to_nothing_cost_the_same_whatever_the_prediction():
    z, q = draw(classes=5)
    torch.testing.assert_close(ReverseFamily(smoothing=1.0)(z, q), torch.full((3, 40), np.log(5)).double())


def test_warmup_ramps_without_a_jump():
    ramp = np.array([linear_warmup(step, 20, 0.8) for step in range(41)])
    np.testing.assert_allclose(np.diff(ramp[:21]), 0.04)
    assert ramp[0] == 0 and np.all(ramp[20:] == 0.8) and linear_warmup(0, 0, 0.8) == 0.8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, q: CE(z, q[..., :3]), "q: shape"),
        (lambda z, q: CE(z, q, axis=0), "axis: "),
        (lambda z, q: RCE(z, (q == q.amax(-1, keepdim=True)).double()), "q: is 0 somewhere"),
        (lambda z, q: ReverseFamily(lam=-1), "lam: "),
        (lambda z, q: ReverseFamily(clamp=1), "clamp: "),
        (lambda z, q: ReverseFamily(smoothing=2), "smoothing: "),
        (lambda z, q: ConfidenceSwitch(2), "c: "),
        (lambda z, q: AuxiliaryConfidence(2), "alpha: "),
        (lambda z, q: AuxiliaryConfidence(warmup=-1), "warmup: "),
        (lambda z, q: CE(z, torch.full((3, 40), 4)), "q: class labels must lie in"),
        (lambda z, q: linear_warmup(-1, 5, 1), "step: "),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(*draw())


ONE_LOGIT = {
    "CE": CE,
    "RCE": ReverseFamily(clamp=1e-3),
    "J": ReverseFamily(lam=0.3, clamp=1e-3),
    "SL": symmetric_loss(0.7, 0.2, clamp=1e-3),
    "CACE": ConfidenceSwitch(0.4, quantile=True, reverse=ReverseFamily(clamp=1e-3)),
    "CACE of SL": ConfidenceSwitch(0.4, quantile=True, reverse=symmetric_loss(0.7, 0.2, clamp=1e-3)),
    "AUX": AuxiliaryConfidence(0.5, warmup=10),
}


@pytest.mark.parametrize("loss", ONE_LOGIT.values(), ids=ONE_LOGIT.keys())
def test_one_logit_is_two_logits(loss):
    equals_two_logits(loss)


def equals_two_logits(loss):
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(3, 1, 41, generator=rng, dtype=torch.float64)
    q = torch.rand(3, 1, 41, generator=rng, dtype=torch.float64)
    used = torch.rand(3, 41, generator=rng) < 0.8
    labels = loss.prepare(torch.cat([1 - q, q], 1), -2, used)
    two = loss.step_gradient(torch.cat([torch.zeros_like(z), z], 1), labels, -2, 4)
    torch.testing.assert_close(loss.one_logit_gradient(z, labels, 4), two[:, 1:])
