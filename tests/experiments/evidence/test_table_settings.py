"""The settings of the tables have the ladders that the chapters draw."""

from w2s_lib.experiments import evidence


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
