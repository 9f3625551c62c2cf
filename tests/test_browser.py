"""Packed networks in a real browser: every layer, the three families and all likelihoods give in
JavaScript what they give in Keras."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import vaenb
from vaenb import VAE, Autoencoder, conv, dense, resnet
from vaenb.browser import LAYERS, network_source, pack_model, pack_network, packed_bytes

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from sitecheck import find_chromium  # noqa: E402

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOLERANCE = {"float32": 2e-5, "float16": 2e-3, "int8": 2e-2}  # for outputs in [0, 1]
RUN = """async ({packed, maker, method, inputs}) => {
  const made = (await window.network)[maker](packed);
  return inputs.map((x) => Array.from(made[method](Float32Array.from(x))));
}"""


@pytest.fixture(scope="module")
def page():
    """A page that has imported network.js from a Blob URL, as a page saved to a file must, and that
    may ask nobody for anything."""
    chromium = find_chromium()
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium is installed, and under CI=true the browser tests must run")
        pytest.skip("no Chromium is installed, so the browser tests do not run")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        page = browser.new_context(offline=True).new_page()
        page.evaluate(
            "source => { window.network = import(URL.createObjectURL(new Blob([source], "
            "{type: 'text/javascript'}))); }",
            network_source(),
        )
        yield page
        browser.close()


def in_browser(page, packed, inputs, maker="makeNetwork", method="run"):
    "What JavaScript makes of each row of `inputs`, after the object has been through JSON."
    packed = json.loads(json.dumps(packed))
    rows = page.evaluate(
        RUN,
        {
            "packed": packed,
            "maker": maker,
            "method": method,
            "inputs": np.reshape(inputs, (len(inputs), -1)).tolist(),
        },
    )
    return np.array(rows, "float32")


def shake(model, seed=0):
    "Biases, gains and running statistics away from their 0 and 1, so that leaving one out is seen."
    rng = np.random.default_rng(seed)
    for w in model.weights:
        if len(w.shape) == 1:
            w.assign(
                rng.uniform(0.5, 1.5, w.shape)
                if "var" in w.path or "gamma" in w.path
                else rng.normal(0, 0.3, w.shape)
            )
    return model


def two(layer):
    "A layer of two inputs on two branches of a map."
    return lambda h: layer([h, layers.Conv2D(6, 1, activation="tanh")(h)])


def nested(h):
    inner = keras.Input((5, 7, 6))
    block = keras.Model(
        inner, layers.Add()([inner, layers.Conv2D(6, 3, padding="same", activation="elu")(inner)])
    )
    return keras.Sequential([layers.Dense(6), layers.Dropout(0.5), block])(block(h))


CASES = {  # from a map (5, 7, 6) to anything
    "RepeatVector": lambda h: layers.RepeatVector(3)(layers.Flatten()(h)),
    "Dense": layers.Dense(4, "relu"),
    "Conv2D same": layers.Conv2D(5, 3, padding="same", activation="relu"),
    "Conv2D valid": layers.Conv2D(5, (2, 3), activation="tanh"),
    "Conv2D strided same": layers.Conv2D(5, 3, strides=2, padding="same"),
    "Conv2D strided even": layers.Conv2D(5, 4, strides=(2, 3), padding="same", use_bias=False),
    "Conv2D strided valid": layers.Conv2D(5, 3, strides=2),
    "Conv2D dilated": layers.Conv2D(5, 3, dilation_rate=2, padding="same"),
    "Conv2D 1x1": layers.Conv2D(5, 1),
    "Conv2DTranspose same": layers.Conv2DTranspose(
        5, 3, strides=2, padding="same", activation="relu"
    ),
    "Conv2DTranspose even": layers.Conv2DTranspose(5, 4, strides=2, padding="same"),
    "Conv2DTranspose valid": layers.Conv2DTranspose(1, 3, strides=(2, 3), use_bias=False),
    "Conv2DTranspose gaps": layers.Conv2DTranspose(2, 2, strides=3, padding="same"),
    "Conv2DTranspose dense": layers.Conv2DTranspose(2, 5, padding="same"),
    "UpSampling2D nearest": layers.UpSampling2D((2, 3)),
    "UpSampling2D bilinear": layers.UpSampling2D((2, 3), interpolation="bilinear"),
    "MaxPooling2D": layers.MaxPooling2D(2),
    "MaxPooling2D same": layers.MaxPooling2D(3, strides=2, padding="same"),
    "AveragePooling2D": layers.AveragePooling2D((2, 3)),
    "AveragePooling2D same": layers.AveragePooling2D(3, strides=2, padding="same"),
    "GlobalMaxPooling2D": layers.GlobalMaxPooling2D(),
    "GlobalAveragePooling2D": layers.GlobalAveragePooling2D(keepdims=True),
    "Flatten": layers.Flatten(),
    "Reshape": layers.Reshape((7, -1)),
    "Permute": layers.Permute((3, 1, 2)),
    "Cropping2D": layers.Cropping2D(((1, 0), (2, 3))),
    "ZeroPadding2D": layers.ZeroPadding2D(((1, 0), (2, 3))),
    "Add": two(layers.Add()),
    "Subtract": two(layers.Subtract()),
    "Multiply": two(layers.Multiply()),
    "Average": two(layers.Average()),
    "Maximum": two(layers.Maximum()),
    "Minimum": two(layers.Minimum()),
    "Concatenate": two(layers.Concatenate()),
    "Concatenate rows": two(layers.Concatenate(axis=1)),
    "BatchNormalization": layers.BatchNormalization(),
    "BatchNormalization bare": layers.BatchNormalization(scale=False, center=False),
    "LayerNormalization": layers.LayerNormalization(),
    "LayerNormalization bare": layers.LayerNormalization(scale=False, center=False),
    "GroupNormalization": layers.GroupNormalization(3),
    "GroupNormalization one": layers.GroupNormalization(1),
    "GroupNormalization each": layers.GroupNormalization(6, scale=False),
    "Rescaling": layers.Rescaling(0.5, offset=-0.2),
    "Rescaling channels": layers.Rescaling([0.5, 1, 1.5, 2, 2.5, -3], offset=0.1),
    "ReLU": layers.ReLU(max_value=0.8, negative_slope=0.1),
    "ReLU jump": layers.ReLU(threshold=0.2),
    "LeakyReLU": layers.LeakyReLU(0.3),
    "ELU": layers.ELU(0.7),
    "Softmax": layers.Softmax(),
    "Dropout": layers.Dropout(0.5),
    "SpatialDropout2D": layers.SpatialDropout2D(0.5),
    "AlphaDropout": layers.AlphaDropout(0.5),
    "GaussianDropout": layers.GaussianDropout(0.5),
    "GaussianNoise": layers.GaussianNoise(1.0),
    "ActivityRegularization": layers.ActivityRegularization(0.1),
    "Identity": layers.Identity(),
    "nested": nested,
    **{
        f"Activation {name}": layers.Activation(name)
        for name in (
            "linear",
            "relu",
            "relu6",
            "leaky_relu",
            "elu",
            "selu",
            "gelu",
            "silu",
            "mish",
            "tanh",
            "sigmoid",
            "hard_sigmoid",
            "softplus",
            "softsign",
            "exponential",
            "softmax",
        )
    },
}


def test_every_layer_has_a_case():
    assert {t.__name__ for t in LAYERS} <= {name.split()[0] for name in CASES}


@pytest.mark.sample(12)
@pytest.mark.parametrize("name", CASES)
def test_layer(page, name):
    """Exact weights: the layer itself. Rounded weights: a small decoder around it with outputs in
    [0, 1]."""
    keras.utils.set_random_seed(0)
    layer = CASES[name]
    layer = (
        layer
        if not isinstance(layer, layers.Layer)
        else type(layer).from_config(layer.get_config())
    )
    x = keras.Input((5, 7, 6))
    alone = shake(keras.Model(x, layer(x)))
    maps = np.random.default_rng(1).normal(0, 1.5, (20, 5, 7, 6)).astype("float32")
    wanted = keras.ops.convert_to_numpy(alone(maps)).reshape(20, -1)
    packed = pack_network(alone, "float32")
    got = in_browser(page, packed, maps)
    assert packed["output_shape"] == list(alone.output_shape[1:]) and got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= TOLERANCE["float32"] * max(1, np.abs(wanted).max())
    if name == "ReLU jump":  # where a rounded weight may cross the jump, no bound holds
        return

    z = keras.Input((4,))
    h = layers.Reshape((5, 7, 6))(layers.Dense(210, "tanh")(z))
    whole = keras.Model(z, layers.Dense(30, "sigmoid")(layers.Flatten()(alone(h))))
    codes = np.random.default_rng(2).normal(size=(200, 4)).astype("float32")
    wanted = keras.ops.convert_to_numpy(whole(codes))
    for dtype in ("float16", "int8"):
        assert (
            np.abs(in_browser(page, pack_network(whole, dtype), codes) - wanted).max()
            <= TOLERANCE[dtype]
        ), dtype


FAMILIES = {
    "dense": dense((128, 128)),
    "dense tanh": dense((64,), activation="tanh"),
    "dense without hidden": dense(()),
    "conv": conv((16, 32)),
    "conv silu": conv((8, 16, 24), activation="silu"),
    "resnet": resnet((8, 16)),
    "resnet layer": resnet((8, 8), normalization="layer", activation="gelu"),
    "resnet bare": resnet((8, 8), blocks=2, normalization=None),
}


@pytest.fixture(scope="module")
def blobs():
    "Images (13, 10, 1) of smooth blobs at random places: an odd size, to see the cropping."
    rng = np.random.default_rng(0)
    r, c = np.mgrid[:13, :10]
    at = rng.uniform([2, 2], [11, 8], (512, 2))[..., None, None]
    return np.exp(-((r - at[:, 0]) ** 2 + (c - at[:, 1]) ** 2) / 6).astype("float32")[..., None]


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", FAMILIES)
def test_family(page, blobs, name):
    """Two hundred codes through a decoder that has learned something, and two hundred images
    through its encoder."""
    keras.utils.set_random_seed(0)
    model = VAE.for_data(blobs, 4, network=FAMILIES[name])
    model.fit(blobs, epochs=4, batch_size=32, verbose=0)
    z = np.random.default_rng(1).normal(size=(200, 4)).astype("float32")
    pixels, codes = model.decode(z).reshape(200, -1), model.encode(blobs[:200])
    assert np.ptp(pixels, axis=0).max() > 0.1  # codes matter
    for dtype in ("float16", "int8"):
        packed = pack_model(model, dtype)
        assert (
            np.abs(in_browser(page, packed, z, "makeModel", "decode") - pixels).max()
            <= TOLERANCE[dtype]
        ), dtype
        assert np.abs(
            in_browser(page, packed, blobs[:200], "makeModel", "encode") - codes
        ).max() <= 2 * TOLERANCE[dtype] * max(1, np.abs(codes).max()), dtype


def with_features(likelihood, shape=(2, 3, 2)):
    "A VAE whose decoder only reshapes, so that its code is its features."
    likelihood.bind(shape)
    wanted = likelihood.feature_shape(shape)
    n = int(np.prod(wanted))
    encoder = keras.Sequential([keras.Input(shape), layers.Flatten()])
    return VAE(
        encoder,
        keras.Sequential([keras.Input((n,)), layers.Reshape(wanted)]),
        latent_dim=n,
        likelihood=likelihood,
    )


LIKELIHOODS = {
    "bernoulli": lambda: vaenb.Bernoulli(),
    "coins": lambda: vaenb.Bernoulli(binarize=True),
    "continuous": lambda: vaenb.ContinuousBernoulli(),
    "normal": lambda: vaenb.Normal("learned"),
    "optimal": lambda: vaenb.Normal("optimal"),
    "poisson": lambda: vaenb.Poisson(),
    "logistic 17": lambda: vaenb.DiscretizedLogistic(17),
    "logistic 256": lambda: vaenb.DiscretizedLogistic(256, per_channel=True),
    "logistic 2": lambda: vaenb.DiscretizedLogistic(2),
    "beta-binomial": lambda: vaenb.BetaBinomial(17),
    "categorical": lambda: vaenb.Categorical(5),
}


@pytest.mark.sample(9)
@pytest.mark.parametrize("scale", [0.02, 1, 20])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_mean_of_likelihood(page, name, scale):
    keras.utils.set_random_seed(0)
    model = with_features(LIKELIHOODS[name]())
    if "logistic" in name:
        raw = model.likelihood.raw_scale
        raw.assign(
            np.full(raw.shape, np.log(0.003 if scale < 1 else 0.08))
            + np.arange(np.prod(raw.shape, dtype=int)).reshape(raw.shape)
        )
    features = np.random.default_rng(0).normal(0, scale, (200, model.latent_dim)).astype("float32")
    wanted = keras.ops.convert_to_numpy(
        model.likelihood.mean(features.reshape(200, *model.likelihood.feature_shape((2, 3, 2))))
    ).reshape(200, -1)
    got = in_browser(page, pack_model(model, encoder=False), features, "makeModel", "decode")
    tolerance = (
        1e-4 if name == "logistic 256" else 5e-6
    )  # the integral that stands for a sum of 255 sigmoids
    assert (np.abs(got - wanted) <= tolerance * np.maximum(1, np.abs(wanted))).all()


def test_heads(page, blobs):
    """The code is the posterior's mean, or an autoencoder's code; where the mean has no closed form
    there is no encoder."""
    keras.utils.set_random_seed(0)
    for posterior in (vaenb.DiagonalNormal(), vaenb.FullNormal(), vaenb.FlowPosterior()):
        model = VAE.for_data(blobs, 3, network=dense((16,)), posterior=posterior)
        model.posterior.heads.bias.assign(
            np.random.default_rng(0).normal(size=model.posterior.heads.bias.shape)
        )
        packed = pack_model(model)
        if isinstance(posterior, vaenb.FlowPosterior):
            assert packed["encoder"] is None
            assert page.evaluate(
                "async packed => (await window.network).makeModel(packed).encode === undefined",
                packed,
            )
        else:
            assert (
                np.abs(
                    in_browser(page, packed, blobs[:50], "makeModel", "encode")
                    - model.encode(blobs[:50])
                ).max()
                <= 2e-3
            )


def test_autoencoders(page):
    """A sigmoid code, an activation behind the decoder, and a result of another shape than the
    input."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((100, 12)).astype("float32")
    model = Autoencoder(12, 3, 20, network=dense((16,)), sparsity=0.1, output_activation="sigmoid")
    packed, z = pack_model(model), np.random.default_rng(1).random((100, 3)).astype("float32")
    assert packed["image_shape"] == [20]
    assert (
        np.abs(in_browser(page, packed, x, "makeModel", "encode") - model.encode(x)).max() <= 2e-3
    )
    assert (
        np.abs(in_browser(page, packed, z, "makeModel", "decode") - model.decode(z)).max() <= 2e-3
    )


def test_results_are_not_overwritten(page):
    """A page keeps the pictures of earlier codes, so each run gives an array of its own; a wrong
    length is an error, not a wrong picture."""
    model = with_features(vaenb.Bernoulli())
    kept = page.evaluate(
        """async packed => {
      const model = (await window.network).makeModel(packed);
      const code = new Float32Array(model.latentDim);
      const first = model.decode(code), copy = Array.from(first);
      const identity = (await window.network).makeNetwork(packed.decoder);
      const features = identity.run(code);
      model.decode(code.fill(3)); identity.run(code);
      let message = "";
      try { model.decode(new Float32Array(5)); } catch (error) { message = error.message; }
      const same = copy.every((v, i) => v === first[i]), zero = features.every((v) => v === 0);
      return [same, zero, message, model.imageShape, identity.outputShape];
    }""",
        pack_model(model),
    )
    assert kept == [
        True,
        True,
        "the network takes 12 numbers, but was given 5",
        [2, 3, 2],
        [2, 3, 2],
    ]


def test_size_chooses_the_type(blobs):
    model = VAE.for_data(blobs, 2, network=dense((64,)))
    fine, coarse = pack_model(model), pack_model(model, "int8")
    assert fine["decoder"]["dtype"] == "float16" and packed_bytes(coarse) < 0.62 * packed_bytes(
        fine
    )
    assert pack_model(model, max_bytes=packed_bytes(fine) - 1)["decoder"]["dtype"] == "int8"
    with pytest.raises(ValueError, match="max_bytes is 1,000"):
        pack_model(model, max_bytes=1000)


class Own(layers.Layer):
    def call(self, x):
        return x


def one_layer(layer, shape=(4, 4, 2)):
    x = keras.Input(shape)
    return keras.Model(x, layer(x))


@pytest.mark.parametrize(
    "layer, message",
    [
        (Own(name="mine"), "'mine' is a Own, which cannot run in a browser; these can: Activation"),
        (layers.DepthwiseConv2D(3), "DepthwiseConv2D, which cannot run"),
        (layers.Conv2D(4, 3, groups=2), "in 2 groups"),
        (
            layers.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=1),
            "output_padding",
        ),
        (layers.UpSampling2D(2, interpolation="bicubic"), "'bicubic'"),
        (layers.LayerNormalization(axis=1), "along the axis"),
        (layers.Dense(3, activation=lambda v: v**2), "the activation '<lambda>'"),
        (lambda x: layers.Add()([x, layers.GlobalMaxPooling2D(keepdims=True)(x)]), "must be equal"),
    ],
)
def test_refused_layers(layer, message):
    with pytest.raises(ValueError, match=message) as error:
        pack_network(one_layer(layer))
    assert "\n" not in str(error.value)


def test_refused_models(blobs):
    model = with_features(vaenb.Bernoulli())
    x = keras.Input((3,))
    with pytest.raises(ValueError, match="1 inputs and 2 outputs"):
        pack_network(keras.Model(x, [x, layers.Dense(2)(x)]))
    broken = one_layer(layers.Dense(2), (3,))
    broken.layers[-1].kernel.assign([[np.nan, 0]] * 3)
    with pytest.raises(ValueError, match="not finite"):
        pack_network(broken)

    class OwnLikelihood(vaenb.Bernoulli):
        pass

    class OwnModel(VAE):
        def means(self, z):
            return 2 * super().means(z)

    with pytest.raises(
        ValueError, match="OwnLikelihood is a likelihood whose mean cannot run in a browser"
    ):
        pack_model(with_features(OwnLikelihood()))
    with pytest.raises(ValueError, match="OwnModel decodes in a way of its own"):
        pack_model(OwnModel(model.encoder, model.decoder, latent_dim=12))


def test_the_modules_are_shipped(tmp_path):
    """A wheel that is built from the source distribution, as package indexes want it, holds every
    JavaScript file."""
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vaenb", source / "vaenb", ignore=ignore)
    for name in (
        "setup.py",
        "settings.ini",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
    ):
        shutil.copy(ROOT / name, source)

    def run(*command, cwd):
        return subprocess.run([sys.executable, *command], cwd=cwd, check=True, capture_output=True)

    run("setup.py", "-q", "sdist", "-d", tmp_path, cwd=source)
    (archive,) = tmp_path.glob("*.tar.gz")
    run(
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        tmp_path,
        archive,
        cwd=tmp_path,
    )
    (wheel,) = tmp_path.glob("*.whl")
    wanted = {f"vaenb/{path.name}" for path in (ROOT / "vaenb").glob("*.js")}
    assert "vaenb/network.js" in wanted and wanted <= set(zipfile.ZipFile(wheel).namelist())
