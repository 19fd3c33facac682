"""Where tasks run: this process, threads, processes, a Dask cluster and Ray, started for real."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib
import pytest

CLUSTERS = [
    pytest.param("dask", marks=pytest.mark.slow),  # starts two worker processes: ten seconds
    pytest.param("ray", marks=pytest.mark.slow),  # starts Ray: ten seconds
]
PLACES = ["here", "threading", pytest.param("loky", marks=pytest.mark.slow), *CLUSTERS]  # loky: two processes
PROCESSES = [pytest.param("loky", marks=pytest.mark.slow), *CLUSTERS]


@contextmanager
def place(name: str) -> Iterator[None]:
    """joblib configured for two workers of a kind, started for real."""
    if name == "here":
        yield
    elif name == "dask":
        distributed = pytest.importorskip("distributed")
        cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None)
        with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
            yield
    elif name == "ray":
        ray = pytest.importorskip("ray")
        from ray.util.joblib import register_ray

        register_ray()
        path = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": path})
        try:
            with joblib.parallel_config(backend="ray"):
                yield
        finally:
            ray.shutdown()
    else:
        with joblib.parallel_config(backend=name, n_jobs=2):
            yield
