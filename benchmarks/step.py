"""What composing a model from parts costs: one training step of a recipe against the same step
written by hand.

    python benchmarks/step.py                       # JAX: vaenb/records/step.json
    python benchmarks/step.py --backend tensorflow  # vaenb/records/step-tensorflow.json

Both steps are compiled whole (network 784-200-200-50, tanh, batch 100, Bernoulli with coins flipped
anew, Adam), run in turns, and compared by the median time and, on JAX, by the operations that XLA
counts in the compiled program, which no other work on the machine can disturb. TensorFlow compiles
a graph without XLA, as vaenb asks it to for such a training on a CPU, where XLA's random numbers
are slow. The hand-written functions use nothing of vaenb or Keras."""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

os.environ["KERAS_BACKEND"] = "tensorflow" if "tensorflow" in sys.argv else "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
JAX = os.environ["KERAS_BACKEND"] == "jax"

import numpy as np

D, H, X, BATCH, K, PSEUDO, N_DATA, CONTEXT, LAYERS, INNER = (
    50,
    200,
    784,
    100,
    50,
    500,
    50_000,
    16,
    4,
    64,
)

if JAX:
    import jax
    import jax.numpy as jnp

    o = SimpleNamespace(
        **{
            name: getattr(jnp, name)
            for name in (
                "sum",
                "mean",
                "exp",
                "log",
                "log1p",
                "sqrt",
                "tanh",
                "abs",
                "clip",
                "where",
                "einsum",
                "take",
                "float32",
            )
        },
        zeros=lambda shape: jnp.zeros(shape),
        array=lambda a: jnp.asarray(a, "float32"),
        concat=jnp.concatenate,
        halves=lambda a: jnp.split(a, 2, -1),
        split=lambda a, ends: jnp.split(a, ends, -1),
        softplus=jax.nn.softplus,
        sigmoid=jax.nn.sigmoid,
        softmax=lambda a: jax.nn.softmax(a, 1),
        logsumexp=jax.nn.logsumexp,
        log_softmax=jax.nn.log_softmax,
        stop=jax.lax.stop_gradient,
        map=jax.tree.map,
        normal=jax.random.normal,
        uniform=jax.random.uniform,
        keys=lambda key, n: jax.random.split(key, n),
    )
else:
    import tensorflow as tf

    o = SimpleNamespace(
        **{
            name: getattr(tf, name)
            for name in ("exp", "sqrt", "tanh", "abs", "where", "einsum", "float32", "zeros")
        },
        sum=tf.reduce_sum,
        mean=tf.reduce_mean,
        log=tf.math.log,
        log1p=tf.math.log1p,
        clip=tf.clip_by_value,
        take=lambda a, i, axis: tf.gather(a, i, axis=axis),
        array=lambda a: tf.constant(a, "float32"),
        concat=tf.concat,
        halves=lambda a: tf.split(a, 2, -1),
        split=lambda a, ends: tf.split(a, np.diff([0, *ends, a.shape[-1]]), -1),
        softplus=tf.nn.softplus,
        sigmoid=tf.sigmoid,
        softmax=lambda a: tf.nn.softmax(a, 1),
        logsumexp=tf.reduce_logsumexp,
        log_softmax=tf.nn.log_softmax,
        stop=tf.stop_gradient,
        map=tf.nest.map_structure,
        normal=lambda key, shape: tf.random.stateless_normal(shape, key),
        uniform=lambda key, shape: tf.random.stateless_uniform(shape, key),
        keys=lambda key, n: [key + i for i in range(n)],
    )


# ---- parameters ----------------------------------------------------------------------


def start(name, seed=0):
    """The hand-written parameters, as nested lists, tuples and dicts of NumPy arrays."""
    rng = np.random.default_rng(seed)

    def glorot(n, m):
        return (
            (rng.uniform(-1, 1, (n, m)) * np.sqrt(6 / (n + m))).astype("float32"),
            np.zeros(m, "float32"),
        )

    def draw(scale, *shape):
        return (scale * rng.normal(size=shape)).astype("float32")

    flow = name in ("planar-vae", "radial-vae", "iaf-vae")
    heads = (
        D + D * (D + 1) // 2
        if name == "full-cov-vae"
        else D
        if name in AUTOENCODERS
        else 2 * D + CONTEXT * flow
    )
    p = {
        "enc": [glorot(X, H), glorot(H, H), glorot(H, heads)],
        "dec": [glorot(D, H), glorot(H, H), glorot(H, X)],
    }

    def made(c):
        return [
            [draw(n**-0.5, n, m), draw(1.0, m), draw(0.1, c, m)][: 3 if c else 2]
            for n, m in ((D, INNER), (INNER, 2 * D))
        ]

    if name == "vamp-vae":
        p["pseudo"] = draw(1.0, PSEUDO, X)
    if name == "mog-vae":
        p["mixture"] = (draw(1.0, 10, D), draw(0.0, 10, D), draw(0.0, 10))
    if name in ("planar-vae", "radial-vae"):
        size = 2 * D + 1 if name == "planar-vae" else D + 2
        p["flow"] = [(draw(0.1, size), draw(0.1, CONTEXT, size)) for _ in range(LAYERS)]
    if name == "iaf-vae":
        p["flow"] = [made(CONTEXT) for _ in range(LAYERS)]
    if name == "flow-prior-vae":
        p["flow"] = [made(0) for _ in range(LAYERS)]
    return p


# ---- the hand-written losses ---------------------------------------------------------


def mlp(layers, x):
    for w, b in layers[:-1]:
        x = o.tanh(x @ w + b)
    return x @ layers[-1][0] + layers[-1][1]


def wide(layers, z):
    """The network of codes (n, k, d), as one product of matrices."""
    return reshape(mlp(layers, reshape(z, (-1, z.shape[-1]))), (*z.shape[:-1], -1))


def reshape(a, shape):
    return a.reshape(shape) if JAX else tf.reshape(a, shape)


def normal(z, mu=0.0, logvar=0.0, axis=-1):
    return -0.5 * o.sum(
        (z - mu) ** 2 * o.exp(-logvar * o.array(1.0)) + logvar + math.log(2 * math.pi), axis
    )


def bernoulli(x, logits):
    return o.sum(x * logits - o.softplus(logits), -1)


def kl_normal(mu, logvar):
    return 0.5 * o.sum(o.exp(logvar) + mu**2 - 1 - logvar, -1)


def codes(p, x, key):
    mu, logvar = o.halves(mlp(p["enc"], x))
    return mu, logvar, mu + o.exp(0.5 * logvar) * o.normal(key, mu.shape)


def loss_ae(p, x, key, noise=0.0, penalty=lambda p, x, key, z: 0.0):
    z = mlp(p["enc"], x + noise * o.normal(key, x.shape) if noise else x)
    return o.mean(
        0.5 * o.sum((x - mlp(p["dec"], z)) ** 2 + math.log(2 * math.pi), -1) + penalty(p, x, key, z)
    )


def loss_denoising(p, x, key):
    return loss_ae(p, x, key, 0.3)


def loss_sparse(p, x, key):
    z = o.sigmoid(mlp(p["enc"], x))
    rho = o.clip(o.mean(z, 0), 1e-6, 1 - 1e-6)
    sparsity = o.sum(0.05 * o.log(0.05 / rho) + 0.95 * o.log(0.95 / (1 - rho)))
    return o.mean(0.5 * o.sum((x - mlp(p["dec"], z)) ** 2 + math.log(2 * math.pi), -1)) + sparsity


def slope(network, x, v):
    return o.sum(((mlp(network, x + 0.01 * v) - mlp(network, x - 0.01 * v)) / 0.02) ** 2, -1)


def loss_contractive(p, x, key):
    return loss_ae(
        p, x, key, 0.0, lambda p, x, key, z: 0.1 * slope(p["enc"], x, o.normal(key, x.shape))
    )


def loss_rae_gp(p, x, key):
    return loss_ae(
        p,
        x,
        key,
        0.0,
        lambda p, x, key, z: (
            0.015 * o.sum(z**2, -1) + 0.01 * slope(p["dec"], z, o.normal(key, z.shape))
        ),
    )


def loss_rae_l2(p, x, key):
    return loss_ae(
        p,
        x,
        key,
        0.0,
        lambda p, x, key, z: 0.015 * o.sum(z**2, -1) + 3e-4 * sum(o.sum(w**2) for w, _ in p["dec"]),
    )


def loss_vae(p, x, key):
    mu, logvar, z = codes(p, x, key)
    return o.mean(kl_normal(mu, logvar) - bernoulli(x, mlp(p["dec"], z)))


def loss_sigma(p, x, key):
    mu, logvar, z = codes(p, x, key)
    square = (x - mlp(p["dec"], z)) ** 2
    variance = o.stop(o.mean(square))
    return o.mean(
        kl_normal(mu, logvar)
        + 0.5 * o.sum(square / variance + o.log(variance) + math.log(2 * math.pi), -1)
    )


def loss_iwae(p, x, key):
    mu, logvar = o.halves(mlp(p["enc"], x))
    z = mu[:, None] + o.exp(0.5 * logvar[:, None]) * o.normal(key, (BATCH, K, D))
    log_w = (
        bernoulli(x[:, None], wide(p["dec"], z))
        + normal(z)
        - normal(z, mu[:, None], logvar[:, None])
    )
    return -o.mean(o.logsumexp(log_w, 1) - math.log(K))


def loss_tc(p, x, key):
    mu, logvar, z = codes(p, x, key)
    each = -0.5 * ((z[:, None] - mu) ** 2 * o.exp(-logvar) + logvar + math.log(2 * math.pi))
    m, i = BATCH - 1, np.arange(BATCH)
    w = np.full((BATCH, BATCH), 1 / m)
    w[i, i], w[i, (i + 1) % BATCH] = 1 / N_DATA, (N_DATA - m) / (N_DATA * m)
    log_w = o.array(np.log(w))
    joint, product = (
        o.logsumexp(log_w + o.sum(each, -1), 1),
        o.sum(o.logsumexp(log_w[..., None] + each, 1), -1),
    )
    return o.mean(
        normal(z, mu, logvar)
        - joint
        + 6 * (joint - product)
        + product
        - normal(z)
        - bernoulli(x, mlp(p["dec"], z))
    )


def distance(z, key):
    wanted = o.normal(key, z.shape)

    def kernel(a, b):
        square = o.sum((a[:, None] - b) ** 2, -1)
        return (
            sum(c / (c + square) for c in (2 * D * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)))
            / 7
        )

    n = BATCH * (BATCH - 1)
    return (
        (o.sum(kernel(z, z)) - BATCH) / n
        + (o.sum(kernel(wanted, wanted)) - BATCH) / n
        - 2 * o.mean(kernel(z, wanted))
    )


def loss_info(p, x, key):
    key, other = o.keys(key, 2)
    mu, logvar, z = codes(p, x, key)
    return o.mean(kl_normal(mu, logvar) - bernoulli(x, mlp(p["dec"], z))) + 999 * distance(z, other)


def loss_wae(p, x, key):
    key, other = o.keys(key, 2)
    mu, logvar, z = codes(p, x, key)
    return 100 * distance(z, other) - o.mean(bernoulli(x, mlp(p["dec"], z)))


def loss_vamp(p, x, key):
    mu, logvar, z = codes(p, x, key)
    u_mu, u_logvar = o.halves(mlp(p["enc"], o.sigmoid(p["pseudo"])))
    log_pz = o.logsumexp(normal(z, u_mu[:, None], u_logvar[:, None]), 0) - math.log(PSEUDO)
    return o.mean(normal(z, mu, logvar) - log_pz - bernoulli(x, mlp(p["dec"], z)))


def loss_mog(p, x, key):
    mu, logvar, z = codes(p, x, key)
    m, s, w = p["mixture"]
    log_pz = o.logsumexp(normal(z[:, None], m, s) + o.log_softmax(w), 1)
    return o.mean(normal(z, mu, logvar) - log_pz - bernoulli(x, mlp(p["dec"], z)))


def loss_full(p, x, key):
    mu, log_diagonal, below = o.split(mlp(p["enc"], x), [D, 2 * D])
    place = np.zeros((D, D), int)  # where in [0, below] each entry of the factor stands
    place[np.tril_indices(D, -1)] = 1 + np.arange(D * (D - 1) // 2)
    strict = reshape(
        o.take(o.concat([o.zeros((BATCH, 1)), below], 1), place.ravel(), 1), (BATCH, D, D)
    )
    factor = strict + o.exp(log_diagonal)[..., None] * o.array(np.eye(D))
    z = mu + o.einsum("nij,nj->ni", factor, o.normal(key, (BATCH, D)))
    kl = 0.5 * (o.sum(factor**2, (1, 2)) + o.sum(mu**2, -1) - D) - o.sum(log_diagonal, -1)
    return o.mean(kl - bernoulli(x, mlp(p["dec"], z)))


def bent(p, x, key, bend):
    """The loss of a posterior that a flow bends: `bend(parameters, z, context) -> z,
    log-determinant`."""
    mu, logvar, context = o.split(mlp(p["enc"], x), [D, 2 * D])
    base = z = mu + o.exp(0.5 * logvar) * o.normal(key, (BATCH, D))
    log_q = normal(base, mu, logvar)
    for i, layer in enumerate(p["flow"]):
        z, log_det = bend(layer, z, context, i)
        log_q = log_q - log_det
    return o.mean(log_q - normal(z) - bernoulli(x, mlp(p["dec"], z)))


def planar(layer, z, context, i):
    u, w, b = o.split(layer[0] + context @ layer[1], [D, 2 * D])
    uw, ww = o.sum(u * w, -1)[:, None], o.sum(w * w, -1)[:, None]
    bounded = o.softplus(uw + math.log(math.expm1(0.999))) - 0.999
    t = o.tanh(o.sum(w * z, -1)[:, None] + b)
    return z + (u + (bounded - uw) * w / (ww + 1e-8)) * t, o.log1p(bounded * (1 - t**2))[:, 0]


def radial(layer, z, context, i):
    center, log_alpha, raw = o.split(layer[0] + context @ layer[1], [D, D + 1])
    alpha = o.exp(log_alpha)
    beta = alpha * (o.softplus(raw + math.log(math.expm1(0.999))) - 0.999)
    r = o.sqrt(o.sum((z - center) ** 2, -1)[:, None] + 1e-12)
    pull = beta / (alpha + r)
    return z + pull * (z - center), ((D - 1) * o.log1p(pull) + o.log1p(pull * alpha / (alpha + r)))[
        :, 0
    ]


def masks(ranks, low):
    inner = low + np.arange(INNER) * (ranks.max() - low) // INNER
    return o.array(ranks[:, None] <= inner), o.array(np.tile(inner[:, None] < ranks, 2))


def masked(layer, z, context, ranks, low):
    first, second = masks(ranks, low)
    w, b, *c = layer[0]
    hidden = o.tanh(z @ (w * first) + b + (context @ c[0] if c else 0.0))
    w, b, *c = layer[1]
    return o.halves(hidden @ (w * second) + b + (context @ c[0] if c else 0.0))


def iaf(layer, z, context, i):
    if i:
        z = o.take(z, np.arange(D)[::-1], 1)
    shift, log_scale = masked(layer, z, context, np.arange(1, D + 1), 0)
    return z * o.exp(log_scale) + shift, o.sum(log_scale, -1)


def loss_planar(p, x, key):
    return bent(p, x, key, planar)


def loss_radial(p, x, key):
    return bent(p, x, key, radial)


def loss_iaf(p, x, key):
    return bent(p, x, key, iaf)


def loss_flow_prior(p, x, key):
    mu, logvar, z = codes(p, x, key)
    ranks, base, log_det = np.repeat([1, 2], D // 2), z, 0.0
    for i, layer in enumerate(p["flow"]):
        if i:
            base = o.take(base, np.arange(D)[::-1], 1)
        shift, log_scale = masked(layer, base, None, ranks, 1)
        moved = o.array(ranks == 2)
        base, log_det = (
            (base - shift * moved) * o.exp(-log_scale * moved),
            log_det - o.sum(log_scale * moved, -1),
        )
    return o.mean(normal(z, mu, logvar) - normal(base) - log_det - bernoulli(x, mlp(p["dec"], z)))


def grad_dreg(p, x, key):
    """The doubly reparameterised gradient by two vector-Jacobian products."""
    eps = o.normal(key, (BATCH, K, D))

    def draw(enc):
        mu, logvar = o.halves(mlp(enc, x))
        return mu[:, None] + o.exp(0.5 * logvar[:, None]) * eps, (mu, logvar)

    def log_weights(z, dec, mu, logvar):
        return (
            bernoulli(x[:, None], wide(dec, z))
            + normal(z)
            - normal(z, mu[:, None], logvar[:, None])
        )

    def bound(log_w):
        return -o.mean(o.logsumexp(log_w, 1) - math.log(K))

    if JAX:
        z, to_encoder, (mu, logvar) = jax.vjp(draw, p["enc"], has_aux=True)
        log_w, back = jax.vjp(lambda z, dec: log_weights(z, dec, mu, logvar), z, p["dec"])
        w = o.softmax(log_w)
        by_z, by_decoder = back(-w / BATCH)
        return bound(log_w), {"enc": to_encoder(by_z * w[..., None])[0], "dec": by_decoder}
    with tf.GradientTape() as first:
        z, (mu, logvar) = draw(p["enc"])
    with tf.GradientTape() as second:
        second.watch(z)
        log_w = log_weights(z, p["dec"], mu, logvar)
    w = o.softmax(log_w)
    by_z, by_decoder = second.gradient(log_w, [z, p["dec"]], -w / BATCH)
    return bound(log_w), {
        "enc": first.gradient(z, p["enc"], by_z * w[..., None]),
        "dec": by_decoder,
    }


AUTOENCODERS = {
    "ae": loss_ae,
    "denoising-ae": loss_denoising,
    "sparse-ae": loss_sparse,
    "contractive-ae": loss_contractive,
    "rae-l2": loss_rae_l2,
    "rae-gp": loss_rae_gp,
}
HAND = {
    **AUTOENCODERS,
    "vae": loss_vae,
    "sigma-vae": loss_sigma,
    "iwae": loss_iwae,
    "dreg-iwae": grad_dreg,
    "beta-tcvae": loss_tc,
    "info-vae": loss_info,
    "wae-mmd": loss_wae,
    "vamp-vae": loss_vamp,
    "mog-vae": loss_mog,
    "flow-prior-vae": loss_flow_prior,
    "planar-vae": loss_planar,
    "radial-vae": loss_radial,
    "iaf-vae": loss_iaf,
    "full-cov-vae": loss_full,
}
REFERENCE = {
    **{name: name for name in HAND},
    **dict.fromkeys(
        (
            "beta-vae",
            "annealed-vae",
            "cyclical-vae",
            "free-bits-vae",
            "stl-vae",
            "dip-vae-i",
            "dip-vae-ii",
        ),
        "vae",
    ),
    **dict.fromkeys(("miwae", "piwae", "ciwae"), "iwae"),
}
GREY = (*AUTOENCODERS, "sigma-vae")  # no coins are flipped for these


# ---- the two steps -------------------------------------------------------------------


def adam(p, m, v, count, g):
    rate = 1e-3 * o.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    m = o.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = o.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    return o.map(lambda p, m, v: p - rate * m / (o.sqrt(v) + 1e-7), p, m, v), m, v


def by_hand(name, x):
    """A function that takes one training step, and what counts its operations (None under
    TensorFlow)."""
    function = HAND[name]
    p = o.map(o.array, start(name))

    def zeros():
        return o.map(lambda a: o.zeros(a.shape), p)

    if JAX:
        gradient = function if function is grad_dreg else jax.value_and_grad(function)

        def step(state, x):
            p, m, v, count, key, seen = state
            key, flips, noise = jax.random.split(key, 3)
            if name not in GREY:
                x = (o.uniform(flips, x.shape) < x).astype("float32")
            loss, g = gradient(p, x, noise)
            return *adam(p, m, v, count + 1, g), count + 1, key, seen + loss

        return compiled_jax(
            step, (p, zeros(), zeros(), jnp.float32(0), jax.random.key(0), jnp.float32(0)), x
        )
    variables = o.map(
        tf.Variable, (p, zeros(), zeros(), o.array(0.0), tf.constant([0, 0]), o.array(0.0))
    )

    @tf.function
    def step(x):
        p, m, v, count, key, seen = variables
        key.assign_add([1, 0])
        flips, noise = key + [0, 1], key + [0, 7]
        if name not in GREY:
            x = tf.cast(o.uniform(flips, x.shape) < x, "float32")
        if function is grad_dreg:
            loss, g = function(p, x, noise)
        else:
            with tf.GradientTape() as tape:
                loss = function(p, x, noise)
            g = tf.nest.pack_sequence_as(p, tape.gradient(loss, tf.nest.flatten(p)))
        count.assign_add(1.0)
        seen.assign_add(loss)
        for old, new in zip(tf.nest.flatten((p, m, v)), tf.nest.flatten(adam(p, m, v, count, g))):
            old.assign(new)
        return loss

    step(x)
    return lambda: step(x), lambda last: last.numpy(), None


def compiled_jax(step, state, x):
    program, held = jax.jit(step, donate_argnums=0).lower(state, x).compile(), [state]

    def once():
        held[0] = program(held[0], x)
        return held[0]

    return once, jax.block_until_ready, program.cost_analysis()


def ours(name, x):
    """The same of a recipe: Keras's train_step, compiled as Keras compiles it."""
    import keras

    from vaenb import RECIPES, VAE, dense, recipe
    from vaenb.likelihood import Bernoulli

    sizes = {
        "vamp-vae": {"n_components": PSEUDO},
        "ciwae": {"k": K},
        "miwae": {"m": 5, "k": 10},
        "piwae": {"m": 5, "k": 10},
        "iwae": {"k": K},
        "dreg-iwae": {"k": K},
    }.get(name, {})
    if issubclass(RECIPES[name].model, VAE) and name not in GREY:
        sizes["likelihood"] = Bernoulli(binarize=True)
    data = np.resize(np.asarray(x), (N_DATA if name == "beta-tcvae" else 1000, X))
    model = recipe(name, data, D, network=dense([H, H], "tanh"), **sizes)
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=JAX)
    model.train_on_batch(np.asarray(x))
    if JAX:
        state = model._get_jax_state(
            trainable_variables=True,
            non_trainable_variables=True,
            optimizer_variables=True,
            metrics_variables=True,
        )
        return compiled_jax(
            lambda state, x: model.train_step(state, (x,))[1], jax.tree.map(jnp.array, state), x
        )
    step = tf.function(lambda x: model.train_step((x,)))
    step(x)
    return lambda: step(x), lambda last: last["loss"].numpy(), None


def measure(name, x, repeats, steps):
    made = {"hand": by_hand(REFERENCE[name], x), "vaenb": ours(name, x)}
    times = {who: [] for who in made}
    for _ in range(repeats):
        for who, (once, wait, _) in made.items():
            begin = time.perf_counter()
            for _ in range(steps):
                last = once()
            wait(last)
            times[who].append((time.perf_counter() - begin) / steps)
    ratios = sorted(b / a for a, b in zip(times["hand"], times["vaenb"]))
    counted = (
        {"flops_ratio": round(made["vaenb"][2]["flops"] / made["hand"][2]["flops"], 4)}
        if JAX
        else {}
    )
    return {
        "reference": REFERENCE[name],
        **counted,
        "milliseconds": {
            who: round(1000 * statistics.median(values), 3) for who, values in times.items()
        },
        "time_ratio": round(statistics.median(ratios), 3),
        "time_ratio_quartiles": [
            round(ratios[len(ratios) // 4], 3),
            round(ratios[-1 - len(ratios) // 4], 3),
        ],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", choices=("jax", "tensorflow"), default="jax")
    parser.add_argument(
        "--out", type=Path, help="record to write; recipes that it holds already are kept"
    )
    parser.add_argument("--only", default=",".join(REFERENCE))
    parser.add_argument("--repeats", type=int, default=25)
    args = parser.parse_args()
    out = args.out or Path("vaenb/records") / ("step.json" if JAX else "step-tensorflow.json")
    x = o.array(np.random.default_rng(0).random((BATCH, X)))
    record = {
        "what": "one compiled training step of a recipe against the same step written by hand; "
        "ratios vaenb / hand",
        "backend": args.backend,
        "batch": BATCH,
        "network": "784-200-200-50, tanh",
        "samples": K,
        "pseudo_inputs": PSEUDO,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: importlib.metadata.version(name) for name in (args.backend, "keras")},
        "results": {},
    }
    if out.exists():
        record["results"] = json.loads(out.read_text())["results"]
    for name in args.only.split(","):
        heavy = REFERENCE[name] in ("iwae", "dreg-iwae", "vamp-vae")
        record["results"][name] = {
            **measure(name, x, args.repeats, 5 if heavy else 30),
            "load_average": round(os.getloadavg()[0], 1),
        }
        print(name, json.dumps(record["results"][name]), flush=True)
        out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
