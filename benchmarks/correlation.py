"""The total correlation lowered by a minibatch estimate and by an adversary, three seeds each.

    python benchmarks/correlation.py [--epochs 60] [--seeds 3] [--out FILE]

Digits with their 17 grey levels, a code of eight numbers, equal networks, batches, optimiser and
steps; only the objective differs. `BetaTC(beta=1 + w)` and `FactorVAE(gamma=w)` both add w times a
total correlation to -ELBO. Their own estimates of it are not used for the comparison: a classifier
that neither has seen is trained on codes of training digits and bounds it on codes of test digits.
Codes are one draw of q(z|x) each. Writes vaenb/records/correlation.json."""

import argparse
import json
import os
import time
from pathlib import Path

import machine


def objectives(weights):
    """Name -> function that makes the objective, without a weight first."""
    from vaenb.adversary import FactorVAE
    from vaenb.aggregate import BetaTC
    from vaenb.vae import ELBO

    found = {"ELBO": ELBO}
    for w in weights:
        found[f"minibatch, {w:g}"] = lambda w=w: BetaTC(beta=1 + w)
        found[f"adversary, {w:g}"] = lambda w=w: FactorVAE(gamma=w)
    return found


def measured(objective, data, epochs, seed):
    """Trains one model; what is measured on the test digits."""
    import keras

    from vaenb import VAE, DiscretizedLogistic, dense
    from vaenb.adversary import total_correlation

    keras.utils.set_random_seed(seed)
    likelihood = DiscretizedLogistic(data.levels)
    model = VAE.for_data(data, 8, network=dense([64]), objective=objective, likelihood=likelihood)
    model.compile(keras.optimizers.Adam(2e-3))
    cpu = time.process_time()
    model.fit(data.train.x, epochs=epochs, batch_size=64, verbose=0)
    seconds = time.process_time() - cpu
    draws = []
    for x in (data.train.x, data.test.x):
        model.reset_seed(seed)
        draws.append(model.run("pass_terms", x)["z"][:, 0])
    terms = model.evaluate(data.test.x, verbose=0, return_dict=True)
    return {
        "seed": seed,
        "total_correlation": total_correlation(*draws, seed=seed, repeats=3),
        **{k: float(terms[k]) for k in ("elbo", "reconstruction", "kl")},
        "log_px": float(model.log_likelihood(data.test.x, 500).mean()),
        "cpu_seconds": round(seconds, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0, 3.0, 9.0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    os.environ["KERAS_BACKEND"] = given.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import vaenb

    data = vaenb.data.digits()
    results = {}
    for seed in range(given.seeds):
        for name, make in objectives(given.weights).items():
            found = measured(make(), data, given.epochs, seed)
            results.setdefault(name, []).append(found)
            print(name, found, flush=True)
    record = {
        "protocol": {
            "epochs": given.epochs,
            "batch": 64,
            "rate": 2e-3,
            "latent_dim": 8,
            "n_train": len(data.train),
            "n_test": len(data.test),
        },
        "results": results,
        **machine.facts(),
    }
    out = given.out or Path(vaenb.__file__).parent / "records/correlation.json"
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
