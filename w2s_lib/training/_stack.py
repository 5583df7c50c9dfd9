"""A checked plan, the stack of models in training that follows it, and its step: on a GPU one CUDA graph."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from .._checks import require
from ..losses import Loss
from .data import Data, epochs, take, take_inputs
from .network import Models, Network, backward, forward, two_logits
from .optimisers import SGD, Adam


@dataclass(frozen=True)
class Plan:
    """What `train` takes, for a number of models on so many inputs."""

    network: Network
    inputs: int
    steps: int
    loss: Callable
    optimizer: Adam | SGD
    batch: int | None  # examples a step; None: all
    order: int | None  # seed of the batches; None: each model's own
    snapshots: tuple[int, ...]  # steps
    lr: Tensor  # (models,)
    l2: Tensor  # (models,)
    seeds: np.ndarray  # (models,)

    def __post_init__(self) -> None:
        models, batch = len(self.lr), self.batch
        require(self.steps >= 1, "steps", "must be at least 1")
        require((self.lr > 0).all(), "lr", "must be positive")
        listed = self.seeds.ndim == 1 and len(self.seeds) == models and self.seeds.min() >= 0
        require(listed, "seeds", f"must be a list of numbers >= 0, one for each of {models} models")
        fits = batch is None or 1 <= batch <= self.inputs
        require(fits, "batch", f"must lie between 1 and the number of inputs, {self.inputs}")
        require(self.order is None or self.order >= 0, "order", "must be a number >= 0, or None")
        shared = batch is None or self.order is not None or not getattr(self.loss, "counts_models", False)
        require(shared, "order", "is None, but this loss needs batches that all models share: pass a number")
        require(all(0 <= t <= self.steps for t in self.snapshots), "snapshots", f"steps must lie in 0..{self.steps}")

    def __len__(self) -> int:
        return len(self.lr)

    def __getitem__(self, rows: slice) -> Self:
        return replace(self, lr=self.lr[rows], l2=self.l2[rows], seeds=self.seeds[rows])


class Stack:
    """The models `rows` in training: parameters p, one flat tensor with the weights first, and their gradients g.

    Whatever a step touches is a tensor that stays where it is, the counter t included, and no step looks at a value: so
    a CUDA graph can replay it.
    """

    def __init__(self, start: Models, data: Data, rows: slice, plan: Plan):
        X, Q, w = data.part(rows, compact=plan.batch is None)
        self.mask = None if data.mask is None else data.mask[rows].to(X)[:, None]
        self.plan, self.X = plan, X
        self._place_parameters(start)
        self._place_labels(Q, w)
        self.t = torch.zeros((), dtype=torch.float64, device=X.device)  # steps so far

    def _place_parameters(self, start):
        """Parameters with their rates, penalties and the optimiser's state; buffers of activations."""
        plan, size, depth = self.plan, self.plan.batch or self.X.shape[-2], len(start.weights)
        tensors = [*start.weights, *(b[:, :, None] for b in start.biases)]
        self.shapes = [x.shape for x in tensors]
        self.p = torch.cat([x.reshape(-1) for x in tensors]).to(self.X)
        self.g, self.state = torch.zeros_like(self.p), plan.optimizer.state(self.p)
        self.layers, self.gradients = self._views(self.p), self._views(self.g)
        if self.mask is not None:  # what a model does not see has weight 0 from the start, a warm one too
            self.layers[0][0].mul_(self.mask)
        alike, self.l2 = bool((plan.lr == plan.lr[0]).all()), None
        self.lr = float(plan.lr[0]) if alike else self._spread(plan.lr, self.shapes)
        if (plan.l2 > 0).any():
            self.l2 = self._spread(plan.l2, self.shapes[:depth])
            if plan.network.one_logit:  # w stands for two rows, -w/2 and w/2
                self.l2[-self.shapes[depth - 1].numel() :] /= 2
        self.activations = [self.p.new_empty(len(plan), W.shape[1], size) for W, _ in self.layers]
        self.deltas = [torch.empty_like(A) for A in self.activations[:-1]]

    def _views(self, flat):
        """[(W, b), ...] of a flat tensor."""
        tensors = [x.view(shape) for x, shape in zip(flat.split([s.numel() for s in self.shapes]), self.shapes)]
        return list(zip(tensors, tensors[len(tensors) // 2 :]))

    def _spread(self, values, shapes):
        """Flat tensor with each model's number at all of its entries."""
        return torch.cat([values.to(self.p)[:, None, None].expand(shape).reshape(-1) for shape in shapes])

    def _place_labels(self, Q, w):
        """What an example counts in the gradient (a batch stands for all), and labels as the loss wants them."""
        plan, n = self.plan, Q.shape[2]
        share = Q.new_full((1, 1, 1), 1 / n) if w is None else (w / w.sum(1, keepdim=True))[:, None]
        used = None if w is None else w > 0
        labels = plan.loss.prepare(Q, -2, used) if isinstance(plan.loss, Loss) else (Q,)
        self.examples = [share * (n / (plan.batch or n)), *labels]
        if plan.batch:
            keys = [[plan.order, 0]] if plan.order is not None else [[int(seed), 1] for seed in plan.seeds]
            self.epochs = epochs(n, plan.batch, keys)
            self.rows = next(self.epochs).to(Q.device)  # (batches, models or 1, batch)
            self.batches = self._batches()

    def _batches(self):
        """Examples of all the batches in `rows`; an epoch at once reads them once, not once a batch."""
        return [take(x, self.rows) for x in self.examples]

    def step(self) -> None:
        """One step; on a batch if the plan has batches."""
        X, examples, A, network = self.X, self.examples, self.activations, self.plan.network
        if self.plan.batch:
            place = (self.t % len(self.rows)).long().view(1)
            X = take_inputs(X, self.rows.index_select(0, place)[0])
            examples = [x.index_select(0, place)[0] for x in self.batches]
        forward(self.layers, X, network.activation, A)
        R = _logit_gradient(self.plan.loss, A[-1], examples[1:], self.t, network.one_logit).mul_(examples[0])
        backward(self.layers, self.gradients, X, A, R, network.activation, self.deltas)
        if self.mask is not None:
            self.gradients[0][0].mul_(self.mask)
        if self.l2 is not None:
            self.g[: len(self.l2)].addcmul_(self.p[: len(self.l2)], self.l2)
        self.plan.optimizer.update(self.p, self.g, self.state, self.lr)
        self.t.add_(1)

    def stepper(self) -> Callable[[int], None]:
        """A function that does step number t = 0, 1, ...; on a GPU it replays a CUDA graph of `step`."""
        replay = self._graph() if self.X.is_cuda else self.step

        def step(t):
            if self.plan.batch and t and t % len(self.rows) == 0:
                self.rows.copy_(next(self.epochs))
                for old, new in zip(self.batches, self._batches()):
                    old.copy_(new)
            replay()

        return step

    def _graph(self):
        kept = [(x, x.clone()) for x in (self.p, *self.state, self.t)]
        stream = torch.cuda.Stream()  # capture asks for a warm-up on another stream; its effect is undone
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):  # else it takes a stream of the device that was captured on first
            self.step()
        for x, old in kept:
            x.copy_(old)
        return graph.replay

    def logits(self, X: Tensor) -> Tensor:
        """Logits (models, inputs, classes)."""
        z = forward(self.layers, X, self.plan.network.activation)[-1]
        return (two_logits(z) if self.plan.network.one_logit else z).mT

    def diverged(self) -> list[int]:
        """The models that have a parameter which is not finite."""
        fine = torch.stack([x.isfinite().flatten(1).all(1) for layer in self.layers for x in layer]).all(0)
        return (~fine).nonzero()[:, 0].tolist()

    def models(self) -> Models:
        """The models with their present parameters."""
        weights, biases = zip(*self._views(self.p.clone()))
        return Models(self.plan.network, weights, tuple(b[:, :, 0] for b in biases))


def _logit_gradient(loss, z, labels, step, one_logit):
    """d loss / d z, class-first; a loss that is not one of ours is differentiated by autograd."""
    if isinstance(loss, Loss):
        return loss.one_logit_gradient(z, labels, step) if one_logit else loss.step_gradient(z, labels, -2, step)
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        full = (two_logits(leaf) if one_logit else leaf).mT
        values = loss(full, labels[0].mT)
        require(values.shape == full.shape[:-1], "loss", f"gave {tuple(values.shape)}, not one value an example")
        return torch.autograd.grad(values.sum(), leaf)[0].clone()  # it may be a view of a constant
