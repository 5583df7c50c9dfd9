"""A loss for each block of models is each loss alone."""

import pytest
import torch
from test_losses import ONE_LOGIT, equals_two_logits

from w2s_lib.experiments.loss_per_model import PerModel
from w2s_lib.losses import CE, AuxiliaryConfidence, ReverseFamily
from w2s_lib.training import Compute, Network, train


def test_a_loss_for_each_block_of_models_is_each_loss_alone():
    rng = torch.Generator().manual_seed(0)
    q, z = (torch.randn(5, 3, 20, generator=rng, dtype=torch.float64).softmax(1) for _ in range(2))
    z, parts = z.log(), (CE, ONE_LOGIT["CACE"], ONE_LOGIT["AUX"])
    loss, rows = PerModel(parts, (2, 1, 2)), (slice(0, 2), slice(2, 3), slice(3, 5))
    for name in ("step_value", "step_gradient"):
        alone = [getattr(x, name)(z[r], x.prepare(q[r], -2), -2) for x, r in zip(parts, rows)]
        torch.testing.assert_close(getattr(loss, name)(z, loss.prepare(q, -2), -2), torch.cat(alone))
    shared = loss.prepare(q[:1], -2)  # labels that all models share
    torch.testing.assert_close(shared[0], q[:1].expand(2, -1, -1))
    remedy = r"^counts: make 5, .* has 4 models; .*Compute\(chunk=5, threads=1, memory="
    with pytest.raises(ValueError, match=remedy):
        loss.step_gradient(z[:4], loss.prepare(q, -2), -2)
    for bad in ((1,), (1, 0, 2)):
        with pytest.raises(ValueError, match="counts"):
            PerModel(parts, bad)


@pytest.mark.parametrize("other", [{"memory": 1e4}, {"threads": 2}, {"chunk": 2}])
def test_each_way_of_cutting_the_stack_is_met_by_the_remedy(other):
    """Too little memory, two threads, or small chunks: what the message says to set is what makes it work."""
    loss, given = PerModel((CE, ReverseFamily(clamp=1e-3)), (2, 3)), {"steps": 1, "lr": [0.1] * 5}
    X, q = torch.randn(200, 4), torch.rand(200, 3).softmax(1)
    with pytest.raises(ValueError, match=r"^counts: make 5, .*chunk=5, threads=1, memory="):
        train(Network(), X, q, loss=loss, compute=Compute(**other), **given)
    train(Network(), X, q, loss=loss, compute=Compute(chunk=5, threads=1, memory=1e9), **given)


def test_one_logit_is_two_logits():
    equals_two_logits(PerModel((CE, AuxiliaryConfidence(0.5)), (1, 2)))
