"""A search over settings on workers of Dask, by joblib's backend, finds the numbers of one that ran
here."""

import os

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV

from vaenb import VAETransformer


def search(jobs=None):
    rows = np.random.default_rng(0).permutation(load_wine().data)
    model = VAETransformer(hidden=(8,), epochs=3, n_samples=5, random_state=0)
    grid = {"latent_dim": [1, 2]}
    return GridSearchCV(model, grid, cv=2, n_jobs=jobs, refit=False).fit(rows).cv_results_


@pytest.mark.rotating
def test_two_workers_of_dask_find_the_same_scores(tmp_path):
    distributed = pytest.importorskip("distributed")
    alone = search()["mean_test_score"]
    threads = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    threads["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND", "tensorflow")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "env": threads}
    with distributed.LocalCluster(local_directory=tmp_path, **options) as cluster:
        with distributed.Client(cluster) as client, parallel_config("dask"):
            np.testing.assert_allclose(search()["mean_test_score"], alone, rtol=1e-5)
            ran = client.run(lambda: len(__import__("sys").modules.get("keras").__name__))
    assert len(ran) == 2  # both workers have loaded Keras


@pytest.mark.rotating
def test_two_processes_of_joblib_find_the_same_scores():
    with parallel_config("loky", n_jobs=2):
        np.testing.assert_allclose(
            search()["mean_test_score"], search(1)["mean_test_score"], rtol=1e-5
        )
