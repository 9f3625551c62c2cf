"""What composing a model from parts costs: one training step of a recipe against the same step written by hand in JAX.

    python benchmarks/step.py --out benchmarks/results/step.json

Both steps are compiled whole (network 784-200-200-50, tanh, batch 100, Bernoulli with coins flipped anew, Adam, donated
state), run in turns, and compared in two ways: by the operations that XLA counts in the compiled program, which no other
work on the machine can disturb, and by the median time. The hand-written functions use nothing of vaenb or Keras.
"""
import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np

D, H, X, BATCH, K, PSEUDO, N_DATA = 50, 200, 784, 100, 50, 500, 50_000


def glorot(rng, n, m): return jnp.asarray(rng.uniform(-1, 1, (n, m)) * np.sqrt(6 / (n + m)), "float32"), jnp.zeros(m)


def start(name, seed=0):
    """The hand-written parameters."""
    rng = np.random.default_rng(seed)
    heads = D + D * (D + 1) // 2 if name == "full-cov-vae" else D if name == "ae" else 2 * D
    p = {"enc": [glorot(rng, X, H), glorot(rng, H, H), glorot(rng, H, heads)], "dec": [glorot(rng, D, H), glorot(rng, H, H), glorot(rng, H, X)]}
    if name == "vamp-vae": p["pseudo"] = jnp.asarray(rng.normal(size=(PSEUDO, X)), "float32")
    if name == "mog-vae": p["mixture"] = (jnp.asarray(rng.normal(size=(10, D)), "float32"), jnp.zeros((10, D)), jnp.zeros(10))
    return p


def mlp(layers, x):
    for w, b in layers[:-1]: x = jnp.tanh(x @ w + b)
    return x @ layers[-1][0] + layers[-1][1]


def normal(z, mu=0.0, logvar=0.0): return -0.5 * jnp.sum((z - mu) ** 2 * jnp.exp(-logvar) + logvar + np.log(2 * np.pi) + 0 * z, -1)


def bernoulli(x, logits): return jnp.sum(x * logits - jax.nn.softplus(logits), -1)


def weights(p, x, key, k):
    """log w of k samples, with mu and logvar."""
    mu, logvar = jnp.split(mlp(p["enc"], x), 2, -1)
    z = mu[:, None] + jnp.exp(0.5 * logvar[:, None]) * jax.random.normal(key, (len(x), k, D))
    return bernoulli(x[:, None], mlp(p["dec"], z)) + normal(z) - normal(z, mu[:, None], logvar[:, None])


def codes(p, x, key):
    mu, logvar = jnp.split(mlp(p["enc"], x), 2, -1)
    return mu, logvar, mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)


def loss_ae(p, x, key): return jnp.mean(0.5 * jnp.sum((x - mlp(p["dec"], mlp(p["enc"], x))) ** 2 + np.log(2 * np.pi), -1))


def loss_vae(p, x, key):
    mu, logvar, z = codes(p, x, key)
    return jnp.mean(0.5 * jnp.sum(jnp.exp(logvar) + mu**2 - 1 - logvar, -1) - bernoulli(x, mlp(p["dec"], z)))


def loss_iwae(p, x, key): return -jnp.mean(jax.nn.logsumexp(weights(p, x, key, K), 1) - np.log(K))


def loss_tc(p, x, key):
    mu, logvar, z = codes(p, x, key)
    each = -0.5 * ((z[:, None] - mu) ** 2 * jnp.exp(-logvar) + logvar + np.log(2 * np.pi))
    m, i = BATCH - 1, np.arange(BATCH)
    w = np.full((BATCH, BATCH), 1 / m)
    w[i, i], w[i, (i + 1) % BATCH] = 1 / N_DATA, (N_DATA - m) / (N_DATA * m)
    log_w = jnp.asarray(np.log(w), "float32")
    joint, product = jax.nn.logsumexp(log_w + each.sum(-1), 1), jax.nn.logsumexp(log_w[..., None] + each, 1).sum(-1)
    return jnp.mean(normal(z, mu, logvar) - joint + 6 * (joint - product) + product - normal(z) - bernoulli(x, mlp(p["dec"], z)))


def loss_info(p, x, key):
    key, other = jax.random.split(key)
    mu, logvar, z = codes(p, x, key)
    wanted = jax.random.normal(other, z.shape)
    def kernel(a, b):
        square = jnp.sum((a[:, None] - b) ** 2, -1)
        return sum(c / (c + square) for c in (2 * D * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))) / 7
    n = BATCH * (BATCH - 1)
    mmd = (kernel(z, z).sum() - BATCH) / n + (kernel(wanted, wanted).sum() - BATCH) / n - 2 * kernel(z, wanted).mean()
    return jnp.mean(0.5 * jnp.sum(jnp.exp(logvar) + mu**2 - 1 - logvar, -1) - bernoulli(x, mlp(p["dec"], z))) + 999 * mmd


def loss_vamp(p, x, key):
    mu, logvar, z = codes(p, x, key)
    u_mu, u_logvar = jnp.split(mlp(p["enc"], jax.nn.sigmoid(p["pseudo"])), 2, -1)
    log_pz = jax.nn.logsumexp(normal(z, u_mu[:, None], u_logvar[:, None]), 0) - np.log(PSEUDO)
    return jnp.mean(normal(z, mu, logvar) - log_pz - bernoulli(x, mlp(p["dec"], z)))


def loss_mog(p, x, key):
    mu, logvar, z = codes(p, x, key)
    m, s, w = p["mixture"]
    log_pz = jax.nn.logsumexp(normal(z[:, None], m, s) + jax.nn.log_softmax(w), 1)
    return jnp.mean(normal(z, mu, logvar) - log_pz - bernoulli(x, mlp(p["dec"], z)))


def loss_full(p, x, key):
    raw = mlp(p["enc"], x)
    mu, low = raw[:, :D], jnp.zeros((BATCH, D, D)).at[:, *np.tril_indices(D)].set(raw[:, D:])
    log_diagonal = jnp.diagonal(low, axis1=1, axis2=2)
    factor = jnp.tril(low, -1) + jnp.exp(log_diagonal)[..., None] * jnp.eye(D)
    z = mu + jnp.einsum("nij,nj->ni", factor, jax.random.normal(key, mu.shape))
    kl = 0.5 * (jnp.sum(factor**2, (1, 2)) + jnp.sum(mu**2, -1) - D) - jnp.sum(log_diagonal, -1)
    return jnp.mean(kl - bernoulli(x, mlp(p["dec"], z)))


def grad_dreg(p, x, key):
    """The doubly reparameterised gradient by two vector-Jacobian products."""
    eps = jax.random.normal(key, (BATCH, K, D))
    def draw(enc):
        mu, logvar = jnp.split(mlp(enc, x), 2, -1)
        return mu[:, None] + jnp.exp(0.5 * logvar[:, None]) * eps, (mu, logvar)
    z, to_encoder, (mu, logvar) = jax.vjp(draw, p["enc"], has_aux=True)
    log_w, back = jax.vjp(lambda z, dec: bernoulli(x[:, None], mlp(dec, z)) + normal(z) - normal(z, mu[:, None], logvar[:, None]), z, p["dec"])
    w = jax.nn.softmax(log_w, 1)
    by_z, by_decoder = back(-w / BATCH)
    return -jnp.mean(jax.nn.logsumexp(log_w, 1) - np.log(K)), {"enc": to_encoder(by_z * w[..., None])[0], "dec": by_decoder}


HAND = {"ae": loss_ae, "vae": loss_vae, "iwae": loss_iwae, "dreg-iwae": grad_dreg, "beta-tcvae": loss_tc, "info-vae": loss_info, "vamp-vae": loss_vamp, "mog-vae": loss_mog, "full-cov-vae": loss_full}
SAME_AS_VAE = ("beta-vae", "annealed-vae", "cyclical-vae", "free-bits-vae", "stl-vae", "dip-vae-i", "dip-vae-ii")
SAME_AS_IWAE = ("miwae", "piwae", "ciwae")


def by_hand(name):
    """A compiled step (state, x) -> state, and its state."""
    function = HAND[name]
    gradient = function if function is grad_dreg else jax.value_and_grad(function)
    def step(state, x):
        p, m, v, count, key, seen = state
        key, flips, noise = jax.random.split(key, 3)
        if name != "ae": x = (jax.random.uniform(flips, x.shape) < x).astype("float32")
        loss, g = gradient(p, x, noise)
        count = count + 1
        rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-7), p, m, v)
        return p, m, v, count, key, seen + loss
    p = start(name)
    zeros = lambda: jax.tree.map(jnp.zeros_like, p)
    return step, (p, zeros(), zeros(), jnp.float32(0), jax.random.key(0), jnp.float32(0))


def ours(name, x):
    """The same of a recipe: Keras's train_step, compiled as Keras compiles it."""
    import keras
    from vaenb import RECIPES, VAE, dense, recipe
    from vaenb.likelihood import Bernoulli
    sizes = {"vamp-vae": {"n_components": PSEUDO}, "ciwae": {"k": K}, "miwae": {"m": 5, "k": 10}, "piwae": {"m": 5, "k": 10}, "iwae": {"k": K}, "dreg-iwae": {"k": K}}.get(name, {})
    if RECIPES[name].model is VAE: sizes["likelihood"] = Bernoulli(binarize=True)
    model = recipe(name, np.resize(x, (N_DATA, X)) if name == "beta-tcvae" else np.resize(x, (1000, X)), D, network=dense([H, H], "tanh"), **sizes)
    model.compile(keras.optimizers.Adam(1e-3))
    model.train_on_batch(x)
    state = model._get_jax_state(trainable_variables=True, non_trainable_variables=True, optimizer_variables=True, metrics_variables=True)
    return lambda state, x: model.train_step(state, (x,))[1], jax.tree.map(jnp.array, state)


def measure(name, reference, x, repeats, steps):
    compiled, states, cost = {}, {}, {}
    for who, (step, state) in {"hand": by_hand(reference), "vaenb": ours(name, np.asarray(x))}.items():
        compiled[who] = jax.jit(step, donate_argnums=0).lower(state, x).compile()
        analysis = compiled[who].cost_analysis()
        states[who], cost[who] = state, {"flops": analysis["flops"], "bytes": analysis.get("bytes accessed")}
    times = {who: [] for who in compiled}
    for _ in range(repeats):
        for who in compiled:
            begin = time.perf_counter()
            for _ in range(steps): states[who] = compiled[who](states[who], x)
            jax.block_until_ready(states[who])
            times[who].append((time.perf_counter() - begin) / steps)
    medians = {who: statistics.median(values) for who, values in times.items()}
    ratios = sorted(b / a for a, b in zip(times["hand"], times["vaenb"]))
    return {"reference": reference, "flops_ratio": round(cost["vaenb"]["flops"] / cost["hand"]["flops"], 4), "bytes_ratio": round(cost["vaenb"]["bytes"] / cost["hand"]["bytes"], 4),
            "milliseconds": {who: round(1000 * value, 3) for who, value in medians.items()}, "time_ratio": round(statistics.median(ratios), 3),
            "time_ratio_quartiles": [round(ratios[len(ratios) // 4], 3), round(ratios[-1 - len(ratios) // 4], 3)]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="benchmarks/results/step.json")
    parser.add_argument("--only", default=",".join([*HAND, *SAME_AS_VAE, *SAME_AS_IWAE]))
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    x = jnp.asarray(np.random.default_rng(0).random((BATCH, X)), "float32")
    record = {"what": "one compiled training step of a recipe against the same step written by hand in JAX; ratios vaenb / hand",
              "batch": BATCH, "network": "784-200-200-50, tanh", "samples": K, "pseudo_inputs": PSEUDO,
              "machine": f"{platform.machine()}, {os.cpu_count()} cores", "load_average_at_start": round(os.getloadavg()[0], 1), "versions": {name: importlib.metadata.version(name) for name in ("jax", "keras")}, "results": {}}
    for name in args.only.split(","):
        reference = name if name in HAND else "vae" if name in SAME_AS_VAE else "iwae"
        heavy = reference in ("iwae", "dreg-iwae", "vamp-vae")
        record["results"][name] = measure(name, reference, x, args.repeats, 5 if heavy else 50)
        print(name, json.dumps(record["results"][name]), flush=True)
        Path(args.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
