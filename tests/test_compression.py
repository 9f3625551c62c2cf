"""Lossless compression: exact round trips, files that open under the other backend, and a sentence
for every file, model or array that does not fit."""

import os
import subprocess
import sys
from unittest.mock import patch

import keras
import numpy as np
import pytest
from keras import tree
from thorough import installed

import vaenb
from vaenb import coding, compression
from vaenb.autoencoder import Autoencoder
from vaenb.compression import compress, decompress, encode, to_symbols, unpack
from vaenb.likelihood import (
    Bernoulli,
    BetaBinomial,
    Categorical,
    DiscretizedLogistic,
    Normal,
    Poisson,
)
from vaenb.network import dense
from vaenb.posterior import FlowPosterior, FullNormal
from vaenb.prior import MixtureOfNormals
from vaenb.vae import VAE

pytest.importorskip("constriction")
OTHER = {"tensorflow": "jax", "jax": "tensorflow", "torch": "jax"}[keras.backend.backend()]
RNG = np.random.default_rng(0)


def whole(levels, shape=(4, 4, 1), n=30):
    "Random walks over the levels, as whole numbers."
    steps = RNG.normal(0, levels / 6, (n, int(np.prod(shape)))).cumsum(1) + levels / 2
    return np.clip(steps, 0, levels - 1).round().astype("uint16").reshape(n, *shape)


def small(likelihood, x, latent_dim=3, **parts):
    "An untrained model whose weights are far from zero."
    levels = getattr(likelihood, "levels", None)
    values = x.astype("float32") / np.float32(levels - 1) if levels else x.astype("float32")
    keras.utils.set_random_seed(1)
    model = VAE.for_data(values, latent_dim, network=dense((16,)), likelihood=likelihood, **parts)
    for weight in model.encoder.weights + model.decoder.weights:
        weight.assign(weight + 0.1 * RNG.normal(size=weight.shape))
    return model


CASES = {
    "bernoulli": (Bernoulli(), 2, (4, 4, 1)),
    "vector": (Bernoulli(binarize=True), 2, (7,)),
    "categorical": (Categorical(17), 17, (4, 4, 1)),
    "many features": (Categorical(256), 256, (3, 3, 1)),
    "beta-binomial": (BetaBinomial(256), 256, (4, 4, 1)),
    "logistic": (DiscretizedLogistic(256), 256, (4, 4, 1)),
    "colours": (DiscretizedLogistic(256, per_channel=True), 256, (3, 3, 3)),
    "poisson": (Poisson(), 900, (5,)),
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", CASES)
def test_round_trip(name):
    kind, levels, shape = CASES[name]
    x = whole(levels, shape)
    model = small(type(kind)(**{k: getattr(kind, k) for k in kind.arguments}), x)
    content = compress(model, x, batch_size=8)
    back = decompress(model, content)
    assert back.dtype == x.dtype and back.shape == x.shape and np.array_equal(back, x)
    steps = np.float32(levels - 1) if hasattr(kind, "levels") else np.float32(1)
    values = x.astype("float32") / steps
    assert decompress(model, compress(model, values)).tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", ">i4", "float32", "float64", ">f8"])
def test_types_and_shapes_come_back(dtype):
    x = whole(2)[..., 0].astype(dtype)  # without the axis of channels
    model = small(Bernoulli(), whole(2))
    back = decompress(model, compress(model, x))
    assert back.dtype == x.dtype and back.shape == x.shape and back.tobytes() == x.tobytes()


def test_values_that_the_model_does_not_expect_come_back():
    x = whole(256)
    model = small(BetaBinomial(256), x)
    strange = np.concatenate([0 * x[:2], 0 * x[:2] + 255, RNG.integers(0, 256, x.shape)])
    assert np.array_equal(decompress(model, compress(model, strange)), strange)
    assert np.array_equal(decompress(model, compress(model, x[:1])), x[:1])


def noisy(model, size):
    "The model with noise on what its networks give, relative to the larger of 1 and the number."
    run, rng = model.run, np.random.default_rng(5)

    def change(v):
        return v + (size * rng.uniform(-1, 1, v.shape) * np.maximum(np.abs(v), 1)).astype("float32")

    def changed(*args, **options):
        return tree.map_structure(change, run(*args, **options))

    return patch.object(model, "run", changed)


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", CASES)
def test_small_differences_of_the_networks_do_no_harm(name):
    kind, levels, shape = CASES[name]
    x = whole(levels, shape, 60)
    model = small(type(kind)(**{k: getattr(kind, k) for k in kind.arguments}), x)
    content = compress(model, x)
    for _ in range(3):
        with noisy(model, 3e-6):
            assert np.array_equal(decompress(model, content), x)
    with noisy(model, 1e-2), pytest.raises(ValueError, match="checksum of the data"):
        decompress(model, content)


def test_the_hints_are_what_protects():
    "Without them the same small differences destroy a file."
    x = whole(256, (8, 8, 1), 1000)
    model = small(BetaBinomial(256), x)
    none = patch.object(compression, "safe_hints", lambda u, t: 0 * coding.safe_hints(u, t))
    with none:
        content = compress(model, x)
    with noisy(model, 3e-6), pytest.raises(ValueError, match="checksum of the data"):
        decompress(model, content)


@pytest.mark.skipif(not installed(OTHER), reason=f"{OTHER} is not installed")
def test_the_other_backend_opens_the_file(tmp_path):
    x = whole(17, (8, 8, 1), 200)
    model = small(Categorical(17), x, latent_dim=8)
    model.save(tmp_path / "model.keras")
    compress(model, x, tmp_path / "x.vnb")
    code = (
        "import sys, numpy as np; from vaenb import decompress, load_model; import keras\n"
        "folder = sys.argv[1]; model = load_model(folder + '/model.keras')\n"
        "np.save(folder + '/back.npy', decompress(model, folder + '/x.vnb'))\n"
        "print(keras.backend.backend())"
    )
    env = {**os.environ, "KERAS_BACKEND": OTHER}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == OTHER
    assert np.array_equal(np.load(tmp_path / "back.npy"), x)


def test_size_is_the_bound():
    "Within 1 % of -ELBO, apart from the hints, which are below 2 %."
    x = whole(17, (8, 8, 1), 1500)
    values = x / np.float32(16)
    keras.utils.set_random_seed(0)
    model = VAE.for_data(values, 4, network=dense((32,)), likelihood=BetaBinomial(17))
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(values, epochs=5, verbose=0)
    _, initial, spent = encode(model, *to_symbols(model, x))
    terms = model.run("pass_terms", values, n_samples=16)
    bound = (terms["kl"].sum() - terms["log_px_z"].mean(1).sum()) / np.log(2)
    assert abs((sum(spent.values()) - spent["hints"]) / bound - 1) < 0.01
    assert 0 < spent["hints"] < 0.02 * bound and spent["posterior"] < 0 and initial < 20


def test_sizes_of_batches():
    for n in (1, 2, 7, 100, 1000):
        for largest in (1, 3, 64):
            sizes = compression.batch_sizes(n, largest)
            assert sum(sizes) == n and max(sizes) <= largest and sizes[0] == 1
            done = np.cumsum([0, *sizes[:-1]])
            assert all(s == 1 or s <= d / 4 for s, d in zip(sizes, done))


def test_no_damage_goes_unnoticed():
    x = whole(2)
    model = small(Bernoulli(), x)
    content = compress(model, x)
    for i in range(len(content)):
        damaged = bytearray(content)
        damaged[i] ^= 1 << i % 8
        with pytest.raises(ValueError, match="damaged|truncated|version|not a file"):
            unpack(bytes(damaged))
        with pytest.raises(ValueError, match="truncated|not a file"):
            unpack(content[:i])
    with pytest.raises(ValueError, match="damaged"):
        unpack(content + b"more")


def test_another_model_is_refused(tmp_path):
    x = whole(2)
    model, other = small(Bernoulli(), x), small(Bernoulli(), x)
    content = compress(model, x)
    with pytest.raises(ValueError, match="another model"):
        decompress(other, content)
    model.save(tmp_path / "model.keras")
    again = vaenb.load_model(tmp_path / "model.keras")
    assert np.array_equal(decompress(again, content), x)
    last = model.decoder.weights[-1]
    last.assign(last + 1e-6)
    with pytest.raises(ValueError, match="another model"):
        decompress(model, content)


def test_models_that_cannot_compress_are_refused():
    x = whole(2).astype("float32")
    makers = {
        "no p": lambda: Autoencoder.for_data(x, 2, network=dense((4,))),
        "MixtureOfNormals": lambda: small(Bernoulli(), x, prior=MixtureOfNormals(2)),
        "FullNormal": lambda: small(Bernoulli(), x, posterior=FullNormal()),
        "FlowPosterior": lambda: small(Bernoulli(), x, posterior=FlowPosterior(hidden=(4,))),
        "countable": lambda: small(Normal(), x),
        "condition": lambda: small(Bernoulli(), x, condition=np.arange(30) % 2),
    }
    for word, make in makers.items():
        with pytest.raises(ValueError, match=word) as caught:
            compress(make(), x)
        assert str(caught.value).count(". ") == 0


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    x = whole(17)
    model = small(Categorical(17), x)
    cases = (
        (x[:0], ValueError, "shape"),
        (x[:, :3], ValueError, "shape"),
        (x + 10, ValueError, "17 levels"),
        (x / 16 + 0.001, ValueError, "exactly"),
        (np.full(x.shape, np.nan), ValueError, "NaN"),
        (x.astype("complex64"), TypeError, "complex64"),
        (x.astype("U3"), TypeError, "type"),
    )
    for wrong, kind, word in cases:
        with pytest.raises(kind, match=word):
            compress(model, wrong)
    grey = small(Bernoulli(binarize=True), whole(2))
    with pytest.raises(ValueError, match="binarize"):
        compress(grey, whole(2) * np.float32(0.5))
    counts = small(Poisson(), whole(9, (5,)))
    with pytest.raises(ValueError, match="65535"):
        compress(counts, whole(9, (5,)).astype("float32") + 1e6)
    (tmp_path / "x.vnb").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="left as it is"):
        compress(model, x, tmp_path / "x.vnb")
    assert (tmp_path / "x.vnb").read_bytes() == b"mine"
    for size in (0, 1.5, 5000):
        with pytest.raises(ValueError, match="batch_size"):
            compress(model, x, batch_size=size)


def test_without_the_package_there_is_one_sentence():
    with patch.dict(sys.modules, {"constriction": None}):
        with pytest.raises(ImportError, match=r"pip install 'vaenb\[compression\]'"):
            compress(small(Bernoulli(), whole(2)), whole(2))
