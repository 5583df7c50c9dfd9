r"""Training many models as one batch: `train` by Adam or SGD, `fit_probes` to the optimum of softmax regression.

Every expectation over teachers is an average over hundreds of models, so models are trained as a stack (the layout is
that of `models`). Model m minimises, with weights w_mi on the shared inputs (0 leaves one out, a bootstrap is a vector
of counts, None is all ones),

    sum_i w_mi loss(z_m(x_i), q_mi) / sum_i w_mi  +  l2_m/2 ||weights of m||^2          biases are not penalised

Anything that is one number a model may differ between models: learning rate, penalty, seed. A grid of hyper-parameters
is therefore one batch. On a CPU the stack is cut into chunks whose activations stay in the cache, and chunks can run on
several threads; on a GPU all models are one chunk and a step is one CUDA graph. A trained model does not depend on its
neighbours, except in the last bits, which depend on the size of the chunk; a fitted probe does to within `tol`.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch
from tqdm.auto import tqdm

from .._checks import one_each, require
from ..losses import CE, Loss
from .compute import Compute, one_core_each
from .data import Data, endless_batches, on_simplex, take
from .network import Models, backward, forward, initialise, inputs, two_logits
from .optimisers import Adam


@dataclass(frozen=True)
class EarlyStopping:
    """Keep of each model the parameters with the least mean loss on held-out inputs with (weak) labels."""

    X: object
    targets: object
    weights: object = None  # X, targets, weights as in `train`
    every: int = 10  # steps between two looks; step 0 is looked at too
    patience: int = 10  # looks without a new minimum after which a model is done
    loss: object = None  # None: the training loss


@dataclass(frozen=True)
class Run:
    """What `train` returns."""

    models: Models
    snapshots: torch.Tensor | None  # (steps, models, inputs, classes): logits at the chosen steps
    best_step: torch.Tensor | None  # (models,): with early stopping, the step whose parameters were kept
    validation: torch.Tensor | None  # (looks, models): validation loss; NaN after a model's chunk was done
    diverged: torch.Tensor  # (models,): True where parameters are not finite

    def logits(self, X):
        """Logits of the trained models on X: (models, inputs, classes)."""
        return self.models.logits(X)


def _logit_gradient(loss, z, labels, step, one_logit):
    """d loss / d z, class-first; a loss that is not one of ours is differentiated by autograd."""
    if isinstance(loss, Loss):
        return loss.one_logit_gradient(z, labels, step) if one_logit else loss.step_gradient(z, labels, -2, step)
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        full = (two_logits(leaf) if one_logit else leaf).mT
        values = loss(full, labels[0].mT.expand_as(full))
        require(values.shape == full.shape[:-1], "loss", f"gave {tuple(values.shape)}, not one value an example")
        return torch.autograd.grad(values.sum(), leaf)[0].clone()  # it may be a view of a constant


class _Chunk:
    """Models in training: parameters p and gradients g, flat, with views a layer; all buffers have a fixed size."""

    def __init__(self, models, data, rows, call):
        net, frozen, E = models.network, models.network.frozen, len(models)
        self.call, self.net = call, net
        X, Q, w = data.of(rows) if call.batch else data.own_rows(rows)
        self.behind_frozen = lambda X: models.logits(X, layers=frozen).contiguous() if frozen else X
        self.X = self.behind_frozen(X)
        n = self.X.shape[-2]
        size = call.batch or n
        self.labels = call.loss.prepare(Q, -2, None if w is None else w > 0) if isinstance(call.loss, Loss) else (Q,)
        # what an example counts in the gradient; a batch stands for all n
        self.scale = 1 / size if w is None else (w / w.sum(1, keepdim=True) * (n / size))[:, None]

        tensors = [x for W, b in zip(models.weights[frozen:], models.biases[frozen:]) for x in (W, b[:, :, None])]
        is_weight = [torch.full_like(x, i % 2 == 0) for i, x in enumerate(tensors)]
        self.shapes = [x.shape for x in tensors]
        self.p, is_weight = (torch.cat([x.reshape(-1) for x in xs]) for xs in (tensors, is_weight))
        self.g = torch.zeros_like(self.p)
        self.layers, self.gradients = self.views(self.p), self.views(self.g)
        units = [W.shape[1] for W, _ in self.layers]
        self.buffers = [self.p.new_empty(E, h, size) for h in units]
        self.deltas = [self.p.new_empty(E, h, size) for h in units[:-1]]
        self.mask = None if data.mask is None or frozen else data.mask[rows].to(X)[:, None]
        self.lr, l2, decay = self.spread(call.lr[rows]), self.spread(call.l2[rows]), call.optimizer.weight_decay
        self.keep = 1 - self.lr * decay * is_weight if decay else None
        self.l2 = l2 * is_weight if torch.is_tensor(l2) or l2 else None
        self.state = call.optimizer.state(self.p)

    def views(self, flat):
        """[(W, b), ...] of a flat tensor."""
        tensors = [x.view(shape) for x, shape in zip(flat.split([s.numel() for s in self.shapes]), self.shapes)]
        return list(zip(tensors[::2], tensors[1::2]))

    def spread(self, values):
        """The number that all models share, or a tensor like p with each model's number at its parameters."""
        if bool((values == values[0]).all()):
            return float(values[0])
        return torch.cat([values.to(self.p)[:, None, None].expand(shape).reshape(-1) for shape in self.shapes])

    def step(self, t, rows=None):
        """Step t = 1, 2, ... on the batch `rows`, (inputs,) or (models, inputs); None: all inputs."""
        X, labels, scale = self.X, self.labels, self.scale
        if rows is not None:
            X = X[rows] if X.ndim == 2 else take(X.mT, rows).mT
            labels = tuple(take(x, rows) for x in labels)
            scale = take(scale, rows) if torch.is_tensor(scale) else scale
        activations = forward(self.layers, X, self.net.activation, self.buffers)
        R = _logit_gradient(self.call.loss, activations[-1], labels, t - 1, self.net.one_logit).mul_(scale)
        backward(self.layers, self.gradients, X, activations, R, self.net.activation, self.deltas)
        if self.mask is not None:
            self.gradients[0][0].mul_(self.mask)
        if self.l2 is not None:
            self.g.addcmul_(self.p, self.l2)
        if self.keep is not None:
            self.p.mul_(self.keep)
        self.call.optimizer.update(self.p, self.g, self.state, t, self.lr)

    def graph(self, rows):
        """`step` as one CUDA graph: a function of (t, rows), with t counted on the device; `rows` shows the shape."""
        t, rows = torch.zeros((), dtype=torch.float64, device=self.p.device), None if rows is None else rows.clone()
        kept = [(x, x.clone()) for x in (self.p, *self.state)]
        stream = torch.cuda.Stream()  # capture asks for a warm-up on another stream; its effect is undone
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step(t.add_(1), rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step(t.add_(1), rows)
        for x, old in kept:
            x.copy_(old)
        t.zero_()

        def replay(_, new):
            if new is not None:
                rows.copy_(new)
            graph.replay()

        return replay

    def logits(self, X):
        """Logits on inputs that went through `behind_frozen`; class-first."""
        z = forward(self.layers, X, self.net.activation)[-1]
        return two_logits(z) if self.net.one_logit else z

    def bad(self):
        """(models,): True where a parameter is not finite."""
        return ~torch.stack([x.isfinite().flatten(1).all(1) for layer in self.layers for x in layer]).all(0)

    def trained(self, models):
        """`models` with the parameters p."""
        new = self.views(self.p.clone())
        weights = (*models.weights[: self.net.frozen], *(W for W, _ in new))
        return Models(self.net, weights, (*models.biases[: self.net.frozen], *(b[:, :, 0] for _, b in new)))


class _Stopper:
    """Early stopping of a chunk: remembers each model's best parameters."""

    def __init__(self, chunk, held_out, rows):
        X, self.Q, self.w = held_out.of(rows)
        self.chunk, self.early, self.X = chunk, chunk.call.early_stopping, chunk.behind_frozen(X)
        self.loss, used = self.early.loss or chunk.call.loss, None if self.w is None else self.w > 0
        self.labels = self.loss.prepare(self.Q, -2, used) if isinstance(self.loss, Loss) else None
        E, like = len(chunk.layers[0][0]), {"device": chunk.p.device}
        self.step, self.waited = (torch.zeros(E, dtype=torch.long, **like) for _ in range(2))
        self.best, self.kept = torch.full((E,), torch.inf, dtype=chunk.p.dtype, **like), chunk.p.clone()
        self.values = self.best.new_full((chunk.call.steps // self.early.every + 1, E), torch.nan)

    def done(self, step):
        """Look at the validation loss; True when no model improves any more."""
        z = self.chunk.logits(self.X)
        if self.labels is None:
            each = self.loss(z.mT, self.Q.expand_as(z).mT)
            require(each.shape == (len(z), z.shape[2]), "early_stopping.loss", "must give one value an example")
        else:
            each = self.loss.step_value(z, self.labels, -2)
        value = each.mean(1) if self.w is None else (each * self.w).sum(1) / self.w.sum(1)
        self.values[step // self.early.every] = self.last = value
        better = (value < self.best) & (self.waited < self.early.patience)
        self.best, self.step = torch.where(better, value, self.best), torch.where(better, step, self.step)
        self.waited = torch.where(better, 0, self.waited + 1)
        for kept, new in zip(self.chunk.views(self.kept), self.chunk.layers):
            for old, now in zip(kept, new):
                old[better] = now[better]
        return bool((self.waited >= self.early.patience).all())


@torch.no_grad()
def _train_chunk(models, data, rows, call, bar, stop):
    """The whole training of the models `rows`."""
    move = {name: tuple(x.to(data.X) for x in getattr(models, name)) for name in ("weights", "biases")}
    models = replace(models, **move)
    if data.mask is not None:  # also of a warm start: the weights of what a model does not see are 0, and stay so
        models = replace(models, weights=(models.weights[0] * data.mask[rows].to(data.X)[:, None], *models.weights[1:]))
    chunk = _Chunk(models, data, rows, call)
    stopper = call.held_out and _Stopper(chunk, call.held_out, rows)
    looks = call.looks if call.looks is None or call.looks.ndim == 2 else call.looks[rows]
    looks = None if looks is None else chunk.behind_frozen(looks)
    batches, shots = endless_batches(data.X.shape[-2], call.batch, call.seeds[rows], call.order, data.X.device), []
    batch = next(batches)
    make_step = chunk.step if data.X.device.type == "cpu" else chunk.graph(batch)

    def check(step):
        bad = chunk.bad() if not stopper else stopper.last.isnan() | chunk.bad()
        if call.on_divergence == "raise" and bad.any():
            who = [rows.start + m for m in bad.nonzero()[:, 0].tolist()]
            cases = f"models {who[:5]}{' and others' if len(who) > 5 else ''} diverged by step {step}"
            remedy = f"lower lr ({float(call.lr[who[0]]):g}), or pass on_divergence='keep' to keep the others"
            raise FloatingPointError(f"{cases}: {remedy}")
        return bad

    for step in range(call.steps + 1):
        if step in call.look_steps:
            shots.append(chunk.logits(looks).mT)
        done = stopper and step % call.early_stopping.every == 0 and stopper.done(step)
        if step == call.steps or stop.is_set() or (done and step >= max(call.look_steps, default=0)):
            break
        make_step(step + 1, batch)
        batch = next(batches)
        if step % 100 == 99 and not stopper:
            check(step + 1)
        bar.update()
    bar.update(call.steps - step)
    if stopper:
        chunk.p.copy_(stopper.kept)
    best, values = (stopper.step, stopper.values) if stopper else (None, None)
    return Run(chunk.trained(models), torch.stack(shots) if shots else None, best, values, check(step))


def train(
    network,
    X,
    targets,
    *,
    steps,
    lr,
    loss=CE,
    optimizer=Adam(),
    l2=0.0,
    batch=None,
    order=0,
    weights=None,
    mask=None,
    seeds=None,
    start=None,
    early_stopping=None,
    snapshots=None,
    compute=Compute(),
    on_divergence="raise",
    allow_empty=False,
):
    """Train a stack of models on shared inputs; the module gives the objective. Returns a Run.

    network  : Network; all models share the architecture
    X        : (inputs, features) shared, or (models, inputs, features): then each model has its own inputs
    targets  : (models, inputs, classes) labels, soft or one-hot, or (inputs, classes) for all models; real numbers for
               SQUARED_LOSS
    lr, l2   : a number, or one a model. Note that l2 stands beside the MEAN loss; in `fit_probes` beside the sum
    loss     : of `losses`, or any function (logits, targets) -> (models, inputs) of (models, inputs, classes) tensors,
               differentiated by autograd; on a GPU it is captured once in a CUDA graph: no .item(), no Python state
    batch    : examples a step; None: all. Batches run through one permutation of the inputs behind the other
    order    : seed of the permutations, shared by all models; None: each model has its own, drawn from its seed
    weights  : (models, inputs) example weights >= 0: subsets, bootstraps
    mask     : (models, features), 0 where a model does not see a feature
    seeds    : (models,) integers, for the initial weights; None: 0, 1, 2, ...
    start    : Models to start from (a warm start; the optimiser starts anew) instead of initial weights
    snapshots: (X, steps): record the logits on X at these steps (0 is before the first)
    on_divergence : "raise", or "keep": diverged models stay NaN and are marked, the others are not affected
    allow_empty   : whether a class may be without examples
    Raises ValueError that names the argument, FloatingPointError for models that diverged.
    """
    good = seeds is None or (np.ndim(seeds) == 1 and np.min(seeds) >= 0)
    require(good, "seeds", "must be a list of numbers >= 0, one a model")
    E = None if seeds is None and start is None else len(start if seeds is None else seeds)
    grids = [np.atleast_1d(x) for x in (lr, l2)]
    data = Data(X, targets, weights, mask, E, compute, grids, on_simplex(loss), allow_empty)
    E, (n, d), classes = data.models, data.X.shape[-2:], data.targets.shape[2]
    call = SimpleNamespace(steps=steps, loss=loss, optimizer=optimizer, batch=batch, order=order, held_out=None)
    call.seeds = np.arange(E) if seeds is None else np.asarray(seeds)
    call.early_stopping, call.on_divergence = early_stopping, on_divergence
    require(steps >= 1, "steps", "must be at least 1")
    require(batch is None or 1 <= batch <= n, "batch", f"must lie between 1 and the number of inputs, {n}")
    require(on_divergence in ("raise", "keep"), "on_divergence", "must be 'raise' or 'keep'")
    call.lr, call.l2 = (one_each(value, E, name) for name, value in (("lr", lr), ("l2", l2)))
    require((call.lr > 0).all(), "lr", "must be positive")
    start = initialise(network, d, classes, call.seeds) if start is None else start
    expected, got = [(E, *s) for s in network.shapes(d, classes)], [tuple(W.shape) for W in start.weights]
    require(got == expected, "start", f"has weights {got}, the network {expected}")
    start = replace(start, network=network)  # what is frozen may differ
    if early_stopping:
        e = early_stopping
        require(e.every >= 1 and e.patience >= 1, "early_stopping", "needs every >= 1 and patience >= 1")
        simplex = on_simplex(e.loss or loss)
        call.held_out = Data(e.X, e.targets, e.weights, None, E, compute, (), simplex, True, "early_stopping.")
        require(call.held_out.X.shape[-1] == d, "early_stopping.X", "must have the features of X")
        require(call.held_out.targets.shape[2] == classes, "early_stopping.targets", "must have the classes of targets")
    looks, look_steps = snapshots or (None, ())
    call.looks = None if looks is None else inputs(looks, data.X, "snapshots")
    fits = looks is None or (call.looks.shape[-1] == d and (call.looks.ndim == 2 or len(call.looks) == E))
    require(fits, "snapshots", f"inputs need {d} features, and one set for all models or one for each")
    call.look_steps = sorted({int(t) for t in look_steps})
    require(all(0 <= t <= steps for t in call.look_steps), "snapshots", f"steps must lie in 0..{steps}")

    size, parameters = compute.dtype.itemsize, sum(W[0].numel() for W in start.weights)
    active = size * (batch or n) * 2 * (sum(network.hidden) + classes)
    copies = (d if data.X.ndim == 3 or data.weights is not None else 0) + sum(network.hidden[: network.frozen])
    own = size * n * (classes * (1 if len(data.targets) == 1 else 4) + copies)
    chunks, stop = compute.chunks(E, active + own + 6 * size * parameters, active), threading.Event()
    bar = tqdm(total=len(chunks) * steps, disable=not compute.progress, unit="step")
    with one_core_each(compute.threads), bar, ThreadPoolExecutor(compute.threads) as pool:
        try:
            run = map if compute.threads == 1 else pool.map
            with torch.cuda.device(data.X.device if data.X.is_cuda else -1):
                parts = list(run(lambda rows: _train_chunk(start[rows], data, rows, call, bar, stop), chunks))
        finally:
            stop.set()  # where one thread fails, the others end at their next step

    def join(name, axis):
        pieces = [getattr(part, name) for part in parts]
        return None if pieces[0] is None else torch.cat(pieces, axis)

    layers = {
        name: tuple(torch.cat(xs) for xs in zip(*(getattr(part.models, name) for part in parts)))
        for name in ("weights", "biases")
    }
    rest = {"snapshots": 1, "best_step": 0, "validation": 1, "diverged": 0}
    return Run(Models(network, **layers), **{name: join(name, axis) for name, axis in rest.items()})
