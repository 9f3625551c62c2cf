"""Exported models in other programs: the same numbers, from any backend that has a converter."""

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import vaenb.export as export
from vaenb import VAE, Autoencoder, dense, load_model
from vaenb.cli import app
from vaenb.portable import exported_functions
from vaenb.quantize import VectorQuantizer

BACKEND = keras.backend.backend()
CONVERTERS = {"tensorflow": ("tf2onnx",), "jax": ("jax2onnx",), "torch": ("onnx",)}
N = 200


def inputs_for(model):
    rng, made = np.random.default_rng(1), exported_functions(model)

    def draw(name, shape):
        if name == "x":
            return (rng.random((N, *shape)) > 0.6).astype("float32")
        if name == "condition":
            return np.eye(shape[0], dtype="float32")[rng.integers(shape[0], size=N)]
        if name == "uniform":
            return rng.random((N, *shape)).astype("float32")
        return rng.normal(size=(N, *shape)).astype("float32")

    return {k: {n: draw(n, s) for n, s in zip(f.names, f.shapes)} for k, f in made.items()}


def run_onnx(folder, name, given):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx", options)
    assert sorted(i.name for i in session.get_inputs()) == sorted(given)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given)))


def run_litert(folder, name, given):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(folder / f"{name}.tflite")).get_signature_runner()(**given)


def run_saved_model(folder, name, given):
    import tensorflow as tf

    signature = tf.saved_model.load(str(folder)).signatures[name]
    return {
        k: v.numpy() for k, v in signature(**{k: tf.constant(v) for k, v in given.items()}).items()
    }


RUNNERS = {"onnx": run_onnx, "litert": run_litert, "saved-model": run_saved_model}


def needs(format):
    packages = {
        "onnx": ("onnxruntime", *CONVERTERS[BACKEND]),
        "litert": ("ai_edge_litert",),
        "saved-model": ("tensorflow",),
    }[format]
    absent = [name for name in packages if not find_spec(name)]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not installed")
    if BACKEND not in export.BACKENDS[format]:
        pytest.skip(f"{format} cannot be written from {BACKEND}")


def check_parity(model, folder, format):
    "Each output within 1e-5, relative where it is above 1, on 200 random inputs."
    home = model.export(folder / format, format=format)
    about = json.loads((home / "about.json").read_text())["functions"]
    for name, given in inputs_for(model).items():
        here, there = exported_functions(model)[name].arrays(**given), None
        there = RUNNERS[format](home, name, given)
        assert sorted(here) == sorted(there) == sorted(about[name]["outputs"])
        assert about[name]["inputs"] == {n: [None, *v.shape[1:]] for n, v in given.items()}
        for key, value in here.items():
            assert there[key].dtype == value.dtype and there[key].shape == value.shape
            gap = abs(there[key] - value) / np.maximum(1, abs(value))
            assert gap.max() <= 1e-5, (name, key, gap.max())
        one = RUNNERS[format](home, name, {n: v[:1] for n, v in given.items()})  # any batch size
        assert all(np.allclose(one[k], v[:1], atol=1e-4) for k, v in here.items())


x = (np.random.default_rng(0).random((300, 8, 8, 1)) > 0.5).astype("float32")
labels = np.arange(300) % 3


def conditional():
    return VAE.for_data(x, 3, network=dense([16]), condition=labels)


def quantised():
    return Autoencoder.for_data(x, 3, network=dense([16]), bottleneck=VectorQuantizer(16))


@pytest.mark.parametrize("format", RUNNERS)
@pytest.mark.parametrize("make", [conditional, quantised])
def test_another_program_computes_the_same_numbers(make, format, tmp_path):
    needs(format)
    keras.utils.set_random_seed(1)
    model = make()
    if make is conditional:  # a loaded model
        model.fit(x, condition=labels, epochs=1, verbose=0)
        model.save(tmp_path / "model.keras")
        model = load_model(tmp_path / "model.keras")
    check_parity(model, tmp_path, format)


@pytest.mark.parametrize("format", RUNNERS)
def test_missing_values_are_given_as_nan(format, tmp_path):
    "A converter that takes `x != x` for false returns NaN here."
    needs(format)
    gaps = np.where(np.random.default_rng(2).random(x.shape) < 0.2, np.nan, x).astype("float32")
    model = VAE.for_data(gaps, 2, network=dense([16]), missing=True)
    home = export.export_model(model, tmp_path / "out", format, ["score"])
    given = {"x": gaps, "normal": np.random.default_rng(3).normal(size=(300, 2)).astype("float32")}
    here = exported_functions(model)["score"].arrays(**given)
    there = RUNNERS[format](home, "score", given)
    for key, value in here.items():
        assert np.isfinite(value).all() and np.allclose(value, there[key], rtol=1e-5, atol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@pytest.mark.parametrize("make", [conditional, quantised])
def test_javascript_computes_the_same_numbers(make, tmp_path):
    model = make()
    home = model.export(tmp_path / "js", format="js")
    about, given = json.loads((home / "about.json").read_text())["functions"], inputs_for(model)
    outputs = {"encode": "code", "decode": "mean"}
    assert set(about) == ({"encode", "decode"} if make is conditional else {"decode"})
    for name in about:
        rows = [given[name][k].reshape(N, -1).tolist() for k in about[name]["inputs"]]
        script = f"""import {{ model }} from "./model.mjs";
            const rows = {json.dumps(list(zip(*rows)))};
            console.log(JSON.stringify(rows.map((r) => Array.from(model.{name}(...r)))));"""
        (home / "run.mjs").write_text(script)
        said = subprocess.run(
            ["node", home / "run.mjs"], capture_output=True, text=True, check=True
        )
        wanted = exported_functions(model)[name].arrays(**given[name])[outputs[name]]
        assert abs(np.array(json.loads(said.stdout)) - wanted.reshape(N, -1)).max() <= 1e-5


def refusal(error, call, *args, **kwargs):
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    said = str(caught.value)
    assert "\n" not in said and said.count(". ") == 0, said
    return said


def test_what_cannot_be_exported_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    model, out = conditional(), tmp_path / "out"
    assert "choose onnx" in refusal(ValueError, model.export, out, "openvino")
    assert "input_signature" in refusal(ValueError, model.export, out, input_signature=[])
    assert "choose of" in refusal(ValueError, export.export_model, model, out, "js", ["fit"])
    network = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    unbuilt = VAE(network, keras.Sequential([keras.layers.Dense(64)]), latent_dim=2)
    assert "not built" in refusal(ValueError, unbuilt.export, out, "js")
    unready = Autoencoder(x.shape[1:], 3, network=dense([4]), bottleneck=VectorQuantizer(8))
    refusal(ValueError, unready.export, out, "js")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert "name a new folder" in refusal(FileExistsError, model.export, tmp_path / "full", "js")
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    with monkeypatch.context() as patch:
        patch.setattr(export, "find_spec", lambda name: None)
        patch.setattr(keras.backend, "backend", lambda: "tensorflow")
        assert "'vaenb[export]'" in refusal(ImportError, model.export, out, "onnx")
    with monkeypatch.context() as patch:
        patch.setattr(keras.backend, "backend", lambda: "torch")
        assert "KERAS_BACKEND=tensorflow" in refusal(ValueError, model.export, out, "litert")
    with monkeypatch.context() as patch:

        def fail(function, path, names):
            Path(path).write_text("half")
            raise RuntimeError("no such operation\nwith details")

        patch.setattr(export, "check_format", lambda format: format)
        patch.setattr(export, "write_onnx", fail)
        said = refusal(ValueError, model.export, out, "onnx")
        assert "encode of this VAE cannot be written as onnx (no such operation)" in said
        assert "functions=('decode', 'score')" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def call(command):
    result = CliRunner().invoke(app, list(map(str, command)), prog_name="vaenb")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.rotating
def test_the_command_line_exports_a_run(tmp_path):
    run = tmp_path / "run"
    options = "--data digits --hidden 8 --epochs 1 --batch-size 512 --n-samples 2".split()
    assert call(["train", *options, "--out", run]).exit_code == 0
    made = call(["export", run, "--format", "js"])
    assert made.exit_code == 0 and "encode (model.mjs), decode (model.mjs)" in made.output
    assert sorted(os.listdir(tmp_path / "run-js")) == ["about.json", "model.mjs"]
    before = (tmp_path / "run-js" / "model.mjs").read_bytes()
    for command, said in (
        (["--format", "js"], "name a new folder with --out"),
        (["--format", "pickle"], "there is no format 'pickle'"),
        (["--format", "js", "--only", "train", "--out", tmp_path / "a"], "--only is"),
    ):
        failed = call(["export", run, *command])
        assert failed.exit_code == 2 and said in failed.output, failed.output
        assert failed.output.strip().count("\n") == 0
    assert call(["export", tmp_path / "nothing"]).exit_code == 2
    assert (tmp_path / "run-js" / "model.mjs").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["run", "run-js"]
