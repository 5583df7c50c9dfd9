r"""Training many models as one batch, by Adam or SGD.

Every expectation over teachers is an average over hundreds of models, so models are trained as a stack. Anything that
is one number a model may differ between models: learning rate, penalty, seed. A grid of hyper-parameters is therefore
one batch. On a CPU the stack is cut into chunks whose activations stay in the cache, and chunks can run on several
threads; on a GPU all models are one chunk and a step is one CUDA graph. A trained model does not depend on its
neighbours, except in the last bits, which depend on the size of the chunk; a fitted probe does to within `tol`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .._checks import Array, one_each, require
from ..losses import CE, Loss, Squared
from ._stack import Plan, Stack
from .compute import Compute
from .data import Data, check_data
from .network import Models, Network, as_inputs, initialise, join
from .optimisers import SGD, Adam


@dataclass(frozen=True)
class Run:
    """What `train` returns."""

    models: Models
    snapshots: Tensor | None  # (steps, models, inputs, classes): logits at the chosen steps

    def logits(self, X: Array) -> Tensor:
        """Logits of the trained models on X: (models, inputs, classes)."""
        return self.models.logits(X)


def train(
    network: Network,
    X: Array,
    targets: Array,
    *,
    steps: int,
    lr: float | Array,
    loss: Callable = CE,
    optimizer: Adam | SGD = Adam(),
    l2: float | Array = 0.0,
    batch: int | None = None,
    order: int | None = 0,
    weights: Array | None = None,
    mask: Array | None = None,
    seeds: Sequence[int] | None = None,
    start: Models | None = None,
    snapshots: tuple[Array, Sequence[int]] | None = None,
    compute: Compute = Compute(),
    allow_empty: bool = False,
) -> Run:
    """Train a stack of models on shared inputs. Model m minimises, its biases not penalised,

        sum_i w_mi loss(z_m(x_i), q_mi) / sum_i w_mi  +  l2_m/2 ||weights of m||^2

    network  : Network; all models share the architecture. With `one_logit` the models are those of two logits
    X        : (inputs, features) shared, or (models, inputs, features): then each model has its own inputs
    targets  : q, (models, inputs, classes) labels, soft or one-hot, or (inputs, classes) for all models; real numbers
               for SQUARED_LOSS. Integers are class labels, (models, inputs) or (inputs,), of max + 1 classes
    lr, l2   : a number, or one a model
    loss     : of `losses`, or any function (logits, targets) -> (models, inputs) of (models, inputs, classes) tensors,
               differentiated by autograd; on a GPU it is captured once in a CUDA graph: no .item(), no Python state
    batch    : examples a step; None: all. Batches run through one permutation of the inputs behind the other
    order    : seed of the permutations, shared by all models; None: each model has its own, drawn from its seed
    weights  : w, (models, inputs) example weights >= 0: 0 leaves an input out, a bootstrap is counts; None: all ones
    mask     : (models, features), 0 where a model does not see a feature
    seeds    : (models,) integers, for the initial weights; None: 0, 1, 2, ...
    start    : Models to start from (a warm start; the optimiser starts anew) instead of initial weights
    snapshots: (X, steps): record the logits on X at these steps, in rising order (0 is before the first)
    allow_empty : whether a class may be without examples
    Raises ValueError that names the argument, FloatingPointError that names the models that diverged.

    >>> X = torch.linspace(-1, 1, 20)[:, None]
    >>> run = train(Network(hidden=(8,)), X, (X[:, 0] > 0).long(), steps=100, lr=[0.1, 0.2, 0.3])
    >>> run.logits(X).shape
    torch.Size([3, 20, 2])
    >>> run.logits(X)[:, [0, -1]].argmax(-1).tolist()
    [[0, 1], [0, 1], [0, 1]]
    """
    counts = [math.prod(np.shape(x)) for x in (lr, l2, () if seeds is None else seeds)] + [len(start or ())]
    probabilities = isinstance(loss, Loss) and not isinstance(loss, Squared)
    data = check_data(X, targets, weights, mask, compute, counts, probabilities, allow_empty)
    (models, n, classes), d = data.targets.shape, data.X.shape[-1]
    looks, times = snapshots or (torch.empty(0, d), ())
    looks, times = as_inputs(looks, data.X, "snapshots"), tuple(sorted({int(t) for t in times}))
    fits = looks.shape[-1] == d and (looks.ndim == 2 or len(looks) == models)
    require(fits, "snapshots", f"inputs need {d} features, and one set for all models or one for each")
    rates, penalties = one_each(lr, models, "lr"), one_each(l2, models, "l2")
    of_models = np.arange(models) if seeds is None else np.asarray(seeds)
    plan = Plan(network, n, steps, loss, optimizer, batch, order, times, rates, penalties, of_models)
    start = initialise(network, d, classes, of_models) if start is None else start
    wanted, shapes = [(models, *s) for s in network.shapes(d, classes)], [tuple(W.shape) for W in start.weights]
    require(shapes == wanted, "start", f"has weights {shapes}, the network {wanted}")
    return _train_chunks(plan, data, start, looks, compute)


def _train_chunks(plan: Plan, data: Data, start: Models, looks: Tensor, compute: Compute) -> Run:
    """All chunks, `compute.threads` at a time."""
    chunks = compute.chunks(len(plan), *_bytes(plan, data, compute.dtype.itemsize))
    with tqdm(total=len(chunks) * plan.steps, disable=not compute.progress, unit="step") as bar:

        def work(rows, stop):
            with torch.no_grad(), torch.cuda.device(-1 if compute.on_cpu else data.X.device):
                stack = Stack(start[rows], data, rows, plan[rows])
                return _train_stack(stack, looks if looks.ndim == 2 else looks[rows], rows.start, bar, stop)

        models, shots = zip(*compute.map(work, chunks))
    return Run(join(models), torch.cat(shots, 1) if plan.snapshots else None)


def _bytes(plan, data, size):
    """Bytes that a model in training takes, and those of its activations; a number has `size` bytes."""
    (n, d), classes, hidden = data.X.shape[-2:], data.targets.shape[2], plan.network.hidden
    parameters = sum(i * o for o, i in plan.network.shapes(d, classes))  # and gradients, moments, penalty, copies
    active, labels = 2 * (plan.batch or n) * (sum(hidden) + classes), 5 * n * classes
    inputs = n * d if data.X.ndim == 3 or data.weights is not None else 0
    return size * (active + 6 * parameters + labels + inputs), size * active


def _train_stack(stack, looks, first, bar, stop):
    """The trained models, of which the first is number `first`, and their logits at the snapshots."""
    plan, step, shots = stack.plan, stack.stepper(), []
    for t in range(plan.steps + 1):
        if t in plan.snapshots:
            shots.append(stack.logits(looks))
        if (t % 100 == 99 or t == plan.steps) and (bad := stack.diverged()):
            names = f"{[first + m for m in bad[:5]]}{' and others' if len(bad) > 5 else ''}"
            remedy = f"lower lr ({float(plan.lr[bad[0]]):g}), or leave them out"
            raise FloatingPointError(f"models {names} diverged by step {t}: {remedy}")
        if t == plan.steps or stop.is_set():
            break
        step(t)
        bar.update()
    return stack.models(), torch.stack(shots) if shots else None
