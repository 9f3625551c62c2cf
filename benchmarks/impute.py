"""Missing values filled in: python benchmarks/impute.py --out vaenb/records/impute.json

scikit-learn's breast cancer data, standardised; half of the entries are removed completely at
random, and each method fills them in. The number is the mean squared error of the removed entries
(Mattei and Frellsen 2019, section 5.2). All methods get the same masks. A result that is in the
file already is not computed again, so a killed benchmark goes on where it was."""

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
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 (makes the next name known)
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

import vaenb
from vaenb import VAE
from vaenb.columns import Columns
from vaenb.missing import impute
from vaenb.network import dense
from vaenb.objective import IWAE


def vae(holes, seed, args):
    "Trains a VAE on what is observed; its importance-weighted means."
    keras.utils.set_random_seed(seed)
    column = {"kind": "number", "shift": 0.0, "scale": 1.0, "start": [0.0, 0.0]}
    columns = [{**column, "name": str(i)} for i in range(holes.shape[1])]
    model = VAE.for_data(
        holes,
        args.latent_dim,
        network=dense(args.hidden, "tanh"),
        likelihood=Columns(columns),
        objective=IWAE(args.k),
        missing=True,
    )
    steps = -(-len(holes) // args.batch_size) * args.epochs
    rate = keras.optimizers.schedules.CosineDecay(args.learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate))
    model.fit(holes, epochs=args.epochs, batch_size=args.batch_size, verbose=0)
    return impute(model, holes, args.n_samples, seed=seed)


def forest(holes, seed, args):
    "scikit-learn's iterative imputer with a forest, as missForest does it."
    model = ExtraTreesRegressor(args.trees, random_state=seed, max_features="sqrt")
    imputer = IterativeImputer(model, max_iter=args.forest_iterations, random_state=seed)
    return imputer.fit_transform(holes)


METHODS = {
    "column mean": lambda holes, seed, args: SimpleImputer().fit_transform(holes),
    "10 nearest neighbours": lambda holes, seed, args: KNNImputer(
        n_neighbors=10, weights="distance"
    ).fit_transform(holes),
    "forest of extra trees, iterated": forest,
    "VAE, importance weighted": vae,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="vaenb/records/impute.json")
    parser.add_argument("--only", default=[], nargs="+", help="methods; none: all of them")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--missing", type=float, default=0.5)
    parser.add_argument("--latent-dim", type=int, default=10)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 128])
    parser.add_argument("--k", type=int, default=10, help="importance samples in training")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--trees", type=int, default=30)
    parser.add_argument("--forest-iterations", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--n-samples", type=int, default=1000)
    args = parser.parse_args()
    out, given = Path(args.out), ("out", "only", "seeds")
    protocol = {key: value for key, value in vars(args).items() if key not in given}
    record = json.loads(out.read_text()) if out.exists() else {"errors": {}, "seconds": {}}
    if record.get("protocol", protocol) != protocol:
        raise SystemExit(f"{out} holds results of another protocol: {record['protocol']}")
    x = load_breast_cancer().data
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    for seed in range(args.seeds):
        gap = np.random.default_rng(seed).random(x.shape) < args.missing
        holes = np.where(gap, np.nan, x).astype("float32")
        for name in args.only or METHODS:
            if str(seed) in record["errors"].get(name, {}):
                continue
            start = time.perf_counter()
            filled = METHODS[name](holes, seed, args)
            error = float(((filled - x)[gap] ** 2).mean())
            record["errors"].setdefault(name, {})[str(seed)] = round(error, 4)
            seconds = record["seconds"].setdefault(name, {})
            seconds[str(seed)] = round(time.perf_counter() - start, 1)
            record.update(
                protocol=protocol,
                data="scikit-learn's breast cancer, standardised, entries missing at random",
                seeds=list(range(seed + 1)),
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
            out.write_text(json.dumps(record, indent=1) + "\n")
            print(f"seed {seed}  {name:34s}{error:.4f}  {seconds[str(seed)]} s", flush=True)


if __name__ == "__main__":
    main()
