"""Training and evaluation throughput of vaenb, in one run on one machine, against what else there
is.

    # all of it, with pythae in a virtual environment of its own
    make bench
    # every backend that is installed, without pythae
    python benchmarks/throughput.py
    # and pythae, run by that Python
    python benchmarks/throughput.py --pythae build/pythae/bin/python
    # one part, in a file of its own; --help names them
    python benchmarks/throughput.py --only dense --out mine.json

Compared are vaenb; a loop written by hand on the same backend (JAX: an epoch is one compiled scan
over data on the device; TensorFlow: the faster of a compiled step and a compiled loop over an
epoch); the plain Keras example's approach (a `Sampling` layer, a loss, `fit`); and pythae's own
trainer. Every contestant lives in a process of its own and waits for its turn; the turns go round,
so that a disturbance of the machine hits all of them. `--processes 3` repeats all of it in new
processes. What counts is the ratio of medians. Results
go to vaenb/records/throughput.json."""

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

IMAGES = 400  # of a log-likelihood
RESULT = Path(__file__).parent.parent / "vaenb" / "records" / "throughput.json"
NETS = {  # hidden layers, activation, code, importance samples
    "dense": dict(hidden=(512,), act="relu", d=16, k=1),
    "iwae-1": dict(hidden=(200, 200), act="tanh", d=50, k=1),
    "iwae-50": dict(hidden=(200, 200), act="tanh", d=50, k=50),
    "conv": dict(filters=(32, 64), act="relu", d=16, k=1),
}
PARTS = [*NETS, "likelihood", "growth", "starts", "notebooks"]


def images(n):
    "Binary images with the density of ink of MNIST; what they show does not matter for time."
    return (np.random.default_rng(0).random((n, 28, 28, 1)) < 0.13).astype("float32")


# Epochs of a turn: what a training does once, such as copying the images to the device, is to
# weigh no more than in a short training.
EPOCHS = {"dense": 6, "iwae-1": 6, "iwae-50": 2, "conv": 6}


def examples(net, batch):
    "Examples in an epoch: up to a second of work, and whole batches."
    rough = {"dense": 32000, "iwae-1": 32000, "iwae-50": 2400, "conv": 1600}[net] * (
        0.4 if batch < 100 else 1
    )
    return max(4 if batch < 1000 else 2, round(rough / batch)) * batch


# ---- the networks by hand ------------------------------------------------------------


def weights(net, seed=0):
    """Glorot uniform kernels and zero biases, a list of pairs: encoder, then decoder."""
    rng, spec = np.random.default_rng(seed), NETS[net]

    def glorot(*shape):
        field = int(np.prod(shape[:-2]))
        return (rng.uniform(-1, 1, shape) * np.sqrt(6 / (field * (shape[-2] + shape[-1])))).astype(
            "float32"
        )

    if net == "conv":
        shapes = [
            (3, 3, 1, 32),
            (3, 3, 32, 64),
            (7 * 7 * 64, 2 * spec["d"]),
            (spec["d"], 7 * 7 * 64),
            (3, 3, 64, 64),
            (3, 3, 32, 64),
            (3, 3, 32, 1),
        ]
        widths = [32, 64, 2 * spec["d"], 7 * 7 * 64, 64, 32, 1]
    else:
        h = spec["hidden"]
        shapes = [
            *zip((784, *h), (*h, 2 * spec["d"])),
            *zip((spec["d"], *h[::-1]), (*h[::-1], 784)),
        ]
        widths = [m for _, m in shapes]
    return [(glorot(*shape), np.zeros(width, "float32")) for shape, width in zip(shapes, widths)]


def hand_functions(net, o):
    """encode(p, x) -> (mu, logvar) and decode(p, z) -> logits, in the functions `o` of a
    backend."""
    spec, act = NETS[net], getattr(o, NETS[net]["act"])
    if net == "conv":

        def encode(p, x):
            h = act(o.conv(x, p[0][0], 2) + p[0][1])
            h = act(o.conv(h, p[1][0], 2) + p[1][1])
            return o.halves(o.reshape(h, (-1, 7 * 7 * 64)) @ p[2][0] + p[2][1])

        def decode(p, z):
            h = o.reshape(act(z @ p[3][0] + p[3][1]), (-1, 7, 7, 64))
            h = act(o.up(h, p[4][0]) + p[4][1])
            h = act(o.up(h, p[5][0]) + p[5][1])
            return o.reshape(o.conv(h, p[6][0], 1) + p[6][1], (-1, 784))

        return encode, decode
    half = len(spec["hidden"]) + 1

    def mlp(layers, x):
        for w, b in layers[:-1]:
            x = act(x @ w + b)
        return x @ layers[-1][0] + layers[-1][1]

    return lambda p, x: o.halves(mlp(p[:half], o.reshape(x, (-1, 784)))), lambda p, z: mlp(
        p[half:], z
    )


def hand_log_weights(net, o):
    """log p(x, z) - log q(z|x) for k draws, (n, k), and the KL in closed form."""
    encode, decode = hand_functions(net, o)

    def log_weights(p, x, key, k):
        mu, logvar = encode(p, x)
        eps = o.normal(key, (x.shape[0], k, NETS[net]["d"]))
        z = mu[:, None] + o.exp(0.5 * logvar)[:, None] * eps
        logits = o.reshape(decode(p, o.reshape(z, (-1, NETS[net]["d"]))), (-1, k, 784))
        log_px_z = o.sum(o.reshape(x, (-1, 1, 784)) * logits - o.softplus(logits), 2)
        return (
            log_px_z + 0.5 * o.sum(logvar[:, None] + eps**2 - z**2, 2),
            log_px_z,
            0.5 * o.sum(o.exp(logvar) + mu**2 - 1 - logvar, 1),
        )

    return log_weights


def hand_loss(net, o):
    """The ELBO's loss with the KL in closed form, or for k > 1 that of IWAE."""
    log_weights, k = hand_log_weights(net, o), NETS[net]["k"]

    def loss(p, x, key):
        log_w, log_px_z, kl = log_weights(p, x, key, k)
        return o.mean(kl - log_px_z[:, 0]) if k == 1 else np.log(k) - o.mean(o.logsumexp(log_w, 1))

    return loss


def jax_functions():
    from types import SimpleNamespace

    import jax
    import jax.numpy as jnp

    dims = ("NHWC", "HWIO", "NHWC")
    return SimpleNamespace(
        relu=jax.nn.relu,
        tanh=jnp.tanh,
        exp=jnp.exp,
        sum=jnp.sum,
        mean=jnp.mean,
        softplus=jax.nn.softplus,
        logsumexp=jax.nn.logsumexp,
        reshape=jnp.reshape,
        halves=lambda a: jnp.split(a, 2, 1),
        normal=jax.random.normal,
        conv=lambda x, w, s: jax.lax.conv_general_dilated(
            x, w, (s, s), "SAME", dimension_numbers=dims
        ),
        up=lambda x, w: jax.lax.conv_transpose(
            x, jnp.swapaxes(w, 2, 3), (2, 2), "SAME", dimension_numbers=dims
        ),
    )


def tensorflow_functions():
    from types import SimpleNamespace

    import tensorflow as tf

    return SimpleNamespace(
        relu=tf.nn.relu,
        tanh=tf.tanh,
        exp=tf.exp,
        sum=tf.reduce_sum,
        mean=tf.reduce_mean,
        softplus=tf.nn.softplus,
        logsumexp=tf.reduce_logsumexp,
        reshape=tf.reshape,
        halves=lambda a: tf.split(a, 2, 1),
        normal=lambda key, shape: tf.random.normal(shape),
        conv=lambda x, w, s: tf.nn.conv2d(x, w, s, "SAME"),
        up=lambda x, w: tf.nn.conv2d_transpose(
            x, w, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], w.shape[2]), 2, "SAME"
        ),
    )


def hand_jax(net, x, batch):
    """An epoch as one compiled scan over data that stay on the device, and for convolutions, which
    XLA makes slow in loops on processors, as calls of a compiled step."""
    import jax
    import jax.numpy as jnp

    loss, tree = hand_loss(net, jax_functions()), jax.tree.map

    def step(state, rows):
        p, m, v, count, key, data = state
        key, noise = jax.random.split(key)
        value, grads = jax.value_and_grad(loss)(p, data[rows], noise)
        count = count + 1
        m, v = (
            tree(lambda a, g: 0.9 * a + 0.1 * g, m, grads),
            tree(lambda a, g: 0.999 * a + 0.001 * g * g, v, grads),
        )
        rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        return (
            tree(lambda w, a, b: w - rate * a / (jnp.sqrt(b) + 1e-7), p, m, v),
            m,
            v,
            count,
            key,
            data,
        ), value

    def contestant(scan):
        run = jax.jit(
            (lambda state, order: jax.lax.scan(step, state, order)) if scan else step,
            donate_argnums=0,
        )
        p, rng = tree(jnp.asarray, weights(net)), np.random.default_rng(0)
        box = [
            (
                p,
                tree(jnp.zeros_like, p),
                tree(jnp.zeros_like, p),
                jnp.float32(0),
                jax.random.key(0),
                jnp.asarray(x),
            )
        ]

        def epochs(n):
            for _ in range(n):
                order = rng.permutation(len(x)).reshape(-1, batch).astype("int32")
                for some in [order] if scan else order:
                    box[0], loss = run(box[0], some)
            return float(loss.ravel()[-1])

        return epochs

    return {"hand steps" if net == "conv" else "hand scan": contestant(net != "conv")}


def hand_tensorflow(net, x, batch):
    """An epoch as calls of a compiled step, and as one compiled loop; with XLA or without, where
    that may be the fastest."""
    import tensorflow as tf

    def contestant(loop, xla):
        p = [tuple(tf.Variable(a) for a in pair) for pair in weights(net)]
        flat, loss = tf.nest.flatten(p), hand_loss(net, tensorflow_functions())
        moments, count = (
            [(tf.Variable(tf.zeros_like(w)), tf.Variable(tf.zeros_like(w))) for w in flat],
            tf.Variable(0.0),
        )

        def step(x):
            with tf.GradientTape() as tape:
                value = loss(p, x, None)
            count.assign_add(1.0)
            rate = 1e-3 * tf.sqrt(1 - 0.999**count) / (1 - 0.9**count)
            for w, g, (m, v) in zip(flat, tape.gradient(value, flat), moments):
                m.assign(0.9 * m + 0.1 * g)
                v.assign(0.999 * v + 0.001 * g * g)
                w.assign_sub(rate * m / (tf.sqrt(v) + 1e-7))
            return value

        data, rng = tf.constant(x), np.random.default_rng(0)

        def orders():
            return tf.constant(rng.permutation(len(x)).reshape(-1, batch).astype("int32"))

        if loop:

            @tf.function(jit_compile=xla)
            def run(data, order):
                return tf.while_loop(
                    lambda i, value: i < len(order),
                    lambda i, value: (
                        i + 1,
                        step(tf.ensure_shape(tf.gather(data, order[i]), (batch, 28, 28, 1))),
                    ),
                    (0, 0.0),
                )[1]

            def epoch():
                return run(data, orders())
        else:
            one = tf.function(lambda rows: step(tf.gather(data, rows)), jit_compile=xla)

            def epoch():
                for rows in orders():
                    value = one(rows)
                return value

        def epochs(n):
            for _ in range(n):
                value = epoch()
            return float(value)

        return epochs

    kinds = (
        [(False, False), (True, False)]
        if net == "conv"
        else [(True, False), (False, True), (True, True)]
    )  # XLA makes convolutions slower on processors, by up to ten times
    return {
        f"hand {'loop' if loop else 'steps'}{', XLA' if xla else ''}": contestant(loop, xla)
        for loop, xla in kinds
    }


def products(net, x, batch, backend):
    """A step's matrix products, or convolutions, and nothing else, there and back: what no program
    on that backend can go below.

    The kernels move a little, so that a compiler can leave none of the products out."""
    d, half = NETS[net]["d"], len(NETS[net].get("hidden", ())) + 1

    def there(ws, h):
        acts = [h]
        for w in ws:
            acts.append(acts[-1] @ w)
        return acts

    def back(ws, acts, g, turned):
        moved = []
        for w, h in zip(ws[::-1], acts[-2::-1]):
            moved.insert(0, w - 1e-9 * (turned(h) @ g))
            g = g @ turned(w)
        return moved, g

    def step(ws, rows, turned, concat):
        encoder = there(ws[:half], rows)
        decoder = there(ws[half:], encoder[-1][:, :d])
        after, g = back(ws[half:], decoder, decoder[-1], turned)
        return back(ws[:half], encoder, concat([g, g], 1), turned)[0] + after

    kernels, rng = [w / 10 for w, _ in weights(net)], np.random.default_rng(0)
    flat = x if net == "conv" else x.reshape(len(x), -1)

    def orders():
        return rng.permutation(len(x)).reshape(-1, batch).astype("int32")

    if backend == "jax":
        import jax
        import jax.numpy as jnp

        data, box = jnp.asarray(flat), [[jnp.asarray(w) for w in kernels]]
        run = jax.jit(
            lambda data, ws, order: jax.lax.scan(
                lambda ws, rows: (step(ws, data[rows], jnp.transpose, jnp.concatenate), None),
                ws,
                order,
            )[0]
        )

        def epochs(n):
            for _ in range(n):
                box[0] = run(data, box[0], orders())
            jax.block_until_ready(box[0])

        return {"products alone": epochs}
    import tensorflow as tf

    data, o = tf.constant(flat), tensorflow_functions()
    o.relu = lambda h: h
    encode, decode = hand_functions(net, o)

    def convolutions(ws, rows):
        p = [(w, 0.0) for w in ws]
        with tf.GradientTape() as tape:
            tape.watch(ws)
            logits = decode(p, encode(p, rows)[0])
        return [
            w - 1e-9 * g for w, g in zip(ws, tape.gradient(logits, ws, output_gradients=logits))
        ]

    def one(ws, rows):
        return convolutions(ws, rows) if net == "conv" else step(ws, rows, tf.transpose, tf.concat)

    def contestant(xla):
        box = [[tf.constant(w) for w in kernels]]

        @tf.function(jit_compile=xla)
        def run(data, ws, order):
            return tf.while_loop(
                lambda i, ws: i < len(order),
                lambda i, ws: (
                    i + 1,
                    one(ws, tf.ensure_shape(tf.gather(data, order[i]), (batch, *flat.shape[1:]))),
                ),
                (0, ws),
            )[1]

        def epochs(n):
            for _ in range(n):
                box[0] = run(data, box[0], tf.constant(orders()))
            box[0][0].numpy()

        return epochs

    return {
        f"products alone{', XLA' if xla else ''}": contestant(xla)
        for xla in ((False,) if net == "conv" else (False, True))
    }


# ---- the others ----------------------------------------------------------------------


def keras_networks(net, keras):
    """The same networks of Keras's layers; the encoder ends in 2 d numbers, the decoder in
    logits."""
    layers, spec = keras.layers, NETS[net]

    def dense(n):
        return layers.Dense(n, activation=spec["act"])

    if net == "conv":

        def conv(n, kind=layers.Conv2D):
            return kind(n, 3, strides=2, padding="same", activation="relu")

        encoder = [conv(32), conv(64), layers.Flatten()]
        decoder = [
            dense(7 * 7 * 64),
            layers.Reshape((7, 7, 64)),
            conv(64, layers.Conv2DTranspose),
            conv(32, layers.Conv2DTranspose),
            layers.Conv2D(1, 3, padding="same"),
        ]
    else:
        encoder, decoder = (
            [layers.Flatten(), *map(dense, spec["hidden"])],
            [*map(dense, spec["hidden"][::-1]), layers.Dense(784), layers.Reshape((28, 28, 1))],
        )
    return keras.Sequential([keras.Input((28, 28, 1)), *encoder]), keras.Sequential(
        [keras.Input((spec["d"],)), *decoder]
    )


def fitted(model, x, batch):
    """Epochs of a Keras model's `fit`; time is taken from the beginning of the first to the end of
    the last, as with pythae."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.perf_counter() if epoch == 0 else self.begin

        def on_epoch_end(self, epoch, logs=None):
            self.end = time.perf_counter()

    def epochs(n):
        clock = Clock()
        model.fit(x, batch_size=batch, epochs=n, verbose=0, callbacks=[clock])
        return {"seconds": clock.end - clock.begin}

    return epochs


def keras_example(net, x, batch):
    """A sampling layer, a loss, `fit`: what Keras's own page on VAEs teaches, written for any
    backend."""
    import keras
    from keras import ops

    encoder, decoder = keras_networks(net, keras)

    class Example(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder, self.head, self.seed = (
                encoder,
                decoder,
                keras.layers.Dense(2 * NETS[net]["d"]),
                keras.random.SeedGenerator(0),
            )

        def call(self, x):
            mu, logvar = ops.split(self.head(self.encoder(x)), 2, axis=1)
            logits = self.decoder(
                mu + ops.exp(0.5 * logvar) * keras.random.normal(ops.shape(mu), seed=self.seed)
            )
            kl = 0.5 * ops.sum(ops.exp(logvar) + mu**2 - 1 - logvar, 1)
            self.add_loss(
                ops.mean(kl)
                + ops.mean(
                    ops.sum(keras.losses.binary_crossentropy(x, logits, from_logits=True), (1, 2))
                )
            )
            return logits

    model = Example()
    model.compile("adam")
    return {"keras example": fitted(model, x, batch)}


def make_vaenb(net, x, jit="auto"):
    import keras

    from vaenb import ELBO, IWAE, VAE

    spec = NETS[net]
    model = VAE.for_data(
        x,
        spec["d"],
        network=keras_networks(net, keras),
        objective=IWAE(spec["k"]) if spec["k"] > 1 else ELBO(),
    )
    model.compile("adam", jit_compile=jit)
    return model


def long_training(model, steps=20_000):
    """The model, whose steps are planned as those of a training of so many."""
    plan = model._plan
    model._plan = lambda data, epochs, callbacks: plan(
        data, math.ceil(steps / data.steps), callbacks
    )
    return model


def ours(net, x, batch):
    # a million steps: the plan is measured, or taken from the user's cache
    return {"vaenb": fitted(long_training(make_vaenb(net, x), 1_000_000), x, batch)}


def pythae(net, x, batch):
    """pythae's VAE in pythae's own trainer; time is taken between its epochs, so that what it
    writes at the end does not count."""
    import logging

    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    logging.disable(logging.CRITICAL)
    nn, spec = torch.nn, NETS[net]
    act = {"relu": nn.ReLU, "tanh": nn.Tanh}[spec["act"]]
    if net == "conv":
        body = [nn.Conv2d(1, 32, 3, 2, 1), act(), nn.Conv2d(32, 64, 3, 2, 1), act(), nn.Flatten()]
        back = [
            nn.Linear(spec["d"], 7 * 7 * 64),
            act(),
            nn.Unflatten(1, (64, 7, 7)),
            nn.ConvTranspose2d(64, 64, 3, 2, 1, 1),
            act(),
            nn.ConvTranspose2d(64, 32, 3, 2, 1, 1),
            act(),
            nn.Conv2d(32, 1, 3, 1, 1),
            nn.Sigmoid(),
        ]
        width = 7 * 7 * 64
    else:
        sizes = (784, *spec["hidden"])
        body = [
            nn.Flatten(),
            *(part for n, m in zip(sizes, sizes[1:]) for part in (nn.Linear(n, m), act())),
        ]
        sizes = (spec["d"], *spec["hidden"][::-1])
        back = [
            *(part for n, m in zip(sizes, sizes[1:]) for part in (nn.Linear(n, m), act())),
            nn.Linear(sizes[-1], 784),
            nn.Sigmoid(),
            nn.Unflatten(1, (1, 28, 28)),
        ]
        width = spec["hidden"][-1]

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.body, self.mu, self.logvar = (
                nn.Sequential(*body),
                nn.Linear(width, spec["d"]),
                nn.Linear(width, spec["d"]),
            )

        def forward(self, x):
            h = self.body(x)
            return ModelOutput(embedding=self.mu(h), log_covariance=self.logvar(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*back)

        def forward(self, z):
            return ModelOutput(reconstruction=self.body(z))

    model = VAE(
        VAEConfig(input_dim=(1, 28, 28), latent_dim=spec["d"], reconstruction_loss="bce"),
        encoder=Encoder(),
        decoder=Decoder(),
    )
    rows = torch.as_tensor(x.reshape(-1, 1, 28, 28))
    data = BaseDataset(rows, torch.zeros(len(rows)))

    class Clock(TrainingCallback):
        def on_epoch_begin(self, *args, **kwargs):
            self.times = getattr(self, "times", []) + [time.perf_counter()]

        def on_epoch_end(self, *args, **kwargs):
            self.end = time.perf_counter()

    def epochs(n):
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder,
                num_epochs=n,
                per_device_train_batch_size=batch,
                learning_rate=1e-3,
                no_cuda=True,
            )
            BaseTrainer(model, data, training_config=config, callbacks=[clock]).train()
        return {"seconds": clock.end - clock.times[0]}

    return {"pythae": epochs}


# ---- a contestant's process ----------------------------------------------------------


def likelihood_contestants(backend, samples, n=IMAGES):
    """log p(x) of n images with the network of the IWAE: ours, and a compiled loop by hand."""

    net, x = "iwae-50", images(n)
    model, o = (
        make_vaenb(net, x),
        {"jax": jax_functions, "tensorflow": tensorflow_functions}[backend](),
    )
    log_weights, chunk = hand_log_weights(net, o), 50
    if backend == "jax":
        import jax
        import jax.numpy as jnp

        p, data = jax.tree.map(jnp.asarray, weights(net)), jnp.asarray(x)

        @jax.jit
        def run(p, data, key):
            def body(total, key):
                return (
                    jnp.logaddexp(total, jax.nn.logsumexp(log_weights(p, data, key, chunk)[0], 1)),
                    None,
                )

            return jax.lax.scan(
                body, jnp.full(n, -jnp.inf), jax.random.split(key, samples // chunk)
            )[0]

        hands = {"hand": lambda: np.asarray(run(p, data, jax.random.key(0)))}
    else:
        import tensorflow as tf

        p, data = [tuple(map(tf.constant, pair)) for pair in weights(net)], tf.constant(x)

        def hand(xla):
            @tf.function(jit_compile=xla)
            def run(data):
                def body(i, total):
                    more = tf.reduce_logsumexp(log_weights(p, data, None, chunk)[0], 1)
                    top = tf.maximum(total, more)
                    return i + 1, top + tf.math.log(tf.exp(total - top) + tf.exp(more - top))

                return tf.while_loop(
                    lambda i, total: i < samples // chunk, body, (0, tf.fill((n,), -1e30))
                )[1]

            return lambda: run(data).numpy()

        hands = {"hand": hand(False), "hand, XLA": hand(True)}
    return n, {"vaenb": lambda: model.log_likelihood(x, n_samples=samples), **hands}


def single_contestants(backend):
    """What is asked for once: a decoded code, 10,000 samples, an evaluation, codes of images."""
    x = images(10_000)
    model = make_vaenb("dense", x)
    z = np.zeros((1, NETS["dense"]["d"]), "float32")
    model.compile("adam")
    import keras

    from vaenb.noise import counters, normal

    seed = keras.random.SeedGenerator(0)

    class Draw(keras.Model):
        def call(self, x):
            return x + normal((100, 784), seed)

    def drawing(counted):
        draw, row = Draw(), np.zeros((1, 1), "float32")
        draw.compile(jit_compile=True)

        def run():
            with counters(counted):
                draw.predict_on_batch(row)

        return run

    return {
        "draw 78,400 normal numbers, compiled, by Keras": drawing(False),
        "draw 78,400 normal numbers, compiled, from counters": drawing(True),
        "decode one code": lambda: model.decode(z),
        "sample 10,000 images": lambda: model.sample(10_000, seed=0),
        "evaluate 10,000 images": lambda: model.evaluate(x, batch_size=128, verbose=0),
        "encode 10,000 images": lambda: model.encode(x),
    }


def serve(kind):
    """Answers requests on standard input, one JSON object a line; the answer is one line, too."""
    out, sys.stdout = sys.stdout, sys.stderr
    epochs, rows, ready = {}, 0, {}
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "train":
            x, make = (
                images(ask["n"]),
                {
                    "vaenb": ours,
                    "hand": hand_jax if kind == "jax" else hand_tensorflow,
                    "products": lambda *case: products(*case, kind),
                    "keras example": keras_example,
                    "pythae": pythae,
                },
            )
            epochs = {}
            for who in ask["who"]:
                epochs |= make[who](ask["net"], x, ask["batch"])
            for run in epochs.values():
                run(1), run(1)
            rows, answer = ask["n"], list(epochs)
        elif ask["do"] == "growth":
            from vaenb import ELBO, IWAE, VAE, dense

            x = images(ask["n"])
            model = VAE.for_data(
                x,
                ask["d"],
                network=dense((200, 200), activation="tanh"),
                objective=IWAE(ask["k"]) if ask["k"] > 1 else ELBO(),
            )
            model.compile("adam")
            epochs, rows = {"vaenb": fitted(long_training(model), x, ask["batch"])}, ask["n"]
            epochs["vaenb"](1), epochs["vaenb"](1)
            answer = list(epochs)
        elif ask["do"] == "turn":
            start = time.perf_counter()
            found = epochs[ask["who"]](ask["epochs"])
            answer = (
                rows
                * ask["epochs"]
                / (found["seconds"] if isinstance(found, dict) else time.perf_counter() - start)
            )
        elif ask["do"] == "prepare":
            if ask["what"] == "likelihood":
                rows, ready = likelihood_contestants(kind, ask["samples"])
            else:
                ready = single_contestants(kind)
            for run in ready.values():
                run()
            answer = list(ready)
        elif ask["do"] == "once":
            start = time.perf_counter()
            ready[ask["who"]]()
            answer = time.perf_counter() - start
        elif ask["do"] == "memory":
            answer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(json.dumps(answer), file=out, flush=True)


class Contestant:
    """A process that waits for its turn."""

    def __init__(self, kind, python=sys.executable):
        self.kind = kind
        env = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **({"KERAS_BACKEND": kind} if kind != "pythae" else {}),
        }
        self.process = subprocess.Popen(
            [python, __file__, "--serve", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not os.environ.get("BENCH_SHOW") else None,
            text=True,
            env=env,
        )

    def __call__(self, **ask):
        self.process.stdin.write(json.dumps(ask) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(
                f"the process of {self.kind} has ended: "
                + (self.process.stderr.read()[-2000:] if self.process.stderr else "")
            )
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


# ---- the tournament ------------------------------------------------------------------


def spread(values, digits=1):
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def show(net, batch, rates, hand):
    line = "   ".join(f"{name} {rate['median']:,.0f}" for name, rate in rates.items())
    print(
        f"{net:9s} batch {batch:5d}   {line}   | of the hand-written: "
        + ", ".join(
            f"{b} {rates[f'{b} vaenb']['median'] / rates[name]['median']:.2f}"
            for b, name in hand.items()
        ),
        flush=True,
    )


def crowd_of(net, batch, backends, python):
    """A process for each backend and one for pythae: pairs of it and the contestants in it, which
    have trained for two epochs."""
    crowd = [
        (
            Contestant(b),
            [
                "vaenb",
                "hand",
                *(["keras example"] if NETS[net]["k"] == 1 else []),
                *(["products"] if net == "dense" or (net, b) == ("conv", "tensorflow") else []),
            ],
        )
        for b in backends
    ]
    if python and NETS[net]["k"] == 1:
        crowd.append((Contestant("pythae", python), ["pythae"]))
    ask = {"net": net, "batch": batch, "n": examples(net, batch)}
    return [(c, c(do="train", **ask, who=who)) for c, who in crowd]


def train_rates(net, batch, backends, python, repeats, processes):
    """Images per second of all contestants in turns; after `repeats` turns in new processes,
    because on TensorFlow a whole process may be faster or slower than the next."""
    rates, memory = {}, {}
    for _ in range(processes):
        crowd = crowd_of(net, batch, backends, python)
        for _ in range(repeats):
            for c, names in crowd:
                for name in names:
                    who = name if c.kind == "pythae" else f"{c.kind} {name}"
                    found = c(do="turn", who=name, epochs=EPOCHS[net])
                    rates.setdefault(who, []).append(found)
        for c, _ in crowd:
            memory[c.kind] = round(c(do="memory"))
            c.__exit__()
    rates = {name: spread(values, 0) for name, values in rates.items()}
    hand = {
        b: max(
            (name for name in rates if name.startswith(f"{b} hand")),
            key=lambda name: rates[name]["median"],
        )
        for b in backends
    }

    def of(rivals):
        return {
            b: round(rates[f"{b} vaenb"]["median"] / rates[name]["median"], 3)
            for b, name in rivals.items()
        }

    show(net, batch, rates, hand)
    return {
        "date": date.today().isoformat(),
        "examples": examples(net, batch),
        "turns": repeats * processes,
        "processes": processes,
        "epochs": EPOCHS[net],
        "rates": rates,
        "hand": hand,
        "peak_mib": memory,
        "of_hand": of(hand),
        **({"of_pythae": of(dict.fromkeys(backends, "pythae"))} if "pythae" in rates else {}),
    }


def likelihood_times(backends, repeats):
    """Seconds for log p(x), and the memory it takes, by the number of samples."""
    out = {}
    for backend in backends:
        for samples in (500, 5000):
            with Contestant(backend) as c:
                c(do="memory")
                names, times = c(do="prepare", what="likelihood", samples=samples), {}
                for _ in range(repeats):
                    for name in names:
                        times.setdefault(name, []).append(c(do="once", who=name))
            best = min(
                (name for name in times if name != "vaenb"),
                key=lambda name: statistics.median(times[name]),
            )
            row = {
                "images": IMAGES,
                "seconds": {name: spread(values, 3) for name, values in times.items()},
                "hand": best,
                "of_hand": round(
                    statistics.median(times[best]) / statistics.median(times["vaenb"]), 3
                ),
            }
            out.setdefault(backend, {})[str(samples)] = row
            print(
                f"log p(x), {samples} samples, {backend}: "
                f"{row['seconds']['vaenb']['median']:.2f} s; {row['of_hand']:.2f} of "
                f"{best}",
                flush=True,
            )
        code = (
            f"import resource, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
            "import throughput as t; x = t.images(t.IMAGES); m = t.make_vaenb('iwae-50', "
            "x); m.log_likelihood(x, n_samples=10); a = "
            "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; m.log_likelihood(x, "
            "n_samples=20000); print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - "
            "a) / 2**10, a / 2**10)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        more, before = map(float, done.stdout.split()[-2:])
        out[backend]["memory_mib"] = {
            "process_before": round(before),
            "more_for_20000_samples": round(more),
        }
        print(
            f"log p(x), {backend}: {before:.0f} MiB before, {more:.0f} MiB more for 20,000 samples",
            flush=True,
        )
    return out


def growth_rates(backends, repeats):
    """How the rate of vaenb changes with one thing at a time: network 784-200-200-d, batch 100."""
    base = dict(n=4000, batch=100, d=16, k=1)
    axes = {
        "n": (1000, 4000, 16_000),
        "batch": (20, 100, 500, 2000),
        "d": (2, 16, 128, 512),
        "k": (1, 5, 20, 50),
    }
    out = {}
    for backend in backends:
        with Contestant(backend) as c:
            for axis, values in axes.items():
                for value in values:
                    case = {**base, axis: value}
                    if axis == "k":
                        case["n"] = max(500, 4000 // value)
                    c(do="growth", **case)
                    out.setdefault(backend, {}).setdefault(axis, {})[str(value)] = spread(
                        [c(do="turn", who="vaenb", epochs=2) for _ in range(repeats)], 0
                    )
                print(
                    f"growth with {axis}, {backend}: "
                    + ", ".join(f"{v} {r['median']:,.0f}" for v, r in out[backend][axis].items()),
                    flush=True,
                )
    return out


def start_times(backends, repeats):
    """Seconds from nothing: to import, to a command's help, to the first step; and single
    requests."""

    def timed(command, env=()):
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **dict(env)},
            )
            times.append(time.perf_counter() - start)
        return spread(times, 3)

    python = [sys.executable, "-c"]
    first = (
        "import numpy as np; from vaenb import VAE; x = "
        "(np.random.default_rng(0).random((128, 784)) < 0.13).astype('float32'); "
        "model = VAE.for_data(x, 16); model.fit(x, batch_size=128, verbose=0)"
    )
    out = {
        "python": timed([*python, "pass"]),
        "import vaenb": timed([*python, "import vaenb"]),
        "vaenb --help": timed([str(Path(sys.executable).with_name("vaenb")), "--help"]),
    }
    for backend in backends:
        out[f"import keras, {backend}"] = timed(
            [*python, "import keras"], {"KERAS_BACKEND": backend}.items()
        )
        out[f"first step done, {backend}"] = timed(
            [*python, first], {"KERAS_BACKEND": backend}.items()
        )
        # whether Python collects garbage (.16 s) just before or after the first step is an
        # accident of what was allocated; the codes are what one waits for
        out[f"first codes, {backend}"] = timed(
            [*python, first + "; model.encode(x)"], {"KERAS_BACKEND": backend}.items()
        )
        with Contestant(backend) as c:
            for name in c(do="prepare", what="single"):
                out[f"{name}, {backend}"] = spread(
                    [c(do="once", who=name) for _ in range(5 * repeats)], 5
                )
            out[f"peak memory in MiB, {backend}"] = round(c(do="memory"))
    for name, row in out.items():
        print(f"{name:40s} {row['median'] if isinstance(row, dict) else row}", flush=True)
    return out


def notebook_times(backends, repeats):
    """Seconds to run and check all notebooks, as tools/check.py does it; once."""
    workers, start = min(4, os.cpu_count() or 1), time.perf_counter()
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("nbdev_test")),
            "--n_workers",
            str(workers),
            "--timing",
        ],
        cwd=Path(__file__).parent.parent,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    seconds = round(time.perf_counter() - start)
    each = {
        name: int(taken)
        for name, taken in re.findall(r"^(\S+)\.ipynb: (\d+) secs$", done.stdout, re.M)
    }
    print(f"{len(each)} notebooks: {seconds} s with {workers} workers", flush=True)
    return {"seconds": seconds, "workers": workers, "each": each}


def processor():
    """The processor's name, and whether it computes with 512 bits at a time, on which ratios
    between libraries depend."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", facts, re.M)
    return (name[1] if name else platform.processor() or platform.machine()) + (
        ", AVX-512" if "avx512f" in facts else ""
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="turns of each contestant")
    parser.add_argument(
        "--processes", type=int, default=1, help="of each contestant of a training, in turn"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[20, 128, 1024])
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--pythae", help="the Python of an environment that has pythae")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve)
    backends = [b for b in ("tensorflow", "jax") if importlib.util.find_spec(b)]
    versions = {p: importlib.metadata.version(p) for p in ("vaenb", "keras", "numpy", *backends)}
    if args.pythae:
        ask = (
            "import importlib.metadata as m, json; print(json.dumps({p: m.version(p) for p "
            "in ('pythae', 'torch')}))"
        )
        versions |= json.loads(
            subprocess.run(
                [args.pythae, "-c", ask], check=True, capture_output=True, text=True
            ).stdout
        )
    record = json.loads(args.out.read_text()) if args.out.exists() else {}
    before = record.get("versions", {})
    if record and (
        any(before.get(p, v) != v for p, v in versions.items())
        or record.get("processor") != processor()
    ):  # never two machines, nor their software, in one file
        if set(args.only) != set(PARTS):
            parser.error(
                f"{args.out} holds what another processor or other versions took: name a "
                "file of your own with --out, or run every part"
            )
        record, before = {}, {}
    versions = before | versions
    record |= {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} x {platform.machine()}",
        "processor": processor(),
        "python": platform.python_version(),
        "versions": versions,
        "protocol": "28 x 28 binary images, Adam, images per second over the epochs of a turn, "
        "compilation and preparations left out; median, least and most of the turns",
    }

    def keep():
        args.out.parent.mkdir(exist_ok=True, parents=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")

    for net in NETS:
        if net in args.only:
            for batch in args.batches:
                record.setdefault("training", {}).setdefault(net, {})[str(batch)] = train_rates(
                    net, batch, backends, args.pythae, args.repeats, args.processes
                )
                keep()
    for part, measure in (
        ("likelihood", likelihood_times),
        ("growth", growth_rates),
        ("starts", start_times),
        ("notebooks", notebook_times),
    ):
        if part in args.only:
            record[part] = measure(backends, args.repeats)
            record.setdefault("dates", {})[part] = date.today().isoformat()
            keep()
    print(f"recorded in {args.out}")


if __name__ == "__main__":
    main()
