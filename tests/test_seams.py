"""The seams of a model: fields, levels, codes of any structure, an adversary, missing values;
and that `training`, weights, losses and states are treated as Keras documents. On every backend."""

import importlib.util
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import stats
from thorough import run_on

from vaenb import VAE, Autoencoder, Bernoulli, Normal, VampPrior, data, dense, recipe
from vaenb.aggregate import WAE, BetaTC, InfoVAE
from vaenb.distribution import Distribution, IndependentNormal, UnitNormal, kl_divergence
from vaenb.likelihood import Conditional
from vaenb.model import LatentModel, held
from vaenb.objective import Capacity
from vaenb.prior import ConditionalNormal
from vaenb.vae import ELBO, Codes, DiagonalNormal, Level, StandardNormal

BACKEND = keras.backend.backend()
X = np.random.default_rng(0).random((200, 8)).astype("float32")


@pytest.fixture(scope="module")
def digits():
    return data.digits()


@pytest.mark.skipif("VAENB_INNER" in os.environ, reason="this is the inner run")
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_on_the_other_backend(backend):
    if backend == BACKEND or not run_on(backend, __file__):
        pytest.skip(f"{backend} is this backend, or is not installed")


def classes_between(model):
    return [c for c in model.__mro__ if c.__module__.startswith("vaenb.")]


@pytest.mark.parametrize("model", [VAE, Autoencoder])
def test_one_class_stands_between_keras_and_a_model(model):
    names = [c.__name__ for c in classes_between(model)]
    assert names == [model.__name__, "LatentModel"]


def pair(width=8, code=2, activation=None, extra=()):
    encoder = keras.Sequential([layers.Input((8,)), layers.Dense(width, "tanh"), *extra])
    decoder = keras.Sequential(
        [layers.Input((code,)), layers.Dense(width, "tanh"), layers.Dense(8, activation)]
    )
    return encoder, decoder


# ---- conditions


def test_a_condition_reaches_networks_and_prior(digits):
    keras.utils.set_random_seed(0)
    labels = digits.train.labels
    plain = VAE.for_data(digits, 2, network=dense([32]))
    model = VAE.for_data(
        digits, 2, network=dense([32]), condition=labels, prior=ConditionalNormal()
    )
    for m, given in ((plain, {}), (model, {"condition": labels})):
        m.compile(keras.optimizers.Adam(3e-3))
        m.fit(digits.train.x, epochs=45, batch_size=64, verbose=0, **given)  # 900 steps: blocks
    x, y = digits.test.x[:100], digits.test.labels[:100]
    given = model.log_likelihood(x, 50, condition=y).mean()
    assert given > plain.log_likelihood(x, 50).mean() + 1  # a label is worth log 10 = 2.3 nats
    bayes = [model.log_likelihood(x, 50, condition=c) for c in range(10)]
    assert np.mean(np.argmax(bayes, axis=0) == y) > 0.7
    assert model.sample(5, condition=3).shape == (5, 8, 8, 1)
    sampled = model.sample(64, seed=0, condition=3).mean(0)
    mean = {c: digits.train.x[labels == c].mean(0) for c in (1, 3)}
    assert np.abs(sampled - mean[3]).mean() < 0.7 * np.abs(sampled - mean[1]).mean()


def test_a_condition_is_saved_with_the_model(digits, tmp_path):
    keras.utils.set_random_seed(0)
    names = np.array(["even", "odd"])[digits.train.labels % 2]
    model = VAE.for_data(digits, 2, network=dense([8]), condition=names)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    x, c = digits.test.x[:20], np.array(["odd"] * 20)
    np.testing.assert_array_equal(model.encode(x, condition=c), again.encode(x, condition=c))
    np.testing.assert_array_equal(
        model.reconstruct(x, condition=c), model.predict(x, verbose=0, condition=c)
    )


@pytest.mark.parametrize(
    "condition, words",
    [
        (np.array(["none"] * 200), "'none', which this model does not know"),
        (np.array([0] * 199), "199 values for 200"),
        (None, "without a condition"),
        (np.ma.masked_equal(np.arange(200) % 3, 2), "holds None"),
        ([None] * 200, "holds None"),
    ],
)
def test_a_wrong_condition_is_refused_in_one_sentence(condition, words):
    model = VAE.for_data(
        X, 2, network=dense([8]), likelihood=Normal(1.0), condition=np.arange(200) % 3
    )
    with pytest.raises(ValueError, match=words) as refused:
        model.fit(X, condition=condition, verbose=0)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
    with pytest.raises(ValueError, match="has no condition"):
        VAE.for_data(X, 2, network=dense([8]), likelihood=Normal(1.0)).fit(
            X, condition=condition if condition is not None else np.arange(200)
        )


def test_a_linear_conditional_model_reaches_its_closed_form():
    """x = 2 c + noise with known variance: log p(x|c) is a normal's, whatever z does."""
    rng = np.random.default_rng(0)
    c = rng.normal(size=4000).astype("float32")
    x = (2 * c[:, None] + rng.normal(size=(4000, 3))).astype("float32")
    keras.utils.set_random_seed(0)
    model = VAE.for_data(x, 1, network=dense([]), likelihood=Normal(1.0), condition=c)
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(x, epochs=20, batch_size=100, verbose=0, condition=c)
    exact = stats.norm(2 * c[:500, None], 1).logpdf(x[:500]).sum(1)
    found = model.log_likelihood(x[:500], 200, condition=c[:500])
    assert abs(found.mean() - exact.mean()) < 0.05


# ---- levels


def two_levels(k=None, objective=None):
    encoder = keras.Sequential([layers.Input((8,)), layers.Dense(16, "tanh")])
    decoder = keras.Sequential([layers.Input((3,)), layers.Dense(8)])
    below = Level(ConditionalNormal(()), DiagonalNormal(event_shape=(3,)))
    return VAE(
        encoder,
        decoder,
        latent_dim=2,
        likelihood=Normal(1.0),
        objective=objective or ELBO(),
        levels=[below],
    )


def test_two_levels_bound_the_likelihood_and_train(tmp_path):
    """x from a two-level linear Gaussian, so that log p(x) is that of one normal."""
    rng = np.random.default_rng(0)
    top = rng.normal(size=(4000, 2)) @ rng.normal(size=(2, 3))
    middle = top + 0.5 * rng.normal(size=(4000, 3))
    w = rng.normal(size=(3, 8))
    x = (middle @ w + rng.normal(size=(4000, 8))).astype("float32")
    keras.utils.set_random_seed(0)
    model = two_levels()
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(x, epochs=15, batch_size=100, verbose=0).history
    assert history["elbo"][-1] > history["elbo"][0] + 0.5
    exact = stats.multivariate_normal(np.zeros(8), np.cov(x.T)).logpdf(x[:300]).mean()
    found = model.log_likelihood(x[:300], 500).mean()
    elbo = np.mean([model.evaluate(x[:300], verbose=0, return_dict=True)["elbo"]])
    assert elbo < found < exact + 0.1 and exact - found < 0.5
    terms = model.run("pass_terms", x[:50], n_samples=4)
    assert terms["log_qz_x"].shape == terms["log_pz"].shape == (50, 4)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.reconstruct(x[:9]), model.reconstruct(x[:9]))
    assert model.sample(7, seed=1).shape == (7, 8) == model.sample(7, seed=1, mean=False).shape


def test_levels_weigh_all_their_densities():
    keras.utils.set_random_seed(1)
    model = two_levels()
    trace = model.trace(ops.convert_to_tensor(X[:4]), 3, keras.random.SeedGenerator(0))
    assert tuple(trace.log_weights.shape) == (4, 3) and len(trace.level_kl) == 2
    total = sum(ops.convert_to_numpy(kl) for kl in trace.level_kl)
    np.testing.assert_allclose(ops.convert_to_numpy(trace.kl), total, rtol=1e-6)


# ---- codes of any structure


class Quantised(Distribution):
    parameters = ("code", "nearest")

    def __init__(self, code, book):
        flat = ops.reshape(code, (-1, book.shape[-1]))
        square = ops.sum((flat[:, None] - book[None]) ** 2, axis=-1)
        index = ops.argmin(square, axis=-1)
        self.nearest = ops.reshape(ops.take(book, index, axis=0), ops.shape(code))
        self.code, axes = code, tuple(range(1, len(code.shape)))
        commitment = (code - ops.stop_gradient(self.nearest)) ** 2
        self.extra = ops.sum((ops.stop_gradient(code) - self.nearest) ** 2 + commitment, axis=axes)

    def sample(self, k, seed=None, temperature=1.0):
        through = self.code + ops.stop_gradient(self.nearest - self.code)
        return ops.repeat(through[:, None], k, axis=1)

    def log_prob(self, z):
        return ops.zeros(ops.shape(z)[:2])

    def mean(self):
        return self.nearest


class VectorQuantised(Codes):
    arguments = ("size",)

    def __init__(self, size=16, **kwargs):
        super().__init__(size=size, **kwargs)

    def add_parameters(self):
        shape = (self.size, self.event_shape[-1])
        self.book = self.add_weight(name="book", shape=shape, initializer="random_normal")
        self.head = layers.Dense(int(np.prod(self.event_shape)))

    def given(self, features, *context, training=False):
        code = ops.reshape(self.head(features), (-1, *self.event_shape))
        return Quantised(code, ops.convert_to_tensor(self.book))


class UniformTokens(Distribution):
    shared = True

    def __init__(self, nats):
        self.nats = nats

    def log_prob(self, z):
        return ops.zeros(ops.shape(z)[:2]) - self.nats


class Uniform(Codes):
    def given(self, *context, training=False):
        return UniformTokens(float(np.prod(self.event_shape[:-1]) * np.log(16)))


def test_a_map_of_quantised_codes(digits):
    keras.utils.set_random_seed(0)
    model = VAE.for_data(
        digits, (2, 2, 4), network=dense([64]), posterior=VectorQuantised(), prior=Uniform()
    )
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(digits.train.x, epochs=30, batch_size=64, verbose=0)  # 600 steps: in blocks
    codes = model.encode(digits.test.x)
    assert codes.shape == (len(digits.test), 2, 2, 4)
    assert len(np.unique(codes.reshape(-1, 4), axis=0)) <= 16
    terms = model.evaluate(digits.test.x, verbose=0, return_dict=True)
    assert np.isclose(terms["kl"], 4 * np.log(16), rtol=1e-5)
    constant = digits.binarized().test.x
    p = np.clip(constant.mean(0), 1e-3, 1 - 1e-3)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    assert terms["reconstruction"] > -entropy + 1  # the codes say something about x


# ---- an adversary, and labels that the objective sees


class Adversarial(ELBO):
    """Total correlation of the codes by a discriminator of z against z with permuted columns."""

    def connect(self, model):
        if not hasattr(self, "judge"):
            self.judge = keras.Sequential(
                [
                    layers.Input(model.code_shape),
                    layers.Dense(16, "relu", name="judge_hidden"),
                    layers.Dense(1, name="judge_out"),
                ]
            )

    def loss(self, trace, training=False):
        z = trace.z[:, 0]
        mixed = ops.stop_gradient(ops.stack([ops.roll(z[:, i], i) for i in range(z.shape[1])], -1))
        fooled = held(self.judge, z)[:, 0]
        seen = self.judge(ops.stop_gradient(z))[:, 0]
        judged = ops.softplus(-seen) + ops.softplus(self.judge(mixed)[:, 0])
        return super().loss(trace, training) + fooled + judged


def test_an_adversary_has_its_own_optimiser(digits):
    def trained(rate):
        keras.utils.set_random_seed(0)
        model = VAE.for_data(digits, 3, network=dense([16]), objective=Adversarial())
        own = keras.optimizers.OptimizerMap(keras.optimizers.Adam(1e-3))
        own[".*judge_.*"] = keras.optimizers.SGD(rate)
        model.compile(keras.optimizers.MultiOptimizer(own))
        before = [np.array(w) for w in model.objective.judge.get_weights()]
        model.fit(digits.train.x, epochs=25, batch_size=64, verbose=0)  # 500 steps: in blocks
        after = model.objective.judge.get_weights()
        return model, max(np.abs(a - b).max() for a, b in zip(before, after))

    assert trained(0.0)[1] == 0.0  # the model's optimiser never touches the judge
    assert trained(0.1)[1] > 0.01


def test_held_lets_gradients_pass_inputs_but_not_weights():
    layer = layers.Dense(1)
    layer.build((None, 2))
    z = np.ones((3, 2), "float32")

    def through(z):
        return ops.sum(held(layer, z))

    if BACKEND == "jax":
        import jax

        to_weights = jax.grad(
            lambda w: ops.sum(
                keras_stateless(layer, w, lambda: held(layer, ops.convert_to_tensor(z)))
            )
        )(layer.kernel.value)
        to_inputs = jax.grad(through)(ops.convert_to_tensor(z))
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            given = tf.constant(z)
            tape.watch(given)
            loss = through(given)
        to_weights, to_inputs = tape.gradient(loss, layer.kernel.value), tape.gradient(loss, given)
        to_weights = np.zeros(1) if to_weights is None else to_weights
    else:
        pytest.skip("gradients are taken by hand")
    assert not np.any(np.asarray(to_weights))
    np.testing.assert_allclose(
        np.asarray(to_inputs), np.tile(np.asarray(layer.kernel.value).T, (3, 1)), rtol=1e-6
    )


def keras_stateless(layer, kernel, function):
    with keras.StatelessScope(state_mapping=[(layer.kernel, kernel)]):
        return function()


class Labelled(ELBO):
    """The ELBO and a squared error of the first coordinate against the label."""

    def loss(self, trace, training=False):
        loss = super().loss(trace, training)
        if trace.target is None:
            return loss
        return loss + 50 * (trace.q.mean()[:, 0] - ops.cast(trace.target, "float32")) ** 2


def test_an_objective_sees_labels(digits):
    keras.utils.set_random_seed(0)
    y = (digits.train.labels >= 5).astype("float32") * 2 - 1
    model = VAE.for_data(digits, 2, network=dense([32]), objective=Labelled())
    model.fit(digits.train.x, target=y, epochs=25, batch_size=64, verbose=0)  # in blocks
    found = model.encode(digits.test.x)[:, 0] > 0
    assert np.mean(found == (digits.test.labels >= 5)) > 0.85


# ---- missing values


def test_nan_means_not_observed():
    """A linear Gaussian with half of the entries missing: log p(observed) is a marginal's."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(2, 6))
    full = (rng.normal(size=(3000, 2)) @ w + rng.normal(size=(3000, 6))).astype("float32")
    x = np.where(rng.random(full.shape) < 0.5, np.nan, full).astype("float32")
    x[np.isnan(x).all(1), 0] = 0.0
    keras.utils.set_random_seed(0)
    model = VAE.for_data(x, 2, network=dense([64]), likelihood=Normal(1.0), missing=True)
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(x, epochs=40, batch_size=100, verbose=0)
    covariance, exact = w.T @ w + np.eye(6), []
    for row in x[:300]:
        seen = np.isfinite(row)
        exact.append(
            stats.multivariate_normal(
                np.zeros(seen.sum()), covariance[np.ix_(seen, seen)], allow_singular=True
            ).logpdf(row[seen])
        )
    found = model.log_likelihood(x[:300], 200).mean()
    assert abs(found - np.mean(exact)) < 0.2
    assert np.isfinite(model.reconstruct(x[:20])).all()
    best = []  # the conditional means of the normal
    for row in x:
        gone, seen = np.isnan(row), np.isfinite(row)
        slope = covariance[np.ix_(gone, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
        best.append(slope @ row[seen])
    error = np.mean((model.reconstruct(x) - full)[np.isnan(x)] ** 2)
    least = np.mean((np.concatenate(best) - full[np.isnan(x)]) ** 2)
    assert least < error < 1.06 * least


def test_nan_is_refused_where_the_model_was_not_made_for_it():
    model = VAE.for_data(X, 2, network=dense([8]), likelihood=Normal(1.0))
    x = X.copy()
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="first in example 3.*missing=True"):
        model.fit(x, verbose=0)


# ---- what the ladder hid


def test_training_reaches_every_network():
    """1: with rate 0, dropout makes the training loss differ from the evaluation's."""
    for kind in ("encoder", "decoder"):
        for model in (VAE, Autoencoder):
            keras.utils.set_random_seed(0)
            drop = layers.Dropout(0.9)
            norm = layers.BatchNormalization()
            encoder, decoder = pair()
            extra = [layers.Input((8,)), layers.Dense(8, "tanh"), drop, norm]
            if kind == "encoder":
                encoder = keras.Sequential(extra)
            else:
                extra[0] = layers.Input((2,))
                decoder = keras.Sequential([*extra, layers.Dense(8)])
            if model is VAE:
                made = VAE(encoder, decoder, latent_dim=2, likelihood=Normal(1.0))
            else:
                made = Autoencoder(8, 2, network=(encoder, decoder))
            made.compile(keras.optimizers.SGD(0.0))
            before = np.array(norm.moving_mean.value)
            train = made.fit(X, epochs=1, batch_size=200, verbose=0).history["loss"][0]
            moved = np.abs(np.array(norm.moving_mean.value) - before).max()
            assert moved > 1e-4, (kind, model)
            assert abs(train - made.evaluate(X, verbose=0, return_dict=True)["loss"]) > 1e-3


@pytest.mark.parametrize(
    "likelihood, activation, loss, words",
    [
        (Bernoulli(binarize=True), None, "binary_crossentropy", None),
        (None, "sigmoid", "binary_crossentropy", None),
        (None, None, "binary_crossentropy", None),
        (None, None, keras.losses.BinaryCrossentropy(from_logits=True), None),
    ],
)
def test_an_activation_is_applied_once(likelihood, activation, loss, words):
    """2 and S4: the same data, four ways to ask for it, the same cross-entropy."""
    x = (X > 0.5).astype("float32")
    keras.utils.set_random_seed(0)
    network = pair(32, 8, activation)
    model = Autoencoder(8, 8, network=network, likelihood=likelihood)
    model.compile(keras.optimizers.Adam(0.01), loss)
    history = model.fit(x, x, epochs=80, batch_size=50, verbose=0).history
    assert history["loss"][-1] < 0.2  # twice a sigmoid stays above .5


def test_a_decoder_that_ends_in_a_sigmoid_is_refused_by_a_vae():
    encoder, decoder = pair(activation="sigmoid")
    with pytest.raises(ValueError, match="ends in sigmoid"):
        VAE(encoder, decoder, latent_dim=2, likelihood=Bernoulli())


def test_an_activation_is_found_however_it_is_written():
    """S4: a layer, an Activation, a function of Keras, behind a reshaping; and from_logits."""
    encoder, _ = pair()

    def decoder(end):
        code = keras.Input((2,))
        return keras.Model(code, end(layers.Dense(8)(code)))

    ends = [
        layers.Activation("sigmoid"),
        keras.activations.sigmoid,
        lambda h: ops.reshape(ops.sigmoid(h), (-1, 8)),
        lambda h: layers.Reshape((8,))(keras.Sequential([layers.Activation("sigmoid")])(h)),
    ]
    for end in ends:
        with pytest.raises(ValueError, match="ends in sigmoid"):
            VAE(encoder, decoder(end), latent_dim=2, likelihood=Bernoulli())
        made = Autoencoder(8, 2, network=(encoder, decoder(end)))
        for kind in (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy):
            with pytest.raises(ValueError, match="leave from_logits out"):
                made.compile("sgd", kind(from_logits=True))
            made.compile("sgd", kind())
        assert made.output_activation == "auto"
    made = Autoencoder(8, 2, network=(encoder, decoder(lambda h: h)))
    made.compile("sgd", "binary_focal_crossentropy")
    assert made.output_activation == "sigmoid"


def test_contraction_shares_its_masks():
    """3: of a linear encoder behind dropout, E||J||^2 over masks is |W|^2 / keep."""
    keras.utils.set_random_seed(0)
    drop = layers.Dropout(0.5)
    encoder = keras.Sequential([layers.Input((8,)), drop, layers.Dense(8, use_bias=False)])
    _, decoder = pair()
    model = Autoencoder(8, 2, network=(encoder, decoder), contraction=1.0)
    w = encoder.layers[-1].kernel.value @ model.bottleneck.head.kernel.value
    exact = float(np.sum(ops.convert_to_numpy(w) ** 2) / 0.5)
    fields = model.split(ops.convert_to_tensor(np.repeat(X, 50, axis=0)), training=True)
    noise = keras.random.normal((10_000, 8), seed=keras.random.SeedGenerator(1))
    found = []
    for _ in range(20):
        model.encoder(fields["x"], training=True)  # the next masks
        found.append(float(ops.mean(model.contraction(fields, noise, True))))
    assert abs(np.mean(found) / exact - 1) < 0.05


class Own(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.layer = layers.Dense(width)

    def call(self, x):
        return self.layer(x)


def test_subclassed_networks_are_taken_at_once():
    """4"""
    model = VAE(Own(8), Own(8), latent_dim=2, likelihood=Normal(1.0))
    model.fit(X, epochs=1, verbose=0)
    assert model.encode(X[:5]).shape == (5, 2)


def test_validation_uses_the_final_weight_and_the_warmup_goes_on(tmp_path):
    """5 and S6"""
    keras.utils.set_random_seed(0)
    model = VAE(*pair(), latent_dim=2, likelihood=Normal(1.0), objective=ELBO(warmup=10))
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(X, epochs=2, validation_data=(X,), verbose=0).history
    for i in range(2):
        expected = history["val_kl"][i] - history["val_reconstruction"][i]
        assert np.isclose(history["val_loss"][i], expected, rtol=1e-5)
    weights = []
    for _ in range(4):
        model.fit(X, epochs=1, verbose=0)
        weights.append(float(np.asarray(model.objective.kl_weight.value)))
    np.testing.assert_allclose(weights, [0.3, 0.4, 0.5, 0.6], rtol=1e-6)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    again.fit(X, epochs=1, verbose=0)
    assert np.isclose(float(np.asarray(again.objective.kl_weight.value)), 0.7)
    again.fit(X, initial_epoch=1, epochs=2, verbose=0)
    assert np.isclose(float(np.asarray(again.objective.kl_weight.value)), 0.2)
    held_at = VAE(
        *pair(), latent_dim=2, likelihood=Normal(1.0), objective=Capacity(10.0, warmup=10)
    )
    for _ in range(12):
        held_at.fit(X, epochs=1, verbose=0)
    assert np.isclose(float(np.asarray(held_at.objective.target.value)), 10.0)


def test_an_overridden_step_never_sees_a_block():
    """6"""
    seen = []

    class Watched(VAE):
        def train_step(self, *args):
            seen.append(keras.utils.unpack_x_y_sample_weight(args[-1])[0])
            return super().train_step(*args)

    class Batchwise(VAE):
        def batch_step(self, *args):
            seen.append(keras.utils.unpack_x_y_sample_weight(args[-1])[0])
            return super().batch_step(*args)

    for model in (Watched, Batchwise):
        seen.clear()
        made = model(*pair(), latent_dim=2, likelihood=Normal(1.0))
        made.fit(X, batch_size=20, epochs=45, verbose=0)  # 450 steps
        assert seen and all(not isinstance(x, dict) for x in seen)
        assert all(tuple(x.shape) in ((20, 8), (None, 8)) for x in seen)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_replicas_share_one_loss():
    """7 and S5: two replicas make the step of one."""
    code = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np
from vaenb import VAE, Normal, dense
X = np.random.default_rng(0).random((200, 8)).astype("float32")
found = []
for replicas in (1, 2):
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = VAE.for_data(X, 2, network=dense([8]), likelihood=Normal(1.0))
        model.posterior.heads.kernel.assign(0 * model.posterior.heads.kernel)
        model.posterior.heads.bias.assign(np.array([0, 0, -60, -60], "float32"))
        model.compile(keras.optimizers.SGD(0.01))
        loss = model.fit(X, epochs=1, batch_size=200, shuffle=False, verbose=0).history["loss"][0]
    found.append((loss, model.decoder.get_weights()[-1]))
    long = model.fit(X, epochs=401, batch_size=200, verbose=0).history["loss"]
    assert np.isfinite(long).all()
assert np.isclose(found[0][0], found[1][0], rtol=1e-4), found
assert np.allclose(found[0][1], found[1][1], atol=1e-5), found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_weights_count_in_every_shape_and_place():
    """8 and S2"""
    keras.utils.set_random_seed(0)
    model = Autoencoder(8, 2, network=pair())
    model.compile(keras.optimizers.SGD(0.0))
    each = np.array(
        [model.evaluate(X[i : i + 1], verbose=0, return_dict=True)["loss"] for i in range(20)]
    )
    w = np.linspace(0, 3, 20).astype("float32")
    right = float(np.mean(w * each))
    for weight in (w, w[:, None]):
        found = model.evaluate(X[:20], sample_weight=weight, verbose=0, return_dict=True)["loss"]
        assert np.isclose(found, right, rtol=1e-4)
        fitted = model.fit(X[:20], sample_weight=weight, batch_size=20, verbose=0).history["loss"]
        assert np.isclose(fitted[0], right, rtol=1e-4)
    history = model.fit(X[:20], validation_data=(X[:20], X[:20], w), verbose=0).history
    assert np.isclose(history["val_loss"][0], right, rtol=1e-4)


class Wide(StandardNormal):
    def given(self, *context, training=False):
        zeros = ops.zeros((1, *self.event_shape))
        return IndependentNormal(zeros, zeros + float(np.log(4)))


class Shifted(UnitNormal):
    def log_prob(self, z):
        return super().log_prob(z - 1)


def test_a_subclass_does_not_inherit_a_closed_form():
    """9: KL(N(m, s^2) || N(0, 4))."""
    mu, logvar = np.array([[0.3, -0.2]], "float32"), np.array([[-1.0, 0.1]], "float32")
    q = IndependentNormal(ops.convert_to_tensor(mu), ops.convert_to_tensor(logvar))
    p = Wide(event_shape=(2,)).given()
    right = 0.5 * (np.exp(logvar) / 4 + mu**2 / 4 - 1 - logvar + np.log(4)).sum()
    assert np.isclose(float(kl_divergence(q, p)[0]), right, rtol=1e-5)
    assert (
        kl_divergence(q, Shifted((2,))) is None and kl_divergence(q, UnitNormal((2,))) is not None
    )


@pytest.mark.parametrize("kind", [InfoVAE, WAE])
def test_objectives_keep_their_arguments(kind):
    """10"""
    made = kind(kl="sampled", n_samples=3, warmup=2, cycle=5)
    again = kind.from_config(made.get_config())
    assert (again.kl, again.n_samples, again.warmup, again.cycle) == ("sampled", 3, 2, 5)


def test_losses_of_layers_count_once_and_pseudo_inputs_leave_no_trace():
    """11"""
    keras.utils.set_random_seed(0)
    for made in ("contraction", "vamp"):
        norm = layers.BatchNormalization(momentum=0.0)
        hidden = layers.Dense(8, activity_regularizer=keras.regularizers.L2(1.0))
        encoder = keras.Sequential([layers.Input((8,)), norm, hidden])
        _, decoder = pair()
        if made == "vamp":
            prior = VampPrior(5)
            model = VAE(encoder, decoder, latent_dim=2, likelihood=Normal(1.0), prior=prior)
        else:
            model = Autoencoder(8, 2, network=(encoder, decoder), contraction=1.0)
        model.compile(keras.optimizers.SGD(0.0))
        train = model.fit(X, epochs=1, batch_size=200, shuffle=False, verbose=0).history
        np.testing.assert_allclose(np.asarray(norm.moving_mean.value), X.mean(0), atol=1e-5)
        h = ops.convert_to_numpy(encoder(X, training=True))
        activity = float(np.sum(h**2) / 200)
        own = train["penalty"][0] - train["reconstruction"][0] if made == "contraction" else None
        if own is not None:
            assert np.isclose(train["loss"][0] - own, activity, rtol=1e-3)
        else:
            assert np.isclose(train["loss"][0] + train["elbo"][0], activity, rtol=1e-3)


def test_compile_forgets_what_was_compiled():
    """12"""
    keras.utils.set_random_seed(0)
    model = Autoencoder(8, 2, network=pair())
    before = model.reconstruct(X)
    model.compile("adam", "binary_crossentropy")
    after = model.reconstruct(X)
    assert np.abs(before - after).max() > 1e-3 and after.min() >= 0 and after.max() <= 1
    np.testing.assert_allclose(after, model.predict(X, verbose=0), atol=1e-6)


def test_small_ones():
    """13"""
    from vaenb.block import multiplications
    from vaenb.distribution import poisson_log_prob

    class Kernel(layers.Layer):
        def __init__(self):
            super().__init__()
            self.kernel = "rbf"

        def call(self, x):
            return x

    assert multiplications(keras.Sequential([layers.Input((2,)), Kernel(), layers.Dense(3)])) == 6
    model = VAE(*pair(), latent_dim=2, likelihood=Normal(1.0), objective=BetaTC())
    model.fit(X, validation_split=0.5, epochs=1, verbose=0)
    assert float(np.asarray(model.objective.size.value)) == 100
    stop = keras.callbacks.EarlyStopping("val_elbo", patience=1)
    model.fit(X, validation_data=(X,), epochs=1, verbose=0, callbacks=[stop])
    x = np.array([0.0, 3.0, 21.0, 1e3, 1e5], "float32")[:, None]
    for rate in (0.5, 25.0, 1e3, 1e5):
        found = np.asarray(poisson_log_prob(x, np.log(np.float32(rate))))
        right = stats.poisson(np.exp(np.float64(np.log(np.float32(rate))))).logpmf(x[:, 0])
        np.testing.assert_allclose(found, right, rtol=2e-6, atol=2e-3)
    model.compile("adam", steps_per_execution=4)
    if BACKEND != "torch":
        stream = (X[:20] for _ in range(16))
        model.fit(stream, steps_per_epoch=16, epochs=1, verbose=0)
        assert model.steps_per_execution == 4


class Batches(keras.utils.PyDataset):
    """The first 60 examples of X in order, twenty at a time."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[20 * i : 20 * i + 20]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("how", ["eager", "uncompiled", "compiled"])
@pytest.mark.parametrize("source", ["arrays", "stream"])
def test_every_way_to_run_steps_takes_the_same_steps(source, how, steps):
    """Three steps are three updates: at learning rate 0 the weights stay, and the loss agrees."""
    if BACKEND == "torch" and how == "compiled":
        pytest.skip("compilation on PyTorch needs a compiler of C++")
    if BACKEND == "torch" and steps > 1:
        pytest.skip("Keras takes one step at a time on PyTorch")
    made = Autoencoder(8, 2, network=pair())
    made.compile(
        keras.optimizers.SGD(0.0),
        jit_compile=how == "compiled",
        run_eagerly=how == "eager",
        steps_per_execution=steps,
    )
    if source == "arrays":
        history = made.fit(X[:60], batch_size=20, shuffle=False, epochs=2, verbose=0).history
    else:
        history = made.fit(Batches(), epochs=2, verbose=0).history
    right = made.evaluate(X[:60], verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(history["loss"], [right] * 2, rtol=1e-5)
    assert int(made.optimizer.iterations) == 6


def unused(input_shape, latent_dim, output_shape):
    """A pair whose encoder has layers that no call reaches, with and without weights."""

    class Encoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = keras.layers.Dense(3)
            self.never, self.flat = keras.layers.Dense(5), keras.layers.Flatten()

        def call(self, x):
            return self.used(x)

    z = keras.layers.Input((latent_dim,))
    return Encoder(), keras.Model(z, keras.layers.Dense(output_shape[0])(z))


@pytest.mark.parametrize(
    ("made", "x"),
    [
        (lambda x: recipe("vq-vae", x), None),
        (lambda x: Autoencoder(8, 2, network=unused, likelihood=Normal(1.0)), X),
    ],
    ids=["vq-vae", "unused layers"],
)
def test_blocks_need_no_layer_that_is_not_called(made, x, digits):
    """On JAX Keras called the model on the block itself, and said that it cannot be built."""
    x = digits.train.x[:100] if x is None else x[:100]
    model = made(x)
    model.compile("adam", steps_per_execution=2)
    assert len(model.fit(x, batch_size=10, epochs=2, verbose=0).history["loss"]) == 2
    assert int(model.optimizer.iterations) == 20


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("tied", lambda: recipe("topk-sae", X, tied="no")),
        ("told", lambda: recipe("gm-vae", X, told="no")),
        ("binarize", lambda: Bernoulli(binarize="false")),
        ("missing", lambda: VAE.for_data(X, 2, network=dense([8]), missing=None)),
    ],
)
def test_a_flag_is_true_or_false(name, make):
    """Text was taken for True: `--set tied=no` tied the weights."""
    with pytest.raises(ValueError, match=f"{name} is .*, but it must be True or False"):
        make()


# ---- streams, and the arguments of Keras


def test_a_stream_is_checked_as_arrays_are(digits):
    """S3"""

    class Bytes(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return 255 * digits.train.x[20 * i : 20 * i + 20]

    model = VAE.for_data(digits, 2, network=dense([8]))
    with pytest.raises(ValueError, match="support"):
        model.fit(Bytes(), verbose=0)
    bad = X.copy()
    bad[150, 2] = np.nan
    normal = VAE.for_data(X, 2, network=dense([8]), likelihood=Normal(1.0))
    with pytest.raises(Exception, match="NaN"):
        normal.fit((bad[i : i + 50] for i in range(0, 200, 50)), verbose=0)
    with pytest.raises(ValueError, match="differs from x"):
        normal.fit(((X[:50], 1 - X[:50]) for _ in range(3)), verbose=0)
    if BACKEND != "torch" and importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        with pytest.raises(ValueError, match="NaN"):
            normal.fit(tf.data.Dataset.from_tensor_slices(bad[150:]).batch(50), verbose=0)
        right = tf.data.Dataset.from_tensor_slices(X).batch(50)
        assert np.isfinite(normal.fit(right, epochs=2, verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    "stream, words",
    [
        (lambda: (x for x in ()), "the stream is empty"),
        (lambda: (X[i : i + 50].tolist() for i in range(0, 200, 50)), "a list of 50 parts"),
        (lambda: (X[i : i + 50, : 8 - i // 150] for i in range(0, 200, 50)), r"shape \(7,\)"),
        (lambda: (X[:50] / (i < 2) for i in range(4)), "NaN or infinite"),
        (lambda: ((X[:50], X[:50], np.ones(5)) for _ in range(4)), "a weight of the stream"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*divide by zero", "ignore:.*shuffle=True")
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_a_refused_stream_says_so_in_one_sentence(method, stream, words):
    """S3: also where a later batch is refused, inside the graph of a backend."""
    model = VAE(*pair(), latent_dim=2, likelihood=Normal(1.0))
    model.compile("sgd")
    with pytest.raises(ValueError, match=words) as refused:
        getattr(model, method)(stream(), verbose=0)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_weights_survive_an_evaluation_that_is_interrupted():
    """S3: Keras on JAX takes the weights out of the model while it evaluates."""
    model = VAE(*pair(), latent_dim=2, likelihood=Normal(1.0))
    model.compile("sgd")
    before = [model.get_weights(), model.encode(X[:9])]

    class Stop(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

        on_predict_batch_end = on_test_batch_end

    for method in (model.evaluate, model.predict):
        with pytest.raises(KeyboardInterrupt):
            method(X, batch_size=20, callbacks=[Stop()], verbose=0)
        for found, right in zip([model.get_weights(), model.encode(X[:9])], before):
            for a, b in zip(found, right):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda m: m.compile(metrics=["mae"]), "metrics"),
        (lambda m: m.compile(weighted_metrics=["mae"]), "weighted_metrics"),
        (lambda m: m.compile(loss_weights=[1.0]), "loss_weights"),
        (lambda m: m.fit(X, class_weight={0: 1.0, 1: 5.0}), "class_weight"),
        (lambda m: m.fit(X, np.arange(200)), "condition="),
        (lambda m: m.fit("data.csv"), "str"),
        (lambda m: m.save("m.h5"), ".keras"),
        (lambda m: m.sample(0), "at least 1"),
        (lambda m: m.sample(2, seed=-1), "seed"),
        (lambda m: m.sample(2, sampler="gmm"), "a fitted sampler"),
        (lambda m: m.log_likelihood(X, 2, seed="a"), "seed is 'a'"),
        (lambda m: m.fit(X, batch_size=0), "batch_size is 0"),
        (lambda m: m.evaluate(X, batch_size=2.5), "batch_size is 2.5"),
        (lambda m: m.predict(X, batch_size=0), "batch_size is 0"),
        (lambda m: m.fit(X, epochs="3"), "epochs is '3'"),
        (lambda m: m.fit(X, validation_split=-0.1), "validation_split is -0.1"),
        (lambda m: m.fit(X, callbacks={"early": 1}), "list of Keras callbacks"),
        (lambda m: m.fit(X, sample_weight=np.full(200, np.nan)), "finite numbers"),
        (lambda m: m.fit(X, sample_weight="balanced"), "finite numbers"),
        (lambda m: m.fit(data.from_arrays(X)), "pass its train.x"),
        (lambda m: m.encode(X.astype(str)), "a model needs numbers"),
        (lambda m: m.encode(X * 1j), "a model needs numbers"),
        (lambda m: m.fit([[1.0, 2.0], [3.0]]), "differ in length or shape"),
        (lambda m: m.fit(np.ma.masked_greater(X, 0.9)), "NaN"),
        (lambda m: VAE.for_data(X, 2, likelihood="normal"), "a part such as Normal"),
        (lambda m: VAE(*pair(), latent_dim=2, prior="normal"), "a part such as StandardNormal"),
        (lambda m: VAE(*pair(), latent_dim=2, objective=ELBO), "a part such as ELBO"),
        (lambda m: VAE.for_data(np.ma.masked_greater(X, 0.9), 2), "NaN"),
        (lambda m: VAE.for_data("digits", 2), "a model needs numbers"),
        (lambda m: VAE.for_data([[1.0, 2.0], [3.0]], 2), "differ in length or shape"),
    ],
)
def test_what_has_no_meaning_is_refused_at_the_call(call, words):
    """S2, S7, L1, L2, L3"""
    model = VAE(*pair(), latent_dim=2, likelihood=Normal(1.0))
    with pytest.raises((ValueError, TypeError), match=words) as refused:
        call(model)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_keras_arguments_do_what_keras_documents():
    """S2"""
    keras.utils.set_random_seed(0)
    model = VAE(*pair(), latent_dim=2, likelihood=Normal(1.0))
    model.compile("sgd", run_eagerly=True)
    assert np.isfinite(model.fit(X[:40], verbose=0).history["loss"]).all()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.compile("sgd", "mse")
    assert any("loss given to compile is not used" in str(w.message) for w in caught)
    history = model.fit(
        X,
        epochs=3,
        initial_epoch=1,
        steps_per_epoch=2,
        batch_size=50,
        validation_split=0.25,
        validation_freq=2,
        validation_batch_size=25,
        validation_steps=1,
        verbose=0,
    )
    assert history.epoch == [1, 2] and len(history.history["val_loss"]) == 1
    assert isinstance(model.train_on_batch(X[:10], return_dict=True)["loss"], (float, np.floating))
    assert model.predict_on_batch(X[:10]).shape == (10, 8)
    ae = Autoencoder(8, 2, network=pair())
    ae.compile("sgd", "mse", metrics=["mae"])
    found = ae.evaluate(X, X, verbose=0, return_dict=True)
    out = ae.predict(X, verbose=0)
    assert np.isclose(found["mae"], np.abs(out - X).mean(), rtol=1e-4)
    assert np.isclose(found["loss"], ((out - X) ** 2).mean(), rtol=1e-4)


def test_numbers_of_numpy_are_numbers():
    """L1"""
    model = VAE(*pair(), latent_dim=2, likelihood=Normal(1.0))
    model.fit(X, batch_size=np.int64(100), epochs=np.int64(1), verbose=0)
    right = model.sample(3, seed=1, temperature=0.5)
    for seed in (np.int64(1), np.uint8(1)):
        found = model.sample(np.int32(3), seed=seed, temperature=np.float32(0.5))
        np.testing.assert_array_equal(found, right)


def test_tables_and_sparse_matrices_are_read_as_data_are():
    """S7 and L3: whatever holds the same numbers is the same example."""
    sparse = pytest.importorskip("scipy.sparse")
    x = np.where(X < 0.7, 0, X)
    hidden = np.ma.masked_equal(x, 0)
    model = VAE.for_data(sparse.csr_matrix(x), 2, network=dense([8]), likelihood=Normal(1.0))
    model.compile(keras.optimizers.SGD(0.0))
    right = model.evaluate(x, verbose=0, return_dict=True)["loss"]
    same = [sparse.csr_matrix(x), sparse.coo_array(x), x.tolist(), x.astype(object)]
    for given in same:
        np.testing.assert_array_equal(model.encode(given), model.encode(x))
        found = model.evaluate(given, given, verbose=0, return_dict=True)["loss"]
        assert np.isclose(found, right, rtol=1e-6)
    history = model.fit(same[0], batch_size=200, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    known = {"network": dense([8]), "likelihood": Normal(1.0), "missing": True}
    keras.utils.set_random_seed(0)
    gaps = VAE.for_data(hidden, 2, **known)
    keras.utils.set_random_seed(0)
    nan = VAE.for_data(hidden.filled(np.nan), 2, **known)
    for a, b in zip(gaps.get_weights(), nan.get_weights()):  # the first output: observed means
        np.testing.assert_array_equal(a, b)


def test_samples_of_the_likelihood_have_its_spread():
    """L5"""
    keras.utils.set_random_seed(0)
    model = VAE(*pair(), latent_dim=2, likelihood=Normal(2.0))
    model.build((None, 8))
    means, draws = model.sample(4000, seed=0), model.sample(4000, seed=0, mean=False)
    assert abs((draws - means).std() - 2) < 0.05


def test_encode_takes_grey_values_as_they_are(digits):
    """S9"""
    model = VAE.for_data(digits, 2, network=dense([8]))
    x = digits.test.x[:30]
    np.testing.assert_array_equal(model.encode(x), model.posterior_params(x)["mu"])
    np.testing.assert_allclose(model.encode(x[7:8])[0], model.encode(x)[7], atol=1e-6)
    np.testing.assert_allclose(model.reconstruct(x), model.predict(x, verbose=0), atol=1e-6)


def test_protocols_refuse_in_a_sentence():
    with pytest.raises(NotImplementedError, match="given"):
        Conditional().given()
    assert issubclass(VAE, LatentModel)
