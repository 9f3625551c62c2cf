"""The contract of the parts: every recipe and random combinations of parts are trained, saved, and
loaded in fresh processes and under the other backend.

`make test` trains each recipe and four combinations on the default backend; the whole contract is
for the combinations and for four recipes of different kinds. These it trains and loads on the other
backends, too. The choice changes with the turn; `make test-all` trains and loads everything
everywhere.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from parts_worker import N_COMBINATIONS, combinations
from thorough import THOROUGH, amount, installed, recipes_to_check, some

from vaenb import RECIPES

WORKER = Path(__file__).parent / "parts_worker.py"
BACKENDS = installed("tensorflow", "jax", "torch")
DEFAULT = os.environ.get("KERAS_BACKEND") or BACKENDS[0]
COMBINATIONS = some([f"combination-{i:02d}" for i in range(N_COMBINATIONS)], 4, "combinations")
EVERY = [*RECIPES, *COMBINATIONS]
FEW = EVERY if THOROUGH else recipes_to_check()
TRAINED = {backend: EVERY if backend == DEFAULT else FEW for backend in BACKENDS}
LOADED = {b: EVERY if THOROUGH else FEW + COMBINATIONS * (b == DEFAULT) for b in BACKENDS}
OWN = [(backend, case) for backend in BACKENDS for case in TRAINED[backend]]
AGAIN = [(backend, case) for backend in BACKENDS for case in LOADED[backend]]
CROSS = [(by, of, case) for by in BACKENDS for of in BACKENDS if by != of for case in FEW]


def work(backend, task, folder, names):
    """Trains or loads the named cases, all in one fresh process that cannot see other backends."""
    # One thread for an operation: TensorFlow splits a large sum among those that are free.
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1"}
    blocked = [other for other in ("tensorflow", "jax", "torch") if other != backend]
    done = subprocess.run(
        [sys.executable, WORKER, backend, task, folder, ",".join(names), *blocked],
        capture_output=True,
        text=True,
        env={**os.environ, **quiet},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def combined():
    return combinations()


@pytest.fixture(scope="module")
def runs(tmp_path_factory, combined):
    """Each backend trains and saves its cases; then each loads what each has saved, in a fresh
    process."""
    folders = {backend: tmp_path_factory.mktemp(backend) for backend in BACKENDS}
    for folder in folders.values():
        (folder / "combinations.json").write_text(json.dumps(combined[0]))
    training = [(backend, "train", folders[backend], TRAINED[backend]) for backend in BACKENDS]
    loading = [
        (by, "load", folders[of], LOADED[of] if by == of else FEW)
        for of in BACKENDS
        for by in BACKENDS
    ]
    with ThreadPoolExecutor(2) as pool:
        for jobs in (training, loading):
            list(pool.map(lambda job: work(*job), jobs))
    return folders


def failure(folder, task, backend, case):
    return json.loads((folder / f"{task}.{backend}.json").read_text()).get(case)


@pytest.mark.parametrize("backend, case", OWN)
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


@pytest.mark.parametrize("backend, case", AGAIN)
def test_a_fresh_process_gives_back_identical_numbers(runs, backend, case):
    loaded, trained = compare(runs, backend, backend, case)
    assert (
        len(trained) > 5
        and [name for name in trained if not np.array_equal(loaded[name], trained[name])] == []
    )


@pytest.mark.parametrize("by, of, case", CROSS)
def test_the_other_backend_gives_back_the_same_codes_and_images(runs, by, of, case):
    """What draws no random numbers agrees to float32's rounding, relative to the largest value."""
    loaded, trained = compare(runs, by, of, case)
    for name in ("encode", "decode", "reconstruct"):
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


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "how",
    [
        "import vaenb; load = vaenb.load_model",
        "from vaenb import VAE; import keras; load = keras.saving.load_model",
    ],
)
def test_whatever_was_imported_first_a_saved_model_finds_its_parts(runs, how):
    files = sorted(runs[DEFAULT].glob("combination-*.keras"))[:: amount(1, 4)]
    code = f"{how}\nfor path in {[str(f) for f in files]}: print(load(path).objective)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(files) > 3, done.stderr[
        -2000:
    ]
