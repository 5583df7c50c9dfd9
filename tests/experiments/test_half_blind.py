"""Stacked probes, and the half-blind worlds: who is given which images and labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from w2s_lib.experiments.half_blind import (
    HalfBlind,
    half_blind,
    half_blind_ensemble,
    half_blind_teachers,
    half_blind_transfer_sets,
    split_images,
)
from w2s_lib.experiments.tasks import load_images
from w2s_lib.intervals import to_numpy
from w2s_lib.training import Compute, fit_probes


@pytest.fixture(scope="module")
def problem():
    images = load_images("digits")
    rng = np.random.default_rng(0)
    used = rng.choice(len(images.labels), 300, replace=False)
    return images.pixels[used], images.labels[used]


@pytest.mark.parametrize("l2", [0.1, 1.0, 10.0])
def test_probes_equal_scikit_learn(problem, l2):
    """Three models in one batch: all inputs; a bootstrap as weights; the left half of the image."""
    X, y = problem
    left = load_images("digits").left_half()
    weights = np.stack(
        [np.ones(300), np.bincount(np.random.default_rng(1).integers(0, 300, 300), minlength=300), np.ones(300)]
    )
    masks = np.stack([np.ones(64), np.ones(64), left])
    targets = np.tile(np.eye(10)[y], (3, 1, 1))
    got = fit_probes(X, targets, weights=weights, mask=masks, l2=l2, tol=1e-9).logits(X).softmax(-1).numpy()
    for m in range(3):
        peer = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10_000)
        peer.fit(X * masks[m], y, sample_weight=weights[m])
        np.testing.assert_allclose(got[m], peer.predict_proba(X * masks[m]), atol=2e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_two_classes_and_a_penalty_a_model(problem, weighted):
    """Two classes are fitted as one logit; penalties differ between models, or models share one metric."""
    X, y = problem
    odd, l2 = y % 2, np.array([0.3, 3.0])
    weights = np.bincount(np.random.default_rng(1).integers(0, 300, 300), minlength=300)
    for penalties in (l2, l2[:1].repeat(2)):
        both = np.stack([weights] * 2) if weighted else None
        fits = fit_probes(X, np.eye(2)[odd][None].repeat(2, 0), weights=both, l2=penalties, tol=1e-9)
        for m in range(2):
            peer = LogisticRegression(C=1 / penalties[m], tol=1e-10, max_iter=10_000)
            peer.fit(X, odd, sample_weight=weights if weighted else None)
            # scikit-learn penalises the one logit of two classes, we each class: half of it
            peer = LogisticRegression(C=2 / penalties[m], tol=1e-10, max_iter=10_000)
            peer.fit(X, odd, sample_weight=weights if weighted else None)
            got = fits.logits(X).softmax(-1)[m].numpy()
            np.testing.assert_allclose(got, peer.predict_proba(X), atol=2e-5)


def test_probes_in_chunks_are_the_same(problem):
    X, y = problem
    weights = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), size=4).astype(float)
    targets = np.stack([np.eye(10)[y]] * 4)
    whole = fit_probes(X, targets, weights=weights, tol=1e-8).logits(X)
    few = fit_probes(X, targets, weights=weights, tol=1e-8, compute=Compute(dtype=torch.float64, memory=3e5)).logits(X)
    torch.testing.assert_close(few, whole, atol=1e-4, rtol=0)
    single = fit_probes(X, targets, weights=weights, tol=1e-5, compute=Compute()).logits(X)
    torch.testing.assert_close(single.double(), whole, atol=0.02, rtol=0)


def test_soft_labels_equal_weighted_copies(problem):
    """Soft labels are ten weighted copies of each input, one a class: scikit-learn can fit that too."""
    X, _y = problem
    soft = np.random.default_rng(2).dirichlet(np.ones(10), 300)
    got = fit_probes(X, soft[None], tol=1e-9).logits(X).softmax(-1).numpy()[0]
    peer = LogisticRegression(tol=1e-10, max_iter=10_000)
    peer.fit(np.repeat(X, 10, 0), np.tile(np.arange(10), 300), sample_weight=soft.ravel())
    np.testing.assert_allclose(got, peer.predict_proba(X), atol=2e-5)


def test_a_model_does_not_depend_on_its_neighbours(problem):
    X, _y = problem
    targets = np.random.default_rng(3).dirichlet(np.ones(10), (4, 300))
    together = fit_probes(X, targets, tol=1e-8).logits(X)
    alone = fit_probes(X, targets[2:3], tol=1e-8).logits(X)
    np.testing.assert_allclose(together[2], alone[0], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"X": np.zeros(5)}, "X"),
        ({"X": np.full((4, 2), np.nan)}, "X"),
        ({"targets": np.ones(4)}, "targets"),
        ({"targets": np.ones((1, 4, 3), dtype=int)}, "targets"),
        ({"targets": np.eye(3)[[0, 0, 1, 1]]}, "targets"),
        ({"targets": np.ones((1, 5, 3)) / 3}, "targets"),
        ({"targets": np.ones((1, 4, 3))}, "targets"),
        ({"weights": np.zeros((1, 4))}, "weights"),
        ({"weights": np.ones((2, 3))}, "weights"),
        ({"mask": np.ones((1, 3))}, "mask"),
        ({"l2": 0.0}, "l2"),
        ({"l2": [1.0, 1.0], "targets": np.ones((3, 4, 3)) / 3}, "l2"),
    ],
)
def test_bad_training_input_names_the_argument(change, argument):
    call = {"X": np.zeros((4, 2)), "targets": np.ones((1, 4, 3)) / 3} | change
    with pytest.raises(ValueError, match=rf"^{argument}: "):
        fit_probes(**call)


def test_training_that_does_not_converge_says_so(problem):
    with pytest.raises(RuntimeError, match="raise max_steps"):
        fit_probes(problem[0], np.eye(10)[problem[1]][None], max_steps=3)


@pytest.fixture
def calls(monkeypatch):
    """What each training call of the experiments is given."""
    recorded = []

    def recording(X, targets, **options):
        recorded.append({"X": X, "targets": targets, **options})
        return fit_probes(X, targets, **options)

    monkeypatch.setattr("w2s_lib.experiments.half_blind.fit_probes", recording)
    return recorded


def test_half_blind_teacher_is_blind_and_honest(calls):
    """What each training call is given: no test image, disjoint splits, half the pixels for the teacher alone."""
    config = replace(HalfBlind(), seeds=3)
    run = half_blind(config)
    images = load_images("digits")
    assert run.teacher.shape == (3, config.test_inputs, 10)

    pool = len(images.labels) - config.test_inputs
    together = np.concatenate([calls[0]["X"], run.pixels])  # pool and test are a partition of the data
    assert calls[0]["X"].shape == (pool, 64)
    np.testing.assert_array_equal(together[np.lexsort(together.T)], images.pixels[np.lexsort(images.pixels.T)])

    teacher, soft, hard, ceiling = calls
    assert np.all(teacher["mask"] == images.left_half())
    assert all(call["mask"] is None for call in (soft, hard, ceiling))
    assert np.all(teacher["weights"].sum(1) == config.teacher_labels)
    per_class = teacher["weights"] @ to_numpy(teacher["targets"])
    assert np.all(per_class == config.teacher_labels / 10)  # stratified
    for call in (soft, hard, ceiling):
        np.testing.assert_array_equal(call["weights"], soft["weights"])
        assert np.all(call["weights"].sum(1) == config.student_inputs)
    assert np.all(teacher["weights"] * soft["weights"] == 0)
    labels = fit_probes(**teacher).logits(soft["X"]).softmax(-1)
    np.testing.assert_allclose(soft["targets"], labels, atol=1e-12)
    np.testing.assert_array_equal(np.argmax(hard["targets"], -1), labels.argmax(-1))
    np.testing.assert_array_equal(ceiling["targets"], teacher["targets"])

    # the teacher's logits do not change with the right half; seeds do not depend on how many are run
    left = images.left_half()
    probe = fit_probes(**teacher)
    torch.testing.assert_close(probe.logits(run.pixels * left), probe.logits(run.pixels))
    again = half_blind(replace(config, seeds=2))
    np.testing.assert_allclose(again.teacher, run.teacher[:2], atol=1e-3)
    assert np.all(run.correct("ceiling").mean(1) > run.correct("teacher").mean(1))


def test_probes_on_their_own_rows_equal_probes_on_shared_rows():
    """Few inputs a model: each works on copies of its rows. One model that uses all inputs keeps them shared."""
    rng = np.random.default_rng(0)
    X, targets = rng.normal(size=(60, 5)), rng.dirichlet(np.ones(3), size=(4, 60))
    weights = np.zeros((4, 60))
    for m, count in enumerate((5, 12, 20)):
        weights[m, rng.choice(60, count, replace=False)] = rng.integers(1, 4, size=count)
    weights[3] = 1
    shared = fit_probes(X, targets, weights=weights)
    own = fit_probes(X, targets[:3], weights=weights[:3])
    torch.testing.assert_close(own.logits(X), shared.logits(X)[:3], atol=1e-3, rtol=0)


def test_teachers_by_penalty_set_and_resample(calls):
    config = replace(HalfBlind(), seeds=2, test_inputs=300)
    run = half_blind_teachers(config, prior_precisions=[1.0, 0.1], sets=2)
    assert run.logits.shape == (2, 2, 1, 300, 10) and run.truth.shape == (300, 10)
    np.testing.assert_allclose(run.logits[0, :, 0], half_blind(config).teacher, atol=0.02)  # tol 1e-4 against 1e-5
    calls.clear()
    half_blind_teachers(config, sets=2, resamples=3, bootstrap=True, pixel_share=0.5)
    weights, mask = calls[0]["weights"].reshape(2, 3, -1), calls[0]["mask"]
    assert np.all(weights.sum(-1) == config.teacher_labels) and weights.max() > 1
    for of_one_set in weights:
        assert (of_one_set.max(0) > 0).sum() <= config.teacher_labels  # all from one set
        assert len({tuple(w) for w in of_one_set}) == 3
    assert np.all(mask.sum(1) == 16) and not mask[:, ~load_images("digits").left_half()].any()
    assert len({tuple(m) for m in mask}) == 6
    with pytest.raises(ValueError, match=r"^resamples: "):
        half_blind_teachers(config, resamples=2)
    with pytest.raises(ValueError, match=r"^pixel_share: "):
        half_blind_teachers(config, pixel_share=0)


def test_an_ensemble_gives_each_image_one_use(calls):
    config = replace(HalfBlind(), student_inputs=600)
    ensemble = half_blind_ensemble(config, teachers=3)
    assert len(calls) == 1  # no student is trained
    weights, images = calls[0]["weights"], load_images("digits")
    assert np.all(weights.sum(1) == config.teacher_labels) and len(np.unique(weights, axis=0)) == 3
    together = np.concatenate([calls[0]["X"], ensemble.transfer_pixels, ensemble.pixels])
    np.testing.assert_array_equal(together[np.lexsort(together.T)], images.pixels[np.lexsort(images.pixels.T)])
    assert ensemble.transfer_logits.shape == (3, 600, 10) and ensemble.logits.shape == (3, config.test_inputs, 10)
    assert np.all(calls[0]["mask"] == images.left_half())
    for logits, labels in ((ensemble.transfer_logits, ensemble.transfer_labels), (ensemble.logits, ensemble.labels)):
        assert np.all((logits.argmax(-1) == labels).mean(1) > 0.5)
    again = half_blind_ensemble(config, teachers=2)
    np.testing.assert_allclose(again.logits, ensemble.logits[:2], atol=0.01)  # the solver's tolerance


def test_half_blind_asks_for_no_more_than_there_is():
    with pytest.raises(ValueError, match=r"^config: "):
        half_blind(replace(HalfBlind(), student_inputs=2000))


@pytest.mark.parametrize(
    "change",
    [{"pool": 0}, {"teacher_labels": 9}, {"student_inputs": ...}, {"test_inputs": 2.5}, {"seeds": 0},
     {"prior_precision": 0.0}, {"prior_precision": float("nan")}],
)  # fmt: skip
def test_settings_are_checked_when_they_are_made(change):
    with pytest.raises(ValueError, match=rf"^{next(iter(change))}: "):
        HalfBlind(**change)


def test_one_dealing_serves_every_world():
    """Disjoint images for each use; a seed gives the teacher the same ones whatever is dealt beside them."""
    config = HalfBlind(student_inputs=50)
    worlds = [split_images(config, 3), split_images(config, 3, held_out=30)]
    worlds += [split_images(config, 3, common_transfer=True)]
    for split in worlds:
        assert split.gold.shape == (3, 60) and split.transfer.shape == (3, 50)
        for seed in range(3):
            rows = np.concatenate([split.gold[seed], split.transfer[seed], split.held_out[seed], split.test])
            assert len(set(rows.tolist())) == len(rows)
        assert np.all(np.bincount(split.images.labels[split.gold[1]]) == 6)
        assert np.all(split.weights(split.gold).sum(1) == 60)
        picked = split.pool[split.weights(split.gold)[2] > 0]
        assert set(picked.tolist()) == set(split.gold[2].tolist())
        np.testing.assert_array_equal(split.test, worlds[0].test)
    np.testing.assert_array_equal(worlds[0].gold, worlds[1].gold)
    assert worlds[1].held_out.shape == (3, 30)
    assert np.all(worlds[2].transfer == worlds[2].transfer[0]) and not np.isin(worlds[2].transfer, worlds[2].pool).any()


def test_the_draws_are_those_that_the_numbers_of_the_book_rest_on():
    for options, gold, transfer in (
        ({}, [1759, 676, 1153], [1402, 659, 620]),
        ({"held_out": 200}, [1759, 676, 1153], [434, 354, 517]),
        ({"common_transfer": True}, [775, 1591, 1011], [764, 165, 1534]),
    ):
        split = split_images(HalfBlind(), 2, **options)
        assert split.gold[1, :3].tolist() == gold and split.transfer[1, :3].tolist() == transfer
        assert split.test[:3].tolist() == [1107, 822, 876]


def test_transfer_sets_are_disjoint_and_have_the_teachers_labels():
    config = HalfBlind(student_inputs=50, seeds=2)
    run, sets = half_blind(config), half_blind_transfer_sets(config, held_out=30)
    assert sets.X.shape == (2, 50, 64) and sets.held_X.shape == (2, 30, 64) and sets.held_teacher.shape == (2, 30, 10)
    np.testing.assert_array_equal(sets.test_X, run.pixels)
    np.testing.assert_array_equal(sets.test_labels, run.labels)
    np.testing.assert_allclose(sets.test_teacher, run.teacher, atol=2e-3)  # the same teacher, to the probes' tolerance
    pixels = load_images().pixels
    for seed in range(2):
        rows = {x.tobytes() for x in (*sets.X[seed], *sets.held_X[seed], *sets.test_X)}
        assert len(rows) >= 50 + 30 + len(run.labels) - 2 and rows <= {x.tobytes() for x in pixels}
    where = {x.tobytes(): y for x, y in zip(pixels, load_images().labels)}
    assert [where[x.tobytes()] for x in sets.X[1]] == sets.labels[1].tolist()


def test_transfer_may_ask_another_question_and_names_bad_input():
    config = HalfBlind(student_inputs=50, seeds=2)
    odd = half_blind_transfer_sets(config, held_out=10, classes=[0, 1] * 5)
    ten = half_blind_transfer_sets(config, held_out=10)
    assert odd.teacher.shape == (2, 50, 2)
    np.testing.assert_array_equal(odd.X, ten.X)
    np.testing.assert_array_equal(odd.labels, ten.labels % 2)
    np.testing.assert_array_equal(odd.test_labels, ten.test_labels % 2)
    right = (odd.test_teacher.argmax(-1) == odd.test_labels).mean()
    assert 0.7 < right < 0.95
    for bad in ([0, 1], [0, 2] * 5, [[0, 1] * 5]):
        with pytest.raises(ValueError, match=r"^classes: "):
            half_blind_transfer_sets(config, classes=bad)
    for held_out in (0, 1100):
        with pytest.raises(ValueError, match=r"^held_out: "):
            half_blind_transfer_sets(config, held_out=held_out)
