"""The contract of the five parts: every recipe and thirty random combinations, trained, saved, and loaded in fresh processes and under the other backend."""

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from parts_worker import N_COMBINATIONS, combinations

from vaenb import RECIPES

WORKER = Path(__file__).parent / "parts_worker.py"
BACKENDS = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
CASES = [*RECIPES, *(f"combination-{i:02d}" for i in range(N_COMBINATIONS))]


def work(job):
    backend, task, folder, cache = job
    env = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    blocked = [other for other in ("tensorflow", "jax", "torch") if other != backend]
    done = subprocess.run(
        [sys.executable, WORKER, backend, task, folder, "all", *blocked],
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def combined():
    return combinations()


@pytest.fixture(scope="module")
def runs(tmp_path_factory, combined):
    """Each backend trains and saves all cases; then each loads what each has saved, in a fresh process."""
    folders, cache = (
        {backend: tmp_path_factory.mktemp(backend) for backend in BACKENDS},
        tmp_path_factory.mktemp("cache"),
    )
    for folder in folders.values():
        (folder / "combinations.json").write_text(json.dumps(combined[0]))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [(backend, "train", folders[backend], cache) for backend in BACKENDS]))
        list(
            pool.map(work, [(by, "load", folders[of], cache) for of in BACKENDS for by in BACKENDS])
        )
    return folders


def failure(folder, task, backend, case):
    return json.loads((folder / f"{task}.{backend}.json").read_text()).get(case)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_a_model_does_all_that_models_do(runs, backend, case):
    assert failure(runs[backend], "train", backend, case) is None, failure(
        runs[backend], "train", backend, case
    )


def compare(runs, by, of, case):
    assert failure(runs[of], "load", by, case) is None, failure(runs[of], "load", by, case)
    return [
        dict(np.load(runs[of] / f"{case}.{task}.{backend}.npz"))
        for task, backend in (("load", by), ("train", of))
    ]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_a_fresh_process_gives_back_identical_numbers(runs, backend, case):
    loaded, trained = compare(runs, backend, backend, case)
    assert (
        len(trained) > 5
        and [name for name in trained if not np.array_equal(loaded[name], trained[name])] == []
    )


@pytest.mark.parametrize("by, of", [(by, of) for by in BACKENDS for of in BACKENDS if by != of])
@pytest.mark.parametrize("case", CASES)
def test_the_other_backend_gives_back_the_same_codes_and_images(runs, by, of, case):
    loaded, trained = compare(runs, by, of, case)
    for name in (
        "encode",
        "decode",
        "reconstruct",
    ):  # what draws no random numbers agrees to float32's rounding, relative to the largest value
        scale = max(1.0, np.abs(trained[name]).max())
        np.testing.assert_allclose(
            loaded[name] / scale, trained[name] / scale, atol=5e-5, err_msg=name
        )


def test_what_has_no_meaning_is_refused_in_one_sentence(combined):
    refused = combined[1]
    assert len(refused) > 10
    for parts, message in refused.items():
        assert len(message.splitlines()) == 1 and 40 < len(message) < 320 and (":" in message), (
            parts,
            message,
        )


@pytest.mark.parametrize(
    "how",
    [
        "import vaenb; load = vaenb.load_model",
        "from vaenb import VAE; import keras; load = keras.saving.load_model",
    ],
)
def test_whatever_was_imported_first_a_saved_model_finds_its_parts(runs, how):
    files = sorted(runs["tensorflow"].glob("combination-*.keras"))[::4]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{how}\nfor path in {[str(f) for f in files]}: print(load(path).objective)",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(files) > 5, done.stderr[
        -2000:
    ]
