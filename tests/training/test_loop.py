"""The training core against a plain loop over torch modules, in float64; and against itself, cut up differently."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_losses import LOSSES

from w2s_lib.experiments.loss_per_model import PerModel
from w2s_lib.losses import CE, SQUARED_LOSS, AuxiliaryConfidence
from w2s_lib.training import SGD, Adam, Compute, Network, initialise, train

DOUBLE = Compute(dtype=torch.float64)
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
NETWORKS = {
    "probe": Network(),
    "one logit": Network(one_logit=True),
    "one hidden layer": Network((7,)),
    "two, tanh": Network((7, 6), activation="tanh"),
    "three": Network((8, 7, 6)),
    "two, normal": Network((9, 5), init="normal"),
}
OPTIMIZERS = {
    "Adam": (Adam(), lambda p, lr: torch.optim.Adam(p, lr=lr)),
    "Adam, other constants": (
        Adam(betas=(0.8, 0.9), eps=1e-3),
        lambda p, lr: torch.optim.Adam(p, lr=lr, betas=(0.8, 0.9), eps=1e-3),
    ),
    "SGD": (SGD(), lambda p, lr: torch.optim.SGD(p, lr=lr)),
    "SGD, momentum": (SGD(0.9), lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)),
    "SGD, Nesterov": (SGD(0.9, True), lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True)),
}
n, d, models = 40, 5, 3


def problem(classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X, Q = rng.normal(size=(n, d)), rng.dirichlet(np.ones(classes), size=(models, n))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=models).astype(float)  # bootstraps
    mask = np.ones((models, d))
    mask[1, 2:] = 0
    return X, Q, weights, mask


def loop(network, X, Q, *, steps, lr, optimizer, loss=CE, l2=0.0, weights=None, mask=None, batches=None, start=None):
    """One torch.nn.Sequential after the other, autograd, torch.optim: the slow, obvious way. Logits on X."""
    X, Q = torch.as_tensor(X), torch.as_tensor(Q)
    start = start or initialise(network, d, Q.shape[2], range(models), dtype=torch.float64)
    lr, l2 = np.broadcast_to(lr, models), np.broadcast_to(l2, models)
    results = []
    for m in range(models):
        net = start.module(m)
        linear = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
        matrices, biases = [layer.weight for layer in linear], [layer.bias for layer in linear]

        adam = OPTIMIZERS[optimizer][1](matrices + biases, float(lr[m]))
        w = torch.ones(n) if weights is None else torch.as_tensor(weights[m])
        seen = torch.ones(d) if mask is None else torch.as_tensor(mask[m])
        for t in range(steps):
            rows = (
                torch.arange(n)
                if batches is None
                else torch.as_tensor(batches[t] if batches[t].ndim == 1 else batches[t][m])
            )
            z = net((X * seen)[rows])
            z = torch.cat([torch.zeros_like(z), z], 1) if network.one_logit else z
            each = loss(z, Q[m][rows])
            objective = (w[rows] * each).sum() / w.sum() * n / len(rows)
            rows_of = [*matrices[:-1], torch.cat([-matrices[-1], matrices[-1]]) / 2] if network.one_logit else matrices
            objective = objective + l2[m] / 2 * sum((W**2).sum() for W in rows_of)
            adam.zero_grad()
            objective.backward()
            adam.step()
        with torch.no_grad():
            z = net(X * seen)
            results.append(torch.cat([torch.zeros_like(z), z], 1) if network.one_logit else z)
    return torch.stack(results)


def agree(got, expected, atol=1e-10):
    torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_equals_the_module_loop(network, optimizer, device):
    """50 steps on bootstraps, a masked model, per-model rates and penalties."""
    X, Q, weights, mask = problem(2 if network.one_logit else 3)
    lr, l2 = [0.01, 0.02, 0.03], [0.0, 0.1, 0.2]
    expected = loop(network, X, Q, steps=50, lr=lr, l2=l2, optimizer=optimizer, weights=weights, mask=mask)
    run = train(
        network,
        X,
        Q,
        steps=50,
        lr=lr,
        l2=l2,
        optimizer=OPTIMIZERS[optimizer][0],
        weights=weights,
        mask=mask,
        compute=replace(DOUBLE, device=device),
    )
    agree(run.logits(X * mask[:, None]), expected)
    agree(run.logits(X), expected)  # a masked model has no weight on what it does not see


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("hidden", [(), (6,)], ids=["probe", "hidden"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_every_loss_equals_the_module_loop(loss, hidden, device):
    X, Q, _, _ = problem()
    network = Network(hidden)
    expected = loop(network, X, Q, steps=50, lr=0.02, loss=loss, optimizer="Adam")
    for how in (loss, lambda z, q: loss(z, q)):  # closed form; the same as a user's function, by autograd
        run = train(network, X, Q, steps=50, lr=0.02, loss=how, compute=replace(DOUBLE, device=device))
        agree(run.logits(X), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("order", [3, None], ids=["shared order", "own orders"])
@pytest.mark.parametrize("own_inputs", [False, True], ids=["shared inputs", "own inputs"])
@pytest.mark.parametrize("name", ["CE", "SL", "AUX"])
def test_minibatches_equal_the_module_loop(order, own_inputs, name, device):
    """The batches are worked out again here: permutations of the inputs one behind the other."""
    X, Q, weights, _ = problem()
    weights = weights if name == "CE" else None
    steps, size, seeds = 50, 12, [5, 9, 2]
    keys = [[order, 0]] if order is not None else [[s, 1] for s in seeds]
    draws = []
    for key in keys:
        rng = np.random.default_rng(key)
        draws.append(np.concatenate([rng.permutation(n) for _ in range(steps)]))
    batches = [np.stack(draws)[:, t * size : (t + 1) * size] for t in range(steps)]
    batches = [b[0] if order is not None else b for b in batches]
    network, how = Network((6,)), {"steps": steps, "lr": 0.02, "loss": LOSSES[name], "weights": weights}
    start = initialise(network, d, 3, seeds, dtype=torch.float64)
    expected = loop(network, X, Q, optimizer="Adam", batches=batches, start=start, **how)
    inputs = np.stack([X] * models) if own_inputs else X
    run = train(network, inputs, Q, batch=size, order=order, seeds=seeds, compute=replace(DOUBLE, device=device), **how)
    agree(run.logits(X), expected)


def test_a_grid_of_rates_on_shared_labels_is_one_stack():
    X, Q, _, _ = problem()
    grid = train(Network(), X, Q[0], steps=20, lr=[0.1, 0.2], l2=[0.0, 0.1], compute=DOUBLE).logits(X)
    agree(grid[1], train(Network(), X, Q[0], steps=20, lr=0.2, l2=0.1, seeds=[1], compute=DOUBLE).logits(X)[0])


def test_one_logit_is_two_logits_at_the_same_penalty():
    """By gradient descent from zero, and with twice the rate, the paths are the same."""
    X, Q, _, _ = problem(2)
    how = {"steps": 50, "optimizer": SGD(), "compute": DOUBLE}
    two = train(Network(init="zeros"), X, Q, lr=0.1, l2=0.2, **how).logits(X)
    one = train(Network(init="zeros", one_logit=True), X, Q, lr=0.2, l2=0.2, **how).logits(X)
    agree(one[..., 1] - one[..., 0], two[..., 1] - two[..., 0])


def test_a_head_on_random_features_is_a_network_whose_first_layer_stays():
    """Features of models that are not trained, each model's own, as inputs of a probe."""
    X, Q, _, _ = problem()
    whole = initialise(Network((9,), init="normal"), d, 3, range(models), dtype=torch.float64)
    features = whole.logits(X, layers=1)
    assert features.shape == (models, n, 9) and (features >= 0).all()
    head = train(Network(init="zeros"), features, Q, steps=50, lr=0.02, compute=DOUBLE)
    for m in range(models):
        net = whole.module(m)
        net[2].weight.data.zero_()
        net[0].requires_grad_(False)
        adam = torch.optim.Adam(net[2].parameters(), lr=0.02)
        net[2].bias.data.zero_()
        for _ in range(50):
            adam.zero_grad()
            CE(net(torch.as_tensor(X)), torch.as_tensor(Q[m])).mean().backward()
            adam.step()
        agree(head.logits(features)[m], net(torch.as_tensor(X)).detach())


def test_warm_up_of_the_auxiliary_loss_ramps():
    """Half the warm-up: alpha has gone through 0, .1, .2, ... and no jump."""
    X, Q, _, _ = problem()
    run = train(
        Network(), X, Q, steps=5, lr=0.1, optimizer=SGD(), loss=AuxiliaryConfidence(1.0, warmup=10), compute=DOUBLE
    )
    state = initialise(Network(), d, 3, range(models), dtype=torch.float64)
    for t in range(5):
        now = AuxiliaryConfidence(t / 10)
        state = train(Network(), X, Q, steps=1, lr=0.1, optimizer=SGD(), loss=now, start=state, compute=DOUBLE).models
    agree(run.logits(X), state.logits(X))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", [Network(), Network((16,))], ids=["probe", "hidden"])
def test_chunks_and_threads_change_nothing_but_the_last_bits(network, device):
    rng = np.random.default_rng(0)
    X, Q = rng.normal(size=(100, 20)), rng.dirichlet(np.ones(4), size=(24, 100))
    how = {"steps": 50, "lr": 0.01, "batch": 30}

    def fit(**compute):
        return train(network, X, Q, compute=Compute(device=device, **compute), **how).logits(X)

    assert torch.equal(fit(chunk=8), fit(chunk=8))
    reference = fit(chunk=24, dtype=torch.float64)
    for change in ({"chunk": 1}, {"chunk": 5}, {"chunk": 8, "threads": 2}, {"memory": 1e5}):
        agree(fit(dtype=torch.float64, **change), reference.cpu())
    single = fit()
    torch.testing.assert_close(single.double(), reference, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("activation", "parted"), [("tanh", 0.0), ("relu", 0.25)])
def test_float32_statistics_are_those_of_float64(activation, parted):
    """Bias and variance over 60 teachers agree to 1e-5 of their size where the paths are the same.

    With relu a few paths are not: a unit crosses its kink a step earlier by rounding, and Adam carries such a model to
    another place, as another draw would. What they do to the statistics stays far inside the Monte Carlo error.
    """
    from w2s_lib import KL, decompose

    rng = np.random.default_rng(1)
    X, truth = rng.normal(size=(200, 10)), rng.normal(size=(10, 3))
    labels = (X @ truth + rng.gumbel(size=(60, 200, 3))).argmax(-1)
    network = Network((16,), activation=activation)
    how = {"steps": 200, "lr": 0.01}
    runs = [train(network, X, labels, compute=Compute(dtype=t), **how) for t in (torch.float32, torch.float64)]
    logits = [run.logits(X).double().numpy() for run in runs]
    same = np.abs(logits[0] - logits[1]).max((1, 2)) < 1e-3
    assert (~same).mean() <= parted
    for part in ("bias", "variance"):
        single, double = (getattr(decompose(np.eye(3)[labels[0]], z[same], KL), part) for z in logits)
        assert single.value == pytest.approx(double.value, rel=1e-5)
        single, double = (getattr(decompose(np.eye(3)[labels[0]], z, KL), part) for z in logits)
        assert abs(single.value - double.value) < 0.05 * double.se


def test_snapshots_are_the_path():
    X, Q, _, _ = problem()
    how = {"lr": 0.02, "compute": DOUBLE}
    run = train(Network((6,)), X, Q, steps=30, snapshots=(X[:7], [0, 10, 30]), **how)
    assert run.snapshots.shape == (3, models, 7, 3)
    agree(run.snapshots[1], train(Network((6,)), X, Q, steps=10, **how).logits(X[:7]))
    agree(run.snapshots[2], run.logits(X[:7]))
    agree(run.snapshots[0], initialise(Network((6,)), d, 3, range(3), dtype=torch.float64).logits(X[:7]))


def test_models_that_diverge_are_named():
    X, Q, _, _ = problem()
    how = {"steps": 300, "optimizer": SGD(), "loss": SQUARED_LOSS}
    with pytest.raises(FloatingPointError, match=r"models \[1\] diverged by step .*lower lr \(1e\+06\)"):
        train(Network(), X, Q, lr=[0.1, 1e6, 0.1], **how)
    with pytest.raises(FloatingPointError, match=r"models \[2\] "):  # counted from the first, not from its chunk's
        train(Network(), X, Q, lr=[0.1, 0.1, 1e6], compute=Compute(chunk=1), **how)


def test_a_warm_start_goes_on_and_obeys_the_mask():
    X, Q, _, mask = problem()
    how, network = {"lr": 0.05, "optimizer": SGD(), "compute": DOUBLE}, Network((6,))
    half = train(network, X, Q, steps=10, **how)
    whole = train(network, X, Q, steps=20, **how)
    agree(train(network, X, Q, steps=10, start=half.models, **how).logits(X), whole.logits(X))
    masked = train(network, X, Q, steps=10, start=half.models, mask=mask, **how)
    assert not (masked.models.weights[0] * (1 - torch.as_tensor(mask)[:, None])).any()
    agree(masked.logits(X * mask[:, None]), masked.logits(X))


def test_a_model_is_the_same_alone_and_in_company():
    """All at once: own inputs and batches, masks, weights, snapshots, two threads, one logit."""
    rng = np.random.default_rng(0)
    E, k = 5, 12
    X, held = rng.normal(size=(E, n, d)), rng.normal(size=(E, k, d))
    Q = rng.dirichlet(np.ones(2), size=(E, n))
    weights, mask = rng.multinomial(n, np.full(n, 1 / n), size=E).astype(float), rng.integers(0, 2, (E, d)) * 1.0
    lr, l2 = rng.uniform(0.01, 0.05, E), rng.uniform(0, 0.1, E)
    network = Network((6, 4), activation="tanh", one_logit=True)

    def fit(rows, **compute):
        own = {"weights": weights[rows], "mask": mask[rows], "lr": lr[rows], "l2": l2[rows]}
        own |= {"seeds": np.arange(E)[rows], "snapshots": (held[rows], [0, 7]), "loss": LOSSES["CACE, quantile"]}
        settings = {"steps": 60, "batch": 11, "order": None, "compute": replace(DOUBLE, **compute)}
        return train(network, X[rows], Q[rows], **own, **settings)

    together = fit(slice(None), threads=2, chunk=2)
    for m in range(E):
        alone = fit([m])
        agree(alone.logits(held[[m]])[0], together.logits(held)[m])
        agree(alone.snapshots[:, 0], together.snapshots[:, m])


def test_progress_is_shown(capsys):
    X, Q, _, _ = problem()
    train(Network(), X, Q, steps=40, lr=0.1, compute=Compute(progress=True, chunk=1))
    assert "120/120" in capsys.readouterr().err


def test_an_error_in_a_thread_ends_them_all():
    X, Q, _, _ = problem()

    def loss(z, q):
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        train(Network(), X, Q, steps=10**9, lr=0.1, loss=loss, compute=Compute(threads=2))
    assert torch.get_num_threads() == before


NAN = np.full((n, d), np.nan)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"X": np.zeros(n)}, "X"),
        ({"X": NAN}, "X"),
        ({"X": np.zeros((2, n, d))}, "X|targets"),
        ({"targets": np.ones((3, n, 3))}, "targets"),
        ({"targets": np.full((3, n, 3), np.nan)}, "targets"),
        ({"targets": np.eye(3)[np.zeros(n, dtype=int)]}, "targets"),  # classes without examples
        ({"targets": np.ones((3, n + 1, 3)) / 3}, "targets"),
        ({"weights": np.zeros((3, n))}, "weights"),
        ({"weights": -np.ones((3, n))}, "weights"),
        ({"weights": np.ones((3, n - 1))}, "weights"),
        ({"mask": np.ones((3, d + 1))}, "mask"),
        ({"mask": np.full((3, d), 0.5)}, "mask"),
        ({"mask": np.ones(d)}, "mask"),
        ({"weights": np.ones(n)}, "weights"),
        ({"seeds": 3}, "seeds"),
        ({"targets": np.eye(3, dtype=int)[np.arange(n) % 3]}, "targets"),
        ({"seeds": [0, 1]}, "seeds"),
        ({"seeds": [0, -1, 2]}, "seeds"),
        ({"order": -1, "batch": 5}, "order"),
        ({"loss": PerModel((CE,), (3,)), "batch": 5, "order": None}, "order"),
        ({"targets": np.arange(n) % 3 - 1}, "targets"),
        ({"targets": np.zeros((0, n), dtype=int)}, "targets"),
        ({"lr": 0.0}, "lr"),
        ({"lr": [0.1, 0.2]}, "lr"),
        ({"l2": -1.0}, "l2"),
        ({"steps": 0}, "steps"),
        ({"batch": n + 1}, "batch"),
        ({"start": initialise(Network((4,)), d, 3, range(3))}, "start"),
        ({"network": Network(one_logit=True)}, "one_logit"),
        ({"snapshots": (np.zeros((2, d)), [11])}, "snapshots"),
        ({"snapshots": (np.zeros((2, d + 1)), [1])}, "snapshots"),
        ({"loss": lambda z, q: z.sum()}, "loss"),
        ({"loss": LOSSES["RCE"], "targets": np.eye(3)[np.arange(n) % 3]}, "q"),
    ],
)
def test_bad_input_names_the_argument(change, argument):
    X, Q, _, _ = problem()
    call = {"network": Network(), "X": X, "targets": Q, "steps": 10, "lr": 0.1} | change
    with pytest.raises(ValueError, match=rf"^({argument}): "):
        train(**call)


def test_settings_may_be_tensors():
    X, Q, _, _ = problem()
    how = {"steps": 5, "compute": DOUBLE}
    plain = train(Network((4,)), X, Q[0], lr=[0.1, 0.2], l2=[0.0, 0.1], seeds=[3, 4], **how).logits(X)
    tensors = {"lr": torch.tensor([0.1, 0.2], dtype=torch.float64), "l2": torch.tensor([0.0, 0.1], dtype=torch.float64)}
    agree(train(Network((4,)), X, Q[0], seeds=torch.tensor([3, 4]), **tensors, **how).logits(X), plain)
