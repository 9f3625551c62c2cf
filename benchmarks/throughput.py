"""Training throughput of vaenb against a hand-written loop on the same backend, in one run on one machine.

    python benchmarks/throughput.py                 # every backend that is installed
    python benchmarks/throughput.py --repeats 9

The network is dense, 784-512-16-512-784, Bernoulli, Adam. Ours and the hand-written epochs take turns, so that a
disturbance of the machine hits both; what counts is the ratio of medians. Results go to benchmarks/results/throughput.json.
"""
import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parent / "results" / "throughput.json"
WIDTHS, CODE, EXAMPLES = (784, 512), 16, 12_800


def weights(seed=0):
    """The hand-written network's weights: glorot uniform kernels, zero biases."""
    rng = np.random.default_rng(seed)
    shapes = [(784, 512), (512, 2 * CODE), (CODE, 512), (512, 784)]
    return [a.astype("float32") for n, m in shapes for a in (rng.uniform(-1, 1, (n, m)) * np.sqrt(6 / (n + m)), np.zeros(m))]


def hand_tensorflow(x, batch):
    """An epoch as one compiled step after another, the faster of TensorFlow's two ways at these sizes."""
    import tensorflow as tf

    variables, moments = [tf.Variable(w) for w in weights()], [(tf.Variable(np.zeros_like(w)), tf.Variable(np.zeros_like(w))) for w in weights()]
    count = tf.Variable(0.0)

    @tf.function(jit_compile=True)
    def step(x):
        with tf.GradientTape() as tape:
            w1, b1, w2, b2, w3, b3, w4, b4 = variables
            mu, logvar = tf.split(tf.nn.relu(x @ w1 + b1) @ w2 + b2, 2, axis=1)
            z = mu + tf.exp(0.5 * logvar) * tf.random.normal(tf.shape(mu))
            logits = tf.nn.relu(z @ w3 + b3) @ w4 + b4
            kl = 0.5 * tf.reduce_sum(tf.exp(logvar) + mu**2 - 1 - logvar, 1)
            loss = tf.reduce_mean(kl - tf.reduce_sum(x * logits - tf.nn.softplus(logits), 1))
        count.assign_add(1.0)
        rate = 1e-3 * tf.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        for w, g, (m, v) in zip(variables, tape.gradient(loss, variables), moments):
            m.assign(0.9 * m + 0.1 * g)
            v.assign(0.999 * v + 0.001 * g * g)
            w.assign_sub(rate * m / (tf.sqrt(v) + 1e-7))
        return loss

    data, rng = tf.constant(x), np.random.default_rng(0)

    def epoch():
        shuffled = tf.gather(data, rng.permutation(len(x)))
        for i in range(0, len(x), batch): loss = step(shuffled[i:i + batch])
        return float(loss)

    return epoch


def hand_jax(x, batch):
    """An epoch as one compiled scan over data that stay on the device."""
    import jax
    import jax.numpy as jnp

    def loss_of(params, x, key):
        w1, b1, w2, b2, w3, b3, w4, b4 = params
        mu, logvar = jnp.split(jax.nn.relu(x @ w1 + b1) @ w2 + b2, 2, axis=1)
        z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
        logits = jax.nn.relu(z @ w3 + b3) @ w4 + b4
        kl = 0.5 * jnp.sum(jnp.exp(logvar) + mu**2 - 1 - logvar, 1)
        return jnp.mean(kl - jnp.sum(x * logits - jax.nn.softplus(logits), 1))

    def step(state, x):
        params, m, v, count, key = state
        key, noise = jax.random.split(key)
        loss, grads = jax.value_and_grad(loss_of)(params, x, noise)
        count = count + 1
        m = [0.9 * a + 0.1 * g for a, g in zip(m, grads)]
        v = [0.999 * a + 0.001 * g * g for a, g in zip(v, grads)]
        rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        params = [w - rate * a / (jnp.sqrt(b) + 1e-7) for w, a, b in zip(params, m, v)]
        return (params, m, v, count, key), loss

    @jax.jit
    def run(state, data, order): return jax.lax.scan(step, state, data[order].reshape(-1, batch, 784))

    data, rng = jnp.asarray(x), np.random.default_rng(0)
    params = [jnp.asarray(w) for w in weights()]
    box = [(params, [0 * w for w in params], [0 * w for w in params], jnp.float32(0), jax.random.key(0))]

    def epoch():
        box[0], losses = run(box[0], data, rng.permutation(len(x)))
        return float(losses[-1])

    return epoch


def measure(backend, repeats):
    """Images per second, ours and hand-written, by batch size."""
    import keras

    from vaenb import VAE, dense

    keras.utils.set_random_seed(0)
    x = (np.random.default_rng(0).random((EXAMPLES, 784)) < 0.13).astype("float32")
    out = {}
    for batch in (128, 640):
        model = VAE.for_data(x, CODE, network=dense([512]))
        model.compile("adam", jit_compile=True)
        ours = lambda: model.fit(x, batch_size=batch, epochs=1, verbose=0)
        hand = {"tensorflow": hand_tensorflow, "jax": hand_jax}[backend](x, batch)
        rates = {"vaenb": [], "hand": []}
        for turn in range(repeats + 1):  # the first turn compiles
            for name, epoch in (("vaenb", ours), ("hand", hand)):
                start = time.perf_counter()
                epoch()
                if turn: rates[name].append(EXAMPLES / (time.perf_counter() - start))
        out[str(batch)] = {name: {"median": round(statistics.median(r)), "min": round(min(r)), "max": round(max(r))} for name, r in rates.items()}
        out[str(batch)]["ratio"] = round(statistics.median(rates["vaenb"]) / statistics.median(rates["hand"]), 3)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args.worker, args.repeats)))
        return
    record = {"date": date.today().isoformat(), "machine": f"{os.cpu_count()} x {platform.machine()}", "python": platform.python_version(),
              "versions": {p: importlib.metadata.version(p) for p in ("keras", "tensorflow", "jax", "numpy") if importlib.util.find_spec(p)},
              "protocol": f"dense 784-512-{CODE}-512-784, Bernoulli, Adam, {EXAMPLES} examples an epoch, {args.repeats} epochs each in turns, images per second", "results": {}}
    for backend in ("tensorflow", "jax"):
        if not importlib.util.find_spec(backend): continue
        done = subprocess.run([sys.executable, __file__, "--worker", backend, "--repeats", str(args.repeats)], capture_output=True, text=True,
                              env={**os.environ, "KERAS_BACKEND": backend})
        if done.returncode: sys.exit(done.stderr[-3000:])
        record["results"][backend] = json.loads(done.stdout.splitlines()[-1])
        for batch, row in record["results"][backend].items():
            print(f"{backend:11s} batch {batch:>4s}   vaenb {row['vaenb']['median']:7,d} images/s   hand-written {row['hand']['median']:7,d}   ratio {row['ratio']:.2f}", flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    print(f"recorded in {RESULT.relative_to(Path.cwd()) if RESULT.is_relative_to(Path.cwd()) else RESULT}")


if __name__ == "__main__":
    main()
