"""Networks and stacks of models: picked, as modules, as features; bad ones."""

import numpy as np
import pytest
import torch
from test_loop import DOUBLE, agree, d, models, n, problem

from w2s_lib.training import Network, initialise, train


def test_models_pick_convert_and_show_features():
    X, Q, _, _ = problem()
    run = train(Network((6,), init="normal"), X, Q, steps=5, lr=0.1, compute=DOUBLE)
    agree(run.models[np.int64(1)].logits(X)[0], run.logits(X)[1])
    agree(run.models[1:].logits(X), run.logits(X)[1:])
    agree(run.models[2].logits(X)[0], run.models.module(2)(torch.as_tensor(X)).detach())
    features = run.models.logits(X, layers=1)
    assert features.shape == (models, n, 6) and (features >= 0).all()
    agree(run.logits(X), features @ run.models.weights[1].mT + run.models.biases[1][:, None])
    assert torch.equal(
        initialise(Network((4,)), d, 3, [7]).weights[0][0], initialise(Network((4,)), d, 3, [1, 7]).weights[0][1]
    )


@pytest.mark.parametrize("change", [{"hidden": (0,)}, {"activation": "step"}, {"init": "magic"}])
def test_bad_networks_name_the_field(change):
    with pytest.raises(ValueError, match=rf"^{next(iter(change))}: "):
        Network(**change)
