"""Four objectives on pictures of known factors at equal steps, and how much the seed decides.

    python benchmarks/disentangle.py                  # four objectives, five seeds
    python benchmarks/disentangle.py --budget tiny    # whether it works

Pictures of `vaenb.data.shapes` at 16 x 16 pixels, dense networks, a code of ten numbers, the same
steps, optimiser and batches for all, one setting for each objective. The seed sets first weights,
order and draws; the pictures are the same. Every measure of `vaenb.disentanglement` is taken on
the same test pictures.

A run writes vaenb/records/disentangle-BUDGET.json after each row and goes on where it was stopped;
--out names another file."""

import argparse
import json
import os
import time
from pathlib import Path

import machine

MODELS = {
    "beta-VAE": ("beta-vae", {"beta": 4.0}),
    "beta-TCVAE": ("beta-tcvae", {"beta": 6.0}),
    "FactorVAE": ("factor-vae", {"gamma": 10.0}),
    "DIP-VAE II": ("dip-vae-ii", {"off_diagonal": 10.0}),
}
BUDGETS = {
    "small": {"n_train": 20_000, "n_test": 2000, "epochs": 10, "batch": 128, "rate": 2e-3},
    "tiny": {"n_train": 500, "n_test": 300, "epochs": 1, "batch": 64, "rate": 1e-3},
}
HIDDEN, LATENT_DIM = (256, 128), 10


def small_shapes(n_train, n_test):
    """Shapes of 16 x 16 pixels, each the mean of 4 x 4 pixels: a `Dataset`."""
    import numpy as np

    from vaenb import data

    full = data.shapes(n_train, 0, n_test)
    parts = []
    for split in (full.train, full.val, full.test):
        x = np.asarray(split.x).reshape(-1, 16, 4, 16, 4, 1).mean((2, 4))
        parts.append(data.Split(x, split.labels, split.factors, split.factor_values))
    facts = (full.class_names, full.factor_names, full.factor_sizes)
    return data.Dataset("small shapes", *parts, (16, 16, 1), (0.0, 1.0), 17, *facts)


def measured(name, seed, data, budget):
    """Trains one model; its scores on the test pictures."""
    import keras
    import numpy as np

    from vaenb import Bernoulli, dense, recipe
    from vaenb.disentanglement import disentanglement_scores, mig_samples

    keras.utils.set_random_seed(seed)
    row, numbers = MODELS[name]
    parts = {"network": dense(HIDDEN), "likelihood": Bernoulli(binarize=True), **numbers}
    model = recipe(row, data, LATENT_DIM, **parts)
    model.compile(keras.optimizers.Adam(budget["rate"]))
    begin = time.process_time()
    model.fit(data.train.x, epochs=budget["epochs"], batch_size=budget["batch"], verbose=0)
    seconds = time.process_time() - begin
    test = data.test
    q = model.posterior_at(test.x)
    mu, logvar = np.asarray(q.mu), np.asarray(q.logvar)
    begin = time.process_time()
    scores = disentanglement_scores(mu, test.factors, test.factor_values)
    scores["MIG of samples"] = mig_samples(mu, logvar, test.factors)
    terms = model.evaluate(test.x, verbose=0, return_dict=True)
    found = {name: float(terms[name]) for name in ("elbo", "reconstruction", "kl")}
    times = {"train": round(seconds, 1), "measure": round(time.process_time() - begin, 1)}
    return {"model": name, "seed": seed, "scores": scores, **found, "processor_seconds": times}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--budget", choices=BUDGETS, default="small")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "jax"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    os.environ["KERAS_BACKEND"] = given.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    budget = BUDGETS[given.budget]
    folder = Path(__file__).parent.parent / "vaenb" / "records"
    out = given.out or folder / f"disentangle-{given.budget}.json"
    record = {
        "protocol": {**budget, "hidden": HIDDEN, "latent_dim": LATENT_DIM, "models": MODELS},
        **machine.facts("scikit-learn"),
        "rows": [],
    }
    record = json.loads(json.dumps(record))  # as it is read again
    if out.exists():
        earlier = json.loads(out.read_text())
        if any(earlier[key] != record[key] for key in ("protocol", "backend", "versions")):
            raise SystemExit(f"{out} holds another protocol or other versions: move it away first")
        record["rows"] = earlier["rows"]
    done = {(row["model"], row["seed"]) for row in record["rows"]}
    data = small_shapes(budget["n_train"], budget["n_test"])
    for seed in range(given.seeds):
        for name in given.models:
            if (name, seed) in done:
                continue
            row = measured(name, seed, data, budget)
            record["rows"].append(row)
            out.write_text(json.dumps(record, indent=1) + "\n")
            scores = " ".join(f"{key} {value:.2f}" for key, value in row["scores"].items())
            print(
                name, seed, f"elbo {row['elbo']:.1f}", scores, row["processor_seconds"], flush=True
            )


if __name__ == "__main__":
    main()
