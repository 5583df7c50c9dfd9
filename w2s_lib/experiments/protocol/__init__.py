r"""One weak-to-strong experiment on real data, from labels to estimates, as one function of one frozen config.

    gold inputs, true labels   -> teacher    softmax regression on weak features
    transfer inputs            -> student    trained on the teacher's labels, by each loss, along the whole path
    the same, true labels      -> ceiling
    validation inputs          -> every choice: penalty, training time, c of CACE, temperature; on the TEACHER's labels
    test inputs, true labels   -> what is reported, and nothing else

`run` has four stages; arrays of students have the axes (losses, path, runs, ...) in all of them:

    train_models     in `teachers_and_students`, split by `data_split`    -> Trained    logits of all models
    measure          in `curves`                                          -> Curves     what is measured along the path
    choose_points    in `rules`                                           -> Points     what each rule picks of it
    estimate         in `estimates`                                       -> Estimates  what that is worth

The student is a softmax regression on random ReLU features (`width` of them) of frozen strong features. Its
regularisation path has two legs: all penalties at the end of training, and stages of training at the least penalty. A
run is one draw of three things: the split (which inputs are gold, transfer, validation), the teacher's training (a
bootstrap of its gold inputs), the student's initialisation (its random features). Test inputs are the same in all runs.
Every student starts from zero, whatever its loss (RCE then loses classes where there are many: the book shows what a
warm start changes). True labels of validation inputs are used by rules that say so in their name, and by the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..._checks import require
from ...training import Compute
from .curves import FEW, measure
from .estimates import estimate
from .rules import choose_points
from .teachers_and_students import LOSSES, train_models


@dataclass(frozen=True)
class Protocol:
    """Settings of an experiment. Defaults are the small size; nothing in it was chosen by a test label.

    Raises ValueError that names the setting which cannot be.
    """

    data: str = "mnist"
    teacher: str = "pool:7"  # features that the teacher sees (see `encoders.features`)
    student: str = "pixels"  # features that the student sees
    width: int = 512  # random ReLU features on top of them; 0: a linear student
    gold: int = 100  # true labels for the teacher
    transfer: int = 1000  # inputs that the teacher labels for the student
    validation: int = 500  # further inputs that the teacher labels, for choices
    # precision of a Gaussian prior on each weight of the teacher: its l2 is precision / number of gold inputs, beside
    # the mean loss; 1 is scikit-learn's default for three classes or more
    teacher_prior_precision: float = 1.0
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

    def __post_init__(self):
        known = set(self.losses) <= set(LOSSES) and self.losses[:1] == ("CE",)  # the others are compared with the first
        require(known, "losses", f"must be of {LOSSES}, CE the first")
        for name in ("gold", "transfer", "splits", "teachers", "students", "steps"):
            require(getattr(self, name) >= 1, name, "must be at least 1")
        for name in ("width", "bag", "first_split"):
            require(getattr(self, name) >= 0, name, "must be at least 0")
        for name in ("teacher_prior_precision", "lr"):
            require(getattr(self, name) > 0, name, "must be positive")
        require(self.validation >= max(FEW), "validation", f"must be at least {max(FEW)}: rules see so many labels")
        require(0 < self.confidence <= 1, "confidence", "must be in (0, 1]")
        require(0 <= self.noise < 1, "noise", "must be in [0, 1)")
        rising = len(self.l2s) > 0 and list(self.l2s) == sorted(self.l2s) and min(self.l2s) > 0
        require(rising, "l2s", "must be positive and rise")
        between = all(0 < t < self.steps for t in self.stages) and list(self.stages) == sorted(set(self.stages))
        require(between, "stages", f"must rise, and lie between 0 and steps, {self.steps}")

    @property
    def path(self) -> list[tuple[float, int]]:
        """[(penalty, steps), ...]: first the penalties at the end of training, then the stages of training."""
        return [(l2, self.steps) for l2 in self.l2s] + [(self.l2s[0], t) for t in self.stages]

    @property
    def runs(self) -> list[tuple[int, int, int]]:
        """[(split, teacher, student), ...] seeds."""
        seeds = range(self.first_split, self.first_split + self.splits)
        return [(s, t, u) for s in seeds for t in range(self.teachers) for u in range(self.students)]

    @property
    def clusters(self) -> np.ndarray:
        """The split of each run, (runs,): runs of one split share luck."""
        return np.array([split for split, _, _ in self.runs])


def run(config: Protocol, compute: Compute = Compute()) -> dict[str, np.ndarray]:
    """Carry out the experiment; returns {name: array}; a table keeps `evidence.condense` of it.

    compute : where and how models are trained; not a part of the config, for it changes nothing beyond rounding
    Axes: L losses (config.losses, then the ceiling), P points of config.path, R config.runs. CACE at a point is the
    candidate of c that the weak labels of the validation inputs prefer there, cace_c (P, R).
    (L, P, R): of the test inputs acc, ce, brier, ece, entropy, the ledger's gain, misfit, residual, agree (with the
      teacher), tstar (squared loss, recalibrated student), ce_cal, ece_cal and entropy_cal after the temperature that
      the teacher's labels choose, peer (agreement with the student of another teacher), matched (pairs of texts:
      accuracy where lengths are alike), ideal_ce (after ideal_temperature, which true validation labels choose),
      distance to the dual mean of the other teachers, KL(student || it), reverse_gain, reverse_misfit, reverse_residual
      where the truth is soft; of the transfer inputs transfer_gain and transfer_misfit; of the validation inputs
      weak_ce with weak_se and weak_agree on the teacher's labels, true_ce and true_acc on all true labels, true_ce_m
      and tstar_m on m of them. CE risks there are recalibrated
    (R,): teacher_acc, ... ; (L, P, 2): bias, variance over runs, value and standard error; (L, P, G): ens_acc, ens_ce,
      ens_ce_cal of the dual mean of five students; (L, P, 3): components_KEY, see `estimates.variance_components`
    choice_RULE (L, R): the point of the path that a rule picks; gain_RULE, pair_RULE (less CE), over_weak_RULE, of acc,
      ce, ce_cal, larger is better, pgr_RULE and parts_RULE (L, ..., 3): value, standard error, degrees of freedom of
      crossed estimates over runs and test inputs
    (L, R): ce_isotonic; (L, betas, R): beta_ce, beta_entropy, see `estimates.Estimates`
    Raises ValueError for settings that the data do not allow.
    """
    curves = measure(train_models(config, compute))
    points = choose_points(curves.students, config)
    choices = {f"choice_{rule}": x.astype(np.int8) for rule, x in points.picked.items()}
    return curves.students | curves.teachers | choices | estimate(curves, points).arrays()
