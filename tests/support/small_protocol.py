"""The smallest experiment that tests of the protocol's stages share; the fixture `result` is its outcome."""

from w2s_lib.experiments.protocol import Protocol

SMALL = Protocol(
    "digits",
    teacher="left",
    gold=60,
    transfer=200,
    validation=200,
    width=24,
    steps=12,
    stages=(2, 5),
    l2s=(1e-3, 1e-1),
    lr=0.05,
    splits=3,
)
