"""Published protocols, trained and measured as they were published, or on a smaller budget that
says so.

    python benchmarks/reproduce.py --list
    python benchmarks/reproduce.py iwae-50  # the whole protocol, on JAX

    # ten minutes of a smaller one
    python benchmarks/reproduce.py iwae-50 --budget reduced --max-minutes 10

A run can be stopped or killed at any moment: the same command goes on where it was, and ends with
the numbers that it would have had undisturbed. Its state is kept under build/reproduce; what it has
found is written, when it is finished, to
vaenb/records/reproduce/NAME-BUDGET-BACKEND-SEED.json, from which nbs/stories/90_results.ipynb
is made."""

import argparse
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

# ---- the protocols, as data ----------------------------------------------------------

RATES = [round(1e-4 * round(10 ** (1 - i / 7), 1), 8) for i in range(8)]
EVERY = {
    "data": "mnist",
    "binarization": "training images at every visit, validation and test images once (seed 777)",
}
FULL = {"images": 10_000, "samples": 5000}
REDUCED = {"images": 1000, "samples": 256}
TINY = {"data": "digits", "examples": 200, "images": 60, "samples": 20, "block": 5}

BURDA = {
    **EVERY,
    "paper": "Burda et al. 2016",
    "url": "https://arxiv.org/abs/1509.00519",
    "latent_dim": 50,
    "batch_size": 20,
    "network": {"kind": "dense", "hidden": [200, 200], "activation": "tanh"},
    "optimizer": {
        "kind": "adam",
        "beta_1": 0.99,
        "beta_2": 0.999,
        "epsilon": 1e-4,
        "gradient": "sum over the batch",
    },
    "budgets": {
        "full": {**FULL, "stages": [[3**i, rate] for i, rate in enumerate(RATES)]},
        "reduced": {**REDUCED, "stages": [[1, rate] for rate in RATES[::4]]},
        "tiny": {**TINY, "stages": [[1, RATES[0]], [1, RATES[7]]]},
    },
    "differs": [
        "trained on 50,000 images, the authors' code on 59,600",
        "the order of the images is drawn anew in each epoch, in the authors' code it is fixed",
        "the second moments of Adam start at 0, in the authors' code at 1",
        "the posterior's two heads are one matrix, which gives the log-variance, "
        "smoothly bounded to [-14, 8]; the authors' are two, for the mean and the "
        "logarithm of the standard deviation",
        "other coins for the test images than the authors', who flip them while they evaluate",
    ],
}
TOMCZAK = {
    **EVERY,
    "paper": "Tomczak and Welling 2018",
    "url": "https://arxiv.org/abs/1705.07120",
    "latent_dim": 40,
    "batch_size": 100,
    "network": {"kind": "gated", "hidden": [300, 300]},
    "posterior": "log-variance cut to [-6, 2]",
    "patience": 50,
    "optimizer": {
        "kind": "adam",
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "gradient": "mean over the batch, each tensor divided by its norm",
    },
    "budgets": {
        "full": {**FULL, "stages": [[2000, 5e-4]], "warmup": 100},
        "reduced": {**REDUCED, "stages": [[6, 5e-4]], "warmup": 2},
        "tiny": {**TINY, "stages": [[2, 5e-4]], "warmup": 1},
    },
    "differs": [
        "early stopping looks at the epochs after the warm-up only",
        "biases start at 0, the authors' at small random numbers",
        "other coins for the validation and test images than the authors'",
    ],
}


def _burda(about, recipe, **parts):
    return {**BURDA, "about": about, "recipe": recipe, "parts": parts}


PROTOCOLS = {
    **{
        f"vae-{k}": _burda(f"one layer, VAE, k = {k}", "vae", n_samples=k, kl="sampled")
        for k in (1, 5, 50)
    },
    **{f"iwae-{k}": _burda(f"one layer, IWAE, k = {k}", "iwae", k=k) for k in (5, 50)},
    **{
        f"dreg-{k}": _burda(f"one layer, IWAE with DReG gradient, k = {k}", "dreg-iwae", k=k)
        for k in (1, 5, 50)
    },
    "gated-vae": {
        **TOMCZAK,
        "about": "gated dense VAE, standard normal prior",
        "recipe": "vae",
        "parts": {"kl": "sampled"},
    },
    "gated-vamp": {
        **TOMCZAK,
        "about": "gated dense VAE, VampPrior of 500",
        "recipe": "vamp-vae",
        "parts": {"kl": "sampled", "n_components": 500},
        "differs": [
            *TOMCZAK["differs"],
            "pseudo-inputs start at training images, the authors' at an even grey, "
            "unless asked otherwise",
        ],
    },
}


def protocol_of(name, budget, seed, backend):
    "Everything that a run depends on, as JSON gives it back."
    made = {key: value for key, value in PROTOCOLS[name].items() if key != "budgets"}
    return json.loads(
        json.dumps(
            {
                "name": name,
                "budget": budget,
                "seed": seed,
                "backend": backend,
                **made,
                **PROTOCOLS[name]["budgets"][budget],
            }
        )
    )


def epochs_of(protocol):
    return sum(epochs for epochs, _ in protocol["stages"])


def listing():
    def line(name, p):
        return f"{name:<12}{p['about']:<44}{p['paper']:<26}" + "".join(
            f"{epochs_of(p['budgets'][b]):>7}" for b in ("full", "reduced", "tiny")
        )

    return "\n".join(
        [
            f"{'name':<12}{'':<44}{'paper':<26}{'epochs: full, reduced, tiny':>21}",
            *(line(*item) for item in PROTOCOLS.items()),
        ]
    )


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "name", nargs="?", choices=PROTOCOLS, metavar="NAME", help=", ".join(PROTOCOLS)
    )
    parser.add_argument("--list", action="store_true", help="show the protocols and leave")
    parser.add_argument("--budget", choices=("full", "reduced", "tiny"), default="full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=("jax", "tensorflow", "torch"), default="jax")
    parser.add_argument(
        "--max-minutes",
        type=float,
        default=float("inf"),
        help="stop after that long; the same command goes on",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("vaenb/records/reproduce"),
        help="folder of the results",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path("build/reproduce"),
        help="folder of the states of unfinished runs",
    )
    args = parser.parse_args(argv)
    if args.list:
        parser.exit(0, listing() + "\n")
    if args.name is None:
        parser.error("name a protocol, or ask for --list")
    return args


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = arguments().backend

import keras
import machine
import numpy as np
from keras import layers, ops

import vaenb
from vaenb import DiagonalNormal, data, recipe
from vaenb.evaluation import elbo_terms
from vaenb.file import locked, write_atomic
from vaenb.likelihood import Bernoulli
from vaenb.network import dense
from vaenb.training import fit_resumable

# ---- the parts that the package does not have ----------------------------------------

HE = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


class CutNormal(DiagonalNormal):
    "A diagonal normal whose log-variance is cut to [-6, 2], from He's initial weights."

    def build(self, feature_shape):
        self.flatten = layers.Flatten()
        self.heads = layers.Dense(
            2 * self.latent_dim, kernel_initializer=HE.clone(), name="heads", dtype="float32"
        )
        self.heads.build((None, int(np.prod(feature_shape[1:]))))

    def call(self, features):
        mu, raw = ops.split(self.heads(self.flatten(features)), 2, axis=-1)
        return {"mu": mu, "logvar": ops.clip(raw, -6.0, 2.0)}


class NormedAdam(keras.optimizers.Adam):
    "Adam that sees only the direction of each tensor's gradient."

    def apply(self, grads, trainable_variables=None):
        super().apply(
            [g / (ops.sqrt(ops.sum(ops.square(g))) + 1e-7) for g in grads], trainable_variables
        )


def gated(hidden):
    "A builder of pairs of networks whose layers are products of a linear layer and a sigmoid one."

    def through(h, widths):
        for units in widths:
            h = layers.Multiply()(
                [
                    layers.Dense(units, kernel_initializer=HE.clone())(h),
                    layers.Dense(units, "sigmoid", kernel_initializer=HE.clone())(h),
                ]
            )
        return h

    def build(input_shape, latent_dim, output_shape, output_bias):
        x, z = layers.Input(input_shape), layers.Input((latent_dim,))
        out = layers.Dense(int(np.prod(output_shape)), kernel_initializer=HE.clone())(
            through(z, hidden[::-1])
        )
        return keras.Model(x, through(layers.Flatten()(x), hidden)), keras.Model(
            z, layers.Reshape(output_shape)(out)
        )

    return build


# ---- from a protocol to a trained model ----------------------------------------------


def data_for(protocol):
    "The data set, with validation and test images binarised."
    images = data.load(protocol["data"]).binarized()
    some = protocol.get("examples")
    images.train.x, images.val.x = images.train.x[:some], images.val.x[:some]
    return images


def block_for(protocol, steps):
    """How many steps run between two looks at the clock: a divisor of the steps of an epoch, so
    that epochs end with blocks."""
    most = protocol.get("block") or (
        50 if keras.distribution.list_devices()[0].startswith("cpu") else 500
    )
    return max(d for d in range(1, most + 1) if steps % d == 0)


def model_for(protocol, images, block):
    "The protocol's model, compiled, with its initial weights."
    keras.utils.set_random_seed(protocol["seed"])
    likelihood, shape, net = Bernoulli(binarize=True), images.image_shape, protocol["network"]
    bias = likelihood.bind(shape).initial_features(
        images.train.x.mean(axis=0, dtype="float64").astype("float32")
    )
    builder = (
        gated(net["hidden"]) if net["kind"] == "gated" else dense(net["hidden"], net["activation"])
    )
    parts = {
        **protocol["parts"],
        **({"posterior": CutNormal()} if "posterior" in protocol else {}),
        **({"warmup": protocol["warmup"]} if "warmup" in protocol else {}),
    }
    model = recipe(
        protocol["recipe"],
        images,
        protocol["latent_dim"],
        likelihood=likelihood,
        network=lambda a, d, b, _: builder(a, d, b, bias),
        **parts,
    )
    adam = protocol["optimizer"]
    numbers = {key: adam[key] for key in ("beta_1", "beta_2", "epsilon")}
    if adam["gradient"].startswith("sum"):
        numbers["epsilon"] /= protocol[
            "batch_size"
        ]  # our gradient is that of the mean, in which the same step has a smaller epsilon
    kind = NormedAdam if "norm" in adam["gradient"] else keras.optimizers.Adam
    model.compile(kind(protocol["stages"][0][1], **numbers), steps_per_execution=block)
    return model


class Watch(keras.callbacks.Callback):
    """Ends a training when its time is up, counts its seconds over all slices, and tells how it
    goes."""

    def __init__(self, until, epochs):
        super().__init__()
        self.until, self.epochs, self.seconds, self.clock = (
            until,
            epochs,
            0.0,
            {"late": False},
        )  # of these, only the seconds outlive a slice

    def count(self):
        now = time.monotonic()
        self.seconds += now - self.clock["last"]
        self.clock["last"] = now
        return now

    def on_train_begin(self, logs=None):
        self.clock["last"] = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self.count() >= self.until:
            self.clock["late"] = self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.count()
        if not self.clock["late"]:
            print(
                f"epoch {epoch + 1} of {self.epochs}, {self.seconds:.0f} s:",
                ", ".join(f"{name} {value:.4g}" for name, value in logs.items()),
                flush=True,
            )


def train(model, images, protocol, path, until):
    "The history and the seconds that it took, or None when the time is up."
    rates = [rate for epochs, rate in protocol["stages"] for _ in range(epochs)]
    watch = Watch(until, len(rates))
    callbacks, options = (
        [keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch]), watch],
        {},
    )
    if "patience" in protocol:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_loss",
                mode="min",
                patience=protocol["patience"],
                restore_best_weights=True,
                start_from_epoch=protocol["warmup"],
            )
        )
        options["validation_data"] = (images.val.x,)
    history = fit_resumable(
        model,
        images.train.x,
        path=path,
        epochs=len(rates),
        batch_size=protocol["batch_size"],
        seed=protocol["seed"],
        callbacks=callbacks,
        verbose=0,
        **options,
    )
    return None if watch.clock["late"] else (history.history, watch.seconds)


# ---- what it is worth ----------------------------------------------------------------

CHUNK = 250  # test images between two looks at the clock


def measure(model, x, samples, path, until):
    """Arrays with a number for each test image, or None when the time is up; what has been measured
    is kept in the file."""
    found, late = dict(np.load(path, allow_pickle=False)) if path.exists() else {}, False
    for done in range(len(found.get("elbo", ())), len(x), CHUNK):
        if late:
            return None  # but never before something has been done
        start, some = time.monotonic(), x[done : done + CHUNK]
        new = {
            **elbo_terms(model, some),
            "log_likelihood": model.log_likelihood(some, samples, seed=1 + done // CHUNK),
        }
        new["seconds"] = np.array([time.monotonic() - start])
        found = {
            name: np.concatenate([found.get(name, value[:0]), value]) for name, value in new.items()
        }
        memory = io.BytesIO()
        np.savez(memory, **found)
        write_atomic(path, memory.getvalue())
        late = time.monotonic() >= until
    return found


def metrics(found, codes):
    """Each metric with its standard error: over the images, and for the number of active units by
    drawing the images 200 times anew."""
    values = {**found, "nll": -found["log_likelihood"]}
    made = {
        name: {
            "value": float(values[name].mean()),
            "se": float(values[name].std(ddof=1) / len(values[name]) ** 0.5),
        }
        for name in ("nll", "elbo", "reconstruction", "kl")
    }
    rng, active = np.random.default_rng(0), lambda z: int((z.var(axis=0) > 0.01).sum())
    again = [active(codes[rng.integers(len(codes), size=len(codes))]) for _ in range(200)]
    return {**made, "active_units": {"value": active(codes), "se": float(np.std(again, ddof=1))}}


# ---- a run ---------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent.parent


def commit():
    "The commit of the code, with + where files were changed since; None outside a repository."

    def git(*words):
        return subprocess.run(
            ["git", "--no-optional-locks", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + "+" * bool(
            git("status", "--porcelain", "--", "vaenb", "benchmarks/reproduce.py")
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def source():
    """A checksum of the package and of this file, which says what ran even where files were changed
    since the commit."""
    paths = [*sorted(Path(vaenb.__file__).parent.glob("*.py")), Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def claimed(folder, protocol, steps):
    """The facts of the run so far; SystemExit of one sentence where the folder belongs to another
    protocol."""
    path = folder / "run.json"
    facts = (
        json.loads(path.read_text())
        if path.exists()
        else {"protocol": protocol, "block": block_for(protocol, steps), "code": []}
    )
    for key in sorted(protocol.keys() | facts["protocol"].keys()):
        old, new = facts["protocol"].get(key), protocol.get(key)
        if old != new:
            raise SystemExit(
                f"{folder} holds a run whose {key} is {json.dumps(old)}, but here it is "
                f"{json.dumps(new)}: remove that folder to start again, or name another "
                "with --state"
            )
    code = {"commit": commit(), "source": source(), "device": machine.device()}
    if code not in facts["code"]:
        facts["code"].append(code)
    write_atomic(path, json.dumps(facts).encode())
    return facts


def record(protocol, facts, history, seconds, found, codes, steps):
    "What is written down of a finished run."
    last = facts["code"][-1]
    epochs = len(history["loss"])
    versions = {
        name: sys.modules[name].__version__
        for name in ("vaenb", "keras", "numpy", protocol["backend"])
    }
    return {
        "name": protocol["name"],
        "about": protocol["about"],
        "budget": protocol["budget"],
        "seed": protocol["seed"],
        "backend": protocol["backend"],
        **last,
        "code": facts["code"],
        "versions": {**versions, "python": platform.python_version()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "finished": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "training_seconds": round(seconds, 1),
        "evaluation_seconds": round(float(found["seconds"].sum()), 1),
        "epochs": epochs,
        "full_epochs": epochs_of(PROTOCOLS[protocol["name"]]["budgets"]["full"]),
        "steps": epochs * steps,
        "steps_per_execution": facts["block"],
        "images": len(found["elbo"]),
        "samples": protocol["samples"],
        "last_epoch": {name: float(values[-1]) for name, values in history.items()},
        "metrics": metrics(found, codes),
        "protocol": protocol,
        "log_likelihoods": " ".join(f"{value:.2f}" for value in found["log_likelihood"]),
    }  # of each test image: two runs differ by less than their standard errors say


def run(args, until):
    "Whether the run is finished; goes on with it until the time is up."
    name = f"{args.name}-{args.budget}-{args.backend}-{args.seed}"
    out, folder, protocol = (
        args.out / f"{name}.json",
        args.state / name,
        protocol_of(args.name, args.budget, args.seed, args.backend),
    )
    if out.exists():
        return not print(f"{out} is there already: remove it, and {folder}, to run it again")
    with locked(folder):
        images = data_for(protocol)
        steps = -(-len(images.train.x) // protocol["batch_size"])
        facts = claimed(folder, protocol, steps)
        model = model_for(protocol, images, facts["block"])
        trained = train(model, images, protocol, folder / "training.npz", until)
        x = images.test.x[:: len(images.test.x) // protocol["images"]][: protocol["images"]]
        found = trained and measure(model, x, protocol["samples"], folder / "evaluation.npz", until)
        if not found:
            return bool(print(f"{name} is not finished: the same command goes on", flush=True))
        made = record(protocol, facts, *trained, found, model.encode(x), steps)
        write_atomic(out, (json.dumps(made, indent=1) + "\n").encode())
    print(
        f"{out}: "
        + ", ".join(
            f"{key} {m['value']:.2f} +- {m['se']:.2f}" for key, m in made["metrics"].items()
        ),
        flush=True,
    )
    return True


def main(argv=None):
    begin, args = time.monotonic(), arguments(argv)
    return run(args, begin + 60 * args.max_minutes)


if __name__ == "__main__":
    main()
