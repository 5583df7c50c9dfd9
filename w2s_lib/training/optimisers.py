"""Optimisers of a stack of models: each works in place on one flat tensor of all parameters."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._checks import require

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Adam:
    """p -= lr mhat / (sqrt(vhat) + eps), as torch.optim.Adam; Kingma and Ba (2015), algorithm 1."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        require(all(0 <= b < 1 for b in self.betas), "betas", "must be in [0, 1)")
        require(self.eps > 0, "eps", "must be positive")

    def state(self, p: Tensor) -> State:
        """First and second moments, and the number of steps: on the device, as a CUDA graph needs it."""
        return torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device)

    def update(self, p: Tensor, g: Tensor, state: State, lr: float | Tensor) -> None:
        """One step in place; lr is a number, or a tensor like p."""
        (m, v, t), (b1, b2) = state, self.betas
        to, rate = (p, lr) if isinstance(lr, float) else (torch.zeros_like(p), 1.0)
        how: dict[str, Any] = {"lr": rate, "beta1": b1, "beta2": b2, "eps": self.eps, "weight_decay": 0.0}
        # one pass over memory instead of seven; this is what torch.optim.Adam(fused=True) calls
        torch._fused_adam_([to], [g], [m], [v], [], [t.add_(1)], **how, amsgrad=False, maximize=False)
        if not isinstance(lr, float):
            p.addcmul_(to, lr)


@dataclass(frozen=True)
class SGD:
    """p -= lr b with b = momentum b + g (Nesterov: g + momentum b), as torch.optim.SGD."""

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        least = "(0, 1), with nesterov" if self.nesterov else "[0, 1)"
        require(0 <= self.momentum < 1 and (self.momentum or not self.nesterov), "momentum", f"must be in {least}")

    def state(self, p: Tensor) -> State:
        """The momentum buffer."""
        return (torch.zeros_like(p),) if self.momentum else ()

    def update(self, p: Tensor, g: Tensor, state: State, lr: float | Tensor) -> None:
        """One step in place; lr is a number, or a tensor like p."""
        for b in state:
            b.mul_(self.momentum).add_(g)
            g = g.add(b, alpha=self.momentum) if self.nesterov else b
        p.sub_(g * lr)
