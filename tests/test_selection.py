"""The recipe for own logits: both rules by hand, what it must not depend on, and bad input."""

import numpy as np
import pytest
import torch

from w2s_lib.experiments.protocol import Protocol
from w2s_lib.experiments.protocol.curves import FEW
from w2s_lib.experiments.protocol.rules import choose_points
from w2s_lib.selection import one_standard_error, recommend

rng = np.random.default_rng(0)
TEACHER = 2 * rng.normal(size=(80, 3))
Q = np.exp(TEACHER) / np.exp(TEACHER).sum(-1, keepdims=True)
Z = (TEACHER + np.arange(1, 6)[:, None, None] * rng.normal(size=(5, 80, 3))) * np.linspace(3, 0.5, 5)[:, None, None]
Y = rng.integers(0, 3, 80)


def test_one_standard_error_by_hand():
    losses = np.array([[1.0, 3.0], [0.0, 2.0], [1.5, 2.2], [1.6, 2.6], [9.0, 9.0]])  # means 2, 1, 1.85, 2.1, 9; se 1
    assert one_standard_error(losses) == 2
    assert one_standard_error(torch.tensor(losses)) == 2
    assert one_standard_error(losses[::-1]) == 4  # means 9, 2.1, 1.85, 1, 2: the last is within, at its edge
    assert one_standard_error([[1, 1], [2, 2]]) == 0  # no spread: the least itself


def test_more_examples_make_the_rule_weak_validation():
    losses = rng.normal(size=(1, 40)) + np.array([0.0, 0.01, 0.1, 1.0])[:, None]
    index = [one_standard_error(np.tile(losses, k)) for k in (1, 10, 10**4)]
    assert index == sorted(index, reverse=True) and index[0] >= 2 and index[-1] == 0


def test_the_rules_are_those_of_the_protocol():
    advice = recommend(Q, Z)
    z = Z / advice.temperatures[:, None, None]
    log_p = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
    weak = -(Q * log_p).sum(-1)
    rows = rng.permutation(80)[:20]
    out = {"weak_ce": weak.mean(1), "weak_se": weak.std(1, ddof=1) / 80**0.5, "weak_agree": np.zeros(5)}
    out |= dict.fromkeys(("peer", "true_acc", "true_ce", "true_ce_50", "true_ce_200"), np.zeros(5))
    out |= {f"tstar_{m}": np.zeros(5) for m in FEW}
    out["true_ce_20"] = -log_p[:, rows, Y[rows]].mean(1)
    out = {k: x[None, :, None] for k, x in out.items()}  # one loss, one run
    picked = choose_points(out, Protocol(l2s=(1e-4, 1e-3, 1e-2, 0.1, 1.0), stages=())).picked
    assert picked["weak"].item() == advice.weak
    assert picked["one_se"].item() == advice.index == one_standard_error(weak)
    few = recommend(Q, Z, Y[rows], rows)
    assert picked["few_20"].item() == few.index and few.labels == 20
    np.testing.assert_allclose(few.true_loss, out["true_ce_20"][0, :, 0])
    assert recommend(Q, Z, Y).labels == 80


def test_labels_as_classes_or_one_hot_and_a_single_true_label():
    few = recommend(Q, Z, Y[:7], np.arange(7))
    np.testing.assert_array_equal(recommend(Q, Z, np.eye(3)[Y[:7]], np.arange(7)).true_loss, few.true_loss)
    hard = Q.argmax(-1)
    np.testing.assert_array_equal(recommend(hard, Z).weak_loss, recommend(np.eye(3)[hard], Z).weak_loss)
    single = recommend(Q, Z, [2], [5])
    assert single.labels == 1 and single.index == int(np.flatnonzero(single.true_loss == single.true_loss.min())[-1])
    assert recommend(torch.tensor(Q), torch.tensor(Z), torch.tensor(Y)).index == recommend(Q, Z, Y).index


def test_neither_scale_nor_shift_of_logits_matters():
    advice, moved = recommend(Q, Z), recommend(Q, 7 * Z + rng.normal(size=(5, 80, 1)))
    assert moved.index == advice.index
    np.testing.assert_allclose(moved.weak_loss, advice.weak_loss, rtol=1e-7)
    np.testing.assert_allclose(moved.temperatures, 7 * advice.temperatures, rtol=1e-5)


def test_a_mimic_wins_weak_validation_and_truth_overrules_it():
    z = np.log(Q) * np.array([1.0, 1.0, 1.0])[:, None, None]
    z[1:] += rng.normal(size=(2, 80, 3)) * np.array([0.5, 3])[:, None, None]
    y = (z[2]).argmax(-1)
    assert recommend(Q, z).weak == 0 and recommend(Q, z, y).index == 2
    assert "end of the path" in str(recommend(Q, z, y)) and "80 true labels" in str(recommend(Q, z, y))
    assert "no true label" in str(recommend(Q, z))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((Q, Z[0]), "z_path"),
        ((Q, Z[:1]), "z_path"),
        ((Q[:9], Z), "weak_labels"),
        ((2 * Q, Z), "weak_labels"),
        ((Q, np.full_like(Z, np.nan)), "z_path"),
        ((Q, Z, None, [1]), "labelled"),
        ((Q, Z, Y[:2], [1, 80]), "labelled"),
        ((Q, Z, Y[:2], [1, 1]), "labelled"),
        ((Q, Z, Y[:2], [0.5, 1]), "labelled"),
        ((Q, Z, Y[:3], [1, 2]), "truth"),
        ((Q, Z, Y[:3]), "truth"),
        ((Q, Z, Y + 1), "truth"),
    ],
)
def test_bad_input_names_the_argument(arguments, named):
    with pytest.raises(ValueError, match=named):
        recommend(*arguments)


@pytest.mark.parametrize("losses", [[1.0, 2.0], [[1.0]], [[1.0, np.inf]]])
def test_losses_must_be_a_table(losses):
    with pytest.raises(ValueError, match="losses"):
        one_standard_error(losses)
