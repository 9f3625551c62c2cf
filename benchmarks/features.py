"""Codes as features: python benchmarks/features.py --out vaenb/records/features.json

scikit-learn's digits. Each model is trained on all training examples without their labels; then
classifiers with few labels compare its codes with PCA and with the pixels, and the rate and the
distortion of VAEs of several latent sizes are measured.
All models have the same network (sparse codes: a dictionary), number of epochs and seeds; two are
controls that are not trained. A result that is in the file already is not computed again, so a
killed benchmark goes on where it was."""

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
import sklearn
from sklearn.decomposition import PCA

import vaenb
from vaenb import recipe
from vaenb.data import digits
from vaenb.evaluation import active_units, rate_distortion
from vaenb.feature import CLASSIFIERS, probe_accuracy
from vaenb.network import dense

LABELS = (10, 50, 100, 500, None)


def scores(codes, data, args):
    "Accuracy by classifier and number of labels, a list with one number for each choice of labels."
    (a, b), seeds = codes, range(args.draws)
    known = data.train.labels, data.test.labels
    return {
        kind: {
            str(n or "all"): probe_accuracy(a, known[0], b, known[1], n, kind, seeds)
            .round(4)
            .tolist()
            for n in LABELS
        }
        for kind in CLASSIFIERS
    }


def trained(name, latent_dim, data, seed, args, epochs=None, **parts):
    "A recipe's model after its training."
    keras.utils.set_random_seed(seed)
    network = {} if "sae" in name else {"network": dense(args.hidden)}
    model = recipe(name, data, latent_dim, **network, **parts)
    model.compile(keras.optimizers.Adam(args.learning_rate))
    epochs = args.epochs if epochs is None else epochs
    if epochs:
        model.fit(data.train.x, batch_size=args.batch_size, epochs=epochs, verbose=0)
    return model


def coded(model, data):
    return model.encode(data.train.x), model.encode(data.test.x)


def models(args):
    "Name -> function of the data and the seed that gives the codes of training and test examples."
    d = args.latent_dim

    def made(name, size=d, **options):
        return lambda data, seed: coded(trained(name, size, data, seed, args, **options), data)

    return {
        f"encoder without training, {d}": made("ae", epochs=0),
        f"autoencoder, {d}": made("ae"),
        f"denoising autoencoder, {d}": made("denoising-ae"),
        f"VAE, {d}": made("vae"),
        "VQ, 8 tokens of 64": made("vq-vae", (8, 4)),
        "sparse, 16 of 256": made("topk-sae", 256, k=16),
        "sparse without training": made("topk-sae", 256, k=16, epochs=0),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="vaenb/records/features.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=5, help="choices of the labelled examples")
    parser.add_argument("--latent-dim", type=int, default=16)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--hidden", type=int, nargs="+", default=[128])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    args = parser.parse_args()
    out = Path(args.out)
    protocol = {key: value for key, value in vars(args).items() if key not in ("out", "seeds")}
    record = json.loads(out.read_text()) if out.exists() else {"accuracy": {}, "sizes": {}}
    if record.get("protocol", protocol) != protocol:
        raise SystemExit(f"{out} holds results of another protocol: {record['protocol']}")
    record.update(
        protocol=protocol,
        data="scikit-learn's digits, 1258 training and 359 test examples",
        backend=keras.backend.backend(),
        versions={
            "vaenb": vaenb.__version__,
            "keras": keras.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        machine={"cpu_count": os.cpu_count(), "platform": platform.platform()},
    )
    data = digits()

    def keep(where, key, value, start):
        where[key] = value
        out.write_text(json.dumps(record, indent=1) + "\n")
        print(f"{time.perf_counter() - start:6.1f} s", flush=True)

    flat = [split.x.reshape(len(split), -1) for split in (data.train, data.test)]
    pca = PCA(args.latent_dim).fit(flat[0])
    fixed = {"pixels, 64": flat, f"PCA, {args.latent_dim}": [pca.transform(a) for a in flat]}
    for name, codes in fixed.items():
        start = time.perf_counter()
        if name not in record["accuracy"]:
            print(name, end=" ")
            keep(record["accuracy"], name, {"0": scores(codes, data, args)}, start)
    for seed in range(args.seeds):
        for name, make in models(args).items():
            kept, start = record["accuracy"].setdefault(name, {}), time.perf_counter()
            if str(seed) not in kept:
                print(seed, name, end=" ")
                keep(kept, str(seed), scores(make(data, seed), data, args), start)
        for size in args.sizes:
            kept, start = record["sizes"].setdefault(str(size), {}), time.perf_counter()
            if str(seed) in kept:
                continue
            print(seed, "VAE of", size, end=" ")
            model = trained("vae", size, data, seed, args)
            found = rate_distortion(model, data.test.x)
            a, b = coded(model, data)
            row = {name: round(float(found[name]), 3) for name in ("rate", "distortion")}
            row["active"] = int(active_units(model, data.test.x))
            for kind in CLASSIFIERS:
                row[kind] = round(
                    float(
                        probe_accuracy(a, data.train.labels, b, data.test.labels, classifier=kind)[
                            0
                        ]
                    ),
                    4,
                )
            keep(kept, str(seed), row, start)
    record["seeds"] = list(range(args.seeds))
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
