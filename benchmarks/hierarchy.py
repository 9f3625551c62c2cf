"""Flat models and hierarchies at equal steps, three seeds each, and what keeps levels alive.

    python benchmarks/hierarchy.py                  # digits: four models, three objectives
    python benchmarks/hierarchy.py --budget mnist   # rows of Burda et al. 2016, a reduced run
    python benchmarks/hierarchy.py --budget tiny    # whether it works

Digits: all models have the same hidden layer of the encoder and the decoder, batches, optimiser and
number of steps. "flat, deeper" has the layers that the hierarchies have between their levels, but
one code only. MNIST: the networks of Burda et al. (2016), section 5 (tanh, 200 units twice around
the code of 50; with two levels 100 and 50 numbers, and 100 units twice between them).

A run writes vaenb/records/hierarchy-BUDGET.json; --out names another file."""

import argparse
import json
import os
import time
from pathlib import Path

import machine

BUDGETS = {
    "digits": {"data": "digits", "epochs": 40, "batch": 64, "rate": 2e-3, "samples": 200},
    "mnist": {"data": "mnist", "epochs": 10, "batch": 100, "rate": 1e-3, "samples": 500},
    "tiny": {"data": "digits", "epochs": 2, "batch": 64, "rate": 2e-3, "samples": 10},
}


def digits_models():
    """Name -> (latent_dim, network, levels)."""
    from vaenb import dense
    from vaenb.hierarchy import bottom_up, ladder

    return {
        "flat": (20, dense([128]), ()),
        "flat, deeper": (20, dense([128, 64]), ()),
        "bottom-up": (10, dense([128]), bottom_up(20)),
        "ladder": (10, dense([128]), ladder(20)),
    }


def digits_objectives(epochs):
    """Name -> function that makes the objective."""
    from vaenb.hierarchy import LevelFreeBits
    from vaenb.vae import ELBO

    return {
        "ELBO": ELBO,
        "free bits": lambda: LevelFreeBits(2.0),
        "warm-up": lambda: ELBO(warmup=epochs // 2),
    }


def mnist_models():
    """Name -> (latent_dim, network, levels), after Burda et al. 2016."""
    from vaenb import dense
    from vaenb.hierarchy import bottom_up

    network = dense([200, 200], "tanh")
    return {
        "one level": (50, network, ()),
        "two levels": (50, network, bottom_up(100, (100, 100), "tanh")),
    }


def mnist_objectives(epochs):
    """Name -> function that makes the objective."""
    from vaenb import IWAE

    return {"k=1": lambda: IWAE(1), "k=5": lambda: IWAE(5)}


def measured(name, given, objective, data, budget, seed):
    """Trains one model; its scores on the test examples."""
    import keras
    import numpy as np

    from vaenb import VAE
    from vaenb.hierarchy import level_kl

    latent_dim, network, levels = given
    keras.utils.set_random_seed(seed)
    model = VAE.for_data(data, latent_dim, network=network, levels=levels, objective=objective)
    model.compile(keras.optimizers.Adam(budget["rate"]))
    begin = time.perf_counter()
    model.fit(data.train.x, epochs=budget["epochs"], batch_size=budget["batch"], verbose=0)
    seconds = time.perf_counter() - begin
    test = data.test.x[:2000]
    log_px = model.log_likelihood(test, budget["samples"]).astype("float64")
    found = {
        "seed": seed,
        "log_px": float(log_px.mean()),
        "log_px_se": float(log_px.std() / np.sqrt(len(log_px))),
        "level_kl": level_kl(model, test, 10).astype("float64").mean(0).tolist(),
        "parameters": int(model.count_params()),
        "seconds": round(seconds, 1),
    }
    found["elbo"] = float(model.evaluate(test, verbose=0, return_dict=True)["elbo"])
    print(name, type(objective).__name__, found, flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--budget", choices=BUDGETS, default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    os.environ["KERAS_BACKEND"] = given.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import vaenb

    budget = BUDGETS[given.budget]
    data = getattr(vaenb.data, budget["data"])().binarized()
    if budget["data"] == "mnist":
        models, objectives = mnist_models(), mnist_objectives(budget["epochs"])
    else:
        models, objectives = digits_models(), digits_objectives(budget["epochs"])
    out = given.out or Path(vaenb.__file__).parent / f"records/hierarchy-{given.budget}.json"
    results = {name: {kind: [] for kind in objectives} for name in models}
    record = {
        "protocol": {**budget, "seeds": given.seeds, "n_train": len(data.train), "n_test": 0},
        "results": results,
        **machine.facts(),
    }
    record["protocol"]["n_test"] = min(2000, len(data.test))
    for kind, make in objectives.items():
        for seed in range(given.seeds):
            for name, parts in models.items():
                results[name][kind].append(measured(name, parts, make(), data, budget, seed))
                out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
