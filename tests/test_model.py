"""What a notebook cannot test of the models: fresh processes, both backends, the trainer's corners,
wrong input."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from thorough import installed

from vaenb import VAE, Bernoulli, ContinuousBernoulli, Normal, Poisson, data, dense, recipe
from vaenb.model import LatentModel

HERE = Path(__file__).parent
OTHER = {"tensorflow": "jax", "jax": "tensorflow"}
BACKENDS = {name: [OTHER[name]] for name in installed(*OTHER)}  # and what each must run without


def work(backend, task, folders):
    done = subprocess.run(
        [
            sys.executable,
            HERE / "worker.py",
            backend,
            task,
            json.dumps(folders),
            *BACKENDS[backend],
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def everything(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def same(a, b):
    return [name for name in a if not np.array_equal(a[name], b[name])]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One process of each backend trains and saves with a fixed seed; then another process of each
    backend loads what both have saved, and trains the first model again."""
    folders = {backend: str(tmp_path_factory.mktemp(backend)) for backend in BACKENDS}
    with ThreadPoolExecutor(2) as pool:
        for task in ("train", "load"):
            list(pool.map(lambda backend, task=task: work(backend, task, folders), BACKENDS))
    return {backend: Path(folder) for backend, folder in folders.items()}


@pytest.mark.rotating
@pytest.mark.rotating("fresh processes")
@pytest.mark.parametrize("backend", BACKENDS)
def test_identical_seeds_give_identical_results(runs, backend):
    first, second = (everything(runs[backend] / f"{name}.npz") for name in ("again", "trained"))
    assert len(first) > 10 and same(first, second) == []


@pytest.mark.rotating("fresh processes")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_new_process_gives_back_identical_numbers(runs, backend):
    loaded, trained = (
        everything(runs[backend] / f"loaded_by_{backend}.npz"),
        everything(runs[backend] / "trained.npz"),
    )
    assert len(loaded) > 30 and same(loaded, trained) == []


@pytest.mark.rotating("fresh processes")
@pytest.mark.skipif(len(BACKENDS) < 2, reason="only one of TensorFlow and JAX is installed")
@pytest.mark.parametrize("by, of", OTHER.items())
def test_a_file_saved_under_one_backend_loads_under_the_other(runs, by, of):
    loaded, trained = (
        everything(runs[of] / f"loaded_by_{by}.npz"),
        everything(runs[of] / "trained.npz"),
    )
    for name in loaded:
        # What draws no random numbers agrees to float32's rounding in another order of summation.
        if name.split("/")[1] in ("encode", "decode", "reconstruct"):
            np.testing.assert_allclose(loaded[name], trained[name], atol=2e-5, err_msg=name)


@pytest.fixture(scope="module")
def digits():
    return data.digits()


@pytest.fixture(scope="module")
def vae(digits):
    keras.utils.set_random_seed(0)
    return VAE.for_data(digits, latent_dim=2, network=dense([16]))


def test_no_attribute_of_the_class_hides_a_part(vae):
    """PyTorch finds an attribute of the class before a layer that was assigned to the model."""
    own = {**vars(vae), **getattr(vae, "_modules", {})}
    parts = [name for name, value in own.items() if isinstance(value, keras.layers.Layer)]
    assert {"encoder", "decoder", "likelihood", "objective"} <= set(parts)
    assert [name for name in parts if hasattr(type(vae), name)] == []


IMAGES = np.random.default_rng(0).random((6, 8, 8, 1)).astype("float32")
BYTES = np.arange(6 * 64, dtype="uint8").reshape(6, 8, 8, 1)


@pytest.mark.parametrize(
    "x, words",
    [
        (np.where(IMAGES > 0.9, np.nan, IMAGES), "NaN"),
        (np.where(IMAGES > 0.9, np.inf, IMAGES), "infinite"),
        (IMAGES - 0.5, "support"),
        (BYTES, "/ 255"),
        (IMAGES[:0], "empty"),
        (IMAGES[..., 0], "axes"),
        (IMAGES[0], "single example"),
        (IMAGES[:, :7], r"\(7, 8, 1\)"),
        (np.zeros((3, 28, 28, 1)), r"\(28, 28, 1\)"),
        (np.array([["a"]]), "numbers"),
    ],
)
@pytest.mark.parametrize(
    "method", ["fit", "evaluate", "encode", "reconstruct", "log_likelihood", "posterior_params"]
)
def test_wrong_input_is_refused_in_one_sentence(vae, method, x, words):
    before = [keras.ops.convert_to_numpy(w) for w in vae.weights[:2]]
    with pytest.raises(ValueError, match=words) as refused:
        getattr(vae, method)(x)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    assert all(
        np.array_equal(a, keras.ops.convert_to_numpy(b)) for a, b in zip(before, vae.weights[:2])
    )


def test_wrong_validation_data_is_refused_before_training(vae):
    with pytest.raises(ValueError, match="validation x"):
        vae.fit(IMAGES, validation_data=(IMAGES * 2,), verbose=0)


def test_labels_are_not_targets(vae):
    with pytest.raises(ValueError, match="y differs from x"):
        vae.fit(IMAGES, np.arange(6))


@pytest.mark.parametrize(
    "likelihood, x, words",
    [
        (Bernoulli(), IMAGES, "binarize=True"),
        (ContinuousBernoulli(), BYTES, "/ 255"),
        (Poisson(), IMAGES, "Poisson"),
    ],
)
def test_a_likelihood_that_cannot_explain_the_data_names_one_that_can(likelihood, x, words):
    with pytest.raises(ValueError, match=words):
        VAE.for_data(x, likelihood=likelihood)


def test_a_decoder_of_another_shape_is_refused(vae):
    other = VAE.for_data(np.zeros((3, 5, 5, 1)), latent_dim=2)
    with pytest.raises(ValueError, match=r"\(8, 8, 1\)"):
        VAE(vae.encoder, other.decoder, latent_dim=2)


def test_the_trainer_takes_what_keras_takes(digits, tmp_path):
    keras.utils.set_random_seed(0)
    model = VAE.for_data(digits, latent_dim=2, network=dense([16]))
    model.compile("adam")
    stop = keras.callbacks.EarlyStopping(
        "val_elbo", mode="max", patience=1, restore_best_weights=True
    )
    keep = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_loss", save_best_only=True
    )
    history = model.fit(
        digits.train.x[:200],
        validation_data=(digits.val.x,),
        epochs=2,
        verbose=0,
        callbacks=[stop, keep],
    ).history
    assert {
        "loss",
        "elbo",
        "kl",
        "reconstruction",
        "val_loss",
        "val_elbo",
        "val_kl",
        "val_reconstruction",
    } <= set(history)
    assert np.isclose(
        history["val_elbo"][-1],
        history["val_reconstruction"][-1] - history["val_kl"][-1],
        rtol=1e-5,
    )
    assert np.array_equal(
        keras.saving.load_model(tmp_path / "best.keras").encode(digits.val.x).shape,
        (len(digits.val), 2),
    )
    model.fit(digits.train.batches(64), epochs=1, verbose=0, validation_data=digits.val.batches(50))
    assert model.evaluate(digits.val.batches(50, shuffle=False), verbose=0) == model.evaluate(
        digits.val.batches(50, shuffle=False), verbose=0
    )


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch traces nothing")
@pytest.mark.parametrize("kind", ["vae", "vq-vae", "factor-vae"])
def test_the_first_fit_traces_its_step_once(kind, digits, monkeypatch):
    """Where the first trace makes the optimiser's variables TensorFlow traces again, half a second
    more for the smallest model."""
    traced, step = [], LatentModel.batch_step
    monkeypatch.setattr(
        LatentModel, "batch_step", lambda self, *a: traced.append(1) or step(self, *a)
    )
    x = digits.train.x[:64]
    model = recipe(kind, x, latent_dim=2, network=dense([8]))
    model.fit(x, batch_size=32, verbose=0)
    assert len(traced) == 1
    model.fit(x, batch_size=32, verbose=0)
    assert len(traced) == 1


def test_sample_weights_weigh(digits):
    model = VAE.for_data(digits, latent_dim=2, network=dense([16]))
    x = digits.binarized().test.x[:64]
    weighted = model.evaluate(x, sample_weight=np.full(64, 3.0), verbose=0, return_dict=True)[
        "loss"
    ]
    assert np.isclose(
        weighted, 3 * model.evaluate(x, verbose=0, return_dict=True)["loss"], rtol=1e-5
    )


def test_mixed_precision_keeps_densities_in_float32(digits):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(0)
        model = VAE.for_data(digits, latent_dim=2, network=dense([16]))
        history = model.fit(digits.train.x[:256], epochs=2, verbose=0).history
        terms = model.run("pass_terms", digits.test.x[:10])
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history["loss"]).all() and history["loss"][1] < history["loss"][0]
    assert all(terms[name].dtype == "float32" for name in ("log_px_z", "log_pz", "log_qz_x", "kl"))


IMAGE_SHAPES = [(8, 8, 1), (28, 28, 1), (25, 19, 3)]


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "network, shape",
    [("dense", (5,)), ("dense", (784,))]
    + [(n, s) for n in ("dense", "conv", "resnet") for s in IMAGE_SHAPES],
)
def test_any_shape_trains(network, shape):
    x = np.random.default_rng(0).random((12, *shape)).astype("float32")
    model = VAE.for_data(x, latent_dim=3, network=network, likelihood=Normal("learned"))
    model.compile("adam", run_eagerly=True)  # compiling fifteen networks would test the compiler
    model.train_on_batch(x)
    assert (
        model.decode(model.encode(x)).shape == x.shape
        and np.isfinite(model.log_likelihood(x[:2], n_samples=3)).all()
    )


def test_importing_vaenb_is_light():
    code = (
        "import sys, vaenb; assert not {'keras', 'matplotlib', 'tensorflow', 'jax'} & "
        "set(sys.modules); print(vaenb.VAE.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0 and done.stdout.strip() == "vaenb.vae", done.stderr[-1000:]
