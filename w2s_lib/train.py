r"""Training many models as one batch: `train` by Adam or SGD, `fit_probes` to the optimum of softmax regression.

Every expectation over teachers is an average over hundreds of models, so models are trained as a stack (the layout is
that of `models`). Model m minimises, with weights w_mi on the shared inputs (0 leaves one out, a bootstrap is a vector
of counts, None is all ones),

    sum_i w_mi loss(z_m(x_i), q_mi) / sum_i w_mi  +  l2_m/2 ||weights of m||^2          biases are not penalised

Anything that is one number a model may differ between models: learning rate, penalty, seed. A grid of hyper-parameters
is therefore one batch. On a CPU the stack is cut into chunks whose activations stay in the cache, and chunks can run on
several threads; on a GPU all models are one chunk and a step is one CUDA graph. A model's result does not depend on its
neighbours, except in the last bits, which depend on the size of the chunk.
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from .estimates import require
from .losses import CE, Loss, Squared
from .models import Models, Network, backward, forward, initialise, inputs, two_logits, with_ones


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
    """Keep of each model the parameters with the least mean loss on held-out inputs with (weak) labels.

    X, targets, weights : as in `train`
    every               : steps between two looks; step 0 is looked at too
    patience            : looks without a new minimum after which a model is done
    loss                : None for the training loss
    """

    X: object
    targets: object
    weights: object = None
    every: int = 10
    patience: int = 10
    loss: object = None


@dataclass(frozen=True)
class Compute:
    """Where and how to compute; no field changes what is computed beyond rounding."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    threads: int = 1  # chunks at a time, each on one core; 1 leaves torch's own threads as they are
    memory: float = 2e9  # bytes that the chunks in work may take, data and results not counted
    chunk: int | None = None  # models a chunk; None: activations of about 4 MB on a CPU, what memory allows on a GPU
    progress: bool = False  # a tqdm bar over all steps of all chunks

    def place(self):
        """The torch device; ValueError if it is absent."""
        device = torch.device(self.device)
        there = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_available())
        require(there, "device", f"{self.device} is not available here; use 'cpu'")
        return device

    def chunks(self, models, bytes_per_model, active_bytes):
        """Slices of the models; a model needs `bytes_per_model`, of which `active_bytes` are touched in each step."""
        most = max(1, int(self.memory / max(self.threads, 1) / bytes_per_model))
        size = self.chunk or (most if self.device != "cpu" else max(1, round(4e6 / active_bytes)))
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


@dataclass(frozen=True)
class _Problem:
    """Checked training data of all models; tensors on the device, except targets and weights, which go chunk by chunk."""

    X: torch.Tensor
    targets: torch.Tensor  # (models or 1, inputs, classes)
    weights: torch.Tensor | None  # (models, inputs)
    mask: torch.Tensor | None  # (models, features)
    models: int

    def labels(self, rows):
        """(targets (models, classes, inputs), weights (models, inputs) or None) of a chunk."""
        place = {"dtype": self.X.dtype, "device": self.X.device}
        Q = self.targets if len(self.targets) == 1 else self.targets[rows]
        Q = Q.to(**place).mT.contiguous()
        if self.weights is None:
            return Q, None
        w = self.weights[rows].to(**place)
        return torch.where((w > 0)[:, None], Q, 1 / Q.shape[1]), w  # labels that do not count may be anything


def _problem(X, targets, weights, mask, models, compute, *, simplex=True, allow_empty=False, name=""):
    """Check and convert the data of a training call; `name` goes before the argument's in errors."""
    X = inputs(X, torch.empty(0, dtype=compute.dtype, device=compute.place()), name + "X")
    targets, n = torch.as_tensor(targets), X.shape[-2]
    targets = targets if targets.ndim == 3 else targets[None]
    shape = f"need real numbers, (inputs, classes) or (models, inputs, classes), got {tuple(targets.shape)}"
    require(targets.ndim == 3 and targets.is_floating_point(), name + "targets", shape)
    require(targets.shape[1] == n, name + "targets", f"have {targets.shape[1]} inputs, X has {n}")
    w = None if weights is None else torch.as_tensor(weights)
    m = None if mask is None else torch.as_tensor(mask)
    if models is None:
        models = max(len(targets), len(X) if X.ndim == 3 else 1, *(len(x) for x in (w, m) if x is not None), 1)
    require(len(targets) in (1, models), name + "targets", f"are for {len(targets)} models, there are {models}")
    require(X.ndim == 2 or len(X) == models, name + "X", f"has the inputs of {len(X)} models, there are {models}")
    require(m is None or m.shape == (models, X.shape[-1]), name + "mask", f"need shape {(models, X.shape[-1])}")
    used = torch.ones(len(targets), n, dtype=torch.bool)
    if w is not None:
        require(w.shape == (models, n), name + "weights", f"need shape {(models, n)}, got {tuple(w.shape)}")
        good = torch.isfinite(w).all() and (w >= 0).all() and (w.sum(1) > 0).all()
        require(good, name + "weights", "must be finite and >= 0, with at least one example a model")
        used = w > 0 if len(targets) == models else (w > 0).any(0, keepdim=True)
    rows = targets[used]  # labels of examples that no model uses may be anything
    require(torch.isfinite(rows).all(), name + "targets", "hold NaN or infinity")
    if simplex:
        distributions = (rows >= 0).all() and ((rows.sum(1) - 1).abs() < 1e-4).all()
        require(distributions, name + "targets", "must be probabilities that sum to one over the last axis")
        known = torch.where(used[:, :, None], targets, 0)
        mass = known.sum(1) if w is None else (w.to(known.dtype)[:, None] @ known)[:, 0]
        empty = (mass == 0).nonzero()
        if len(empty) and not allow_empty:
            who, what = empty[0].tolist()
            wrong = f"model {who} has no example of class {what} ({len(empty)} such cases); draw stratified samples"
            raise ValueError(f"{name}targets: {wrong}, or pass allow_empty=True")
    return _Problem(X, targets, w, m, models)


@dataclass(frozen=True)
class _Settings:
    """The rest of a call of `train`; lr and l2 have one entry a model."""

    steps: int
    lr: torch.Tensor
    l2: torch.Tensor
    loss: object
    optimizer: object
    batch: int | None
    order: int | None
    seeds: np.ndarray
    early: EarlyStopping | None
    held_out: _Problem | None  # the data of `early`
    looks: torch.Tensor | None  # inputs of the snapshots
    look_steps: tuple[int, ...]
    raises: bool


def _own_rows(X, Q, w):
    """Where every model uses fewer than half of the inputs: its own rows, padded with rows of weight zero.

    X (inputs, features), Q (models or 1, classes, inputs), w (models, inputs) -> the same with X (models, rows, features)
    """
    if w is None or X.ndim == 3:
        return X, Q, w
    most = int((w > 0).sum(1).max())
    if most >= w.shape[1] / 2:
        return X, Q, w
    rows = (w > 0).to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return X[rows], Q.expand(len(w), -1, -1).gather(2, rows[:, None].expand(-1, Q.shape[1], -1)), w.gather(1, rows)


def _logit_gradient(loss, z, labels, step, one_logit):
    """d loss / d z, class-first; a loss that is not one of ours is differentiated by autograd."""
    full = two_logits(z) if one_logit else z
    if isinstance(loss, Loss):
        R = loss.step_gradient(full, labels, -2, step)
    else:
        leaf = full.mT.detach().requires_grad_()
        with torch.enable_grad():
            values = loss(leaf, labels[0].mT.expand_as(leaf))
            require(values.shape == leaf.shape[:-1], "loss", f"gave {tuple(values.shape)}, not one value an example")
            R = torch.autograd.grad(values.sum(), leaf)[0].mT
    return R[:, 1:] if one_logit else R


def _mean_loss(loss, z, Q, w):
    """Mean loss of each model, (models,); z, Q class-first."""
    Q = Q.expand_as(z)
    values = loss(z, Q, axis=-2) if isinstance(loss, Loss) else loss(z.mT, Q.mT)
    return values.mean(1) if w is None else (values * w).sum(1) / w.sum(1)


class _Chunk:
    """Some of the models in training: flat parameters p and gradients g with a view a layer, and buffers of fixed size."""

    def __init__(self, models, problem, rows, settings):
        self.settings, net = settings, models.network
        X, E, frozen = problem.X, len(models), net.frozen
        Q, w = problem.labels(rows)
        X = X if X.ndim == 2 else X[rows]
        X, Q, w = (X, Q, w) if settings.batch else _own_rows(X, Q, w)
        self.X1 = with_ones(models.logits(X, layers=frozen) if frozen else X)
        self.activation, self.one_logit, self.loss = net.activation, net.one_logit, settings.loss
        used = None if w is None else w > 0
        self.labels = self.loss.prepare(Q, -2, used) if isinstance(self.loss, Loss) else (Q,)
        n = self.X1.shape[-2]
        size = settings.batch or n
        # per-example weight in the gradient; a batch stands for all n inputs
        self.scale = 1 / size if w is None else (w / w.sum(1, keepdim=True) * (n / size))[:, None]

        self.parts = []  # shapes of the tensors that lie one behind the other in p
        parameters, penalised = [], []
        for i, (W, b) in enumerate(zip(models.weights[frozen:], models.biases[frozen:])):
            tensors = [torch.cat([W, b[:, :, None]], 2)] if i == 0 else [W, b[:, :, None]]
            flags = [torch.ones_like(x) for x in tensors]
            flags[-1][..., -1] = 0
            parameters, penalised = parameters + tensors, penalised + flags
            self.parts += [x.shape for x in tensors]
        self.p, flags = (torch.cat([x.reshape(-1) for x in xs]) for xs in (parameters, penalised))
        self.g = torch.zeros_like(self.p)
        self.layers, self.gradients = self.views(self.p), self.views(self.g)
        new, units = self.p.new_empty, [W.shape[1] for W, _ in self.layers]
        self.buffers = [new(E, h, size) for h in units]
        self.deltas = [new(E, h, size) for h in units[:-1]]
        self.mask = None if problem.mask is None or frozen else with_ones(problem.mask[rows].to(X))[:, None]
        # lr and penalties: numbers, or one entry a parameter
        self.lr, l2 = (self.spread(values[rows]) for values in (settings.lr, settings.l2))
        decay = settings.optimizer.weight_decay
        self.keep = 1 - self.lr * decay * flags if decay else None
        self.l2 = l2 * flags if torch.is_tensor(l2) or l2 else None
        self.state = settings.optimizer.state(self.p)

    def views(self, flat):
        """[(W, b), ...] into a flat tensor; the first layer is (W with the bias as last column, None)."""
        tensors = [x.view(shape) for x, shape in zip(flat.split([s.numel() for s in self.parts]), self.parts)]
        return [(tensors[0], None), *zip(tensors[1::2], tensors[2::2])]

    def spread(self, values):
        """One number if all models have the same, else a tensor like p with each model's number at its parameters."""
        if bool((values == values[0]).all()):
            return float(values[0])
        values = values.to(self.p)
        return torch.cat([values[:, None, None].expand(shape).reshape(-1) for shape in self.parts])

    def step(self, t, rows=None):
        """Step number t = 1, 2, ... on the batch `rows`, (inputs,) or (models, inputs); None: all inputs."""
        X1, labels, scale = self.X1, self.labels, self.scale
        if rows is not None:
            X1 = X1[rows] if X1.ndim == 2 else _take(X1.mT, rows).mT
            labels = tuple(_take(x, rows) for x in labels)
            scale = _take(scale, rows) if torch.is_tensor(scale) else scale
        activations = forward(self.layers, X1, self.activation, self.buffers)
        R = _logit_gradient(self.loss, activations[-1], labels, t - 1, self.one_logit).mul_(scale)
        backward(self.layers, self.gradients, X1, activations, R, self.activation, self.deltas)
        if self.mask is not None:
            self.gradients[0][0].mul_(self.mask)
        if self.l2 is not None:
            self.g.addcmul_(self.p, self.l2)
        if self.keep is not None:
            self.p.mul_(self.keep)
        self.settings.optimizer.update(self.p, self.g, self.state, t, self.lr)

    def stepper(self, rows):
        """A function of (t, rows) that makes a step. On a GPU: one CUDA graph, replayed; `rows` shows the shape."""
        if self.p.device.type != "cuda":
            return self.step
        t = torch.zeros((), device=self.p.device)
        rows = None if rows is None else rows.clone()
        kept = [(x, x.clone()) for x in (self.p, *self.state)]
        stream = torch.cuda.Stream()  # warm-up outside the graph, as capture asks for; its effect is undone
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                t.add_(1)
                self.step(t, rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            t.add_(1)
            self.step(t, rows)
        for x, old in kept:
            x.copy_(old)
        t.zero_()

        def replay(_, new):
            if new is not None:
                rows.copy_(new)
            graph.replay()

        return replay

    def logits(self, X1):
        """Logits on X1, inputs behind the frozen layers with a column of ones; class-first."""
        z = forward(self.layers, X1, self.activation)[-1]
        return two_logits(z) if self.one_logit else z

    def trained(self, models):
        """`models` with the parameters p."""
        frozen = models.network.frozen
        (first, _), *rest = self.views(self.p.clone())
        weights = (*models.weights[:frozen], first[:, :, :-1], *(W for W, _ in rest))
        biases = (*models.biases[:frozen], first[:, :, -1], *(b[:, :, 0] for _, b in rest))
        return Models(models.network, weights, biases)


def _take(x, rows):
    """Examples `rows`, (inputs,) or (models, inputs), of x (models or 1, k, inputs)."""
    if rows.ndim == 1:
        return x[..., rows]
    return x.expand(len(rows), -1, -1).gather(2, rows[:, None].expand(-1, x.shape[1], -1))


def _orders(n, batch, seeds, order, device):
    """Batches without end: a permutation of the inputs after the other, cut into pieces of `batch`."""
    if batch is None:
        yield from itertools.repeat(None)
    streams = (
        [np.random.default_rng([order, 0])] if order is not None else [np.random.default_rng([s, 1]) for s in seeds]
    )
    left = np.empty((len(streams), 0), dtype=np.int64)
    while True:
        while left.shape[1] < batch:
            left = np.concatenate([left, np.stack([rng.permutation(n) for rng in streams])], 1)
        rows, left = left[:, :batch], left[:, batch:]
        yield torch.as_tensor(rows[0] if order is not None else rows, device=device)


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
               differentiated by autograd
    batch    : examples a step; None: all. Batches run through one permutation of the inputs after the other
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
    count = None if seeds is None and start is None else len(start if seeds is None else seeds)
    simplex = isinstance(loss, Loss) and not isinstance(loss, Squared)
    options = {"simplex": simplex, "allow_empty": allow_empty or not simplex}
    problem = _problem(X, targets, weights, mask, count, compute, **options)
    E, n, classes = problem.models, problem.X.shape[-2], problem.targets.shape[2]
    seeds = np.arange(E) if seeds is None else np.asarray(seeds)
    require(steps >= 1, "steps", "must be at least 1")
    require(batch is None or 1 <= batch <= n, "batch", f"must lie between 1 and the number of inputs, {n}")
    require(on_divergence in ("raise", "keep"), "on_divergence", "must be 'raise' or 'keep'")
    per_model = {}
    for name, value in (("lr", lr), ("l2", l2)):
        value = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
        require(len(value) in (1, E), name, f"need one number, or one a model: {E}, got {len(value)}")
        require(torch.isfinite(value).all() and (value >= 0).all(), name, "must be finite and >= 0")
        per_model[name] = value.expand(E).clone()
    require((per_model["lr"] > 0).all(), "lr", "must be positive")
    if start is None:
        start = initialise(network, problem.X.shape[-1], classes, seeds, mask=problem.mask)
    expected = [(E, *shape) for shape in network.shapes(problem.X.shape[-1], classes)]
    got = [tuple(W.shape) for W in start.weights]
    require(start.network == network and got == expected, "start", f"has weights {got}, not {expected} of the network")
    held_out = None
    if early_stopping is not None:
        held = early_stopping
        require(held.every >= 1 and held.patience >= 1, "early_stopping", "needs every >= 1 and patience >= 1")
        held_out = _problem(
            held.X,
            held.targets,
            held.weights,
            None,
            E,
            compute,
            simplex=simplex,
            allow_empty=True,
            name="early_stopping.",
        )
        require(held_out.X.shape[-1] == problem.X.shape[-1], "early_stopping.X", "must have the features of X")
    looks, look_steps = (None, ()) if snapshots is None else snapshots
    look_steps = tuple(sorted({int(t) for t in look_steps}))
    require(all(0 <= t <= steps for t in look_steps), "snapshots", f"steps must lie in 0..{steps}")
    looks = None if looks is None else inputs(looks, problem.X, "snapshots")
    settings = _Settings(
        steps=steps,
        loss=loss,
        optimizer=optimizer,
        batch=batch,
        order=order,
        seeds=seeds,
        early=early_stopping,
        held_out=held_out,
        looks=looks,
        look_steps=look_steps,
        raises=on_divergence == "raise",
        **per_model,
    )

    size, rows = compute.dtype.itemsize, batch or n
    hidden, parameters = sum(network.hidden), sum(W[0].numel() for W in start.weights)
    active = size * rows * (2 * hidden + 2 * classes)
    own = (
        size
        * n
        * (classes * (1 if len(problem.targets) == 1 else 4) + (0 if problem.X.ndim == 2 else problem.X.shape[-1]))
    )
    chunks = compute.chunks(E, active + own + 6 * size * parameters, active)
    with _cores(compute.threads), tqdm(total=len(chunks) * steps, disable=not compute.progress, unit="step") as bar:
        stop = threading.Event()

        def work(rows):
            return _train_chunk(start[rows], problem, rows, settings, bar, stop)

        if compute.threads == 1:
            parts = [work(rows) for rows in chunks]
        else:
            with ThreadPoolExecutor(compute.threads) as pool:
                try:
                    parts = list(pool.map(work, chunks))
                except BaseException:
                    stop.set()  # the other threads end at their next step
                    raise
    stack = {
        name: tuple(torch.cat(layer) for layer in zip(*(getattr(p.models, name) for p in parts)))
        for name in ("weights", "biases")
    }
    models = Models(network, **stack)
    joined = [None if xs[0] is None else xs for xs in zip(*((p.snapshots, p.best_step, p.validation) for p in parts))]
    shots, best, validation = joined
    if validation is not None:
        longest = max(len(v) for v in validation)
        validation = [torch.nn.functional.pad(v, (0, 0, 0, longest - len(v)), value=torch.nan) for v in validation]
    return Run(
        models,
        None if shots is None else torch.cat(shots, 1),
        None if best is None else torch.cat(best),
        None if validation is None else torch.cat(validation, 1),
        torch.cat([p.diverged for p in parts]),
    )


@torch.no_grad()
def _train_chunk(models, problem, rows, settings, bar, stop):
    """The whole training of one chunk."""
    place = {"dtype": problem.X.dtype, "device": problem.X.device}
    convert = {name: tuple(x.to(**place) for x in getattr(models, name)) for name in ("weights", "biases")}
    models = Models(models.network, **convert)
    chunk = _Chunk(models, problem, rows, settings)

    def behind_frozen(X):
        X = X if X.ndim == 2 else X[rows]
        return with_ones(models.logits(X, layers=models.network.frozen) if models.network.frozen else X)

    def check(step):
        bad = ~torch.stack([W.isfinite().flatten(1).all(1) for W, _ in chunk.layers]).all(0)
        if settings.raises and bad.any():
            who = [rows.start + m for m in bad.nonzero()[:, 0].tolist()]
            cases = f"models {who[:5]}{' and others' if len(who) > 5 else ''} diverged by step {step}"
            remedy = f"lower lr ({float(settings.lr[who[0]]):g}), or pass on_divergence='keep' to keep the others"
            raise FloatingPointError(f"{cases}: {remedy}")
        return bad

    stopper = None if settings.early is None else _Stopper(chunk, behind_frozen(settings.held_out.X), rows)
    looks = None if settings.looks is None else behind_frozen(settings.looks)
    shots = []
    last_look = settings.look_steps[-1] if settings.look_steps else 0
    orders = _orders(problem.X.shape[-2], settings.batch, settings.seeds[rows], settings.order, problem.X.device)
    batch = next(orders)
    step_with = chunk.stepper(batch)
    for step in range(settings.steps + 1):
        if step in settings.look_steps:
            shots.append(chunk.logits(looks).mT)
        if stopper and step % settings.early.every == 0 and stopper.done(step) and step >= last_look:
            break
        if step == settings.steps or stop.is_set():
            break
        step_with(step + 1, batch)
        batch = next(orders)
        if step % 100 == 99 and not stopper:
            check(step + 1)
        bar.update()
    bar.update(settings.steps - step)
    best, validation = stopper.result() if stopper else (None, None)
    return Run(chunk.trained(models), torch.stack(shots) if shots else None, best, validation, check(step))


class _Stopper:
    """Early stopping of one chunk: remembers each model's best parameters."""

    def __init__(self, chunk, X1, rows):
        self.chunk, self.X1, self.early = chunk, X1, chunk.settings.early
        self.Q, self.w = chunk.settings.held_out.labels(rows)
        E = len(chunk.layers[0][0])
        self.best = torch.full((E,), torch.inf, dtype=chunk.p.dtype, device=chunk.p.device)
        self.step, self.waited = (torch.zeros(E, dtype=torch.long, device=chunk.p.device) for _ in range(2))
        self.kept, self.values = chunk.p.clone(), []

    def done(self, step):
        """Look at the validation loss; True when no model improves any more."""
        value = _mean_loss(self.early.loss or self.chunk.loss, self.chunk.logits(self.X1), self.Q, self.w)
        self.values.append(value)
        better = (value < self.best) & (self.waited < self.early.patience)
        self.best, self.step = torch.where(better, value, self.best), torch.where(better, step, self.step)
        self.waited = torch.where(better, 0, self.waited + 1)
        for kept, new in zip(self.chunk.views(self.kept), self.chunk.layers):
            for old, now in zip(kept, new):
                if now is not None:
                    old[better] = now[better]
        return bool((self.waited >= self.early.patience).all())

    def result(self):
        """Put the best parameters back; (best step, validation losses (looks, models))."""
        self.chunk.p.copy_(self.kept)
        return self.step, torch.stack(self.values)


@contextmanager
def _cores(threads):
    """Several chunks at a time: one core each, instead of all cores for one product."""
    before = torch.get_num_threads()
    try:
        if threads > 1:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


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

        sum_i w_mi CE(q_mi, softmax(W_m x_i + b_m)) + l2_m/2 ||W_m||^2      (scikit-learn's LogisticRegression, C = 1/l2)

    by Nesterov steps in the metric of Boehning's bound on the Hessian, 1/2 X'diag(w)X + l2 (Boehning 1992), one matrix
    a model for all its classes and a single one where no model differs, restarted where the step turns against the
    gradient (O'Donoghue and Candes 2015). Two classes are fitted as one logit, with the bound 1/4 X'diag(w)X + l2/2.

    X, targets, weights, mask, allow_empty : as in `train`; float64 unless `compute` says otherwise
    l2      : a number, or one a model; it stands beside the SUM of the losses
    tol     : stop when every entry of every gradient is below tol x the model's total weight
    Raises ValueError as `train` does, and for l2 <= 0; RuntimeError if `max_steps` do not reach `tol`.
    """
    problem = _problem(X, targets, weights, mask, None, compute, allow_empty=allow_empty)
    l2 = torch.as_tensor(l2, dtype=torch.float64).reshape(-1)
    E = problem.models
    require(len(l2) in (1, E), "l2", f"need one number, or one a model: {E}, got {len(l2)}")
    require((l2 > 0).all(), "l2", "must be positive: without it separable data have no optimum")
    d, (n, classes) = problem.X.shape[-1] + 1, problem.targets.shape[1:]
    one = problem.X.ndim == 2 and problem.weights is None and problem.mask is None and len(l2) == 1
    size = compute.dtype.itemsize * (0 if one else 3 * d * d + 5 * n * classes + 4 * d * classes)
    with _cores(compute.threads):
        fits = [
            _fit_probes(problem, rows, l2.expand(E), one, tol, max_steps) for rows in compute.chunks(E, size + 1, 1)
        ]
    weight, bias = (torch.cat([getattr(f, name) for f in fits]) for name in ("weight", "bias"))
    return Probes(weight, bias, max(f.steps for f in fits), max(f.gradient for f in fits))


@torch.no_grad()
def _fit_probes(problem, rows, l2, one_metric, tol, max_steps):
    """`fit_probes` for the models `rows`; `one_metric`: they differ in their labels alone."""
    Q, w = problem.labels(rows)
    X, Q, w = _own_rows(problem.X if problem.X.ndim == 2 else problem.X[rows], Q, w)
    E, C, (n, d) = rows.stop - rows.start, Q.shape[1], (X.shape[-2], X.shape[-1] + 1)
    binary = C == 2
    Q, outputs = (Q[:, 1:], 1) if binary else (Q, C)
    X1, shared = with_ones(X), X.ndim == 2
    l2 = l2[rows].to(X)[:, None, None] / (2 if binary else 1)
    penalty = l2.expand(E, 1, d).clone()
    penalty[:, :, -1] = 0  # the bias is not penalised
    seen = None if problem.mask is None else with_ones(problem.mask[rows].to(X))[:, None]  # (E, 1, d)
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
