"""A training step of vaenb's VQ-VAE beside that of the same network in PyTorch with
vector-quantize-pytorch's VectorQuantize, in one run.

    python -m venv build/vq
    build/vq/bin/pip install torch vector-quantize-pytorch
    python benchmarks/codebook.py --rivals build/vq/bin/python --out vaenb/records/codebook.json

Each contestant has a process of its own, with all cores, and waits while another one runs; they
take turns, and the ratio of the times of one turn is kept. Equal for all: an encoder of 784, 200
and 200 units (tanh) with a linear layer to the code, a mirrored decoder, batches of 100, half the
squared error summed over the pixels, 512 codes of moving averages with decay 0.99, the commitment
cost 0.25 times the squared distance summed over the code, the plain straight-through gradient (not
the rotation trick, which is slower), Adam at 1e-3. The code is ten tokens of five numbers, or 49 of
16. The batch is the same in each step.

vaenb's step is Keras's train_step, compiled whole (TensorFlow: a graph without XLA); it replaces
dead codes and reports the use of the codes. PyTorch's is an ordinary loop with the fused Adam, the
fastest on processors. Its rival appears as it is by default, without replacement of dead codes, and
with it."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

BATCH, X, H, CODES, DECAY, BETA = 100, 784, 200, 512, 0.99, 0.25
CASES = {"10 tokens of 5": (10, 5), "49 tokens of 16": (49, 16)}
OURS = ("vaenb on JAX", "vaenb on TensorFlow")
RIVALS = ("vector-quantize-pytorch", "vector-quantize-pytorch, dead codes replaced")


def examples():
    return np.random.default_rng(0).random((BATCH, X)).astype("float32")


def our_step(places, length):
    """A function that takes so many steps and waits for the last, and the versions."""
    from importlib.metadata import version

    import keras

    from vaenb import Autoencoder, dense
    from vaenb.quantize import VectorQuantizer

    jax_is_used = keras.backend.backend() == "jax"
    x = examples()
    model = Autoencoder.for_data(
        np.resize(x, (1000, X)),
        (places, length),
        network=dense([H, H], "tanh"),
        bottleneck=VectorQuantizer(CODES, beta=BETA, decay=DECAY),
    )
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=jax_is_used)
    model.train_on_batch(x)
    found = {name: version(name) for name in ("vaenb", "keras", keras.backend.backend())}
    if not jax_is_used:
        import tensorflow as tf

        x, step = tf.constant(x), tf.function(lambda x: model.train_step((x,)))

        def steps(n):
            for _ in range(n):
                last = step(x)
            last["loss"].numpy()

        return steps, found
    import jax
    import jax.numpy as jnp

    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    held, x = [jax.tree.map(jnp.array, state)], jnp.asarray(x)
    step = jax.jit(lambda state, x: model.train_step(state, (x,)), donate_argnums=0)

    def steps(n):
        for _ in range(n):
            logs, held[0] = step(held[0], x)
        jax.block_until_ready(logs)

    return steps, found


def rival_step(places, length, replaced):
    from importlib.metadata import version

    import torch
    from vector_quantize_pytorch import VectorQuantize

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    size = places * length
    quantizer = VectorQuantize(
        length,
        CODES,
        decay=DECAY,
        commitment_weight=BETA * size,  # it averages over the numbers of the code
        rotation_trick=False,
        threshold_ema_dead_code=0.1 * BATCH * places / CODES if replaced else 0,
    )

    def network(*widths):
        pairs = [(torch.nn.Linear(n, m), torch.nn.Tanh()) for n, m in zip(widths, widths[1:])]
        return torch.nn.Sequential(*[layer for pair in pairs for layer in pair][:-1])

    encoder, decoder = network(X, H, H, size), network(size, H, H, X)
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(weights, 1e-3, fused=True)
    x = torch.from_numpy(examples())
    quantizer.train()

    def steps(n):
        for _ in range(n):
            h = encoder(x).reshape(BATCH, places, length)
            z, _, commitment = quantizer(h)
            error = 0.5 * ((x - decoder(z.reshape(BATCH, size))) ** 2).sum(1).mean()
            loss = error + commitment.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps, {name: version(name) for name in ("torch", "vector-quantize-pytorch")}


def worker(name, places, length):
    """Takes as many steps as each line of the standard input says, and prints the seconds."""
    if name in OURS:
        steps, versions = our_step(places, length)
    else:
        steps, versions = rival_step(places, length, name == RIVALS[1])
    steps(20)
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        steps(int(line))
        print(json.dumps(time.perf_counter() - begin), flush=True)


class Contestant:
    def __init__(self, name, python, places, length):
        backend = "jax" if name == OURS[0] else "tensorflow"
        self.process = subprocess.Popen(
            [python, __file__, "--worker", name, str(places), str(length)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self.versions, self.seconds = self.answer(), []

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended without an answer")
        return json.loads(line)

    def turn(self, steps):
        print(steps, file=self.process.stdin, flush=True)
        self.seconds.append(self.answer() / steps)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measured(case, rivals, repeats, steps):
    """Milliseconds of each, and the ratio of each of ours to each rival: median and quartiles."""
    pythons = {**dict.fromkeys(OURS, sys.executable), **dict.fromkeys(RIVALS, rivals)}
    made = {name: Contestant(name, python, *CASES[case]) for name, python in pythons.items()}
    for _ in range(repeats):
        for contestant in made.values():
            contestant.turn(steps)
    for contestant in made.values():
        contestant.close()
    ratios = {}
    for us in OURS:
        for them in RIVALS:
            each = sorted(a / b for a, b in zip(made[us].seconds, made[them].seconds))
            places = (len(each) // 4, -1 - len(each) // 4)
            ratios[f"{us} / {them}"] = {
                "median": round(statistics.median(each), 3),
                "quartiles": [round(each[i], 3) for i in places],
            }
    return {
        "milliseconds": {
            name: round(1000 * statistics.median(c.seconds), 3) for name, c in made.items()
        },
        "ratios": ratios,
        "load_average": round(os.getloadavg()[0], 1),
    }, {k: v for c in made.values() for k, v in c.versions.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rivals", help="the Python of an environment with the rival and torch")
    parser.add_argument("--out", type=Path, default=Path("vaenb/records/codebook.json"))
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--steps", type=int, default=30, help="in each turn")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        name, *sizes = args.worker
        return worker(name, *map(int, sizes))
    if not args.rivals:
        parser.error(
            "--rivals is needed: the Python of an environment with vector-quantize-pytorch"
        )
    record = {
        "what": "one training step of a VQ-VAE with 512 codes; ratios of times, vaenb / rival",
        "batch": BATCH,
        "network": "784-200-200-code, tanh",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()},
        "results": {},
    }
    for case in args.only:
        record["results"][case], versions = measured(case, args.rivals, args.repeats, args.steps)
        record["versions"].update(versions)
        print(case, json.dumps(record["results"][case]), flush=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
