r"""One weak-to-strong experiment on real data, from labels to the ledger, as one function of one frozen config.

    gold inputs, true labels   -> teacher    softmax regression on weak features
    transfer inputs            -> student    trained on the teacher's labels, by each loss, along the whole path
    the same, true labels      -> ceiling
    validation inputs          -> every choice: penalty, training time, c of CACE, temperature; on the TEACHER's labels
    test inputs, true labels   -> what is reported, and nothing else

The student is a softmax regression on random ReLU features (`width` of them) of frozen strong features. His
regularisation path has two legs: all penalties at the end of training, and stages of training at the least penalty. A
run is one draw of the three sources of luck: the split (which inputs are gold, transfer, validation), the teacher's
training (a bootstrap of her gold inputs), the student's initialisation (his random features). Test inputs are the same
in all runs. Every student starts from zero, whatever his loss (RCE then loses classes where there are many: the book
shows what a warm start changes). True labels of validation inputs are used by rules that say so in their name, and by
the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression

from .._checks import one_hot, require, to_numpy
from ..bregman import KL
from ..calibration import fit_temperature
from ..decomposition import decompose
from ..gain import ledger, split_residual
from ..intervals import crossed_mean, crossed_ratio, nested_components
from ..losses import CE, KL_REVERSE, AuxiliaryConfidence, ConfidenceSwitch, PerModel, ReverseFamily, symmetric_loss
from ..training import Compute, Network, fit_probes, initialise, train
from .encoders import features
from .tasks import load_task

QUANTILES = (0.25, 0.5, 0.75)  # of the teacher's confidence: CACE's candidates for c
LOSSES = ("CE", "RCE", "reverse KL", "J", "SL", "CACE", "AUX", "hard")  # forward KL has CE's gradient: the same student
FEW = (20, 50, 200)  # true labels of validation inputs that some rules may see


@dataclass(frozen=True)
class Protocol:
    """Settings of an experiment. Defaults are the small size; nothing in it was chosen by a test label."""

    data: str = "mnist"
    teacher: str = "pool:7"  # features that she sees (see `features`)
    student: str = "pixels"  # features that he sees
    width: int = 512  # random ReLU features on top of them; 0: a linear student
    gold: int = 100  # true labels for the teacher
    transfer: int = 1000  # inputs that she labels for the student
    validation: int = 500  # further inputs that she labels, for choices
    teacher_l2: float = 1.0  # beside the sum of her losses: scikit-learn's default
    bag: int = 0  # > 0: the teacher is the dual mean of so many, each on a bootstrap of the gold inputs
    confidence: float = 1.0  # a: labels a q + (1 - a)/K instead of the teacher's q
    noise: float = 0.0  # share of the gold labels replaced by another class, at random
    losses: tuple[str, ...] = LOSSES
    l2s: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1)  # student's penalties, beside the mean loss
    stages: tuple[int, ...] = (3, 10, 30, 80)  # steps after which training is looked at, at the first penalty
    steps: int = 150  # of Adam on all transfer inputs
    lr: float = 0.02
    splits: int = 20  # seeds first_split, first_split + 1, ...
    teachers: int = 1  # trainings of the teacher a split; more than one: on bootstraps of the gold inputs
    students: int = 1  # initialisations of the student a teacher
    first_split: int = 0

    def check(self):
        """Raise ValueError that names what cannot be."""
        known = set(self.losses) <= set(LOSSES) and self.losses[:1] == ("CE",)  # the others are compared with the first
        require(known, "losses", f"must be of {LOSSES}, CE the first")
        for name in ("gold", "transfer", "splits", "teachers", "students", "steps"):
            require(getattr(self, name) >= 1, name, "must be at least 1")
        require(self.validation >= max(FEW), "validation", f"must be at least {max(FEW)}: rules see so many labels")
        require(0 < self.confidence <= 1, "confidence", "must be in (0, 1]")
        require(0 <= self.noise < 1, "noise", "must be in [0, 1)")
        require(list(self.l2s) == sorted(self.l2s) and min(self.l2s) > 0, "l2s", "must be positive and rise")
        require(all(0 < t < self.steps for t in self.stages), "stages", f"must lie between 0 and steps, {self.steps}")

    @property
    def path(self):
        """[(penalty, steps), ...]: first the penalties at the end of training, then the stages of training."""
        return [(l2, self.steps) for l2 in self.l2s] + [(self.l2s[0], t) for t in self.stages]

    @property
    def runs(self):
        """[(split, teacher, student), ...] seeds."""
        seeds = range(self.first_split, self.first_split + self.splits)
        return [(s, t, u) for s in seeds for t in range(self.teachers) for u in range(self.students)]


@lru_cache(maxsize=4)
def load(data, *names):
    """A task and the features of those names, standardised by the inputs outside its test part."""
    task = load_task(data)
    train_part = task.part != "test"
    scaled = []
    for name in names:
        X = features(task, name)
        mean, sd = X[train_part].mean(0), X[train_part].std(0)
        scaled.append((X - mean) / np.where(sd > 1e-6, sd, 1))
    return task, *scaled


def deal(task, config, split):
    """Indices (gold, transfer, validation) of a split, disjoint; data sets with an own split keep to it."""
    rng, own = np.random.default_rng([split, 0]), (task.part == "gold").any()
    gold = rng.permutation(np.flatnonzero(task.part == ("gold" if own else "pool")))
    rest = rng.permutation(np.flatnonzero(task.part == "transfer")) if own else gold[config.gold :]
    need = config.transfer + config.validation
    enough = len(gold) >= config.gold and len(rest) >= need
    require(enough, "config", f"asks for {config.gold} + {need} inputs, {task.name} has {len(gold)} + {len(rest)}")
    return gold[: config.gold], rest[: config.transfer], rest[config.transfer : need]


def teach(task, X, config):
    """Logits of the teachers on all inputs: (splits * teachers, inputs, classes)."""
    K, pool = task.classes, np.flatnonzero(task.part != "test")
    place = {i: j for j, i in enumerate(pool)}
    weights, labels = [], []
    for split, teacher, _ in [run for run in config.runs if run[2] == 0]:
        gold = deal(task, config, split)[0]
        rng = np.random.default_rng([split, 1])
        y = task.labels.copy()
        wrong = gold[rng.random(len(gold)) < config.noise]
        y[wrong] = (y[wrong] + rng.integers(1, K, len(wrong))) % K
        for b in range(max(1, config.bag)):
            rng = np.random.default_rng([split, 2, teacher, b])
            whole = config.teachers == 1 and not config.bag
            counts = 1 if whole else rng.multinomial(len(gold), np.full(len(gold), 1 / len(gold)))
            w = np.zeros(len(pool))
            w[[place[i] for i in gold]] = counts
            weights.append(w)
            labels.append(np.eye(K)[y[pool]])
    probes = fit_probes(
        X[pool],
        np.array(labels),
        weights=np.array(weights),
        l2=config.teacher_l2,
        tol=1e-7,
        allow_empty=True,
        compute=Compute(dtype=torch.float64, memory=1e9),
    )
    z = KL.dual(to_numpy(probes.logits(X)))
    return z.reshape(-1, max(1, config.bag), *z.shape[1:]).mean(1)


def losses(config):
    """{name: (loss, kind of label)}, CACE once for each candidate of c."""
    # log q is taken of max(q, 1e-4): a sure teacher's odds end at ten thousand to one
    reverse = ReverseFamily(lam=0.0, clamp=1e-4)
    made = {
        "CE": (CE, "soft"),
        "RCE": (reverse, "soft"),
        "reverse KL": (ReverseFamily(lam=KL_REVERSE.lam, clamp=1e-4), "soft"),
        "J": (ReverseFamily(lam=0.3, clamp=1e-4), "soft"),
        "SL": (symmetric_loss(clamp=1e-4), "soft"),
        "AUX": (AuxiliaryConfidence(alpha=0.5, warmup=config.steps // 5), "soft"),
        "hard": (CE, "hard"),
    }
    made = {name: made[name] for name in config.losses if name in made}
    if "CACE" in config.losses:
        made |= {f"CACE {c}": (ConfidenceSwitch(c, quantile=True, reverse=reverse), "soft") for c in QUANTILES}
    return made | {"ceiling": (CE, "true")}


def study(X, q, y, rows, config, seed):
    """Logits of one student by every loss along the path: {name: (path, inputs, classes)} on the inputs `rows`.

    X : strong features of all inputs; rows : indices of the transfer inputs, then of others
    q, y : teacher's labels and true labels of the transfer inputs
    """
    n, K = q.shape
    Phi = torch.as_tensor(X[rows])
    if config.width:
        net = Network((config.width,), frozen=1, init="normal")
        Phi = initialise(net, Phi.shape[1], K, [seed]).logits(Phi, layers=1)[0]
    labels = {"soft": q, "hard": np.eye(K)[q.argmax(-1)], "true": np.eye(K)[y]}
    made, m = losses(config), len(config.l2s)
    Q = np.repeat([labels[kind] for _, kind in made.values()], m, axis=0)
    # half the penalty on the one logit of two classes is the penalty on two
    l2 = np.tile(config.l2s, len(made)) / (2 if K == 2 else 1)
    each = PerModel(tuple(loss for loss, _ in made.values()), (m,) * len(made))
    trained = train(
        Network(init="zeros", one_logit=K == 2), Phi[:n], torch.as_tensor(Q, dtype=torch.float32), loss=each, l2=l2,
        steps=config.steps, lr=config.lr, snapshots=(Phi, (*config.stages, config.steps)), seeds=[0] * len(l2),
        allow_empty=True, compute=Compute(chunk=len(l2), memory=8e9),
    )  # fmt: skip
    shots = KL.dual(to_numpy(trained.snapshots)).reshape(len(config.stages) + 1, len(made), m, -1, K)
    paths = np.concatenate([shots[-1], shots[:-1, :, 0].swapaxes(0, 1)], 1)  # (losses, path, inputs, classes)
    return dict(zip(made, paths))


def run(config):
    """Carry out the experiment; returns {name: array}, what a sweep's cell keeps.

    Axes: L losses (config.losses, then the ceiling), P points of config.path, R config.runs. CACE at a point is the
    candidate of c that the weak labels of the validation inputs prefer there.
    (L, P, R): of the test inputs acc, ce, brier, ece, entropy, the ledger's gain, misfit, residual, agree (with the
      teacher), tstar (squared loss, recalibrated student), ce_cal and entropy_cal after one temperature from the
      teacher's labels, peer (agreement with the student of another teacher), matched (pairs of texts: accuracy where
      lengths are alike), ideal_ce (after ideal_temperature, which true validation labels
      choose); of the transfer inputs transfer_gain and transfer_misfit; of the validation inputs weak_ce with weak_se
      and weak_agree on the teacher's labels, true_ce and true_acc on all true labels, true_ce_m and tstar_m on m of
      them. CE risks there are recalibrated
    (R,): teacher_acc, ... ; (L, P, 2): bias, variance over runs, value and standard error; (L, P, R): distance to the
      dual mean of the other teachers, KL(student || it); (L, P, G): ens_acc, ens_ce of the dual mean of five students
    choice_RULE (L, R): the point of the path that a rule picks; gain_RULE, pair_RULE (less CE), over_weak_RULE, of acc,
      ce, ce_cal, larger is better, pgr_RULE and parts_RULE (L, ..., 3): value, standard error, degrees of freedom of
      crossed estimates over runs and test inputs
    Raises ValueError for impossible settings.
    """
    config.check()
    task, X_w, X_s = load(config.data, config.teacher, config.student)
    test = np.flatnonzero(task.part == "test")
    truth, z_teachers = one_hot(task.labels[test], task.classes), teach(task, X_w, config)
    names, stats, logits, W, q_val = [*losses(config)], [], [], [], []
    for r, (split, teacher, student) in enumerate(config.runs):
        transfer, held = deal(task, config, split)[1:]
        z_w = z_teachers[r // config.students]
        q = config.confidence * KL.mean(z_w) + (1 - config.confidence) / task.classes
        rows = np.concatenate([transfer, held, test])
        seed = int(np.random.default_rng([split, 3, teacher, student]).integers(2**31))
        made = study(X_s, q[transfer], task.labels[transfer], rows, config, seed)
        about = _About(config, task, task.labels[rows], z_w[rows], q[held], split)
        stats.append({name: about.measure(z) for name, z in made.items()})
        logits.append({name: z[:, config.transfer :].astype(np.float32) for name, z in made.items()})
        W.append(z_w[test])
        q_val.append(q[held])
    keep, used = _tune_cace(names, config, stats)
    out = {key: np.array([[s[n][key] for n in names] for s in stats]).transpose(1, 2, 0) for key in stats[0]["CE"]}
    Z = np.array([[z[n] for n in names] for z in logits]).transpose(1, 2, 0, 3, 4)  # (L, P, R, inputs, K)
    points = np.arange(Z.shape[1])[:, None], np.arange(Z.shape[2])
    out = {k: np.array([x[row[points[0], points[1]], points[0], points[1]] for row in keep]) for k, x in out.items()}
    Z = np.array([Z[row, points[0], points[1]] for row in keep])
    W, q_val, V, Z = np.array(W), np.array(q_val), Z[..., : config.validation, :], Z[..., config.validation :, :]
    out |= used | _teachers(W, truth, task, test, config) | _ensembles(Z, W, truth, out, config, task, test)
    picked = choices(out, config)
    out |= _luck(Z, out, config) | _conclusions(Z, W, truth, out, picked, config)
    return out | _after(V, Z, q_val, truth, picked["weak"])


@dataclass(frozen=True)
class _About:
    """What one run's students are measured by; inputs are transfer, validation, test, one behind the other."""

    config: Protocol
    task: object
    y: np.ndarray  # true labels of all inputs
    z_w: np.ndarray  # teacher's logits of all inputs
    q: np.ndarray  # the teacher's labels of the validation inputs
    split: int  # its seed also draws the few true labels

    def measure(self, z):
        """{name: (path,)} of one loss; z (path, inputs, classes)."""
        a, b, K = self.config.transfer, self.config.transfer + self.config.validation, self.task.classes
        one_hots, w = np.eye(K)[self.y], KL.mean(self.z_w)
        weak, true = (_temperature(z[:, a:b], labels) for labels in (self.q, one_hots[a:b]))
        book, own = (ledger(one_hots[part], self.z_w[part], z[:, part]) for part in (slice(b, None), slice(0, a)))
        out = scores(z[:, b:], self.y[b:])
        out |= {"gain": book.pair_gain, "misfit": book.pair_misfit, "residual": book.pair_residual}
        out |= {"transfer_gain": own.pair_gain, "transfer_misfit": own.pair_misfit}
        out |= {"temperature": weak, "ideal_temperature": true}
        out["agree"] = (z[:, b:].argmax(-1) == w[b:].argmax(-1)).mean(-1)
        out["ideal_ce"] = scores(z[:, b:] / true[:, None, None], self.y[b:])["ce"]
        cal = z / weak[:, None, None]
        after = scores(cal[:, b:], self.y[b:])
        out |= {"ce_cal": after["ce"], "entropy_cal": after["entropy"], "ece_cal": after["ece"]}
        out["tstar"] = _weight(KL.mean(cal[:, b:]), w[b:], one_hots[b:])
        if self.task.length is not None:
            near = b + _alike(self.task)
            out["matched"] = scores(z[:, near], self.y[near])["acc"]
        return out | self.validate(cal[:, a:b], self.y[a:b])

    def validate(self, z, y):
        """What rules may look at: recalibrated logits of the validation inputs."""
        log_p = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
        weak = -(self.q * log_p).sum(-1)
        true = -np.take_along_axis(log_p, np.broadcast_to(y[:, None], (*z.shape[:2], 1)), -1)[..., 0]
        out = {"weak_ce": weak.mean(-1), "weak_se": weak.std(-1, ddof=1) / len(y) ** 0.5, "true_ce": true.mean(-1)}
        out["weak_agree"] = (z.argmax(-1) == self.q.argmax(-1)).mean(-1)
        out["true_acc"] = (z.argmax(-1) == y).mean(-1)
        order = np.random.default_rng([self.split, 4]).permutation(len(y))  # the same for every loss
        for m in FEW:
            few = order[:m]
            out[f"true_ce_{m}"] = true[:, few].mean(-1)
            out[f"tstar_{m}"] = _weight(np.exp(log_p[:, few]), self.q[few], np.eye(z.shape[-1])[y[few]])
        return out


def _temperature(z, q):
    """One temperature for each point of the path, (path,): z (path, inputs, classes), q (inputs, classes)."""
    q = np.broadcast_to(q, z.shape).copy()
    return to_numpy(fit_temperature(torch.as_tensor(z), torch.as_tensor(q)))


def scores(z, labels):
    """acc, ce, brier, ece (15 bins of equal size) and entropy of logits z (..., inputs, classes): {name: (...)}."""
    log_p = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
    p = np.exp(log_p)
    y = np.broadcast_to(labels[:, None], (*z.shape[:-1], 1))
    top, right = p.max(-1), (p.argmax(-1) == labels).astype(float)
    order = top.argsort(-1)
    off = np.take_along_axis(top - right, order, -1)
    bins = np.array_split(np.arange(z.shape[-2]), min(15, z.shape[-2]))
    return {
        "acc": right.mean(-1),
        "ce": -np.take_along_axis(log_p, y, -1)[..., 0].mean(-1),
        "brier": ((p - np.eye(z.shape[-1])[labels]) ** 2).sum(-1).mean(-1),
        "ece": sum(abs(off[..., b].sum(-1)) for b in bins) / z.shape[-2],
        "entropy": -(p * np.where(p > 0, log_p, 0)).sum(-1).mean(-1),
    }


def _weight(s, w, y):
    """t*, the least-squares slope of Y - f_s on f_w - f_s: the best weight of the teacher in a blend."""
    step = w - s
    return ((y - s) * step).sum((-2, -1)) / np.maximum((step**2).sum((-2, -1)), 1e-12)


def _alike(task):
    """Places among the test inputs of pairs whose lengths are alike: the third with the least |log ratio of words|."""
    size = abs(task.length[task.part == "test"])
    return np.flatnonzero(size <= np.quantile(size, 1 / 3))


def _tune_cace(names, config, stats):
    """Rows of `names` that stand for each loss, (path, runs) each, and {cace_c: the chosen candidates}."""
    shape = (len(config.path), len(stats))
    keep, used = [], {}
    for name in (*config.losses, "ceiling"):
        if name == "CACE":
            mine = [i for i, n in enumerate(names) if n.startswith("CACE")]
            weak = np.array([[s[names[i]]["weak_ce"] for s in stats] for i in mine])  # (candidates, runs, path)
            best = weak.argmin(0).T
            keep.append(np.array(mine)[best])
            used["cace_c"] = np.array(QUANTILES)[best]
        else:
            keep.append(np.full(shape, names.index(name)))
    return keep, used


def _teachers(W, truth, task, test, config):
    """What is known of the teachers W (runs, test, classes)."""
    labels = task.labels[test]
    out = {f"teacher_{k}": v for k, v in scores(W, labels).items()}
    if len(W) > 1:
        parts = decompose(truth, W, clusters=[run[0] for run in config.runs])
        out |= {f"teacher_{k}": np.array([getattr(parts, k).value, getattr(parts, k).se]) for k in ("bias", "variance")}
    out["teacher_distance"] = _distance(W, W)
    groups = _fives(len(W))
    if groups:
        together = np.array([W[g].mean(0) for g in groups])
        out |= {f"teacher_ens_{k}": v for k, v in scores(together, labels).items() if k in ("acc", "ce")}
    if task.length is not None:
        near = _alike(task)
        out["teacher_matched"] = scores(W[:, near], labels[near])["acc"]
        longer = task.length > 0
        gold = [deal(task, config, run[0])[0] for run in config.runs]
        side = np.array([(longer[g] == task.labels[g]).mean() >= 0.5 for g in gold])  # what gold says of the longer one
        out["length_acc"] = np.array([((longer[test] == labels) == s).mean() for s in side])
    return out


def _distance(S, W):
    """(R,): KL(S_r || dual mean of all teachers but the r-th) over test inputs; NaN for a single run."""
    if len(W) == 1:
        return np.full(1, np.nan)
    others = (W.sum(0) - W) / (len(W) - 1)
    return np.array([KL.divergence(s, o).mean() for s, o in zip(S.astype(float), others)])


def _fives(runs):
    """Groups of five runs each."""
    return [slice(i, i + 5) for i in range(0, runs - 4, 5)]


def _ensembles(Z, W, truth, out, config, task, test):
    """Bias, variance, distance, ensembles of five, agreement of peers, and (R) where the truth is soft: (L, P, ...)."""
    labels, clusters = task.labels[test], [run[0] for run in config.runs]
    L, P, R = Z.shape[:3]
    found = {k: np.zeros((L, P, 2)) for k in ("bias", "variance")}
    found |= {"distance": np.zeros((L, P, R)), "peer": np.zeros((L, P, R))}
    groups = _fives(R)
    found |= {k: np.zeros((L, P, len(groups))) for k in ("ens_acc", "ens_ce", "ens_ce_cal")} if groups else {}
    soft = None if task.soft is None else task.soft[test]
    found |= {} if soft is None else {k: np.zeros((L, P, R)) for k in ("R_gain", "R_misfit", "R_residual")}
    for i, j in np.ndindex(L, P):
        z = Z[i, j].astype(float)
        cal = z / out["temperature"][i, j][:, None, None]
        if R > 1:
            parts = decompose(truth, z, clusters=clusters)
            for k in ("bias", "variance"):
                found[k][i, j] = getattr(parts, k).value, getattr(parts, k).se
        found["distance"][i, j] = _distance(z, W)
        top = z.argmax(-1)
        found["peer"][i, j] = (top == np.roll(top, 1, 0)).mean(-1)
        for g, rows in enumerate(groups):
            for key, x, want in (("ens_acc", z, "acc"), ("ens_ce", z, "ce"), ("ens_ce_cal", cal, "ce")):
                found[key][i, j, g] = scores(x[rows].mean(0), labels)[want]
        if soft is not None:
            book = ledger(soft, W, z, direction="reverse")
            found["R_gain"][i, j], found["R_misfit"][i, j] = book.pair_gain, book.pair_misfit
            found["R_residual"][i, j] = book.pair_residual
    return found


def choices(out, config):
    """{rule: (L, R)} the point of the path that each rule picks for each loss and run, from `run`'s arrays.

    On the teacher's labels: weak (least CE among penalties), weak_agree (most agreement), early (least CE among the
    stages of training at the least penalty), one_se (the largest penalty within one standard error of the least CE),
    peer (the penalty at which students of different teachers agree most; it sees test inputs, no labels).
    On m true labels: few_m (least CE), tstar_m (t* nearest zero). On all true validation labels: oracle (least CE),
    oracle_acc (most accurate), oracle_early (least CE among the stages). least and most: the ends of the penalties.
    """
    n = len(config.l2s)
    penalties, stages = np.arange(n), np.array([*range(n, len(config.path)), 0])

    def best(key, where, sign=1):
        return where[(sign * out[key][:, where]).argmin(1)]

    weak = best("weak_ce", penalties)
    limit = sum(np.take_along_axis(out[k], weak[:, None], 1) for k in ("weak_ce", "weak_se"))
    within = out["weak_ce"][:, :n] <= limit
    picked = {
        "least": np.zeros_like(weak),
        "most": np.full_like(weak, n - 1),
        "weak": weak,
        "weak_agree": best("weak_agree", penalties, -1),
        "early": best("weak_ce", stages),
        "one_se": n - 1 - within[:, ::-1].argmax(1),
        "peer": best("peer", penalties, -1),
        "oracle": best("true_ce", penalties),
        "oracle_acc": best("true_acc", penalties, -1),
        "oracle_early": best("true_ce", stages),
    }
    for m in FEW:
        picked[f"few_{m}"] = best(f"true_ce_{m}", penalties)
        picked[f"tstar_{m}"] = penalties[abs(out[f"tstar_{m}"][:, :n]).argmin(1)]
    return picked


def _luck(Z, out, config):
    """luck_KEY (L, P, 3): variance components of split, teacher's training, student's initialisation, where all vary.

    KEY: acc and ce_cal; logit, the squared logits (centred, summed over classes, mean over test inputs).
    """
    levels = (config.splits, config.teachers, config.students)
    if min(levels) < 2:
        return {}
    kept = {k: np.moveaxis(out[k].reshape(*out[k].shape[:2], *levels), (0, 1), (3, 4)) for k in ("acc", "ce_cal")}
    found = {f"luck_{k}": np.moveaxis(nested_components(x), 0, -1) for k, x in kept.items()}
    z = [[nested_components(x.reshape(*levels, -1)).sum(1) / x.shape[1] for x in row] for row in Z]
    return found | {"luck_logit": np.array(z)}


def _conclusions(Z, W, truth, out, picked, config):
    """Crossed estimates at what each rule picks, and at each penalty ("at_0", ...), where all losses have the same."""
    clusters, labels, R = np.array([run[0] for run in config.runs]), truth.argmax(-1), np.arange(len(config.runs))
    done = {f"choice_{rule}": x.astype(np.int8) for rule, x in picked.items()}
    picked = picked | {f"at_{j}": np.full_like(picked["weak"], j) for j in range(len(config.path))}

    def each(z, T):
        """acc, ce, ce_cal of each run and input, ce as a gain: larger is better."""
        found = [(z.argmax(-1) == labels).astype(float)]
        for x in (z, z / T[:, None, None]):
            found.append(np.take_along_axis(x, np.broadcast_to(labels[:, None], (*x.shape[:-1], 1)), -1)[..., 0])
            found[-1] = found[-1] - np.logaddexp.reduce(x, axis=-1)
        return found

    def triple(estimate):
        return estimate.value, estimate.se, estimate.df

    w, cache, L = each(W, np.ones(len(W))), {}, len(Z)
    for i, j in np.ndindex(Z.shape[:2]):
        cache[i, j] = np.array(each(Z[i, j].astype(float), out["temperature"][i, j]), dtype=np.float32)

    def at(x):
        """acc, ce, ce_cal (3, R, test) of each loss at the points x (L, R)."""
        return [np.stack([cache[i, j][:, r] for r, j in enumerate(row)], 1) for i, row in enumerate(x)]

    weak, top = at(picked["weak"]), at(picked["oracle"])[L - 1]
    for rule, x in picked.items():
        mine = at(x)
        done[f"gain_{rule}"] = np.array([[triple(crossed_mean(a - b, clusters)) for a, b in zip(m, w)] for m in mine])
        versus = [[triple(crossed_mean(a - b, clusters)) for a, b in zip(m, mine[0])] for m in mine[1:-1]]
        done[f"pair_{rule}"] = np.array(versus).reshape(-1, 3, 3)  # each loss less CE under the same rule
        if rule in ("weak", "oracle"):
            ratios = [crossed_ratio(m[0] - w[0], top[0] - w[0], clusters) for m in mine]
            done[f"pgr_{rule}"] = np.array([triple(ratio) for ratio in ratios])
        if rule not in ("weak", "weak_agree", "oracle_early") and not rule.startswith("at_"):
            change = [[triple(crossed_mean(a - b, clusters)) for a, b in zip(m, v)] for m, v in zip(mine, weak)]
            done[f"over_weak_{rule}"] = np.array(change)  # what the rule adds to weak validation, the loss the same
    for rule in ("weak", "oracle"):
        z = np.array([Z[i, picked[rule][i], R] for i in range(L)]).astype(float)  # (L, R, test, K)
        split = [split_residual(truth, W, s, clusters=clusters) for s in z]
        done[f"parts_{rule}"] = np.array([[triple(s.calibration), triple(s.thrown_away)] for s in split])
    return done


BETAS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)


def _after(V, Z, q, truth, weak):
    """What can still be done with the student that weak validation chose: (L, R) or (L, betas, R).

    ce_isotonic : after isotonic regression, class by class and renormalised, on the teacher's validation labels
    beta_ce, beta_entropy : of his logits times beta
    """
    labels, found = truth.argmax(-1), {"ce_isotonic": np.zeros(weak.shape)}
    found |= {k: np.zeros((weak.shape[0], len(BETAS), weak.shape[1])) for k in ("beta_ce", "beta_entropy")}
    for i, r in np.ndindex(weak.shape):
        z_val, z = (x[i, weak[i, r], r].astype(float) for x in (V, Z))
        p_val, p = KL.mean(z_val), KL.mean(z)
        curve = IsotonicRegression(y_min=1e-3, y_max=1, out_of_bounds="clip")
        new = [curve.fit(p_val[:, k], q[r, :, k]).predict(p[:, k]) for k in range(p.shape[1])]
        found["ce_isotonic"][i, r] = scores(np.log(new).T, labels)["ce"]
        for b, beta in enumerate(BETAS):
            now = scores(beta * z, labels)
            found["beta_ce"][i, b, r], found["beta_entropy"][i, b, r] = now["ce"], now["entropy"]
    return found
