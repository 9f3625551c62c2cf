"""Anomaly scores of vaenb beside pyod's VAE, AutoEncoder, IForest and ECOD: area under the ROC
curve and average precision on four tables.

    python -m venv build/pyod
    build/pyod/bin/pip install pyod river torch tqdm
    python benchmarks/anomaly.py --rivals build/pyod/bin/python --out vaenb/records/anomaly.json

The rivals and the tables of river live in an environment of their own. For every table and seed,
half of the clean rows (at most --max-train) is for training; the other half and all anomalies are
scored. Every contestant gets the same rows, standardised with the training rows' means and
deviations, and its own default arguments, with --epochs for all networks. vaenb appears with both
of its scores. Tables:

- shuttle: river's, 9 columns; anomalies as labelled
- segments: river's image segments, 18 columns; anomalies are the rows of class "path"
- breast cancer: scikit-learn's, 30 columns; anomalies are malignant
- digits: scikit-learn's, 64 columns; anomalies are nines"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

RIVALS = ("pyod VAE", "pyod AutoEncoder", "pyod IForest", "pyod ECOD")


def river_tables(path):
    "Writes river's tables, rows and whether each is an anomaly."
    from river import datasets

    def rows(stream, is_anomaly):
        found = [(list(x.values()), is_anomaly(y)) for x, y in stream]
        return np.array([f[0] for f in found], "float32"), np.array([f[1] for f in found])

    shuttle = rows(datasets.Shuttle(), lambda y: bool(int(y)))
    segments = rows(datasets.ImageSegments(), lambda y: y == "path")
    arrays = dict(zip(("shuttle_x", "shuttle_y", "segments_x", "segments_y"), shuttle + segments))
    np.savez(path, **arrays)


def pyod_scores(train, test, seed, epochs):
    "Scores of pyod's detectors, and the seconds of each."
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.ecod import ECOD
    from pyod.models.iforest import IForest
    from pyod.models.vae import VAE

    made = (
        VAE(epoch_num=epochs, random_state=seed, verbose=0),
        AutoEncoder(epoch_num=epochs, random_state=seed, verbose=0),
        IForest(random_state=seed),
        ECOD(),
    )
    for name, detector in zip(RIVALS, made):
        start = time.perf_counter()
        detector.fit(train)
        yield name, detector.decision_function(test), time.perf_counter() - start


def vaenb_scores(train, test, seed, epochs):
    "Both scores of a VAE, and the seconds of training and scoring."
    import keras

    from vaenb import VAE, Normal, dense
    from vaenb.anomaly import anomaly_score

    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    likelihood = Normal("learned")
    model = VAE.for_data(train, 4, network=dense([64]), likelihood=likelihood)
    model.compile(keras.optimizers.Adam(2e-3))
    model.fit(train, epochs=epochs, batch_size=64, verbose=0)
    for kind in ("likelihood", "reconstruction"):
        yield f"vaenb {kind}", anomaly_score(model, test, kind), time.perf_counter() - start


def worker(what, given, out, epochs):
    "Scores each split of a file: run in the environment of the contestant."
    data, found = np.load(given), {}
    for key in [k.removesuffix("_train") for k in data if k.endswith("_train")]:
        train, test, seed = data[f"{key}_train"], data[f"{key}_test"], int(data[f"{key}_seed"])
        scores = {"pyod": pyod_scores, "vaenb": vaenb_scores}[what](train, test, seed, epochs)
        for name, score, seconds in scores:
            found[f"{key}|{name}"], found[f"{key}|{name}|seconds"] = score, seconds
            print(f"{key}: {name} {seconds:.1f} s", flush=True)
    np.savez(out, **found)


def tables(rivals, folder):
    "Name -> (rows, whether each is an anomaly)."
    from sklearn.datasets import load_breast_cancer, load_digits

    path = Path(folder) / "river.npz"
    subprocess.run([rivals, __file__, "--worker", "river", "--out", path], check=True)
    found, cancer, digits = np.load(path), load_breast_cancer(), load_digits()
    return {
        "shuttle": (found["shuttle_x"], found["shuttle_y"]),
        "segments": (found["segments_x"], found["segments_y"]),
        "breast cancer": (cancer.data.astype("float32"), cancer.target == 0),
        "digits": (digits.data.astype("float32"), digits.target == 9),
    }


def split(x, anomaly, seed, max_train):
    "Training rows, rows to score and which of these are anomalies."
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~anomaly))
    half = len(order) // 2
    train, rest = x[order[: min(half, max_train)]], x[order[half:]]
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 0, std, 1)
    test = np.concatenate([rest, x[anomaly]])
    label = np.repeat([0, 1], [len(rest), int(anomaly.sum())])
    return (train - mean) / std, (test - mean) / std, label


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--rivals", help="the Python of an environment with pyod, river, torch and tqdm"
    )
    parser.add_argument("--out", default="vaenb/records/anomaly.json")
    parser.add_argument("--only", nargs="+", help="names of tables")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--max-train", type=int, default=10_000)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--given", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker == "river":
        return river_tables(args.out)
    if args.worker:
        return worker(args.worker, args.given, args.out, args.epochs)
    if not args.rivals:
        parser.error(
            "--rivals is needed: the Python of an environment with pyod, river, torch and tqdm"
        )
    from sklearn.metrics import average_precision_score, roc_auc_score

    with tempfile.TemporaryDirectory() as folder:
        splits, labels = {}, {}
        for name, (x, anomaly) in tables(args.rivals, folder).items():
            if args.only and name not in args.only:
                continue
            for seed in range(args.seeds):
                key = f"{name}|{seed}"
                train, test, labels[key] = split(x, anomaly, seed, args.max_train)
                parts = {"train": train, "test": test, "seed": seed}
                splits.update({f"{key}_{part}": value for part, value in parts.items()})
        given = Path(folder) / "given.npz"
        np.savez(given, **splits)
        scores = {}
        for what, python in (("pyod", args.rivals), ("vaenb", sys.executable)):
            out = Path(folder) / f"{what}.npz"
            command = [python, __file__, "--worker", what, "--given", given, "--out", out]
            subprocess.run([*command, "--epochs", str(args.epochs)], check=True)
            scores.update(np.load(out))
    ask = (
        "import importlib.metadata as m; print(*(m.version(p) for p in ('pyod', 'river', 'torch')))"
    )
    versions = subprocess.run([args.rivals, "-c", ask], capture_output=True, text=True, check=True)
    record = {
        "protocol": {k: v for k, v in vars(args).items() if k in ("seeds", "epochs", "max_train")},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("vaenb", "keras", "scikit-learn")},
            **dict(zip(("pyod", "river", "torch"), versions.stdout.split())),
        },
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "results": {},
    }
    for key, label in labels.items():
        table = key.split("|")[0]
        for name in sorted({k.split("|")[2] for k in scores if k.startswith(f"{key}|")}):
            row = (
                record["results"]
                .setdefault(table, {})
                .setdefault(name, {"auroc": [], "average_precision": [], "seconds": []})
            )
            score = scores[f"{key}|{name}"]
            row["auroc"].append(round(float(roc_auc_score(label, score)), 4))
            row["average_precision"].append(round(float(average_precision_score(label, score)), 4))
            row["seconds"].append(round(float(scores[f"{key}|{name}|seconds"]), 1))
    Path(args.out).write_text(json.dumps(record, indent=1) + "\n")
    for table, rows in record["results"].items():
        for name, row in rows.items():
            mean, spread = np.mean(row["auroc"]), np.std(row["auroc"], ddof=min(1, args.seeds - 1))
            print(f"{table:14s} {name:22s} AUROC {mean:.3f} +- {spread:.3f}", end="  ")
            print(f"average precision {np.mean(row['average_precision']):.3f}")


if __name__ == "__main__":
    main()
