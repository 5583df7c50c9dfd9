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
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch
from tqdm.auto import tqdm

from .estimates import require
from .losses import CE, Loss, Squared, check_labels
from .models import Models, Network, backward, forward, initialise, inputs, two_logits


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
class Compute:
    """Where and how to compute; no field changes what is computed beyond rounding."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    threads: int = 1  # chunks at a time, each on one core; 1 leaves torch's own threads as they are
    memory: float = 2e9  # bytes that the chunks in work may take, shared data and results not counted
    chunk: int | None = None  # models a chunk; None: activations of about 4 MB on a CPU, what memory allows on a GPU
    progress: bool = False  # a tqdm bar over all steps of all chunks

    def check(self):
        """Raise ValueError if the device is absent."""
        kind = torch.device(self.device).type
        there = kind == "cpu" or (kind == "cuda" and torch.cuda.is_available())
        require(there, "device", f"{self.device} is not available here; use 'cpu'")
        require(self.threads >= 1, "threads", "must be at least 1")
        require(self.threads == 1 or kind == "cpu", "threads", "are for the CPU; a GPU trains all models as one chunk")

    def chunks(self, models, bytes_per_model, active_bytes):
        """Slices of the models; a model needs `bytes_per_model`, of which `active_bytes` are touched in each step."""
        most = max(1, int(self.memory / self.threads / bytes_per_model))
        size = self.chunk or (most if str(self.device) != "cpu" else max(1, round(4e6 / active_bytes)))
        size = min(size, most, -(-models // self.threads))
        return [slice(i, min(i + size, models)) for i in range(0, models, size)]


EXACT = Compute(dtype=torch.float64)


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


class _Data:
    """Inputs, labels and example weights of a stack of models, checked; `name` goes before the argument's in errors."""

    def __init__(
        self, X, targets, weights, mask, models, compute, per_model=(), simplex=True, allow_empty=False, name=""
    ):
        compute.check()
        self.X = inputs(X, torch.empty(0, dtype=compute.dtype, device=compute.device), name + "X")
        Q, w, mask = (None if x is None else torch.as_tensor(x).cpu() for x in (targets, weights, mask))
        n, shape = self.X.shape[-2], "(inputs, classes) or (models, inputs, classes)"
        require(
            Q.ndim in (2, 3), name + "targets", f"need shape {shape}, got {tuple(Q.shape)}; one_hot makes it of labels"
        )
        require(Q.is_floating_point(), name + "targets", f"are of type {Q.dtype}; convert them to floating point")
        Q = Q if Q.ndim == 3 else Q[None]
        require(Q.shape[1] == n, name + "targets", f"have {Q.shape[1]} inputs, X has {n}")
        for what, x in (("weights", w), ("mask", mask)):
            require(x is None or x.ndim == 2, name + what, "need two axes, the first for the models")
        require(mask is None or ((mask == 0) | (mask == 1)).all(), name + "mask", "must be 0 or 1")
        counts = [len(x) for x in (Q, w, mask, self.X if self.X.ndim == 3 else None, *per_model) if x is not None]
        E = max(counts) if models is None else models
        require(len(Q) in (1, E), name + "targets", f"are for {len(Q)} models, there are {E}")
        require(self.X.ndim == 2 or len(self.X) == E, name + "X", f"has the inputs of {len(self.X)} models, not {E}")
        require(mask is None or mask.shape == (E, self.X.shape[-1]), name + "mask", f"need {(E, self.X.shape[-1])}")
        used = torch.ones(len(Q), n, dtype=torch.bool)
        if w is not None:
            require(w.shape == (E, n), name + "weights", f"need shape {(E, n)}, got {tuple(w.shape)}")
            good = torch.isfinite(w).all() and (w >= 0).all() and (w.sum(1) > 0).all()
            require(good, name + "weights", "must be finite and >= 0, with at least one example a model")
            used = w > 0 if len(Q) == E else (w > 0).any(0, keepdim=True)
        rows = Q[used]  # the labels of examples that no model uses may be anything
        require(torch.isfinite(rows).all(), name + "targets", "hold NaN or infinity")
        if simplex:
            check_labels(rows, name=name + "targets")
            known = torch.where(used[:, :, None], Q, 0)
            mass = known.sum(1) if w is None else (w.to(known)[:, None] @ known)[:, 0]
            empty = [] if allow_empty else (mass == 0).nonzero().tolist()
            cases = "model {} has no example of class {}".format(*empty[0]) if empty else ""
            remedy = f"({len(empty)} such cases); draw stratified samples, or pass allow_empty=True"
            require(not empty, name + "targets", f"{cases} {remedy}")
        self.targets, self.weights, self.mask, self.models = Q, w, mask, E

    def of(self, rows):
        """X, labels (models or 1, classes, inputs) and weights (models, inputs) or None of the models `rows`."""
        X = self.X if self.X.ndim == 2 else self.X[rows]
        Q = (self.targets if len(self.targets) == 1 else self.targets[rows]).to(X).mT.contiguous()
        if self.weights is None:
            return X, Q, None
        w = self.weights[rows].to(X)
        return X, torch.where((w > 0)[:, None], Q, 1 / Q.shape[1]), w

    def own_rows(self, rows):
        """The same; where all models use fewer than half of the inputs, X is (models, rows, features), their own."""
        X, Q, w = self.of(rows)
        most = len(X) if w is None or X.ndim == 3 else int((w > 0).sum(1).max())
        if most >= X.shape[-2] / 2 or w is None or X.ndim == 3:
            return X, Q, w
        own = (w > 0).to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]  # padded with weights of 0
        return X[own], _take(Q, own), w.gather(1, own)


def _take(x, rows):
    """Examples `rows`, (inputs,) or (models, inputs), of x (models or 1, k, inputs)."""
    if rows.ndim == 1:
        return x[..., rows]
    return x.expand(len(rows), -1, -1).gather(2, rows[:, None].expand(-1, x.shape[1], -1))


def _batches(n, batch, seeds, order, device):
    """Batches without end: one permutation of the inputs behind the other, cut into pieces of `batch`."""
    keys = [[order, 0]] if order is not None else [[seed, 1] for seed in seeds]
    streams = [np.random.default_rng(key) for key in keys]
    left = np.empty((len(streams), 0), dtype=np.int64)
    while True:
        while batch and left.shape[1] < batch:
            left = np.concatenate([left, np.stack([rng.permutation(n) for rng in streams])], 1)
        rows, left = left[:, :batch], left[:, batch:]
        yield torch.as_tensor(rows[0] if order is not None else rows, device=device) if batch else None


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
            X = X[rows] if X.ndim == 2 else _take(X.mT, rows).mT
            labels = tuple(_take(x, rows) for x in labels)
            scale = _take(scale, rows) if torch.is_tensor(scale) else scale
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


@contextmanager
def _cores(threads):
    """Several chunks at a time: one core each, instead of all cores for one product."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else before)
        yield
    finally:
        torch.set_num_threads(before)


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
    batches, shots = _batches(data.X.shape[-2], call.batch, call.seeds[rows], call.order, data.X.device), []
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
    data = _Data(X, targets, weights, mask, E, compute, grids, _on_simplex(loss), allow_empty)
    E, (n, d), classes = data.models, data.X.shape[-2:], data.targets.shape[2]
    call = SimpleNamespace(steps=steps, loss=loss, optimizer=optimizer, batch=batch, order=order, held_out=None)
    call.seeds = np.arange(E) if seeds is None else np.asarray(seeds)
    call.early_stopping, call.on_divergence = early_stopping, on_divergence
    require(steps >= 1, "steps", "must be at least 1")
    require(batch is None or 1 <= batch <= n, "batch", f"must lie between 1 and the number of inputs, {n}")
    require(on_divergence in ("raise", "keep"), "on_divergence", "must be 'raise' or 'keep'")
    call.lr, call.l2 = (_one_each(value, E, name) for name, value in (("lr", lr), ("l2", l2)))
    require((call.lr > 0).all(), "lr", "must be positive")
    start = initialise(network, d, classes, call.seeds) if start is None else start
    expected, got = [(E, *s) for s in network.shapes(d, classes)], [tuple(W.shape) for W in start.weights]
    require(got == expected, "start", f"has weights {got}, the network {expected}")
    start = replace(start, network=network)  # what is frozen may differ
    if early_stopping:
        e = early_stopping
        require(e.every >= 1 and e.patience >= 1, "early_stopping", "needs every >= 1 and patience >= 1")
        simplex = _on_simplex(e.loss or loss)
        call.held_out = _Data(e.X, e.targets, e.weights, None, E, compute, (), simplex, True, "early_stopping.")
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
    with _cores(compute.threads), bar, ThreadPoolExecutor(compute.threads) as pool:
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


def _on_simplex(loss):
    """Whether labels must be distributions: not for the squared loss, and a user's own may take anything."""
    return isinstance(loss, Loss) and not isinstance(loss, Squared)


def _one_each(value, models, name):
    """A number, or one a model, as float64 (models,)."""
    value = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
    require(len(value) in (1, models), name, f"need one number, or one a model: {models}, got {len(value)}")
    require(torch.isfinite(value).all() and (value >= 0).all(), name, "must be finite and >= 0")
    return value.expand(models).clone()


@dataclass(frozen=True)
class Probes:
    """Fitted probes: weight (models, classes, features), bias (models, classes)."""

    weight: torch.Tensor
    bias: torch.Tensor
    steps: int
    gradient: float  # largest entry of any model's gradient, per unit of example weight, when training stopped

    def logits(self, X):
        """Logits of every model on inputs X (inputs, features): (models, inputs, classes), the ledger's layout."""
        return Models(Network(), (self.weight,), (self.bias,)).logits(X)


def fit_probes(
    X, targets, *, weights=None, mask=None, l2=1.0, tol=1e-6, max_steps=5000, allow_empty=False, compute=EXACT
):
    r"""Fit one softmax regression a model to its optimum; there is no learning rate and no seed.

        sum_i w_mi CE(q_mi, softmax(W_m x_i + b_m)) + l2_m/2 ||W_m||^2     (scikit-learn's LogisticRegression, C = 1/l2)

    by Nesterov steps in the metric of Boehning's bound on the Hessian, 1/2 X'diag(w)X + l2 (Boehning 1992), one matrix
    a model for all its classes and a single one where no model differs, restarted where the step turns against the
    gradient (O'Donoghue and Candes 2015). Two classes are fitted as one logit, with the bound 1/4 X'diag(w)X + l2/2.

    X, targets, weights, mask, allow_empty : as in `train`; float64 unless `compute` says otherwise
    l2      : a number, or one a model; it stands beside the SUM of the losses
    compute : its `progress` has no effect here
    tol     : stop when every entry of every gradient is below tol x the model's total weight
    Raises ValueError as `train` does, and for l2 <= 0; RuntimeError if `max_steps` do not reach `tol`.
    """
    data = _Data(X, targets, weights, mask, None, compute, [np.atleast_1d(l2)], allow_empty=allow_empty)
    E, d, (n, classes) = data.models, data.X.shape[-1] + 1, data.targets.shape[1:]
    penalties = _one_each(l2, E, "l2")
    require((penalties > 0).all(), "l2", "must be positive: without it separable data have no optimum")
    one = data.X.ndim == 2 and data.weights is None and data.mask is None and bool((penalties == penalties[0]).all())
    own = 0 if one else 3 * d * d + (n * d if data.weights is not None else 0)
    chunks = compute.chunks(E, compute.dtype.itemsize * (own + 5 * n * classes + 4 * d * classes), 1)
    with _cores(compute.threads), ThreadPoolExecutor(compute.threads) as pool:
        fits = list(pool.map(lambda rows: _fit_probes(data, rows, penalties, one, tol, max_steps), chunks))
    weight, bias = (torch.cat([getattr(f, name) for f in fits]) for name in ("weight", "bias"))
    return Probes(weight, bias, max(f.steps for f in fits), max(f.gradient for f in fits))


@torch.no_grad()
def _fit_probes(data, rows, l2, one_metric, tol, max_steps):
    """`fit_probes` for the models `rows`; `one_metric`: they differ in their labels alone."""
    X, Q, w = data.own_rows(rows)
    E, C, (n, d) = rows.stop - rows.start, Q.shape[1], (X.shape[-2], X.shape[-1] + 1)
    binary = C == 2
    Q, outputs = (Q[:, 1:], 1) if binary else (Q, C)
    X1, shared = torch.cat([X, X.new_ones(*X.shape[:-1], 1)], -1), X.ndim == 2  # the bias is a feature that all see
    l2 = l2[rows].to(X)[:, None, None] / (2 if binary else 1)
    penalty = l2.expand(E, 1, d).clone()
    penalty[:, :, -1] = 0  # the bias is not penalised
    seen = None if data.mask is None else torch.nn.functional.pad(data.mask[rows].to(X), (0, 1), value=1.0)[:, None]
    if one_metric:
        bound = X1.T @ X1
    else:
        each = zip(X1.expand(E, n, d), X.new_ones(1, n).expand(E, n) if w is None else w)
        bound = torch.stack([(x * v[:, None]).T @ x for x, v in each])
    bound = bound / (4 if binary else 2)
    bound = bound if seen is None else bound * seen.mT * seen
    bound = bound + torch.diag_embed((penalty + 1e-9 * l2)[: 1 if one_metric else E, 0])
    metric = torch.cholesky_inverse(torch.linalg.cholesky(bound))
    total = (torch.full((E,), float(n)) if w is None else w.sum(1)).to(X)
    W = X.new_zeros(E, outputs, d)
    V, t = W.clone(), X.new_ones(E, 1, 1)
    for step in range(max_steps + 1):
        Z = (V.view(E * outputs, d) @ X1.T).view(E, outputs, n) if shared else torch.bmm(V, X1.mT)
        R = (Z.sigmoid() if binary else Z.softmax(1)) - Q
        R = R if w is None else R.mul_(w[:, None])
        G = (R.view(E * outputs, n) @ X1).view(E, outputs, d) if shared else torch.bmm(R, X1)
        G = (G if seen is None else G.mul_(seen)).addcmul_(penalty, V)
        worst = float((G.abs().amax((1, 2)) / total).max())
        if worst < tol:
            V = torch.cat([-V, V], 1) / 2 if binary else V
            return Probes(V[:, :, :-1], V[:, :, -1], step, worst)
        D = (G.view(E * outputs, d) @ metric[0]).view_as(G) if one_metric else torch.bmm(G, metric)
        new = V - D
        turned = (D * (new - W)).sum((1, 2), keepdim=True) > 0
        t = torch.where(turned, 1.0, t)
        t_new = (1 + (1 + 4 * t * t).sqrt()) / 2
        V = new + torch.where(turned, 0.0, (t - 1) / t_new) * (new - W)
        W, t = new, t_new
    raise RuntimeError(f"gradient {worst:.1e} after {max_steps} steps, tol is {tol:.1e}: raise max_steps, tol or l2")
