"""benchmarks/reproduce.py: a run in slices, killed on the way, ends with the numbers of one that
was left alone; and it needs no TensorFlow."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vaenb.training import read_checkpoint

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "reproduce.py"
NAME = "iwae-5-tiny-{}-0"

DRIVER = """
import os, signal, sys
folder, backend, job = sys.argv[1:]
if backend != "tensorflow": sys.modules["tensorflow"] = None # so that nobody can import it
sys.path.insert(0, "benchmarks")
import reproduce

reproduce.CHUNK = 20
def run(place, *more):
    places = ["--out", f"{folder}/{place}", "--state", f"{folder}/{place}-state"]
    return reproduce.main(["iwae-5", "--budget", "tiny", "--backend", backend, *places, *more])

if job == "start":
    run("whole")
    assert not run("sliced", "--max-minutes", "0")
    look, seen = reproduce.Watch.on_train_batch_end, []
    def deadly(self, batch, logs=None):
        look(self, batch, logs)
        seen.append(batch)
        if len(seen) == 2: os.kill(os.getpid(), signal.SIGKILL)
    reproduce.Watch.on_train_batch_end = deadly
    run("sliced")
else:
    calls = 1
    while not run("sliced", "--max-minutes", "0"): calls += 1
    print("calls", calls)
"""


def python(*words, code=0, cache=None):
    env = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": words[3] if words[0] == "-c" else "jax",
    }
    if cache:
        env.update(
            JAX_COMPILATION_CACHE_DIR=str(cache), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0"
        )
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module", params=["jax", "tensorflow"])
def folder(request, tmp_path_factory):
    """Two runs of one protocol: one undisturbed, the other stopped after each block of steps and
    each twenty images, and killed in between."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp("reproduce") / request.param
    folder.mkdir()
    python("-c", DRIVER, folder, request.param, "start", code=-9, cache=folder / "cache")
    assert not list(folder.glob("sliced/*.json"))
    calls = int(
        re.search(
            r"calls (\d+)",
            python("-c", DRIVER, folder, request.param, "end", cache=folder / "cache"),
        )[1]
    )
    assert calls > 3, "it has been stopped"
    return folder


def result(folder, place):
    return json.loads((folder / place / f"{NAME.format(folder.name)}.json").read_text())


@pytest.mark.rotating("sliced runs")
def test_a_sliced_and_killed_run_equals_an_undisturbed_one(folder):
    whole, sliced = result(folder, "whole"), result(folder, "sliced")
    for key in ("metrics", "log_likelihoods", "last_epoch", "protocol", "epochs", "steps"):
        assert whole[key] == sliced[key], key
    states = [
        read_checkpoint(next(folder.glob(f"{place}-state/*/training.npz")))
        for place in ("whole", "sliced")
    ]
    assert (
        states[0][0].keys() == states[1][0].keys()
        and states[0][1]["history"] == states[1][1]["history"]
    )
    for name, value in states[0][0].items():
        np.testing.assert_array_equal(value, states[1][0][name], name)


@pytest.mark.rotating("sliced runs")
def test_a_result_says_what_was_run_where_and_how_well(folder):
    made = result(folder, "sliced")
    assert {
        "name",
        "about",
        "budget",
        "seed",
        "backend",
        "commit",
        "source",
        "device",
        "code",
        "versions",
        "machine",
        "finished",
        "training_seconds",
        "evaluation_seconds",
        "epochs",
        "full_epochs",
        "steps",
        "steps_per_execution",
        "images",
        "samples",
        "last_epoch",
        "metrics",
        "protocol",
        "log_likelihoods",
    } == made.keys()
    assert (
        made["budget"] == "tiny"
        and made["epochs"] == 2 < made["full_epochs"] == 3280
        and made["steps"] == 20
        and made["training_seconds"] > 0 < made["evaluation_seconds"]
    )
    assert (
        made["protocol"]["differs"]
        and made["backend"] in made["versions"]
        and made["code"][-1]["source"] == made["source"]
    )
    metrics, each = made["metrics"], np.array(made["log_likelihoods"].split(), float)
    assert metrics.keys() == {"nll", "elbo", "reconstruction", "kl", "active_units"} and all(
        np.isfinite([m["value"], m["se"]]).all() for m in metrics.values()
    )
    assert (
        len(each) == made["images"] == 60
        and abs(each.mean() + metrics["nll"]["value"]) < 0.01
        and abs(each.std(ddof=1) / 60**0.5 - metrics["nll"]["se"]) < 0.01
    )
    assert (
        abs(metrics["reconstruction"]["value"] - metrics["kl"]["value"] - metrics["elbo"]["value"])
        < 1e-4
        and metrics["elbo"]["value"] < -metrics["nll"]["value"]
    )


@pytest.mark.rotating("sliced runs")
def test_a_finished_run_is_not_run_again_and_a_changed_protocol_is_refused(folder):
    backend, out = result(folder, "whole")["backend"], folder / "whole"
    words = [
        SCRIPT,
        "iwae-5",
        "--budget",
        "tiny",
        "--backend",
        backend,
        "--out",
        out,
        "--state",
        folder / "whole-state",
    ]
    assert "is there already" in python(*words)
    run = next(folder.glob("whole-state/*/run.json"))
    facts = json.loads(run.read_text())
    facts["protocol"]["samples"] = 21
    run.write_text(json.dumps(facts))
    words[-3] = folder / "elsewhere"
    said = python(*words, code=1).strip().splitlines()[-1]
    assert "whose samples is 21, but here it is 20" in said and "Traceback" not in said


def module():
    sys.path.insert(0, str(SCRIPT.parent))  # for what the benchmarks share
    spec = importlib.util.spec_from_file_location("reproduce", SCRIPT)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.rotating
def test_the_protocols_are_those_of_the_papers():
    reproduce = module()
    iwae = reproduce.PROTOCOLS["iwae-50"]["budgets"]["full"]
    assert (
        iwae["stages"]
        == [
            [1, 1e-3],
            [3, 7.2e-4],
            [9, 5.2e-4],
            [27, 3.7e-4],
            [81, 2.7e-4],
            [243, 1.9e-4],
            [729, 1.4e-4],
            [2187, 1e-4],
        ]
        and iwae["samples"] == 5000
    )
    for (
        name
    ) in reproduce.PROTOCOLS:  # the first steps of each, on digits, and how many weights they have
        protocol = reproduce.protocol_of(name, "tiny", 0, "any")
        if name in ("vae-50", "iwae-50", "dreg-1", "dreg-5"):
            continue  # as others, with another k
        images = reproduce.data_for(protocol)
        model = reproduce.model_for(protocol, images, 1)
        h, d, wide = (
            protocol["network"]["hidden"][0],
            protocol["latent_dim"],
            1 + (protocol["network"]["kind"] == "gated"),
        )

        def layer(a, b, times=1):
            return times * (a + 1) * b

        wanted = (
            layer(64, h, wide)
            + 2 * layer(h, h, wide)
            + layer(h, 2 * d)
            + layer(d, h, wide)
            + layer(h, 64)
            + (500 * 64 if "vamp" in name else 0)
        )
        assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == wanted, name
        before = model.get_weights()
        history = model.fit(images.train.x[:40], batch_size=20, epochs=1, verbose=0).history
        assert (
            np.isfinite(history["loss"]).all()
            and all(np.isfinite(w).all() for w in model.get_weights())
            and any(np.abs(a - b).max() > 0 for a, b in zip(before, model.get_weights()))
        )
        if "posterior" in protocol:
            assert (
                -6 <= model.posterior_params(images.test.x)["logvar"].min()
                and model.posterior_params(100 * images.test.x.clip(0, 0.01))["logvar"].max() <= 2
            )


def test_the_normed_optimizer_sees_only_directions():
    import keras

    reproduce = module()
    ours, theirs = (keras.Variable(np.ones(3, "float32")) for _ in range(2))
    a, b = reproduce.NormedAdam(0.1), keras.optimizers.Adam(0.1)
    for scale, g in ((1e-3, [3.0, 0.0, 4.0]), (1e3, [0.0, 5.0, 12.0])):
        a.apply([keras.ops.convert_to_tensor(np.array(g, "float32") * scale)], [ours])
        b.apply(
            [
                keras.ops.convert_to_tensor(
                    np.array(g, "float32") / np.linalg.norm(g).astype("float32")
                )
            ],
            [theirs],
        )
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs), rtol=1e-4
    )  # the 1e-7 beside a norm of 5e-3
