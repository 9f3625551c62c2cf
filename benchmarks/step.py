"""What composing a model from parts costs: one training step of a recipe against the same step
written by hand.

    python benchmarks/step.py                       # JAX: vaenb/records/step.json
    python benchmarks/step.py --backend tensorflow  # vaenb/records/step-tensorflow.json
    python benchmarks/step.py --check               # whether both compute the same losses

Both steps are compiled whole (network 784-200-200-50, tanh, batch 100, Bernoulli with coins flipped
anew, Adam), run in turns, and compared by the median time and, on JAX, by the operations that XLA
counts in the compiled program, which no other work on the machine can disturb. TensorFlow compiles
a graph without XLA, as vaenb asks it to for such a training on a CPU, where XLA's random numbers
are slow. The hand-written functions (`steps_by_hand.py`) use nothing of vaenb or Keras.

Where the network is another one: the sparse autoencoders have no hidden layers, but a dictionary of
512 atoms for the 784 pixels, of which 64 are active. The quantisers make ten tokens of the 50
numbers, of 512 codes (vq-vae) or of four stages with 32 codes (rq-vae); fsq-ae rounds each number
to 8 levels. hvae and ladder-vae have a second level of 100 numbers, and 64 units between the
levels. m2 and gm-vae sum over ten categories, and half of the labels of m2 are known; cvae gets ten
classes as ten numbers beside x and z. The adversarial models train their discriminator in the same
step with a second Adam.

--check gives both steps the same weights and the same noise and compares the losses of five
steps, so that the gradients count as well. It covers the recipes that draw all their noise
by `vaenb.noise`."""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow" if "tensorflow" in sys.argv else "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import steps_by_hand as hand
from steps_by_hand import JAX, REFERENCE, by_hand, compiled_jax, o

LABELS = np.arange(hand.BATCH) % hand.CATEGORIES
KNOWN = np.where(np.arange(hand.BATCH) % 2 == 0, LABELS, -1).astype("int32")
ONE_HOT = np.eye(hand.CATEGORIES, dtype="float32")[LABELS]
BESIDE = {"cvae": {"condition": ONE_HOT}, "m2": {"target": KNOWN}}  # what is given beside x

# ---- the step of vaenb -----------------------------------------------------------------


def model_of(name):
    """The compiled model of a recipe."""
    import keras

    from vaenb import RECIPES, VAE, dense, recipe
    from vaenb.adversary import two_optimizers
    from vaenb.likelihood import Bernoulli

    sizes = {
        "vamp-vae": {"n_components": hand.PSEUDO},
        "ciwae": {"k": hand.K},
        "miwae": {"m": 5, "k": 10},
        "piwae": {"m": 5, "k": 10},
        "iwae": {"k": hand.K},
        "dreg-iwae": {"k": hand.K},
        "vq-vae": {"n_codes": hand.CODES},
        "rq-vae": {"n_stages": hand.STAGES, "n_codes": hand.STAGE_CODES},
        "m2": {"n_categories": hand.CATEGORIES},
        "gm-vae": {"n_categories": hand.CATEGORIES},
    }.get(name, {})
    code = {"vq-vae": (hand.PLACES, hand.D // hand.PLACES)}
    code["rq-vae"] = code["vq-vae"]
    code.update(dict.fromkeys(hand.SPARSE, hand.ATOMS))
    if name not in hand.SPARSE:
        sizes["network"] = dense([hand.H, hand.H], "tanh")
    if issubclass(RECIPES[name].model, VAE) and name not in hand.GREY:
        sizes["likelihood"] = Bernoulli(binarize=True)
    n = hand.N_DATA if name == "beta-tcvae" else 1000
    if name == "cvae":
        sizes["condition"] = np.resize(LABELS, n)
    data = np.resize(examples(), (n, hand.X))
    model = recipe(name, data, code.get(name, hand.D), **sizes)
    optimizer = keras.optimizers.Adam(1e-3)
    if name in hand.ADVERSARIAL:
        optimizer = two_optimizers(optimizer, keras.optimizers.Adam(hand.RATES["dis"]))
    if name == "m2":
        model.objective.count_labels(KNOWN)
    model.compile(optimizer, jit_compile=JAX)
    return model


def examples():
    return np.random.default_rng(0).random((hand.BATCH, hand.X)).astype("float32")


def given(name):
    """The batch for the hand-written step, and the one for vaenb."""
    x, beside = examples(), BESIDE.get(name, {})
    by_role = {"x": x, **beside} if beside else x
    return o.map(o.plain, (x, *beside.values()) if beside else x), by_role


def ours(name, batch):
    """One step of a recipe: Keras's train_step, compiled as Keras compiles it."""
    model = model_of(name)
    model.train_on_batch(batch)
    tensors = o.map(o.plain, batch)
    if JAX:
        import jax
        import jax.numpy as jnp

        state = model._get_jax_state(
            trainable_variables=True,
            non_trainable_variables=True,
            optimizer_variables=True,
            metrics_variables=True,
        )
        return compiled_jax(
            lambda state, batch: model.train_step(state, (batch,))[1],
            jax.tree.map(jnp.array, state),
            tensors,
        )
    import tensorflow as tf

    step = tf.function(lambda batch: model.train_step((batch,)))
    step(tensors)
    return lambda: step(tensors), lambda last: last["loss"].numpy(), None


# ---- whether both compute the same -------------------------------------------------------


def as_numpy(variable):
    import keras

    return keras.ops.convert_to_numpy(variable)


def layers_of(*parts):
    """(kernel, bias) of each dense layer of some parts of a model."""
    found = [as_numpy(v) for part in parts for v in part.trainable_variables]
    return list(zip(found[::2], found[1::2]))


def weights_of(name, model):
    """The parameters of a model as the hand-written step has them."""
    if name in hand.SPARSE:
        (enc,), (atoms,) = layers_of(model.bottleneck.head), layers_of(model.decoder)
        theta = getattr(model.bottleneck, "log_theta", None)
        return {"enc": enc, "atoms": atoms} | (
            {} if theta is None else {"log_theta": as_numpy(theta)}
        )
    p = {"dec": layers_of(model.decoder)}
    if name in hand.AUTOENCODERS:
        heads = model.bottleneck.head
        return {"enc": layers_of(model.encoder, heads), **p}
    if name in ("hvae", "ladder-vae"):
        top, below = model.levels
        p["prior"] = layers_of(below.prior.network)
        body = layers_of(model.encoder)
        p["enc"] = body[:2] + layers_of(below.posterior.heads)
        p["top"] = layers_of(*[top.climb] * (top.climb is not None), top.posterior.heads)
        p["top"] = body[2:] + p["top"]
        return p
    if name in ("m2", "gm-vae"):
        p["enc"] = layers_of(model.encoder)
        (p["category"],), (p["heads"],) = (
            layers_of(part) for part in (model.category, model.posterior.heads)
        )
        if name == "gm-vae":
            prior = model.prior
            p["mixture"] = (as_numpy(prior.means), as_numpy(prior.raw_logvars))
            p["weights"] = as_numpy(prior.category_logits)
        return p
    p["enc"] = layers_of(model.encoder, model.posterior.heads)
    if name in hand.ADVERSARIAL:
        p["dis"] = layers_of(model.objective.discriminator)
    return p


def state_of(name, model):
    """What the hand-written step keeps beside its parameters, from a model."""
    if name not in hand.STATES:
        return ()
    if name in hand.SPARSE:
        names = hand.STATES[name](name)
        return {n: as_numpy(getattr(model.bottleneck, n)) for n in names}
    books = model.bottleneck.books if name == "rq-vae" else [model.bottleneck.book]
    books = [{n: as_numpy(getattr(b, n)) for n in ("vectors", "use", "steps")} for b in books]
    return books if name == "rq-vae" else books[0]


def neglect(name, model):
    """Makes some atoms idle for long enough to be dead, and some codes of too little use."""
    if name in hand.STATES and name in hand.SPARSE:
        model.bottleneck.idle.assign(np.full(hand.ATOMS, 1950.0))
    elif name in hand.STATES:
        for book in model.bottleneck.books if name == "rq-vae" else [model.bottleneck.book]:
            use = as_numpy(book.use).copy()
            use[::4] = 0.05
            book.use.assign(use)


def noise(kind, shape):
    """The same numbers for the same kind and number of draws."""
    n = int(np.prod(shape))
    rng = np.random.default_rng(n)
    draws = rng.normal(size=n) if kind == "normal" else rng.uniform(size=n)
    return o.array(draws.reshape(tuple(map(int, shape))))


def check(name, steps=5):
    """The largest difference of the losses of the first steps, relative to the loss."""
    from vaenb.noise import given_noise

    by_tuple, by_role = given(name)
    model = model_of(name)
    neglect(name, model)
    o.normal, o.uniform = (lambda key, shape, k=k: noise(k, shape) for k in ("normal", "uniform"))
    once, wait, _ = by_hand(name, by_tuple, weights_of(name, model), state_of(name, model))
    worst = total = 0.0
    with given_noise(noise):
        for _ in range(steps):
            found = model.train_on_batch(by_role, return_dict=True)["loss"]
            last = once()
            wait(last)
            wanted, total = float(last[-1]) - total, float(last[-1])
            worst = max(worst, abs(float(found) - wanted) / abs(wanted))
    return worst


# ---- the measurement --------------------------------------------------------------------


def measure(name, repeats, steps):
    by_tuple, by_role = given(name)
    made = {"hand": by_hand(REFERENCE[name], by_tuple), "vaenb": ours(name, by_role)}
    times = {who: [] for who in made}
    for once, wait, _ in made.values():
        wait(once())
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
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backend", choices=("jax", "tensorflow"), default="jax")
    parser.add_argument(
        "--out", type=Path, help="record to write; recipes that it holds already are kept"
    )
    parser.add_argument("--only", help="recipes, separated by commas")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument(
        "--check", action="store_true", help="compare losses instead of times; nothing is written"
    )
    args = parser.parse_args()
    if args.check:
        worst = 0.0
        for name in (args.only or ",".join(CHECKED)).split(","):
            found = check(name)
            print(f"{name}: losses differ by at most {found:.1e}", flush=True)
            worst = max(worst, found)
        return worst > 1e-4
    out = args.out or Path("vaenb/records") / ("step.json" if JAX else "step-tensorflow.json")
    record = {
        "what": "one compiled training step of a recipe against the same step written by hand; "
        "ratios vaenb / hand",
        "backend": args.backend,
        "batch": hand.BATCH,
        "network": "784-200-200-50, tanh",
        "samples": hand.K,
        "pseudo_inputs": hand.PSEUDO,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: importlib.metadata.version(name) for name in (args.backend, "keras")},
        "results": {},
    }
    if out.exists():
        record["results"] = json.loads(out.read_text())["results"]
    for name in (args.only or ",".join(REFERENCE)).split(","):
        heavy = REFERENCE[name] in ("iwae", "dreg-iwae", "vamp-vae", "m2", "gm-vae")
        record["results"][name] = {
            **measure(name, args.repeats, 5 if heavy else 30),
            "load_average": round(os.getloadavg()[0], 1),
        }
        print(name, json.dumps(record["results"][name]), flush=True)
        out.write_text(json.dumps(record, indent=1) + "\n")


CHECKED = (
    *("ae", "vae", "sigma-vae", "iwae"),
    *hand.SPARSE,
    *("vq-vae", "rq-vae", "fsq-ae", "hvae", "ladder-vae", "m2", "gm-vae", "cvae", "s-vae"),
    *hand.ADVERSARIAL,
)

if __name__ == "__main__":
    sys.exit(main())
