"""The training steps of `benchmarks/step.py` written by hand, in JAX or TensorFlow, with nothing of
vaenb or Keras."""

import math
import os
from types import SimpleNamespace

JAX = os.environ.get("KERAS_BACKEND") == "jax"

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
ATOMS = 512  # of a sparse code's dictionary
PLACES, CODES, STAGES, STAGE_CODES = 10, 512, 4, 32  # ten tokens of five numbers each
CATEGORIES, RARITY = 10, 2.0  # every second label is known

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
                "int32",
                "any",
                "sort",
                "argmin",
                "ones",
                "transpose",
                "round",
                "expm1",
                "cos",
                "minimum",
                "maximum",
            )
        },
        zeros=lambda shape: jnp.zeros(shape),
        array=lambda a: jnp.asarray(a, "float32"),
        plain=jnp.asarray,
        cast=lambda a, dtype: a.astype(dtype),
        relu=jax.nn.relu,
        leaky_relu=lambda a: jax.nn.leaky_relu(a, 0.2),
        rsqrt=jax.lax.rsqrt,
        top_k=lambda a, k: jax.lax.top_k(a, k)[0],
        one_hot=jax.nn.one_hot,
        segment_sum=jax.ops.segment_sum,
        argsort=lambda a: jnp.argsort(a, 0),
        take_along=lambda a, i: jnp.take_along_axis(a, i, 0),
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
            for name in (
                "exp",
                "sqrt",
                "tanh",
                "abs",
                "where",
                "einsum",
                "float32",
                "zeros",
                "int32",
                "sort",
                "argmin",
                "ones",
                "transpose",
                "round",
                "cos",
                "minimum",
                "maximum",
                "cast",
                "one_hot",
            )
        },
        sum=tf.reduce_sum,
        mean=tf.reduce_mean,
        log=tf.math.log,
        log1p=tf.math.log1p,
        clip=tf.clip_by_value,
        take=lambda a, i, axis: tf.gather(a, i, axis=axis),
        array=lambda a: tf.constant(a, "float32"),
        plain=tf.convert_to_tensor,
        any=tf.reduce_any,
        expm1=tf.math.expm1,
        relu=tf.nn.relu,
        leaky_relu=lambda a: tf.nn.leaky_relu(a, 0.2),
        rsqrt=tf.math.rsqrt,
        top_k=lambda a, k: tf.math.top_k(a, k)[0],
        segment_sum=tf.math.unsorted_segment_sum,
        argsort=lambda a: tf.argsort(a, 0),
        take_along=lambda a, i: tf.transpose(
            tf.gather(tf.transpose(a), tf.transpose(i), batch_dims=1)
        ),
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

    if name in STARTS:
        return STARTS[name](glorot, draw, name)
    flow = name in ("planar-vae", "radial-vae", "iaf-vae")
    heads = (
        D + D * (D + 1) // 2
        if name == "full-cov-vae"
        else D
        if name in AUTOENCODERS
        else D + 1
        if name == "s-vae"
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


def mlp(layers, x, activation=o.tanh, last=None):
    for w, b in layers[:-1]:
        x = activation(x @ w + b)
    x = x @ layers[-1][0] + layers[-1][1]
    return x if last is None else last(x)


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


# ---- sparse codes: a dictionary of ATOMS atoms instead of the two networks ------------


def dictionary_start(glorot, draw, name):
    atoms = draw(1.0, ATOMS, X)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    theta = (
        {"log_theta": np.full(ATOMS, math.log(0.1), "float32")} if name == "jumprelu-sae" else {}
    )
    return {"enc": glorot(X, ATOMS), "atoms": (atoms, np.zeros(X, "float32")), **theta}


def idle_start(name):
    zero = np.zeros((), "float32")
    running = {} if name == "topk-sae" else {"threshold": zero, "updates": zero}
    return {"idle": np.zeros(ATOMS, "float32"), **running}


def unit_atoms(p):
    """The parameters after an update, with atoms of length 1."""
    w, b = p["atoms"]
    return {**p, "atoms": (w / (1e-7 + o.sqrt(o.sum(w * w, 1)[:, None])), b)}


def activations(p, x):
    return (x - p["atoms"][1]) @ p["enc"][0] + p["enc"][1]


def squared(x, x_hat):
    return 0.5 * o.sum((x - x_hat) ** 2 + math.log(2 * math.pi), -1)


def at_least(a, smallest):
    return o.where(a >= smallest, a, 0.0)


def auxiliary(p, s, x, a, z, x_hat):
    """What dead atoms could still explain of the error, and the idle counts after this batch."""
    idle = o.where(o.any(z != 0, 0), 0.0, s["idle"] + BATCH)
    dead = o.where(idle >= 2000, o.relu(a), 0.0)
    dead = at_least(dead, o.stop(o.top_k(dead, ATOMS // 2)[:, -1:]))
    fixed = o.stop(x_hat)
    gain = squared(x, fixed) - squared(x, fixed + dead @ p["atoms"][0])
    return -gain / 32, idle


def loss_topk(p, s, x, key):
    a = activations(p, x)
    z = at_least(a, o.stop(o.top_k(a, ATOMS // 8)[:, -1:]))
    x_hat = z @ p["atoms"][0] + p["atoms"][1]
    more, idle = auxiliary(p, s, x, a, z, x_hat)
    return o.mean(squared(x, x_hat) + more), {"idle": idle}


def loss_batch_topk(p, s, x, key, sizes=(ATOMS,)):
    a = activations(p, x)
    smallest = o.sort(reshape(o.stop(a), (-1,)))[BATCH * (ATOMS - ATOMS // 8)]
    z = at_least(a, smallest)
    updates = s["updates"] + 1
    rate = o.maximum(1 / updates, 0.01)
    threshold = s["threshold"] + rate * (smallest - s["threshold"])
    (w, x_hat), start, total = p["atoms"], 0, 0.0
    for end in sizes:  # each prefix adds its own atoms to what those before it reconstruct
        x_hat = x_hat + z[:, start:end] @ w[start:end]
        start, total = end, total + squared(x, x_hat)
    more, idle = auxiliary(p, s, x, a, z, x_hat)
    return o.mean(total + more), {"idle": idle, "threshold": threshold, "updates": updates}


def loss_matryoshka(p, s, x, key):
    return loss_batch_topk(p, s, x, key, (ATOMS // 8, ATOMS // 4, ATOMS // 2, ATOMS))


def loss_jumprelu(p, x, key):
    a, theta = activations(p, x), o.exp(p["log_theta"])
    window = o.cast(o.abs(a - theta) < 0.05, o.float32) / 0.1
    on = o.cast(a > theta, o.float32)

    def through(slope):
        return o.stop(slope) * (theta - o.stop(theta))

    z = a * on + through(-theta * window)
    active = o.sum(on + through(-window), -1)
    return o.mean(squared(x, z @ p["atoms"][0] + p["atoms"][1]) + 0.03 * active)


# ---- quantised codes -----------------------------------------------------------------


def book_start(n_codes, length):
    rng = np.random.default_rng(1)
    return {
        "vectors": rng.normal(size=(n_codes, length)).astype("float32"),
        "use": np.ones(n_codes, "float32"),
        "steps": np.zeros((), "float32"),
    }


def nearest(book, h, key):
    """The nearest code vector of each row of h, and the codebook after this batch."""
    h = o.stop(h)
    rows, n_codes = h.shape[0], book["use"].shape[0]
    dead = book["use"] < 0.1
    anew = o.take(h, o.cast(rows * o.uniform(key, (n_codes,)), o.int32), 0)
    vectors, use = o.where(dead[:, None], anew, book["vectors"]), o.where(dead, 1.0, book["use"])
    tokens = o.argmin(o.sum(vectors**2, 1) - 2 * h @ o.transpose(vectors), 1)
    n, total = o.segment_sum(o.ones(rows), tokens, n_codes), o.segment_sum(h, tokens, n_codes)
    decay = o.minimum(0.99, (1 + book["steps"]) / (2 + book["steps"]))
    rate = (1 - decay) * n_codes / rows
    use = decay * use + rate * n
    moved = rate * (total - n[:, None] * vectors) / o.maximum(use, 1e-12)[:, None]
    after = {"vectors": vectors + moved, "use": use, "steps": book["steps"] + 1}
    return o.take(vectors, tokens, 0), after


def loss_vq(p, s, x, key):
    h = reshape(mlp(p["enc"], x), (-1, D // PLACES))
    e, after = nearest(s, h, key)
    x_hat = mlp(p["dec"], reshape(h + o.stop(e - h), (BATCH, D)))
    return o.mean(squared(x, x_hat)) + 0.25 * o.sum((h - o.stop(e)) ** 2) / BATCH, after


def loss_rq(p, s, x, key):
    h = reshape(mlp(p["enc"], x), (-1, D // PLACES))
    total, cost, after = 0.0, 0.0, []
    for book, own in zip(s, o.keys(key, STAGES)):
        e, book = nearest(book, h - total, own)
        total, after = total + e, [*after, book]
        cost = cost + 0.25 * o.sum((h - o.stop(total)) ** 2) / BATCH
    x_hat = mlp(p["dec"], reshape(h + o.stop(total - h), (BATCH, D)))
    return o.mean(squared(x, x_hat)) + cost, after


def loss_fsq(p, x, key):
    u = 3.5 * (o.tanh(mlp(p["enc"], x)) + 1)
    return o.mean(squared(x, mlp(p["dec"], (u + o.stop(o.round(u) - u)) / 3.5 - 1)))


# ---- hierarchies, categories, conditions, directions ----------------------------------


def hierarchy_start(glorot, draw, name):
    below = H if name == "ladder-vae" else 2 * D
    return {
        "enc": [glorot(X, H), glorot(H, H), glorot(H, 4 * D)],
        "top": [glorot(below, INNER), glorot(INNER, 2 * D)],
        "prior": [glorot(D, INNER), glorot(INNER, 4 * D)],
        "dec": [glorot(2 * D, H), glorot(H, H), glorot(H, X)],
    }


def drawn(mu, logvar, key):
    return mu + o.exp(0.5 * logvar) * o.normal(key, mu.shape)


def loss_hvae(p, x, key):
    key, other = o.keys(key, 2)
    q = o.halves(mlp(p["enc"], x))
    below = drawn(*q, key)
    top = o.halves(mlp(p["top"], below, o.relu))
    prior = o.halves(mlp(p["prior"], drawn(*top, other), o.relu))
    kl = kl_normal(*top) + normal(below, *q) - normal(below, *prior)
    return o.mean(kl - bernoulli(x, mlp(p["dec"], below)))


def loss_ladder(p, x, key):
    key, other = o.keys(key, 2)
    h = mlp(p["enc"][:2], x, last=o.tanh)
    top = o.halves(mlp(p["top"], h, o.relu))
    mu, logvar = o.halves(mlp(p["prior"], drawn(*top, key), o.relu))
    seen, seen_logvar = o.halves(mlp(p["enc"][2:], h))
    gap = seen_logvar - logvar
    shift = o.sigmoid(-gap) * (seen - mu)
    q_logvar = seen_logvar - o.softplus(gap)
    z = drawn(mu + shift, q_logvar, other)
    kl = kl_normal(*top) + kl_normal(shift * o.exp(-0.5 * logvar), q_logvar - logvar)
    return o.mean(kl - bernoulli(x, mlp(p["dec"], z)))


def category_start(glorot, draw, name):
    told = CATEGORIES * (name == "m2")
    components = {} if told else {"mixture": (draw(1.0, CATEGORIES, D), draw(0.0, CATEGORIES, D))}
    return {
        "enc": [glorot(X, H), glorot(H, H)],
        "category": glorot(H, CATEGORIES),
        "heads": glorot(H + CATEGORIES, 2 * D),
        "dec": [glorot(D + told, H), glorot(H, H), glorot(H, X)],
        **components,
        **({} if told else {"weights": draw(0.0, CATEGORIES)}),
    }


def under_each(p, x, key):
    """log q(y|x), and q(z|x,y) with a draw for each category: (n, K), (n, K, d) each."""
    h = mlp(p["enc"], x, last=o.tanh)
    log_q = o.log_softmax(h @ p["category"][0] + p["category"][1])
    w, b = p["heads"]
    mu, logvar = o.halves((h @ w[:H] + b)[:, None] + w[H:])
    return log_q, mu, logvar, drawn(mu, logvar, key)


def loss_m2(p, batch, key):
    x, y = batch
    log_q, mu, logvar, z = under_each(p, x, key)
    (w, b), *layers = p["dec"]
    hidden = o.tanh(reshape(reshape(z, (-1, D)) @ w[:D], (BATCH, -1, H)) + (w[D:] + b))
    cost = (
        kl_normal(mu, logvar) + math.log(CATEGORIES) - bernoulli(x[:, None], wide(layers, hidden))
    )
    known = o.sum(o.one_hot(y, CATEGORIES) * (cost - RARITY * log_q), 1)
    return o.mean(o.where(y >= 0, known, o.sum(o.exp(log_q) * (cost + log_q), 1)))


def loss_gm(p, x, key):
    log_q, mu, logvar, z = under_each(p, x, key)
    m, s = p["mixture"]
    kl = kl_normal((mu - m) * o.exp(-0.5 * s), logvar - s) - o.log_softmax(p["weights"])
    cost = kl + log_q - bernoulli(x[:, None], wide(p["dec"], z))
    return o.mean(o.sum(o.exp(log_q) * cost, 1))


def conditional_start(glorot, draw, name):
    return {
        "enc": [glorot(X + CATEGORIES, H), glorot(H, H), glorot(H, 2 * D)],
        "dec": [glorot(D + CATEGORIES, H), glorot(H, H), glorot(H, X)],
    }


def loss_cvae(p, batch, key):
    x, c = batch
    mu, logvar, z = codes(p, o.concat([x, c], 1), key)
    return o.mean(kl_normal(mu, logvar) - bernoulli(x, mlp(p["dec"], o.concat([z, c], 1))))


def direction(v):
    return v * o.rsqrt(o.sum(v * v, -1)[:, None])


def loss_sphere(p, x, key):
    """Power spherical codes, for an even D."""
    key, other = o.keys(key, 2)
    numbers, m = mlp(p["enc"], x), (D - 1) // 2
    mu, a = direction(numbers[:, :D]), (D - 1) * o.exp(numbers[:, D]) + (D - 1) / 2
    whole, noise = a[:, None] + np.arange(m, dtype="float32"), o.uniform(key, (BATCH, m + 2))
    log_u = o.log(o.clip(noise[:, : m + 1], 2.0**-24, 1.0 - 2.0**-24))
    squash = (o.exp(-log_u[:, m] / (a + m)) - 1) * o.cos(2 * math.pi * noise[:, m + 1]) ** 2
    log_b = o.sum(log_u[:, :m] / whole, 1) - o.log1p(squash)
    rest = -o.expm1(log_b)
    radius = 2 * o.sqrt(o.maximum(o.exp(log_b) * rest, 1e-30))[:, None]
    y = o.concat([1 - 2 * rest[:, None], radius * direction(o.normal(other, (BATCH, D - 1)))], 1)
    sign = o.where(mu[:, :1] < 0, -1.0, 1.0)
    w = mu + sign * np.eye(1, D, dtype="float32")
    z = sign * (w * o.sum(w * y, 1)[:, None] / (1 + o.abs(mu[:, :1])) - y)

    # log Gamma(a + m + 1/2) - log Gamma(a) and its derivative: m + 8 steps, then a series
    steps, t = (a + m)[:, None] + np.arange(8, dtype="float32"), a + m + 8.0
    log_rise = o.sum(o.log(whole), 1) - o.sum(o.log1p(0.5 / steps), 1)
    log_rise = log_rise + 0.5 * o.log(t) - (1 / 8 - (1 / 192 - 1 / (640 * t**2)) / t**2) / t
    rise = o.sum(1 / whole, 1) + o.sum(0.5 / (steps * (steps + 0.5)), 1)
    rise = rise + (1 / 2 + (1 / 8 - (1 / 64 - 1 / (128 * t**2)) / t**2) / t) / t
    kl = log_rise - (a - (D - 1) / 2) * rise - (math.lgamma(D - 1) - math.lgamma((D - 1) / 2))
    return o.mean(kl - bernoulli(x, mlp(p["dec"], z)))


# ---- adversaries: "dis" is the discriminator, with a learning rate of its own ----------


def adversary_start(glorot, draw, name):
    widths = (X, 256, 1) if name == "vae-gan" else (D, 64, 64, 1)
    return {
        "enc": [glorot(X, H), glorot(H, H), glorot(H, 2 * D)],
        "dec": [glorot(D, H), glorot(H, H), glorot(H, X)],
        "dis": [glorot(n, m) for n, m in zip(widths, widths[1:])],
    }


def odds(layers, z):
    return mlp(layers, z, o.leaky_relu)[:, 0]


def lesson(p, a, b):
    """0, with the gradient of the discriminator's cross-entropy for the discriminator alone."""
    loss = o.softplus(-odds(p["dis"], o.stop(a))) + o.softplus(odds(p["dis"], o.stop(b)))
    return loss - o.stop(loss)


def loss_factor(p, x, key):
    key, other = o.keys(key, 2)
    mu, logvar, z = codes(p, x, key)
    shuffled = o.take_along(z, o.argsort(o.uniform(other, z.shape)))
    against = 10 * odds(o.map(o.stop, p["dis"]), z) + lesson(p, z, shuffled)
    return o.mean(kl_normal(mu, logvar) + against - bernoulli(x, mlp(p["dec"], z)))


def loss_aae(p, x, key):
    key, other = o.keys(key, 2)
    mu, logvar, z = codes(p, x, key)
    against = odds(o.map(o.stop, p["dis"]), z) + lesson(p, z, o.normal(other, z.shape))
    return o.mean(against - bernoulli(x, mlp(p["dec"], z)))


def loss_gan(p, x, key):
    key, other = o.keys(key, 2)
    mu, logvar, z = codes(p, x, key)
    fixed = o.map(o.stop, p["dis"])
    wanted, found = (mlp(fixed[:1], v, last=o.leaky_relu) for v in (x, o.sigmoid(mlp(p["dec"], z))))
    made = o.sigmoid(mlp(p["dec"], o.concat([o.stop(z), o.normal(other, z.shape)], 0)))
    fooled = o.mean(o.softplus(-odds(fixed, made)))
    taught = o.mean(o.softplus(-odds(p["dis"], x)))
    taught = taught + o.mean(o.softplus(odds(p["dis"], o.stop(made))))
    error = 5 * o.sum((wanted - found) ** 2, -1)
    return o.mean(kl_normal(mu, logvar) + error) + fooled + taught - o.stop(taught)


# ---- which is which --------------------------------------------------------------------

AUTOENCODERS = {
    "ae": loss_ae,
    "denoising-ae": loss_denoising,
    "sparse-ae": loss_sparse,
    "contractive-ae": loss_contractive,
    "rae-l2": loss_rae_l2,
    "rae-gp": loss_rae_gp,
    "vq-vae": loss_vq,
    "rq-vae": loss_rq,
    "fsq-ae": loss_fsq,
    "topk-sae": loss_topk,
    "batch-topk-sae": loss_batch_topk,
    "matryoshka-sae": loss_matryoshka,
    "jumprelu-sae": loss_jumprelu,
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
    "hvae": loss_hvae,
    "ladder-vae": loss_ladder,
    "m2": loss_m2,
    "gm-vae": loss_gm,
    "cvae": loss_cvae,
    "s-vae": loss_sphere,
    "factor-vae": loss_factor,
    "aae": loss_aae,
    "vae-gan": loss_gan,
}
SPARSE = ("topk-sae", "batch-topk-sae", "matryoshka-sae", "jumprelu-sae")
ADVERSARIAL = ("factor-vae", "aae", "vae-gan")
STARTS = {  # parameters that are not those of a plain autoencoder or VAE
    **dict.fromkeys(SPARSE, dictionary_start),
    **dict.fromkeys(("hvae", "ladder-vae"), hierarchy_start),
    **dict.fromkeys(("m2", "gm-vae"), category_start),
    **dict.fromkeys(ADVERSARIAL, adversary_start),
    "cvae": conditional_start,
}
STATES = {  # what a loss keeps from step to step beside parameters: it takes and returns it
    **dict.fromkeys(SPARSE[:3], idle_start),
    "vq-vae": lambda name: book_start(CODES, D // PLACES),
    "rq-vae": lambda name: [book_start(STAGE_CODES, D // PLACES) for _ in range(STAGES)],
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


RATES = {"dis": 1e-4}  # of a part of the parameters; 1e-3 elsewhere


def adam(p, m, v, count, g):
    warm = o.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    m = o.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = o.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)

    def moved(part):
        rate = RATES.get(part, 1e-3) * warm
        return o.map(lambda p, m, v: p - rate * m / (o.sqrt(v) + 1e-7), p[part], m[part], v[part])

    return {part: moved(part) for part in p}, m, v


def settled(name, batch, flips):
    """The batch, with coins flipped for its grey values where the model asks for it."""
    if name in GREY:
        return batch
    x, *rest = batch if isinstance(batch, tuple) else (batch,)
    x = o.cast(o.uniform(flips, x.shape) < x, o.float32)
    return (x, *rest) if rest else x


def by_hand(name, batch, p=None, s=None):
    """A function that takes one training step, one that waits for what it gave, and what counts its
    operations (None under TensorFlow). The last of what a step gives is the sum of all losses.

    - batch: a tensor, or a tuple of tensors: x and what is given beside it
    - p, s: parameters, and what a loss keeps beside them; None: those of `start` and `STATES`
    """
    function = HAND[name]
    p = o.map(o.array, start(name) if p is None else p)
    s = STATES.get(name, lambda name: ())(name) if s is None else s
    s = o.map(o.array, s)

    def zeros():
        return o.map(lambda a: o.zeros(a.shape), p)

    def loss_of(p, s, batch, key):
        return function(p, s, batch, key) if name in STATES else (function(p, batch, key), s)

    def update(p, m, v, count, g):
        p, m, v = adam(p, m, v, count, g)
        return (unit_atoms(p) if name in SPARSE else p), m, v

    if JAX:
        if function is grad_dreg:

            def gradient(p, s, batch, key):
                loss, g = grad_dreg(p, batch, key)
                return (loss, s), g
        else:
            gradient = jax.value_and_grad(loss_of, has_aux=True)

        def step(state, batch):
            p, m, v, count, s, key, seen = state
            key, flips, noise = jax.random.split(key, 3)
            (loss, s), g = gradient(p, s, settled(name, batch, flips), noise)
            return *update(p, m, v, count + 1, g), count + 1, s, key, seen + loss

        state = (p, zeros(), zeros(), jnp.float32(0), s, jax.random.key(0), jnp.float32(0))
        return compiled_jax(step, state, batch)
    variables = o.map(
        tf.Variable, (p, zeros(), zeros(), o.array(0.0), s, tf.constant([0, 0]), o.array(0.0))
    )

    @tf.function
    def step(batch):
        p, m, v, count, s, key, seen = variables
        key.assign_add([1, 0])
        flips, noise = key + [0, 1], key + [0, 7]
        batch = settled(name, batch, flips)
        if function is grad_dreg:
            (loss, g), after = function(p, batch, noise), s
        else:
            with tf.GradientTape() as tape:
                loss, after = loss_of(p, s, batch, noise)
            g = tf.nest.pack_sequence_as(p, tape.gradient(loss, tf.nest.flatten(p)))
        count.assign_add(1.0)
        seen.assign_add(loss)
        new = (*update(p, m, v, count, g), after if name in STATES else ())
        for a, b in zip(tf.nest.flatten((p, m, v, s)), tf.nest.flatten(new)):
            a.assign(b)
        return (seen.read_value(),)

    step.get_concrete_function(batch)
    return lambda: step(batch), lambda last: last[-1].numpy(), None


def compiled_jax(step, state, batch):
    program, held = jax.jit(step, donate_argnums=0).lower(state, batch).compile(), [state]

    def once():
        held[0] = program(held[0], batch)
        return held[0]

    return once, jax.block_until_ready, program.cost_analysis()
