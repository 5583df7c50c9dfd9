"""Optimisers step as torch.optim does, with one rate and with a rate a parameter; bad settings."""

import pytest
import torch
from test_loop import OPTIMIZERS

from w2s_lib.training import SGD, Adam


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("shared", [True, False])
def test_twenty_steps_are_those_of_torch(name, shared):
    ours, theirs = OPTIMIZERS[name]
    generator = torch.Generator().manual_seed(0)
    start, target = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(2))
    rates = torch.full((6,), 0.05, dtype=torch.float64) if shared else torch.linspace(0.01, 0.1, 6, dtype=torch.float64)
    p, state = start.clone(), ours.state(start)
    peers = [x.clone().requires_grad_() for x in start]
    optimisers = [theirs([x], float(rate)) for x, rate in zip(peers, rates)]
    for _ in range(20):
        ours.update(p, 2 * (p - target), state, 0.05 if shared else rates)
        for x, y, optimiser in zip(peers, target, optimisers):
            optimiser.zero_grad()
            ((x - y) ** 2).backward()
            optimiser.step()
    torch.testing.assert_close(p, torch.stack(peers).detach(), rtol=1e-9, atol=1e-9)
    assert (p - start).abs().min() > 1e-3


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Adam(betas=(1.0, 0.9)), "betas"),
        (lambda: Adam(eps=0.0), "eps"),
        (lambda: SGD(momentum=1.0), "momentum"),
        (lambda: SGD(nesterov=True), "momentum"),
    ],
)
def test_bad_settings_are_named(make, named):
    with pytest.raises(ValueError, match=rf"^{named}: "):
        make()
