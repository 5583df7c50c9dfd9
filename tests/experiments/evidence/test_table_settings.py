"""The settings of the tables have the ladders that the chapters draw, and data for them."""

import pytest

from w2s_lib.experiments import evidence, tasks
from w2s_lib.experiments.protocol.data_split import split_data


def test_grids_have_what_the_chapters_draw():
    for name in evidence.IN_THE_BOOK:
        configs = evidence.settings(name)
        assert len(set(configs)) == len(configs)
        for axis, least in (("width", 5), ("gold", 4), ("noise", 4), ("confidence", 4), ("teacher", 3)):
            assert len({getattr(c, axis) for c in configs}) >= least
        assert all(c.splits >= 20 or c.teachers > 1 for c in configs)
        assert all(len(c.losses) >= 8 or c.teachers > 1 for c in configs)
        if name != "mnist":
            assert len({c.student for c in configs}) >= 4

    assert len({(c.width, c.confidence) for c in evidence.settings("film_reviews")}) >= 20


@pytest.mark.parametrize("name", ["film_pairs", "amazon_reviews", "nyt_editorials"])
def test_there_is_data_for_every_setting(name):
    try:
        task = tasks.load_task(name)
    except OSError as error:
        pytest.skip(str(error))
    configs = evidence.settings(name)
    assert {config.data for config in configs} == {name}
    assert len({config.gold for config in configs}) == 4 and len({config.student for config in configs}) == 4
    for config in set(configs):
        split = split_data(task, config, seed=0)
        assert len(split.gold) == config.gold and len(split.validation) == config.validation
