"""The step as a GPU runs it, on a machine without one.

On the device "meta" tensors have a shape and no values, so that a step which asks for a value fails there. What would
pass silently (a copy from the host, a mask as index) is listed by name; types and devices of all results are looked at.
And since a CUDA graph replays the same addresses, no step may put a tensor in the place of another.
"""

import numpy as np
import pytest
import torch
from test_losses import LOSSES
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from w2s_lib.experiments.loss_per_model import PerModel
from w2s_lib.losses import CE, AuxiliaryConfidence
from w2s_lib.training import SGD, Adam, Compute, Network, initialise
from w2s_lib.training._stack import Plan, Stack
from w2s_lib.training.data import check_data
from w2s_lib.training.probes import _Fit

n, d, models, classes = 24, 4, 3, 3
# what waits for the device or copies from the host; a graph under capture refuses them
FORBIDDEN = {"item", "tolist", "numpy", "cpu", "cuda", "nonzero", "argwhere", "masked_select", "unique", "equal"}
FORBIDDEN |= {"tensor", "as_tensor", "new_tensor", "from_numpy", "asarray", "scalar_tensor", "allclose", "is_nonzero"}
FORBIDDEN |= {"__bool__", "__float__", "__int__", "__index__", "__contains__", "__array__"}
EVERY_LOSS = LOSSES | {
    "AUX, warm-up": AuxiliaryConfidence(0.5, warmup=10),
    "a user's": lambda z, q: ((z.softmax(-1) - q) ** 2).sum(-1),
}
OPTIMIZERS = {"Adam": Adam(), "SGD": SGD(), "momentum": SGD(0.9), "Nesterov": SGD(0.9, True)}
BATCHES = {"full": (None, 0), "shared order": (7, 0), "own order": (7, None)}


class Named(TorchFunctionMode):
    """Refuse the functions that are named above, and masks as indices."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", str(function))
        assert name not in FORBIDDEN, f"{name} in a step"
        if name in ("__getitem__", "__setitem__"):
            masks = [x for x in tree_leaves(args[1]) if getattr(x, "dtype", None) is torch.bool]
            assert not masks, "a mask as an index in a step"
        return function(*args, **(kwargs or {}))


class Placed(TorchDispatchMode):
    """All tensors that come in or out are on `device`, and those of real numbers are of `dtype` (counters excepted)."""

    def __init__(self, device, dtype):
        super().__init__()
        self.device, self.dtype, self.seen = torch.device(device), dtype, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.look(function, (args, kwargs))
        result = function(*args, **(kwargs or {}))
        self.look(function, result)
        return result

    def look(self, function, tensors):
        for x in tree_leaves(tensors):
            if isinstance(x, torch.Tensor):
                assert x.device == self.device, f"{function} has a tensor on {x.device}"
                real = x.is_floating_point() and x.ndim > 0
                assert not real or x.dtype == self.dtype, f"{function} has numbers of {x.dtype}"
                self.seen += 1


def stack(loss=CE, optimizer="Adam", batches="full", hidden=(5,), dtype=torch.float32, one_logit=False, rich=True):
    """A stack on the CPU; `rich`: bootstraps, a mask, a rate and a penalty a model."""
    rng, k = np.random.default_rng(0), 2 if one_logit else classes
    X, Q = rng.normal(size=(n, d)), rng.dirichlet(np.ones(k), size=(models, n))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=models) if rich else None
    mask = rng.integers(0, 2, size=(models, d)) if rich else None
    data = check_data(X, Q, weights, mask, Compute(dtype=dtype), [models])
    network, (batch, order) = Network(hidden, one_logit=one_logit), BATCHES[batches]
    lr, l2 = torch.full((models,), 0.1).double(), torch.zeros(models).double()
    if rich:
        lr, l2 = lr * torch.tensor([1, 2, 3]), torch.tensor([0, 0.1, 0.2]).double()
    plan = Plan(network, n, 20, loss, OPTIMIZERS[optimizer], batch, order, (), lr, l2, np.arange(models))
    return Stack(initialise(network, d, k, range(models)), data, slice(0, models), plan)


def on(device, thing):
    """`thing` with all the tensors that it holds on the device."""
    for name, value in vars(thing).items():
        moved = tree_map(lambda x: x.to(device) if isinstance(x, torch.Tensor) else x, value)
        setattr(thing, name, moved)
    return thing


@torch.no_grad()
def steps_on_meta(trained, dtype=torch.float32):
    on("meta", trained)
    with Named(), Placed("meta", dtype) as placed:
        for _ in range(2):
            trained.step()
    assert placed.seen > 50


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", EVERY_LOSS.values(), ids=EVERY_LOSS)
def test_no_step_reads_a_value_or_leaves_the_device(loss, optimizer, batches):
    for rich in (False, True):
        steps_on_meta(stack(loss, optimizer, batches, rich=rich))


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("loss", EVERY_LOSS.values(), ids=EVERY_LOSS)
def test_nor_do_steps_of_probes_of_one_logit_and_of_float64(loss, batches):
    steps_on_meta(stack(loss, batches=batches, hidden=(), one_logit=True))
    steps_on_meta(stack(loss, batches=batches, hidden=(6, 5), dtype=torch.float64), torch.float64)


@pytest.mark.parametrize("batches", ["full", "shared order"])
def test_nor_do_steps_with_a_loss_for_each_model(batches):
    steps_on_meta(stack(PerModel((CE, LOSSES["AUX"]), (2, 1)), batches=batches))


@pytest.mark.parametrize("rich", [False, True])
def test_nor_does_a_step_of_a_fit(rich):
    rng = np.random.default_rng(0)
    weights, mask = (rng.integers(1, 4, size=(2, n)), np.ones((2, d))) if rich else (None, None)
    for k in (2, 3):
        data = check_data(
            rng.normal(size=(n, d)), rng.dirichlet(np.ones(k), size=(2, n)), weights, mask, Compute(), [2]
        )
        fit = on("meta", _Fit(data, slice(0, 2), torch.tensor([0.1, 0.1]), not rich))
        V = torch.zeros(fit.shape, device="meta")
        with Named(), Placed("meta", torch.float32):
            fit._step(V, V, V.new_ones(2, 1, 1), fit.gradient(V))


def reads_a_value(z, q):
    return ((z - q) ** 2).sum(-1) * (1 if z.sum().item() > 0 else 2)


def copies_from_the_host(z, q):
    return ((z - q) ** 2 * z.new_tensor([1.0, 2.0, 3.0])).sum(-1)


def holds_a_host_tensor(z, q, c=torch.ones(3)):
    return ((z - q) ** 2 * c).sum(-1)


def drifts_to_float64(z, q):
    return ((z.double() - q) ** 2).sum(-1)


def picks_by_a_mask(z, q):
    loss = ((z - q) ** 2).sum(-1)
    return loss + 0 * loss[loss > 1].sum()


def branches(z, q):
    return ((z - q) ** 2).sum(-1) if (z > 0).any() else (z * q).sum(-1)


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (reads_a_value, "item in a step"),
        (copies_from_the_host, "new_tensor in a step"),
        (holds_a_host_tensor, "on cpu"),
        (drifts_to_float64, "float64"),
        (picks_by_a_mask, "a mask as an index"),
        (branches, "__bool__ in a step"),
    ],
)
def test_the_tests_above_can_fail(loss, what):
    stack(loss).step()  # fine on a CPU
    with pytest.raises(AssertionError, match=what):
        steps_on_meta(stack(loss))


def addresses(thing):
    """Where the tensors of an object are."""
    tensors = {name: tree_leaves(value) for name, value in vars(thing).items()}
    return {name: [x.data_ptr() for x in xs if isinstance(x, torch.Tensor)] for name, xs in tensors.items()}


@torch.no_grad()
@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_leaves_every_tensor_in_its_place(optimizer, batches):
    """A graph writes where the first step wrote, also in the next epoch."""
    trained = stack(LOSSES["AUX"], optimizer, batches)
    before, start, step = addresses(trained), trained.p.clone(), trained.stepper()
    for t in range(10):
        step(t)
    assert addresses(trained) == before and not torch.equal(start, trained.p)
    trained.p = trained.p.clone()
    assert addresses(trained) != before
