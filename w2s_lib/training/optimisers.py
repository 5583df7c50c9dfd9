"""Optimisers of a stack of models: each works in place on one flat tensor of all parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Adam:
    """p -= lr mhat / (sqrt(vhat) + eps), Kingma and Ba (2015); torch.optim.Adam, or AdamW with `weight_decay`."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0  # decoupled: weights (not biases) shrink by lr weight_decay a step (AdamW)

    def state(self, p):
        """First and second moments."""
        return torch.zeros_like(p), torch.zeros_like(p)

    def update(self, p, g, state, t, lr):
        """Step number t = 1, 2, ... in place; t and lr are numbers or tensors."""
        (m, v), (b1, b2) = state, self.betas
        m.lerp_(g, 1 - b1)
        v.mul_(b2).addcmul_(g, g, value=1 - b2)
        scale = lr / (1 - b1**t)
        # the step is folded into the denominator: one pass less over the parameters
        p.addcdiv_(m, v.sqrt().mul_((1 - b2**t) ** -0.5 / scale).add_(self.eps / scale), value=-1)


@dataclass(frozen=True)
class SGD:
    """p -= lr b with b = momentum b + g (Nesterov: g + momentum b), as torch.optim.SGD."""

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0  # decoupled, as in Adam

    def state(self, p):
        """The momentum buffer."""
        return (torch.zeros_like(p),) if self.momentum else ()

    def update(self, p, g, state, t, lr):
        """One step in place."""
        for b in state:
            b.mul_(self.momentum).add_(g)
            g = g.add(b, alpha=self.momentum) if self.nesterov else b
        p.sub_(g * lr)
