"""The class-first layout: weights (models, out, in), activations and logits (models, units, inputs).

The softmax then runs along a short axis with the inputs contiguous behind it, and each layer is one batched matrix
product. On shared inputs the first layer of all models is one product, (models out, features) x (features, inputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

Layers = list[tuple[Tensor, Tensor]]  # [(W (models, out, in), b (models, out, 1)), ...]

# name: (act, in place), (its derivative times D, in place in D, from the activation A)
ACTIVATIONS = {
    "relu": (torch.relu_, lambda D, A: torch.ops.aten.threshold_backward.grad_input(D, A, 0, grad_input=D)),
    "tanh": (torch.tanh_, lambda D, A: torch.ops.aten.tanh_backward.grad_input(D, A, grad_input=D)),
}


def two_logits(z: Tensor) -> Tensor:
    """(..., 1, inputs) -> (..., 2, inputs): the logits (0, z)."""
    return torch.cat([torch.zeros_like(z), z], -2)


def forward(layers: Layers, X: Tensor, activation: str, out: list[Tensor] | None = None) -> list[Tensor]:
    """Activations of all layers on X (inputs, features) or (models, inputs, features); the last are logits.

    out : tensors to write into, one a layer
    """
    out = out or [W.new_empty(*W.shape[:2], X.shape[-2]) for W, _ in layers]
    for i, (A, (W, b)) in enumerate(zip(out, layers)):
        if i:
            torch.bmm(W, ACTIVATIONS[activation][0](out[i - 1]), out=A)
        elif X.ndim == 3:
            torch.bmm(W, X.mT, out=A)
        else:  # all models in one product
            torch.mm(W.reshape(-1, W.shape[2]), X.T, out=A.view(-1, len(X)))
        A.add_(b)  # baddbmm would write b into A first and read it again
    return out


def backward(
    layers: Layers, gradients: Layers, X: Tensor, activations: list[Tensor], R: Tensor, act: str, deltas: list[Tensor]
) -> None:
    """Write the gradients of the parameters, given R = d objective / d logits, (models, classes, inputs).

    gradients : tensors of the shapes of `layers`
    deltas    : buffers of the shapes of the hidden activations
    """
    for i in range(len(layers) - 1, -1, -1):
        G, g = gradients[i]
        torch.sum(R, 2, keepdim=True, out=g)
        if i:
            torch.bmm(R, activations[i - 1].mT, out=G)
            R = torch.bmm(layers[i][0].mT, R, out=deltas[i - 1])
            ACTIVATIONS[act][1](R, activations[i - 1])
        elif X.ndim == 3:
            torch.bmm(R, X, out=G)
        else:
            torch.mm(R.reshape(-1, R.shape[2]), X, out=G.view(-1, G.shape[2]))
