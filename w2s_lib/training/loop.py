r"""Training many models as one batch, by Adam or SGD.

Every expectation over teachers is an average over hundreds of models, so models are trained as a stack. Model m
minimises, with weights w_mi on the shared inputs (0 leaves one out, a bootstrap is counts, None is all ones),

    sum_i w_mi loss(z_m(x_i), q_mi) / sum_i w_mi  +  l2_m/2 ||weights of m||^2          biases are not penalised

Anything that is one number a model may differ between models: learning rate, penalty, seed. A grid of hyper-parameters
is therefore one batch. On a CPU the stack is cut into chunks whose activations stay in the cache, and chunks can run on
several threads; on a GPU all models are one chunk and a step is one CUDA graph. A trained model does not depend on its
neighbours, except in the last bits, which depend on the size of the chunk; a fitted probe does to within `tol`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .._checks import one_each, require
from ..losses import CE, Loss, Squared
from ._stack import Stack
from .compute import Compute, one_core_each
from .data import Data, check_data
from .network import Array, Models, Network, initialise, inputs, join
from .optimisers import SGD, Adam
from .plan import Plan


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
    """Train a stack of models on shared inputs; the module gives the objective. Returns a Run.

    network  : Network; all models share the architecture
    X        : (inputs, features) shared, or (models, inputs, features): then each model has its own inputs
    targets  : (models, inputs, classes) labels, soft or one-hot, or (inputs, classes) for all models; real numbers for
               SQUARED_LOSS. Of an integer type they are class labels, (models, inputs) or (inputs,), of as many classes
               as the largest one says
    lr, l2   : a number, or one a model. With `one_logit` the models are those of two logits at the same l2
    loss     : of `losses`, or any function (logits, targets) -> (models, inputs) of (models, inputs, classes) tensors,
               differentiated by autograd; on a GPU it is captured once in a CUDA graph: no .item(), no Python state
    batch    : examples a step; None: all. Batches run through one permutation of the inputs behind the other
    order    : seed of the permutations, shared by all models; None: each model has its own, drawn from its seed
    weights  : (models, inputs) example weights >= 0: subsets, bootstraps
    mask     : (models, features), 0 where a model does not see a feature
    seeds    : (models,) integers, for the initial weights; None: 0, 1, 2, ...
    start    : Models to start from (a warm start; the optimiser starts anew) instead of initial weights
    snapshots: (X, steps): record the logits on X at these steps (0 is before the first)
    allow_empty : whether a class may be without examples
    Raises ValueError that names the argument, FloatingPointError that names the models that diverged.

    >>> X = torch.linspace(-1, 1, 20)[:, None]
    >>> run = train(Network(hidden=(8,)), X, (X[:, 0] > 0).long(), steps=100, lr=[0.1, 0.2, 0.3])
    >>> run.logits(X).shape
    torch.Size([3, 20, 2])
    >>> run.logits(X)[:, [0, -1]].argmax(-1).tolist()
    [[0, 1], [0, 1], [0, 1]]
    """
    listed = seeds is None or (np.ndim(seeds) == 1 and np.min(seeds) >= 0)
    require(listed, "seeds", "must be a list of numbers >= 0, one a model")
    models = None if seeds is None and start is None else len(start if seeds is None else seeds)
    simplex = isinstance(loss, Loss) and not isinstance(loss, Squared)
    grids = [np.atleast_1d(x) for x in (lr, l2)]
    checked = {"compute": compute, "models": models, "per_model": grids, "simplex": simplex, "allow_empty": allow_empty}
    data = check_data(X, targets, weights, mask, **checked)
    plan = Plan(
        network=network,
        models=data.models,
        inputs=data.X.shape[-2],
        steps=steps,
        loss=loss,
        optimizer=optimizer,
        lr=one_each(lr, data.models, "lr"),
        l2=one_each(l2, data.models, "l2"),
        seeds=np.arange(data.models) if seeds is None else np.asarray(seeds),
        batch=batch,
        order=order,
        snapshots=tuple(sorted({int(t) for t in snapshots[1]})) if snapshots else (),
    )
    looks = _snapshot_inputs(snapshots, data)
    return _train_chunks(plan, data, _start(start, plan, data), looks, compute)


def _snapshot_inputs(snapshots, data):
    if snapshots is None:
        return None
    X, d = inputs(snapshots[0], data.X, "snapshots"), data.X.shape[-1]
    fits = X.shape[-1] == d and (X.ndim == 2 or len(X) == data.models)
    require(fits, "snapshots", f"inputs need {d} features, and one set for all models or one for each")
    return X


def _start(start, plan, data):
    """Initial models, or those of a warm start."""
    d, classes = data.X.shape[-1], data.targets.shape[2]
    if start is None:
        return initialise(plan.network, d, classes, plan.seeds)
    wanted, got = [(plan.models, *s) for s in plan.network.shapes(d, classes)], [tuple(W.shape) for W in start.weights]
    require(got == wanted, "start", f"has weights {got}, the network {wanted}")
    return replace(start, network=plan.network)  # what is frozen may differ


def _bytes(plan: Plan, data: Data, size: int) -> tuple[int, int]:
    """Bytes that a model in training takes, and those of its activations; numbers have `size` bytes."""
    n, (d, classes), network = plan.inputs, (data.X.shape[-1], data.targets.shape[2]), plan.network
    parameters = sum(i * o for o, i in network.shapes(d, classes))  # and gradients, moments, penalty, copies
    active = 2 * (plan.batch or n) * (sum(network.hidden) + classes)
    labels = n * classes * (1 if len(data.targets) == 1 else 5)
    own = n * (d if data.X.ndim == 3 or data.weights is not None else 0) + n * sum(network.hidden[: network.frozen])
    return size * (active + 6 * parameters + labels + own), size * active


def _train_chunks(plan: Plan, data: Data, start: Models, looks: Tensor | None, compute: Compute) -> Run:
    chunks = compute.chunks(plan.models, *_bytes(plan, data, compute.dtype.itemsize))
    bar, stop = tqdm(total=len(chunks) * plan.steps, disable=not compute.progress, unit="step"), threading.Event()
    with one_core_each(compute.threads), bar, ThreadPoolExecutor(compute.threads) as pool:
        try:
            run = map if compute.threads == 1 else pool.map
            with torch.cuda.device(data.X.device if data.X.is_cuda else -1):
                parts = list(run(lambda rows: _train_chunk(plan, data, start, looks, rows, bar, stop), chunks))
        finally:
            stop.set()  # where one thread fails, the others end at their next step
    shots = [shots for _, shots in parts]
    return Run(join([models for models, _ in parts]), torch.cat(shots, 1) if looks is not None else None)


@torch.no_grad()
def _train_chunk(plan, data, start, looks, rows, bar, stop):
    """The whole training of the models `rows`: the trained models, and their logits at the snapshots."""
    stack, shots = Stack(start[rows], data, rows, plan.of(rows)), []
    looks = None if looks is None else stack.behind_frozen(looks if looks.ndim == 2 else looks[rows])
    step = stack.stepper()
    for t in range(plan.steps + 1):
        if t in plan.snapshots:
            shots.append(stack.logits(looks))
        if t % 100 == 99 or t == plan.steps:
            _raise_if_diverged(stack, rows, t)
        if t == plan.steps or stop.is_set():
            return stack.models(), torch.stack(shots) if shots else None
        step(t)
        bar.update()


def _raise_if_diverged(stack, rows, t):
    if bad := stack.diverged():
        names = f"{[rows.start + m for m in bad[:5]]}{' and others' if len(bad) > 5 else ''}"
        remedy = f"lower lr ({float(stack.plan.lr[bad[0]]):g}), or leave them out"
        raise FloatingPointError(f"models {names} diverged by step {t}: {remedy}")
