"""The settings of the tables: one experiment of each data set, and what is varied in it, one ladder at a time."""

from __future__ import annotations

from dataclasses import replace

from ..._checks import require
from ..protocol import Protocol

WIDTHS = {2: (64, 256, 512, 1024, 2048), 10: (64, 128, 256, 512, 1024)}  # of students, by the number of classes
CONFIDENCES = (1.0, 0.5, 0.2, 0.05)
NOISES = (0.0, 0.1, 0.2, 0.3)
TEXT = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)  # penalties; two classes need larger ones than ten
BASES = {
    "digits": Protocol("digits", teacher="left", gold=60, transfer=400, validation=200, width=64, steps=50,
                       stages=(5, 15), l2s=(1e-3, 1e-2, 1e-1), lr=0.05, losses=("CE", "RCE", "AUX"), splits=6),
    "mnist": Protocol("mnist", teacher="pool:7", student="pixels", gold=100, width=256),
    "fashion": Protocol("fashion", teacher="pca:10", student="lite0", gold=100, width=256),
    "film_reviews": Protocol("film_reviews", teacher="bag:300", student="minilm:6", gold=1000, l2s=TEXT),
    "film_pairs": Protocol("film_pairs", teacher="bag:300", student="minilm:6", gold=1000, l2s=TEXT),
    "amazon_reviews": Protocol("amazon_reviews", teacher="bag:300", student="minilm:6", gold=500, l2s=TEXT),
    "nyt_editorials": Protocol("nyt_editorials", teacher="bag:300", student="minilm:6", gold=1000, l2s=TEXT),
    "preference_pairs": Protocol("preference_pairs", teacher="minilm:1", student="minilm:6", gold=500, l2s=TEXT),
}  # fmt: skip
GOLDS = {
    "mnist": (50, 100, 300, 1000),
    "fashion": (50, 100, 300, 1000),
    "film_pairs": (50, 100, 300, 1000),  # beside 1,500 inputs for the student, of 2,600
    "amazon_reviews": (50, 100, 300, 500),  # of 2,160
    "nyt_editorials": (50, 100, 300, 1000),  # of 2,927
}
TEACHERS = {
    "mnist": ("pool:7", "pool:4", "left"),
    "fashion": ("pca:10", "pool:7", "pixels"),
    "film_reviews": ("bag:300", "minilm:0", "minilm:2"),
    "film_pairs": ("bag:300", "minilm:1", "length"),
    "amazon_reviews": ("bag:300", "minilm:0", "minilm:2"),
    "nyt_editorials": ("bag:300", "minilm:0", "minilm:2"),
    "preference_pairs": ("minilm:1", "bag:300", "length"),
}
IN_THE_BOOK = ("mnist", "film_reviews", "preference_pairs")


def settings(name: str, size: str = "full") -> list[Protocol]:
    """The Protocols of a data set: its base, one ladder at a time; width x confidence crossed on the reviews.

    Axes: width, confidence, gold (labels of the teacher), noise (in them), teacher (its features),
    teacher_prior_precision, bag, student (the encoder's depth), and the base once more with three bootstraps of the
    teacher and three initialisations of the student a split, which tells the components of variance apart.
    """
    require(name in BASES, "data", f"must be one of {', '.join(BASES)}")
    base = BASES[name]
    if size == "tiny":  # for a test
        small = replace(base, width=16, steps=4, stages=(2,), transfer=100, validation=200, losses=("CE",), splits=2)
        return [replace(small, gold=n) for n in (40, 60, 80, 100)]
    if size == "default":
        return [replace(base, confidence=a) for a in (1.0, 0.2)]
    text = base.l2s == TEXT
    configs = [
        replace(base, width=w, confidence=a)
        for w in WIDTHS[2 if text else 10]
        for a in (CONFIDENCES if name == "film_reviews" else CONFIDENCES[:1])
    ]
    configs += [replace(base, confidence=a) for a in CONFIDENCES]
    configs += [replace(base, gold=n) for n in GOLDS.get(name, (100, 300, 1000, 3000))]
    configs += [replace(base, noise=x) for x in NOISES]
    configs += [replace(base, teacher=t) for t in TEACHERS.get(name, ())]
    configs += [replace(base, teacher_prior_precision=x) for x in (1.0, 10.0, 100.0)]
    configs += [replace(base, bag=b) for b in (0, 5)]
    configs += [replace(base, student=f"minilm:{k}") for k in (0, 2, 4, 6)] if text else []
    configs += [replace(base, splits=10, teachers=3, students=3, losses=("CE", "RCE"))]
    return list(dict.fromkeys(configs))
