"""Fixtures: one small run of the protocol, for the tests of all its stages."""

import pytest
from small_protocol import SMALL

from w2s_lib.experiments.protocol import run


@pytest.fixture(scope="session")
def result():
    return run(SMALL)
