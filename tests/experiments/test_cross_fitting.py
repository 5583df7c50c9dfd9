"""Cross-fitting: what models may see, the sums by hand, unbiasedness in a world small enough to enumerate."""

import doctest
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from w2s_lib.experiments import cross_fitting
from w2s_lib.experiments.cross_fitting import cross_fit, split_folds
from w2s_lib.selection import recommend
from w2s_lib.training import fit_probes

rng = np.random.default_rng(0)
N, U = 24, 30  # gold inputs; inputs that the teacher labels
X = rng.normal(size=(N + U, 6))
Y = (X @ rng.normal(size=(6, 3)) + rng.normal(size=(N + U, 3))).argmax(1)
ONE_HOT, PENALTIES = np.eye(3)[Y], (0.3, 3.0, 30.0, 300.0)


def ridge(features, targets, penalty, new=X):
    return new @ np.linalg.solve(features.T @ features + penalty * np.eye(features.shape[1]), features.T @ targets)


def teachers(train):
    return np.stack([3 * ridge(X[:N][rows, :2], ONE_HOT[:N][rows], 1.0, X[:, :2]) for rows in train])


def paths(z, train):
    """Students, scored after a temperature; the strong model on the gold labels, scored as it is."""
    student = [[ridge(X[N:], logits[N:], penalty) for penalty in PENALTIES] for logits in z]
    strong = [[4 * ridge(X[:N][rows], ONE_HOT[:N][rows], penalty, X[:N]) for penalty in PENALTIES] for rows in train]
    return {"student": np.array(student), "strong on gold": np.array(strong)}


@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(2, 10), st.integers(0, 5), st.booleans())
def test_folds_are_even_and_so_are_their_classes(labels, folds, seed, stratified):
    labels, folds = np.array(labels), min(folds, len(labels))
    fold = split_folds(labels, folds, seed, stratified)
    assert np.ptp(np.bincount(fold, minlength=folds)) <= 1 and fold.max() == folds - 1
    if stratified:
        assert all(np.ptp(np.bincount(fold[labels == c], minlength=folds)) <= 1 for c in labels)
        np.testing.assert_array_equal(fold, split_folds(np.eye(4)[labels], folds, seed))
    np.testing.assert_array_equal(fold, split_folds(labels, folds, seed, stratified))
    assert stratified or len({tuple(split_folds(range(30), 2, s, False)) for s in range(5)}) == 5


@pytest.mark.parametrize("nested", [False, True])
def test_every_loss_is_that_of_models_without_the_label(nested):
    """All by hand, one model at a time; temperatures are those of `recommend`."""
    found = cross_fit(Y[:N], teachers, paths, folds=4, seed=3, nested=nested)
    fold = split_folds(Y[:N], 4, seed=3)
    np.testing.assert_array_equal(found.fold, fold)
    assert list(found.index) == ["teacher", "student", "strong on gold"]

    def scored(left_out, rows):
        """{name: (points, rows) losses} of the models without these folds, and the student's temperatures."""
        train = ~np.isin(fold, left_out)[None]
        z = teachers(train)
        path = paths(z, train)
        q = np.exp(z[0, N:]) / np.exp(z[0, N:]).sum(-1, keepdims=True)
        T = recommend(q, path["student"][0, :, N:]).temperatures
        path["student"] = path["student"][:, :, :N] / T[None, :, None, None]
        path = {"teacher": z[:, None, :N]} | path
        log_p = {name: x[0] - np.logaddexp.reduce(x[0], axis=-1, keepdims=True) for name, x in path.items()}
        return {name: -log_p[name][:, rows, Y[:N][rows]] for name in path}, T

    for k in range(4):
        rows = np.flatnonzero(fold == k)
        losses, T = scored([k], rows)
        np.testing.assert_allclose(found.temperatures["student"][k], T, rtol=1e-6)
        for name, expected in losses.items():
            np.testing.assert_allclose(found.losses[name][:, rows], expected, rtol=1e-6)
        others = [np.flatnonzero(fold == j) for j in range(4) if j != k]
        left_out = [[j, k] if nested else [j] for j in range(4) if j != k]
        parts = [scored(out, at)[0] for out, at in zip(left_out, others)]
        for name in losses:
            assert found.picked[name][k] == np.concatenate([part[name] for part in parts], 1).mean(1).argmin()
    assert (found.temperatures["strong on gold"] == 1).all() and found.temperatures["teacher"].shape == (4, 1)
    for name, index in found.index.items():
        assert index == found.losses[name].mean(1).argmin()
        reported = found.losses[name][found.picked[name][fold], np.arange(N)]
        assert found.loss(name).value == pytest.approx(reported.mean())
        assert found.loss(name).se == pytest.approx(reported.std(ddof=1) / N**0.5 * (1 + 4 / 3) ** 0.5)
    both = found.loss("student", less="teacher")
    assert both.value == pytest.approx(found.loss("student").value - found.loss("teacher").value)
    assert both.se < found.loss("student").se + found.loss("teacher").se
    right = teachers(~np.eye(4, dtype=bool)[:, fold])[fold, np.arange(N)].argmax(-1) == Y[:N]
    assert found.accuracy("teacher").value == pytest.approx(right.mean())
    assert f"{found.accuracy('teacher')}" in str(found) and f"{both}" in str(found)


def test_no_model_is_given_the_labels_that_it_is_scored_on():
    asked = []

    def spy(train):
        asked.append(train)
        return teachers(train)

    fold = cross_fit(Y[:N], spy, paths, folds=3, nested=True).fold
    (train,) = asked
    left_out = [set(fold[~rows]) for rows in train]
    assert left_out == [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}]
    assert all((fold[rows] != k).all() for k in range(3) for rows, out in zip(train, left_out) if k in out)


def test_of_equals_the_most_regularised_and_own_folds():
    def equals(z, train):
        return {"student": np.repeat(z[:, None, :N], 3, axis=1)}

    groups = rng.integers(5, 8, N)
    found = cross_fit(ONE_HOT[:N], lambda train: torch.as_tensor(teachers(train)), equals, folds=groups)
    assert found.index["student"] == 2 and (found.picked["student"] == 2).all()
    np.testing.assert_array_equal(found.fold, groups - 5)
    assert found.loss("student", less="teacher").value == 0
    np.testing.assert_array_equal(found.losses["student"][1], found.losses["teacher"][0])


def test_the_temperature_is_that_of_the_last_inputs():
    """Logits three times the teacher's have temperature 3, whichever inputs behind the gold ones are kept."""

    def sharper(z, train):
        return {f"{m}": 3 * z[:, None, np.r_[:N, N + U - m : N + U]] for m in (1, 7, U)}

    found = cross_fit(Y[:N], teachers, sharper)
    for m in ("1", "7", f"{U}"):
        np.testing.assert_allclose(found.temperatures[m], 3, rtol=1e-5)
        np.testing.assert_allclose(found.losses[m], found.losses["teacher"], rtol=1e-5)


def test_all_folds_are_one_batch_on_the_core():
    """Teachers, students, strong on gold and the mixture as two calls of `fit_probes`, and the same one by one."""
    held, weights = np.r_[:N, N + 20 : N + U], (1.0, 4.0)  # the last ten inputs for temperatures

    def batch_of_teachers(train):
        return fit_probes(X[:N, :2], np.repeat(ONE_HOT[None, :N], len(train), 0), weights=train, l2=0.1).logits(
            X[:, :2]
        )

    def batch_of_paths(z, train):
        q = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
        targets, seen, l2 = [], [], []
        for labels, rows in zip(q, train):
            mixed = np.concatenate([ONE_HOT[:N], labels[N : N + 20]])
            for gold, weak in ((0.0, 1.0), (1.0, 0.0), *((w, 1.0) for w in weights)):
                for penalty in (0.01, 0.1, 1.0):
                    targets.append(mixed)
                    seen.append(np.r_[gold * rows, np.full(20, weak)])
                    l2.append(penalty)
        fit = fit_probes(X[: N + 20], np.array(targets), weights=np.array(seen), l2=l2)
        z = fit.logits(X).numpy().reshape(len(train), 4, 3, N + U, 3)
        mixture = z[:, 2:].reshape(len(train), 6, N + U, 3)[:, :, :N]
        return {"student": z[:, 0][:, :, held], "strong on gold": z[:, 1, :, :N], "mixture": mixture}

    def one_by_one(fit):
        def fitted(*given):
            parts = [fit(*(x[k : k + 1] for x in given)) for k in range(len(given[-1]))]
            if isinstance(parts[0], dict):
                return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            return torch.cat(parts)

        return fitted

    batch = cross_fit(Y[:N], batch_of_teachers, batch_of_paths, folds=3)
    single = cross_fit(Y[:N], one_by_one(batch_of_teachers), one_by_one(batch_of_paths), folds=3)
    assert batch.index == single.index and list(batch.index) == ["teacher", "student", "strong on gold", "mixture"]
    for name in batch.losses:
        np.testing.assert_allclose(batch.losses[name], single.losses[name], atol=1e-4)


# ------------------------------- a finite world: inputs 0 and 1, labels 0 and 1, every gold sample with its probability

P_X, P_Y = (0.3, 0.7), (0.2, 0.75)  # of x = 1 is P_X[1]; of y = 1 given x
CELLS = [(x, y) for x in (0, 1) for y in (0, 1)]
PROBABILITY = np.array([P_X[x] * (P_Y[x] if y else 1 - P_Y[x]) for x, y in CELLS])
SHRINKAGE = np.array([0.0, 0.5, 1.0])  # the path: the student's log-odds go to their mean over transfer inputs 0, 1, 1


def samples(n):
    """Every sequence of n gold pairs: (inputs, labels, probability)."""
    for cells in product(range(4), repeat=n):
        pairs = np.array([CELLS[c] for c in cells])
        yield pairs[:, 0], pairs[:, 1], PROBABILITY[list(cells)].prod()


def log_odds(x, y):
    """The teacher on inputs 0, 1: smoothed shares of the labels of each input."""
    return np.array([np.log((y[x == v].sum() + 1) / ((1 - y[x == v]).sum() + 1)) for v in (0, 1)])


def students(odds):
    """Log-odds of the path on inputs 0, 1: (points, 2)."""
    return odds + SHRINKAGE[:, None] * (odds @ [1 / 3, 2 / 3] - odds)


def true_risk(odds):
    """Cross-entropy of log-odds (..., 2) over the world."""
    return sum(p * np.logaddexp(0, -odds[..., x] if y else odds[..., x]) for (x, y), p in zip(CELLS, PROBABILITY))


def cross_fit_world(x, y, folds, nested=False):
    def two(odds):
        return np.stack([0 * odds, odds], -1)

    def fit_teachers(train):
        return two(np.stack([log_odds(x[rows], y[rows]) for rows in train])[:, [*x, 0, 1]])

    def fit_paths(z, train):
        return {"student": two(np.stack([students(odds)[:, x] for odds in z[:, -2:, 1]]))}

    return cross_fit(y, fit_teachers, fit_paths, folds, nested=nested)


@pytest.mark.parametrize("folds", [[0, 0, 1, 1], [0, 1, 2, 3], [0, 1, 2, 2]])
def test_cross_fitted_loss_is_unbiased_for_fewer_labels(folds):
    """Exact, over all 256 samples of four labels: the risk of the students of teachers with four less the fold's."""
    sizes = np.bincount(folds)
    risk = {m: sum(p * true_risk(students(log_odds(x, y))) for x, y, p in samples(m)) for m in {*(4 - sizes), 4}}
    expected = sum(size / 4 * risk[4 - size] for size in sizes)
    losses = sum(p * cross_fit_world(x, y, folds).losses["student"].mean(1) for x, y, p in samples(4))
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    # for the teacher with all four that is too large, but not by necessity: the student that sees no input needs none
    assert (expected[:2] > risk[4][:2] + 0.005).all() and expected[2] < risk[4][2]


def test_stratified_folds_are_too_optimistic():
    """Their classes tell a fold's labels of the others' number: exact in the same world, not a matter of luck."""
    fair = sum(p * true_risk(students(log_odds(x, y))) for x, y, p in samples(2))
    stratified = sum(p * cross_fit_world(x, y, 2).losses["student"].mean(1) for x, y, p in samples(4))
    assert (stratified < fair - 0.02).all()


@pytest.mark.parametrize(("n", "classes"), [(100, 2), (100, 10), (400, 10)])
def test_stratified_folds_err_by_the_classes_over_the_inputs(n, classes):
    """Models that know the shares of the classes alone, smoothed by half a label: 1,000 draws, 5 folds."""
    rng = np.random.default_rng(classes)
    shares = rng.dirichlet(np.full(classes, 5.0))
    error = np.zeros((1000, 2))

    def log_shares(labels):
        counts = np.bincount(labels, minlength=classes) + 0.5
        return np.log(counts / counts.sum())

    for r in range(1000):
        y = rng.choice(classes, n, p=shares)
        error[r] = shares @ log_shares(y[n // 5 :])  # less the risk of four fifths of the labels
        for column, stratified in enumerate((True, False)):
            fold = split_folds(y, 5, r, stratified)
            error[r, column] -= sum(log_shares(y[fold != k])[y[fold == k]].sum() for k in range(5)) / n
    stratified, random = error.mean(0)
    assert stratified == pytest.approx(-(classes - 1) / n, rel=0.2)
    assert abs(random) < 4 * error[:, 1].std() / 1000**0.5


def test_nested_choice_is_unbiased_and_the_least_loss_is_not():
    """Exact, over all samples of three labels: the reported loss is the risk of choosing and fitting with two."""
    procedure = 0.0
    for x, y, p in samples(2):
        point = cross_fit_world(x, y, [0, 1]).index["student"]
        procedure += p * true_risk(students(log_odds(x, y))[point])
    all_of = [(cross_fit_world(x, y, [0, 1, 2], nested=True), p) for x, y, p in samples(3)]
    reported = sum(p * found.loss("student").value for found, p in all_of)
    least = sum(p * found.losses["student"].mean(1).min() for found, p in all_of)
    assert reported == pytest.approx(procedure, rel=1e-12)
    assert least < reported - 0.02


def test_intervals_cover_where_those_of_independent_inputs_do_not():
    """60 gold labels, 5 folds, 200 draws: 95% intervals for the risk of the students that were fitted."""
    beta, covered = np.linspace(0.1, 0.6, 10), {"wider": 0, "independent": 0}
    for seed in range(200):
        rng = np.random.default_rng([9, seed])
        X = rng.normal(size=(760, 10))  # gold, transfer, test inputs
        y = (rng.random(760) < 1 / (1 + np.exp(-X @ beta))).astype(int)
        risks = []

        def fit_teachers(train, X=X, y=y):
            margin = np.stack([ridge(X[:60][t, :6], 2 * y[:60][t] - 1.0, 1.0, X[:260, :6]) for t in train])
            return np.stack([-margin, margin], -1)

        def fit_paths(z, train, X=X, y=y, risks=risks):
            margin = np.stack([ridge(X[60:260], labels[60:, 1], 1.0, X) for labels in z])
            risks.append(np.logaddexp(0, -2 * margin * (2 * y - 1))[:, 260:].mean())
            return {"student": np.stack([-margin, margin], -1)[:, None, :60]}

        found = cross_fit(y[:60], fit_teachers, fit_paths, seed=seed)
        low, high = found.loss("student").interval()
        middle, half = (low + high) / 2, (high - low) / 2
        covered["wider"] += abs(risks[0] - middle) <= half
        covered["independent"] += abs(risks[0] - middle) <= half / 2.25**0.5
    assert covered["wider"] > 0.90 * 200 and covered["independent"] < 0.92 * 200, covered


# ------------------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"labels": Y[0]}, "labels"),
        ({"labels": Y[:1]}, "labels"),
        ({"labels": Y[:N] + 1}, "labels"),
        ({"folds": 1}, "folds"),
        ({"folds": N + 1}, "folds"),
        ({"folds": 2.5}, "folds"),
        ({"folds": np.zeros(N, int)}, "folds"),
        ({"folds": np.arange(N - 1)}, "folds"),
        ({"folds": np.linspace(0, 1, N)}, "folds"),
        ({"folds": 2, "nested": True}, "nested"),
        ({"fit_teachers": lambda train: teachers(train)[0]}, "fit_teachers"),
        ({"fit_teachers": lambda train: teachers(train)[:2]}, "fit_teachers"),
        ({"fit_teachers": lambda train: teachers(train)[:, : N - 1]}, "fit_teachers"),
        ({"fit_teachers": lambda train: teachers(train) * np.nan}, "fit_teachers"),
        ({"fit_paths": lambda z, train: {"teacher": z[:, None]}}, "fit_paths"),
        ({"fit_paths": lambda z, train: {"student": z}}, "fit_paths, student"),
        ({"fit_paths": lambda z, train: {"student": z[:2, None]}}, "fit_paths, student"),
        ({"fit_paths": lambda z, train: {"student": z[:, None, : N - 1]}}, "fit_paths, student"),
        ({"fit_paths": lambda z, train: {"student": z[:, None, :N, :2]}}, "fit_paths, student"),
        ({"fit_paths": lambda z, train: {"student": np.zeros((5, 0, N, 3))}}, "fit_paths, student"),
    ],
)
def test_bad_input_names_the_argument(changed, named):
    arguments = {"labels": Y[:N], "fit_teachers": teachers, "fit_paths": paths} | changed
    with pytest.raises(ValueError, match=f"^{named}"):
        cross_fit(**arguments)


def test_an_unknown_candidate_is_named():
    found = cross_fit(Y[:N], teachers, paths)
    with pytest.raises(ValueError, match="'ceiling' is none of the candidates"):
        found.loss("student", less="ceiling")


def test_the_example_runs():
    result = doctest.testmod(cross_fitting)
    assert result.attempted and not result.failed
