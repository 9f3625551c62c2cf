"""One part changed at a time, on MNIST, with equal budgets: python benchmarks/parts.py --out
vaenb/records/parts.json

Every variant has the same network, data, batches, steps and learning rates. The number compared is
log p(x) of test digits (binarised once, seed 777), estimated with the same number of importance
samples for all; gains over the plain VAE are means of differences example by example. A variant
that is in the file already is not run again, so a killed benchmark goes on where it was."""

import argparse
import json
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import vaenb
from vaenb import VAE, data
from vaenb.likelihood import Bernoulli
from vaenb.network import dense


def parts(name, k):
    "The parts of a variant that differ from the plain VAE's."
    from vaenb.objective import IWAE, DReG

    if name == "vae":
        return {}
    if name == "iwae":
        return {"objective": IWAE(k)}
    if name == "dreg":
        return {"objective": DReG(k)}
    if name == "iaf":
        from vaenb.posterior import FlowPosterior

        return {"posterior": FlowPosterior("iaf", hidden=(128,))}
    from vaenb.prior import FlowPrior, MixtureOfNormals, VampPrior

    return {
        "prior": {
            "vamp": lambda: VampPrior(500),
            "mixture": lambda: MixtureOfNormals(100),
            "flow": lambda: FlowPrior("realnvp", hidden=(128,)),
        }[name]()
    }


NAMES = ("vae", "iwae", "dreg", "vamp", "mixture", "flow", "iaf")


def measure(name, digits, args):
    "Trains one variant; returns its record and log p(x) of each test example."
    keras.utils.set_random_seed(args.seed)
    model = VAE.for_data(
        digits,
        args.latent_dim,
        network=dense(args.hidden, args.activation),
        likelihood=Bernoulli(binarize=True),
        **parts(name, args.k),
    )
    steps = -(-len(digits.train.x) // args.batch_size) * args.epochs
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(args.learning_rate, steps))
    )
    start = time.perf_counter()
    model.fit(digits.train.x, epochs=args.epochs, batch_size=args.batch_size, verbose=0)
    seconds = time.perf_counter() - start
    x = digits.test.x[: args.n_test]
    log_px = model.log_likelihood(x, n_samples=args.n_samples)
    metrics = model.evaluate(x, batch_size=500, verbose=0, return_dict=True)

    def error(values):
        return float(values.std(ddof=1) / np.sqrt(len(values)))

    return {
        "nll": float(-log_px.mean()),
        "nll_se": error(log_px),
        **{key: float(metrics[key]) for key in ("elbo", "reconstruction", "kl")},
        "weights": int(model.count_params()),
        "training_seconds": round(seconds, 1),
    }, log_px


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="vaenb/records/parts.json")
    parser.add_argument(
        "--only", default=",".join(NAMES), help="variants, with commas between them"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--latent-dim", type=int, default=50)
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 200])
    parser.add_argument("--activation", default="tanh")
    parser.add_argument(
        "--k", type=int, default=50, help="importance samples in training, of iwae and dreg"
    )
    parser.add_argument("--n-train", type=int, default=50_000)
    parser.add_argument("--n-test", type=int, default=2000)
    parser.add_argument("--n-samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    out, each_path = Path(args.out), Path("build") / (Path(args.out).stem + ".npz")
    protocol = {key: value for key, value in vars(args).items() if key not in ("out", "only")}
    record = json.loads(out.read_text()) if out.exists() else {}
    if record and record["protocol"] != protocol:
        raise SystemExit(f"{out} holds results of another protocol: {record['protocol']}")
    each = dict(np.load(each_path)) if each_path.exists() and record else {}
    digits = data.mnist().binarized()
    digits.train.x = digits.train.x[: args.n_train]
    record.update(
        protocol=protocol,
        data="MNIST, training resampled at every visit, test binarised once (seed 777)",
        backend=keras.backend.backend(),
        versions={
            "vaenb": vaenb.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
    )
    record.setdefault("results", {})
    for name in args.only.split(","):
        if name in record["results"]:
            continue
        record["results"][name], each[name] = measure(name, digits, args)
        for other, values in each.items():
            if other != "vae" and "vae" in each:
                gain = values - each["vae"]
                record["results"][other].update(
                    gain=float(gain.mean()), gain_se=float(gain.std(ddof=1) / np.sqrt(len(gain)))
                )
        out.parent.mkdir(parents=True, exist_ok=True)
        each_path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(each_path, **each)
        out.write_text(json.dumps(record, indent=1) + "\n")
        print(name, json.dumps(record["results"][name]), flush=True)


if __name__ == "__main__":
    main()
