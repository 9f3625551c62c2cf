"""M2 with few labels, and clusters of the Gaussian-mixture VAE, over seeds.

    python benchmarks/categorical.py                   # digits: both tables
    python benchmarks/categorical.py --data mnist --labels 100 --cluster-seeds 0 --epochs 200 \\
        --batch-size 100 --hidden 500 500 --latent-dim 50 --alpha 0.1 --learning-rate 3e-4
    python benchmarks/categorical.py --labels --cluster-seeds 10  # clusters only
    python benchmarks/categorical.py --budget tiny     # whether it works

Semi-supervised: the error on test images of M2, of the same encoder and classifier trained on the
labelled images only, and of a logistic regression on them; a seed draws the labels, the initial
weights and the order of the batches. M2's published error for 100 labels of MNIST is 11.97 %
(Kingma et al. 2014, table 1; its network has two hidden layers of 500 units).

Clusters: the accuracy after a one-to-one match with the labels, of `gm-vae`, of the model of VaDE
(`mog-vae` with p(y|z)), and of k-means on the pixels. All seeds are reported, none is chosen.

The record is printed; --out writes it to a file: vaenb/records/categorical-digits.json and
categorical-mnist.json are those of the first two commands."""

import argparse
import json
import os
import time
from pathlib import Path

import machine


def few_labels(labels, n, seed):
    """Labels of n examples, as many of each class, and -1 for all others."""
    import numpy as np

    rng, target = np.random.default_rng(seed), np.full(len(labels), -1)
    for c in range(10):
        target[rng.choice(np.flatnonzero(labels == c), n // 10, replace=False)] = c
    return target


def semi_supervised(data, given, n_labels, seed):
    """The errors on the test images."""
    import keras
    from keras import layers
    from sklearn.linear_model import LogisticRegression

    from vaenb import dense, recipe
    from vaenb.likelihood import Bernoulli

    x, test, truth = data.train.x, data.test.x, data.test.labels
    target = few_labels(data.train.labels, n_labels, seed)
    known, flat = target >= 0, lambda a: a.reshape(len(a), -1)
    keras.utils.set_random_seed(seed)
    parts = {"network": dense(given.hidden), "likelihood": Bernoulli(True), "alpha": given.alpha}
    model = recipe("m2", data, given.latent_dim, **parts)
    model.compile(keras.optimizers.Adam(given.learning_rate))
    model.fit(x, target=target, batch_size=given.batch_size, epochs=given.epochs, verbose=0)
    keras.utils.set_random_seed(seed)
    hidden = [layers.Dense(width, "relu") for width in given.hidden]
    plain = keras.Sequential([layers.Flatten(), *hidden, layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain.compile(keras.optimizers.Adam(3e-3), loss)
    plain.fit(x[known], target[known], batch_size=64, epochs=200, verbose=0)
    judge = LogisticRegression(max_iter=1000).fit(flat(x[known]), target[known])
    return {
        "m2": float((model.classify(test).argmax(1) != truth).mean()),
        "same classifier": float((plain.predict(test, verbose=0).argmax(1) != truth).mean()),
        "logistic regression": float(1 - judge.score(flat(test), truth)),
    }


def clusters(data, given, seed):
    """The accuracies on the test images after matching."""
    import keras
    import numpy as np
    from sklearn.cluster import KMeans

    from vaenb import dense, recipe
    from vaenb.categorical import cluster_accuracy
    from vaenb.likelihood import Bernoulli

    x, test, truth, found = data.train.x, data.test.x, data.test.labels, {}
    for name in ("gm-vae", "mog-vae"):
        keras.utils.set_random_seed(seed)
        model = recipe(
            name, data, given.latent_dim, network=dense(given.hidden), likelihood=Bernoulli(True)
        )
        model.compile(keras.optimizers.Adam(given.learning_rate))
        model.fit(x, batch_size=given.batch_size, epochs=given.epochs, verbose=0)
        if name == "gm-vae":
            y = model.classify(test).argmax(1)
        else:
            p = model.prior.given()
            logits, means, logvars = (
                keras.ops.convert_to_numpy(v) for v in (p.logits, p.means, p.logvars)
            )
            apart = (model.encode(test)[:, None] - means) ** 2 / np.exp(logvars)
            y = (logits - 0.5 * (apart + logvars).sum(-1)).argmax(1)
        found[name] = cluster_accuracy(y, truth)
    fitted = KMeans(10, n_init=1, random_state=seed).fit(x.reshape(len(x), -1))
    found["k-means"] = cluster_accuracy(fitted.predict(test.reshape(len(test), -1)), truth)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--budget", choices=("full", "tiny"), default="full")
    parser.add_argument("--labels", type=int, nargs="*", default=[10, 20, 50])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cluster-seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--latent-dim", type=int, default=8)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128])
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.budget == "tiny":
        given.labels, given.seeds, given.cluster_seeds, given.epochs = [20], 1, 1, 1
    os.environ["KERAS_BACKEND"] = given.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import numpy as np

    from vaenb.data import digits, load

    data, begin = digits() if given.data == "digits" else load("mnist"), time.perf_counter()
    few = {
        str(n): [semi_supervised(data, given, n, seed) for seed in range(given.seeds)]
        for n in given.labels
    }
    found = [clusters(data, given, seed) for seed in range(given.cluster_seeds)]
    record = {
        "settings": {k: v for k, v in vars(given).items() if k != "out"},
        "error with few labels": few,
        "accuracy of clusters": found,
        "median accuracy": {k: float(np.median([f[k] for f in found])) for k in (found or [{}])[0]},
        "published": {"m2, mnist, 100 labels": 0.1197, "source": "https://arxiv.org/abs/1406.5298"},
        "seconds": round(time.perf_counter() - begin, 1),
        **machine.facts("vaenb", "scikit-learn"),
    }
    text = json.dumps(record, indent=1)
    if given.out is not None:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
