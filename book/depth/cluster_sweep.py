"""A sweep on a cluster: the same call as on one machine, under joblib's dask back end.

Here the cluster is two worker processes on this machine. On a real one, replace LocalCluster by the class that starts
workers there, and let `folder` lie where all of them can write.
"""

import sys

import joblib
import numpy as np
from dask.distributed import Client, LocalCluster

from w2s_lib.experiments.half_blind import HalfBlind, half_blind
from w2s_lib.experiments.sweep_store import Store, grid

CONFIGS = grid(HalfBlind(seeds=2), teacher_labels=[20, 60, 200], prior_precision=[0.1, 1.0])


def cell(config):
    """Accuracy of teacher and student: one number a seed."""
    run = half_blind(config)
    return {role: run.correct(role).mean(1) for role in ("teacher", "hard")}


if __name__ == "__main__":
    folder = sys.argv[1]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        results = Store(cell, folder).sweep(CONFIGS)
    for config, result in zip(CONFIGS, results):
        gain = np.mean(result["hard"] - result["teacher"])
        print(f"{config.teacher_labels:4d} labels, penalty {config.prior_precision:g}: accuracy gain {gain:+.3f}")
