"""Rules that pick a point of the path, by their definitions."""

import numpy as np
from small_protocol import SMALL

from w2s_lib.experiments.protocol.rules import choose_points


def test_rules_by_their_definitions(result):
    picked, n = choose_points(result, SMALL).picked, len(SMALL.l2s)
    for i, r in np.ndindex(9, 3):
        weak = result["weak_ce"][i, :, r]
        best = int(weak[:n].argmin())
        assert picked["weak"][i, r] == best
        within = [j for j in range(n) if weak[j] <= weak[best] + result["weak_se"][i, best, r]]
        assert picked["one_se"][i, r] == max(within)
        stages = [n, n + 1, 0]
        assert picked["early"][i, r] == stages[int(np.argmin(weak[stages]))]
        assert picked["tstar_50"][i, r] == int(abs(result["tstar_50"][i, :n, r]).argmin())
        assert picked["oracle"][i, r] == int(result["true_ce"][i, :n, r].argmin())
