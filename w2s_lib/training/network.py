r"""Stacks of networks: linear probes, MLPs and random features, many models in a few tensors.

    a_0 = x,   a_l = act(W_l a_{l-1} + b_l),   logits = W_L a_{L-1} + b_L

Weights are (models, out, in). Inputs are shared by all models, (inputs, features), or each model has its own, (models,
inputs, features). All is computed class-first, activations and logits (models, units, inputs): the softmax then runs
along a short axis, each layer is one batched product, and on shared inputs the first layer is one product for all
models. Logits are given back as (models, inputs, classes), a view.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .._checks import Array, require

Layers = list[tuple[Tensor, Tensor]]  # [(W (models, out, in), b (models, out, 1)), ...]

# name: (act, in place), (its derivative times D, in place in D, from the activation A)
ACTIVATIONS = {
    "relu": (torch.relu_, lambda D, A: torch.ops.aten.threshold_backward.grad_input(D, A, 0, grad_input=D)),
    "tanh": (torch.tanh_, lambda D, A: torch.ops.aten.tanh_backward.grad_input(D, A, grad_input=D)),
}


@dataclass(frozen=True)
class Network:
    """The architecture that all models of a stack share. hidden = () is a linear probe.

    init="normal" draws weights from N(0, 1)/sqrt(in), with biases 0; "zeros" does so too and sets the last layer to 0.

    >>> Network(hidden=(64, 32)).shapes(features=10, classes=3)
    [(64, 10), (32, 64), (3, 32)]
    """

    hidden: tuple[int, ...] = ()  # units of each hidden layer
    activation: str = "relu"  # or "tanh"
    init: str = "uniform"  # U(-1, 1)/sqrt(in), as torch.nn.Linear; or "normal" or "zeros"
    one_logit: bool = False  # two classes as logits (0, z): half the work, the same optimum; lr moves z half as far

    def __post_init__(self) -> None:
        require(all(h > 0 for h in self.hidden), "hidden", "needs positive numbers of units")
        require(self.activation in ACTIVATIONS, "activation", f"must be one of {', '.join(ACTIVATIONS)}")
        require(self.init in ("uniform", "normal", "zeros"), "init", "must be 'uniform', 'normal' or 'zeros'")

    def shapes(self, features: int, classes: int) -> list[tuple[int, int]]:
        """[(out, in), ...] of the layers."""
        require(not self.one_logit or classes == 2, "one_logit", f"is for two classes, the targets have {classes}")
        sizes = (features, *self.hidden, 1 if self.one_logit else classes)
        return list(zip(sizes[1:], sizes))


@dataclass(frozen=True)
class Models:
    """A stack of models: weights[l] (models, out, in) and biases[l] (models, out)."""

    network: Network
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.weights[0])

    def __getitem__(self, index: Any) -> Self:
        """The stack of the models that `index` (a slice, a mask or integers) picks."""
        index = [int(index)] if np.ndim(index) == 0 and not isinstance(index, slice) else index
        weights, biases = (tuple(x[index] for x in xs) for xs in (self.weights, self.biases))
        return replace(self, weights=weights, biases=biases)

    def logits(self, X: Array, layers: int | None = None) -> Tensor:
        """Logits on X (inputs, features), or (models, inputs, features): (models, inputs, classes), a view.

        layers : go only through so many layers and return activations: random features, of models that are not trained
        """
        with torch.no_grad():
            X, d = as_inputs(X, self.weights[0], "X"), self.weights[0].shape[2]
            require(X.shape[-1] == d, "X", f"has {X.shape[-1]} features, the models need {d}")
            require(X.ndim == 2 or len(X) == len(self), "X", f"is for {len(X)} models, there are {len(self)}")
            pairs = [(W, b[:, :, None]) for W, b in zip(self.weights[:layers], self.biases)]
            out = forward(pairs, X, self.network.activation)[-1]
            if len(pairs) < len(self.weights):
                return ACTIVATIONS[self.network.activation][0](out).mT
            return (two_logits(out) if self.network.one_logit else out).mT

    def module(self, model: int) -> torch.nn.Sequential:
        """Model number `model` as a torch.nn.Sequential with copies of its parameters; one output if `one_logit`."""
        act = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[self.network.activation]
        layers = []
        for W, b in zip(self.weights, self.biases):
            layer = torch.nn.Linear(W.shape[2], W.shape[1])
            layer.weight.data, layer.bias.data = W[model].clone(), b[model].clone()
            layers += [layer, act()]
        return torch.nn.Sequential(*layers[:-1])


def initialise(
    network: Network, features: int, classes: int, seeds: Array, *, dtype: torch.dtype = torch.float32
) -> Models:
    """Untrained Models, one a seed. A model's weights depend on its own seed alone, and on no device."""
    shapes = network.shapes(features, classes)
    weights = [torch.empty(len(seeds), *shape) for shape in shapes]
    biases = [torch.zeros(len(seeds), shape[0]) for shape in shapes]
    for m, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(int(seed))
        for W, b in zip(weights, biases):
            if network.init == "uniform":
                bound = W.shape[2] ** -0.5
                W[m].uniform_(-bound, bound, generator=generator)
                b[m].uniform_(-bound, bound, generator=generator)
            else:
                W[m].normal_(0, W.shape[2] ** -0.5, generator=generator)
    if network.init == "zeros":
        weights[-1].zero_()
    return Models(network, tuple(W.to(dtype) for W in weights), tuple(b.to(dtype) for b in biases))


def join(parts: Sequence[Models]) -> Models:
    """One stack of several."""
    weights, biases = (zip(*(getattr(part, name) for part in parts)) for name in ("weights", "biases"))
    return replace(parts[0], weights=tuple(map(torch.cat, weights)), biases=tuple(map(torch.cat, biases)))


def as_inputs(X: Array, like: Tensor, name: str) -> Tensor:
    """X as a tensor like `like` (device and dtype), checked: two or three axes, finite."""
    X = torch.as_tensor(X, dtype=like.dtype, device=like.device)
    require(X.ndim in (2, 3), name, f"need shape (inputs, features), models before them or not; got {tuple(X.shape)}")
    require(torch.isfinite(X).all(), name, "holds NaN or infinity")
    return X


def two_logits(z: Tensor) -> Tensor:
    """(..., 1, inputs) -> (..., 2, inputs): the logits (0, z)."""
    return torch.cat([torch.zeros_like(z), z], -2)


def multiply(A: Tensor, B: Tensor, out: Tensor | None = None) -> Tensor:
    """A (models, i, j) times B (models, j, k), or times B (j, k), which all models share: then as one product."""
    if B.ndim == 3:
        return torch.bmm(A, B, out=out)
    wide = None if out is None else out.view(-1, B.shape[1])
    return torch.mm(A.reshape(-1, A.shape[2]), B, out=wide).view(*A.shape[:2], -1)


def forward(layers: Layers, X: Tensor, activation: str, out: list[Tensor] | None = None) -> list[Tensor]:
    """Activations of all layers on X (inputs, features) or (models, inputs, features); the last are logits.

    out : tensors to write into, one a layer
    """
    out = out or [W.new_empty(*W.shape[:2], X.shape[-2]) for W, _ in layers]
    for i, (A, (W, b)) in enumerate(zip(out, layers)):
        multiply(W, ACTIVATIONS[activation][0](out[i - 1]) if i else X.mT, A)
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
        multiply(R, activations[i - 1].mT if i else X, G)
        if i:
            R = torch.bmm(layers[i][0].mT, R, out=deltas[i - 1])
            ACTIVATIONS[act][1](R, activations[i - 1])
