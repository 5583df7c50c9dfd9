"""The workloads of the benchmark and the ways to do them: the core, and what people use otherwise.

W1  MLPs 64-64-10, each with its own soft labels, 512 shared inputs, 200 Adam steps: full batch, or batches of 64
W2  linear probes, 384 features, 2 classes, 1,000 shared inputs, 200 Adam steps; or to the optimum of a penalised fit
W3  ridge on ReLU features: teachers x 6 widths x 16 penalties, 500 training and 500 test inputs, float64; the result
    is the average over teachers of the student's gain, misfit and residual at every width and penalty

A contender is a function of a number of models; its time is scaled to all of them where it is proportional.
"""

import time
from itertools import pairwise

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neural_network import MLPClassifier

from w2s_lib.experiments.closed_forms import sampled_teachers, student_path
from w2s_lib.ridge import decompose_features
from w2s_lib.training import Compute, fit_probes, train
from w2s_lib.training.network import Network, initialise

STEPS, RATE = 200, 1e-3


def cpu_seconds(work):
    """CPU seconds of this process, all threads."""
    before = time.process_time()
    work()
    return time.process_time() - before


def wall_seconds(work):
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def gemm_peak(dtype=np.float32, size=1024, seconds=1.0):
    """GFLOP/s of the larger of torch's and NumPy's matrix product, the median of runs."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(size, size)).astype(dtype) for _ in range(2))
    ta, tb, best = torch.as_tensor(a), torch.as_tensor(b), 0.0
    for product in (lambda: a @ b, lambda: ta @ tb):
        times, end = [], time.process_time() + seconds / 2
        while time.process_time() < end:
            times.append(cpu_seconds(product))
        best = max(best, 2 * size**3 / np.median(times) / 1e9)
    return best


class Probe:
    """W1 and W2 share the ways to train: inputs X (n, d), soft labels Q (models, n, classes)."""

    def __init__(self, models, d, n, classes, hidden, batch=None, device="cpu"):
        rng = np.random.default_rng(0)
        self.X = torch.as_tensor(rng.normal(size=(n, d)), dtype=torch.float32, device=device)
        z = torch.as_tensor(rng.normal(size=(models, n, classes)), dtype=torch.float32)
        self.Q = z.softmax(2)
        self.hard = self.Q.argmax(2)
        self.network, self.batch, self.device, self.models = Network(hidden), batch, device, models
        sizes = (d, *hidden, classes)
        products = [i * o for i, o in pairwise(sizes)]
        # forward and weight gradient of every layer, and the gradient to all activations but the inputs
        self.flops = models * STEPS * (batch or n) * 2 * (2 * sum(products) + sum(products[1:]))
        self.start = initialise(self.network, d, classes, range(models))

    def rows(self, t):
        if self.batch is None:
            return slice(None)
        first = t * self.batch % len(self.X)
        return slice(first, first + self.batch)

    def loop(self, models):
        """One torch.nn.Sequential after the other."""
        for m in range(models):
            net, Q = self.start.module(m).to(self.device), self.Q[m].to(self.device)
            optimizer, loss = torch.optim.Adam(net.parameters(), lr=RATE), torch.nn.CrossEntropyLoss()
            for t in range(STEPS):
                optimizer.zero_grad()
                loss(net(self.X[self.rows(t)]), Q[self.rows(t)]).backward()
                optimizer.step()

    def vmap(self, models, chunk=16):
        """torch.func: vmap of the gradient of a functional call, in chunks."""
        net = self.start.module(0)

        def loss(parameters, x, q):
            return torch.nn.functional.cross_entropy(torch.func.functional_call(net, parameters, (x,)), q)

        gradient = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None, 0))
        for i in range(0, models, chunk):
            modules = [self.start.module(m) for m in range(i, min(i + chunk, models))]
            parameters, _ = torch.func.stack_module_state(modules)
            optimizer = torch.optim.Adam(list(parameters.values()), lr=RATE)
            Q = self.Q[i : i + chunk]
            for t in range(STEPS):
                gradients = gradient(
                    {k: v.detach() for k, v in parameters.items()}, self.X[self.rows(t)], Q[:, self.rows(t)]
                )
                for name, p in parameters.items():
                    p.grad = gradients[name]
                optimizer.step()

    def bmm(self, models, chunk=16):
        """Batched products in the usual layout (models, inputs, units), gradients by autograd."""
        for i in range(0, models, chunk):
            part = self.start[i : min(i + chunk, models)]
            parameters = [x.clone().requires_grad_() for x in (*part.weights, *part.biases)]
            layers = list(zip(parameters[: len(part.weights)], parameters[len(part.weights) :]))
            optimizer, Q = torch.optim.Adam(parameters, lr=RATE), self.Q[i : i + chunk]
            for t in range(STEPS):
                a = self.X[self.rows(t)].expand(len(part), -1, -1)
                for k, (W, b) in enumerate(layers):
                    a = torch.baddbmm(b[:, None], a if k == 0 else a.relu(), W.mT)
                objective = -(Q[:, self.rows(t)] * a.log_softmax(2)).sum(2).mean(1).sum()
                optimizer.zero_grad()
                objective.backward()
                optimizer.step()

    def jax(self, chunk=16):
        """jax: jit of a scan over steps of vmapped gradients; returns a function of a number of models, compiled."""
        import jax
        import jax.numpy as jnp

        def objective(parameters, x, q):
            a = x
            for k, (W, b) in enumerate(parameters):
                a = (a if k == 0 else jax.nn.relu(a)) @ W.T + b
            return -(q * jax.nn.log_softmax(a)).sum(1).mean()

        gradient, tree = jax.vmap(jax.grad(objective), in_axes=(0, None, 0)), jax.tree_util.tree_map

        @jax.jit
        def fit(parameters, x, q):
            zero = tree(jnp.zeros_like, parameters)

            def step(state, t):
                p, m, v = state
                if self.batch is None:
                    g = gradient(p, x, q)
                else:
                    first = (t * self.batch) % x.shape[0]
                    g = gradient(
                        p,
                        jax.lax.dynamic_slice_in_dim(x, first, self.batch),
                        jax.lax.dynamic_slice_in_dim(q, first, self.batch, axis=1),
                    )
                m = tree(lambda a, b: 0.9 * a + 0.1 * b, m, g)
                v = tree(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
                c1, c2 = 1 - 0.9 ** (t + 1.0), 1 - 0.999 ** (t + 1.0)
                p = tree(lambda a, b, c: a - RATE * (b / c1) / (jnp.sqrt(c / c2) + 1e-8), p, m, v)
                return (p, m, v), None

            return jax.lax.scan(step, (parameters, zero, zero), jnp.arange(STEPS))[0][0]

        x = jnp.asarray(self.X.numpy())

        def run(models):
            for i in range(0, models, chunk):
                part = self.start[i : i + chunk]
                parameters = [
                    (jnp.asarray(W.numpy()), jnp.asarray(b.numpy())) for W, b in zip(part.weights, part.biases)
                ]
                jax.block_until_ready(fit(parameters, x, jnp.asarray(self.Q[i : i + chunk].numpy())))

        run(chunk)  # compile
        return run

    def sklearn_mlp(self, models):
        """scikit-learn's MLPClassifier on the most probable labels (it takes no soft ones), stopping switched off."""
        options = {"hidden_layer_sizes": self.network.hidden, "alpha": 0.0, "shuffle": False, "tol": 0.0}
        size = self.batch or len(self.X)
        options |= {"batch_size": size, "max_iter": STEPS * size // len(self.X), "n_iter_no_change": 10**9}
        for m in range(models):
            MLPClassifier(**options).fit(self.X.numpy(), self.hard[m].numpy())

    def sklearn_logistic(self, models):
        """scikit-learn's LogisticRegression to its default tolerance, on hard labels."""
        return [LogisticRegression(max_iter=1000).fit(self.X.numpy(), self.hard[m].numpy()) for m in range(models)]

    def core(self, models, one_logit=False, **compute):
        how = {"steps": STEPS, "lr": RATE, "batch": self.batch, "compute": Compute(device=self.device, **compute)}
        network = Network(self.network.hidden, one_logit=one_logit)
        return train(network, self.X, self.Q[:models], **how)

    def core_optimum(self, models):
        """The fixed-Hessian steps of `fit_probes`, to scikit-learn's objective."""
        targets = torch.nn.functional.one_hot(self.hard[:models], self.Q.shape[2]).float()
        return fit_probes(self.X, targets, l2=1 / len(self.X), tol=1e-4, compute=Compute())

    def objectives(self, weight, bias):
        """Penalised objective of each model on its hard labels, float64: what scikit-learn minimises at C = 1."""
        z = self.X.double() @ weight.double().mT + bias.double()[:, None]
        picked = z.log_softmax(2).gather(2, self.hard[: len(z), :, None])[:, :, 0]
        return -picked.sum(1) + (weight.double() ** 2).sum((1, 2)) / 2


class RidgePaths:
    """W3. The teachers are linear in 40 features, as weak ones are: their predictions have that rank."""

    def __init__(self, teachers=512, widths=(32, 64, 128, 256, 512, 1024), lambdas=16, n=500, m=500, d=50):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n + m, d))
        self.features = [np.maximum(X @ rng.normal(size=(d, p)) / d**0.5, 0) for p in widths]
        weak = np.maximum(X @ rng.normal(size=(d, 40)) / d**0.5, 0)
        self.truth = np.tanh(X @ rng.normal(size=d) / d**0.5)
        self.teachers = self.truth[:, None] + weak @ rng.normal(size=(40, teachers)) / 40  # (n + m, teachers)
        self.lambdas, self.n = np.geomspace(1e-6, 10, lambdas), n

    def core(self):
        n, teachers, paths = self.n, sampled_teachers(self.teachers.T, self.n), []
        for Phi in self.features:
            paths.append(student_path(decompose_features(Phi[:n]), Phi[n:], self.lambdas, self.truth[n:], teachers))
        return np.array([[path.gain, path.misfit, path.residual] for path in paths])

    def _ledger(self, students):
        """Gain, misfit and residual from predictions (m, teachers): three differences, four products."""
        W, g = self.teachers[self.n :], self.truth[self.n :, None]
        W = W if students.ndim == 2 else W[:, 0]
        g = g if students.ndim == 2 else g[:, 0]
        moved, error, teacher_error = students - W, students - g, W - g
        misfit, risk, teacher_risk, cross = (
            np.vdot(a, b) / students.size
            for a, b in ((moved, moved), (error, error), (teacher_error, teacher_error), (moved, error))
        )
        return teacher_risk - risk, misfit, 2 * cross

    def cholesky(self, smaller=False):
        """A Cholesky factor of Phi'Phi + n lambda for each width and penalty, shared by all teachers.

        smaller : of Phi Phi' + n lambda instead where that is smaller
        """
        n, W = self.n, self.teachers
        result = np.empty((len(self.features), 3, len(self.lambdas)))
        for i, Phi in enumerate(self.features):
            A, new = Phi[:n], Phi[n:]
            dual = smaller and Phi.shape[1] > n
            gram, right, new = (A @ A.T, W[:n], new @ A.T) if dual else (A.T @ A, A.T @ W[:n], new)
            for j, lam in enumerate(self.lambdas):
                theta = cho_solve(cho_factor(gram + n * lam * np.eye(len(gram))), right)
                result[i, :, j] = self._ledger(new @ theta)
        return result

    def sklearn_multi(self):
        """scikit-learn's Ridge with all teachers as outputs: one fit for each width and penalty."""
        ledgers = [[self._sklearn(Phi, lam, slice(None)) for lam in self.lambdas] for Phi in self.features]
        return np.array(ledgers).transpose(0, 2, 1)

    def sklearn_fit_by_fit(self, share):
        """scikit-learn's Ridge fit by fit: all widths and penalties, for 1/share of the teachers."""
        for Phi in self.features:
            for lam in self.lambdas:
                for t in range(self.teachers.shape[1] // share):
                    self._sklearn(Phi, lam, t)

    def _sklearn(self, Phi, lam, which):
        peer = SklearnRidge(alpha=self.n * lam, fit_intercept=False).fit(Phi[: self.n], self.teachers[: self.n, which])
        return self._ledger(peer.predict(Phi[self.n :]))


def w1(models=256, batch=None, width=64, device="cpu"):
    return Probe(models, 64, 512, 10, (width,), batch, device)


def w2(models=256):
    return Probe(models, 384, 1000, 2, ())
