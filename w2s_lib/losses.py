r"""Losses of a student p = softmax(z) on a teacher's probabilities q: per example, unreduced, from logits.

Each loss is a frozen dataclass of its settings. `loss(z, q)` gives one number an example, `loss.gradient(z, q)` its
derivative in z in closed form. `axis` is that of the classes: -1 for (..., examples, classes), -2 for the training
core's (..., classes, examples). q may also be class labels, without the axis of the classes.
In a loop over steps, `labels = loss.prepare(q, axis)` is done once, `loss.step_gradient(z, labels, axis, step)` at
each. `train` checks that q is a distribution.

    CE    -sum_k q_k log p_k            dCE/dz_k = p_k - q_k
    RCE   -sum_k p_k log q_k            dRCE/dz_k = p_k (-log q_k - RCE)
    J_lam RCE - lam H(p)                minimised by softmax(log q / lam): lam = 1 reverse KL, lam -> 0 the vertex

Rows of q must sum to one. RCE needs log q, so a label of 0 needs a clamp or smoothing; without either a ValueError says
so. RCE is not convex in z and its gradient dies at every vertex: warm-start it from CE.
Sources: Xu, Yao, Wang and Liu (arXiv 2505.24313); Wang et al. (2019), symmetric cross-entropy; Burns et al. (2023),
section 4.3 and appendix A.4, for the auxiliary confidence loss.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import one_hot, require
from .calibration import entropy

Labels = tuple[Tensor, ...]  # what `prepare` returns
Step = int | Tensor | None  # a number, or a counter that lives on the device


def _quantile(x, level, used):
    """The `level` quantile of x over the used examples on the last axis (kept), interpolated linearly."""
    # a sort, which needs no look at the values: it can be part of a CUDA graph
    ordered = torch.where(used, x, torch.inf).sort(-1).values
    position = level * (used.sum(-1, keepdim=True) - 1).clamp(min=0).to(x.dtype).expand(*ordered.shape[:-1], 1)
    below = position.floor()
    low, high = (ordered.gather(-1, i.long()) for i in (below, position.ceil()))
    return low + (position - below) * (high - low)


class Loss:
    """What all losses share. z, q: the same shape; the result lacks the axis of the classes."""

    def __call__(self, z: Tensor, q: Tensor, axis: int = -1) -> Tensor:
        """Loss of each example."""
        return self.step_value(z, self.prepare(self._targets(z, q, axis), axis), axis)

    def gradient(self, z: Tensor, q: Tensor, axis: int = -1) -> Tensor:
        """d loss / d z, of the shape of z; for an example with weight w multiply by w."""
        return self.step_gradient(z, self.prepare(self._targets(z, q, axis), axis), axis)

    def prepare(self, q: Tensor, axis: int = -1, used: Tensor | None = None) -> tuple[Tensor, ...]:
        """Whatever of the labels does not change from step to step: tensors with the examples on the axis of q's.

        used : (..., examples), False where an example does not count (for the losses that take quantiles)
        """
        return (q,)

    def step_value(self, z: Tensor, labels: Labels, axis: int) -> Tensor:
        """The loss of each example from prepared labels."""
        raise NotImplementedError

    def step_gradient(self, z: Tensor, labels: Labels, axis: int, step: Step = None) -> Tensor:
        """The gradient from prepared labels; `step` is for losses with a warm-up, None stands for its end."""
        raise NotImplementedError

    def one_logit_gradient(self, z: Tensor, labels: Labels, step: Step = None) -> Tensor:
        """For two classes with the logits (0, z): d loss / d z, all of shape (..., 1, examples)."""
        return self.step_gradient(torch.cat([torch.zeros_like(z), z], -2), labels, -2, step)[..., 1:, :]

    def _targets(self, z, q, axis):
        """q of the shape of z; class labels become one-hot."""
        require(axis in (-1, -2), "axis", "must be -1 (classes last) or -2 (class-first)")
        require(z.ndim >= -axis, "z", f"has no axis {axis}")
        q = one_hot(q, z.shape[axis], "q", z).to(z.dtype).movedim(-1, axis) if q.ndim == z.ndim - 1 else q
        require(z.shape == q.shape, "q", f"shape {tuple(q.shape)} must be that of z, {tuple(z.shape)}")
        return q


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """CE = -sum_k q_k log p_k, the forward cross-entropy; least at p = q, where it is H(q)."""

    def step_value(self, z, labels, axis):
        return -(labels[0] * z.log_softmax(axis)).sum(axis)

    def step_gradient(self, z, labels, axis, step=None):
        return z.softmax(axis) - labels[0]

    def one_logit_gradient(self, z, labels, step=None):
        """sigmoid(z) - q of the second class."""
        return z.sigmoid() - labels[0][..., 1:, :]


@dataclass(frozen=True)
class ForwardKL(CrossEntropy):
    """KL(q || p) = CE - H(q), summed over classes (not their mean): zero at p = q, and CE's gradient."""

    def step_value(self, z, labels, axis):
        return super().step_value(z, labels, axis) - entropy(labels[0].log(), axis)


@dataclass(frozen=True)
class ReverseFamily(Loss):
    """J_lam = RCE - lam H(p). lam = 0 is the reverse cross-entropy, lam = 1 the reverse KL divergence KL(p || q).

    lam       : weight of the student's entropy, >= 0; gradient p_k (-log q_k - RCE) + lam p_k (log p_k + H)
    clamp     : log q is taken of max(q, clamp); with one-hot labels -log(clamp) is the price of a wrong class
    smoothing : q is replaced by (1 - smoothing) q + smoothing / K in it
    a, b      : with weights, a CE + b RCE - lam H(p): see `symmetric_loss`
    Raises ValueError where q is 0 and neither clamp nor smoothing helps.
    """

    lam: float = 0.0
    clamp: float = 0.0
    smoothing: float = 0.0
    a: float = 0.0
    b: float = 1.0

    def __post_init__(self):
        require(self.lam >= 0, "lam", "must be >= 0")
        require(0 <= self.clamp < 1, "clamp", "must be in [0, 1)")
        require(0 <= self.smoothing <= 1, "smoothing", "must be in [0, 1]")

    def prepare(self, q, axis=-1, used=None):
        """-b log q, clamped or smoothed; and q where CE has a weight."""
        smooth = ((1 - self.smoothing) * q + self.smoothing / q.shape[axis]).clamp(min=self.clamp)
        remedy = "is 0 somewhere (a hard label?), where RCE needs its logarithm; clamp or smooth it"
        require((smooth > 0).all(), "q", remedy)
        return (-self.b * smooth.log(), q) if self.a else (-self.b * smooth.log(),)

    def step_value(self, z, labels, axis):
        log_p = z.log_softmax(axis)
        value = (log_p.exp() * labels[0]).sum(axis) - self.lam * entropy(log_p, axis)
        return value - self.a * (labels[1] * log_p).sum(axis) if self.a else value

    def step_gradient(self, z, labels, axis, step=None):
        log_p = z.log_softmax(axis)
        p, cost = log_p.exp(), labels[0]
        if self.lam:
            cost = cost + self.lam * torch.where(p > 0, log_p, torch.zeros_like(p))
        gradient = p * (cost - (p * cost).sum(axis, keepdim=True))
        return gradient + self.a * (p - labels[1]) if self.a else gradient

    def one_logit_gradient(self, z, labels, step=None):
        """p (1 - p) (c_1 - c_0 + lam z), c = -b log q: the same for two classes, where log(p / (1 - p)) = z."""
        p, cost = z.sigmoid(), labels[0]
        gradient = p * (1 - p) * (cost[..., 1:, :] - cost[..., :1, :] + self.lam * z)
        return gradient + self.a * (p - labels[1][..., 1:, :]) if self.a else gradient


@dataclass(frozen=True)
class ConfidenceSwitch(Loss):
    """CACE: CE on examples where the teacher's confidence max_k q_k is at least c, RCE on the others.

    c        : the threshold, 1/2 + that of the paper's code, which for two classes asks whether |q - 1/2| >= c; if
               `quantile`, the share of least confident examples, among all that the model uses, that get RCE
    reverse  : the RCE with its clamp or smoothing
    c = 0 is CE; to be chosen on held-out labels of the teacher, never on the truth.
    """

    c: float
    quantile: bool = False
    reverse: ReverseFamily = ReverseFamily()

    def __post_init__(self):
        require(0 <= self.c <= 1, "c", "must be in [0, 1]")

    def prepare(self, q, axis=-1, used=None):
        """Where CE rules (a quantile is one of the examples that are used), and the labels of both losses."""
        confidence = q.amax(axis)
        used = torch.ones_like(confidence, dtype=torch.bool) if used is None else used
        sure = confidence >= (_quantile(confidence, self.c, used) if self.quantile else self.c)
        return sure.unsqueeze(axis), q, *self.reverse.prepare(q, axis)

    def _of_both(self, method, z, labels, *rest):
        return (getattr(loss, method)(z, of, *rest) for loss, of in ((CE, labels[1:2]), (self.reverse, labels[2:])))

    def step_value(self, z, labels, axis):
        return torch.where(labels[0].squeeze(axis), *self._of_both("step_value", z, labels, axis))

    def step_gradient(self, z, labels, axis, step=None):
        return torch.where(labels[0], *self._of_both("step_gradient", z, labels, axis))

    def one_logit_gradient(self, z, labels, step=None):
        return torch.where(labels[0], *self._of_both("one_logit_gradient", z, labels))


@dataclass(frozen=True)
class AuxiliaryConfidence(Loss):
    """AUX = (1 - alpha) CE(p, q) + alpha CE(p, the student's hard label), the confidence loss of Burns et al. (2023).

    The student's label is argmax_k (s_k - t_k), the first of equals: s_k the log-odds of class k, t_k their (1 - 1/K)
    quantile over the batch, so that each class keeps about an equal share (the paper's code takes the shares from the
    batch's labels). It is a constant for the gradient.

    alpha  : in [0, 1]
    warmup : in the core, alpha rises from 0 to its value over that many steps (`linear_warmup`)
    """

    alpha: float = 0.5
    warmup: int = 0

    def __post_init__(self):
        require(0 <= self.alpha <= 1, "alpha", "must be in [0, 1]")
        require(self.warmup >= 0, "warmup", "must be a number of steps >= 0")

    def prepare(self, q, axis=-1, used=None):
        """q, and which examples have a say in the quantiles."""
        used = torch.ones_like(q.select(axis, 0), dtype=torch.bool) if used is None else used
        return q, used.unsqueeze(axis)

    def student_label(self, log_p: Tensor, axis: int, used: Tensor) -> Tensor:
        """One-hot labels that the student gives itself, of the shape of log_p; `used` (..., examples)."""
        log_p = log_p.movedim(axis, 0).detach()  # (classes, ..., examples)
        # log-odds s = log p - log(1 - p), with log(1 - p) = log(-expm1(log p)); p = 1 is taken as the next number below
        odds = log_p - torch.expm1(log_p.clamp(max=-torch.finfo(log_p.dtype).eps)).neg_().log_()
        above = odds - _quantile(odds, 1 - 1 / len(log_p), used)
        return torch.zeros_like(log_p).scatter_(0, above.argmax(0, keepdim=True), 1.0).movedim(0, axis)

    def _alpha(self, step):
        return self.alpha if step is None else linear_warmup(step, self.warmup, self.alpha)

    def _target(self, log_p, labels, axis, step):
        """What p is drawn to: (1 - alpha) q + alpha times the student's label."""
        alpha, (q, used) = self._alpha(step), labels
        return (1 - alpha) * q + alpha * self.student_label(log_p, axis, used.squeeze(axis))

    def step_value(self, z, labels, axis):
        log_p = z.log_softmax(axis)
        return -(self._target(log_p, labels, axis, None) * log_p).sum(axis)

    def step_gradient(self, z, labels, axis, step=None):
        log_p = z.log_softmax(axis)
        return log_p.exp() - self._target(log_p, labels, axis, step)

    def one_logit_gradient(self, z, labels, step=None):
        """Two classes: the student's label is class 1 where z exceeds its median."""
        alpha, (q, used) = self._alpha(step), labels
        label = (z > _quantile(z, 0.5, used)).to(z.dtype)
        return z.sigmoid() - (1 - alpha) * q[..., 1:, :] - alpha * label


@dataclass(frozen=True)
class Squared(Loss):
    """sum_k (z_k - q_k)^2 for real outputs z and targets q (no softmax); gradient 2 (z - q)."""

    def step_value(self, z, labels, axis):
        return ((z - labels[0]) ** 2).sum(axis)

    def step_gradient(self, z, labels, axis, step=None):
        return 2 * (z - labels[0])


def linear_warmup(step: int | Tensor, steps: int, last: float) -> float | Tensor:
    """Weight at `step`: from 0 at step 0 linearly to `last` at step `steps`, and `last` from there on.

    Raises ValueError for numbers below 0.
    """
    if torch.is_tensor(step):  # a counter that lives on the device
        return last * (step / steps).clamp(max=1.0) if steps else last
    require(steps >= 0 and step >= 0, "step", "and steps must be >= 0")
    return last * min(step / steps, 1.0) if steps else last


CE, KL_FORWARD = CrossEntropy(), ForwardKL()
RCE, KL_REVERSE = ReverseFamily(lam=0.0), ReverseFamily(lam=1.0)
SQUARED_LOSS = Squared()


def symmetric_loss(a: float = 1.0, b: float = 1.0, **reverse: float) -> ReverseFamily:
    """SL = a CE + b RCE (Wang et al. 2019); `reverse` sets the clamp or the smoothing of RCE.

    Sources differ on the weights: (.1, 1) in the paper on weak-to-strong losses, (1, .1) in its code.

    >>> symmetric_loss(clamp=1e-3)(torch.tensor([[0.0, 2.0]]), torch.tensor([1]))  # -log p + (1 - p) log 1000
    tensor([0.9504])
    """
    return ReverseFamily(a=a, b=b, **reverse)
