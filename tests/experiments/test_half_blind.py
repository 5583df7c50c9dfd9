"""The half-blind worlds: who is given which images and labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

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
from w2s_lib.training import fit_probes


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

    teacher, soft, hard, ceiling, gold = calls
    assert np.all(teacher["mask"] == images.left_half())
    assert all(call["mask"] is None for call in (soft, hard, ceiling, gold))
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
    for same in ("weights", "targets", "l2", "tol"):  # strong on gold: the teacher's images and labels, seen whole
        np.testing.assert_array_equal(gold[same], teacher[same])
    np.testing.assert_allclose(to_numpy(fit_probes(**gold).logits(run.pixels)), run.gold, atol=1e-12)

    # the teacher's logits do not change with the right half; seeds do not depend on how many are run
    left = images.left_half()
    probe = fit_probes(**teacher)
    torch.testing.assert_close(probe.logits(run.pixels * left), probe.logits(run.pixels))
    again = half_blind(replace(config, seeds=2))
    np.testing.assert_allclose(again.teacher, run.teacher[:2], atol=1e-3)
    for better, worse in (("ceiling", "gold"), ("gold", "hard"), ("ceiling", "teacher")):
        assert np.all(run.correct(better).mean(1) > run.correct(worse).mean(1))


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
