"""Networks for series: python benchmarks/series.py --out vaenb/records/series.json

The average log p(x) of test series, in nats, for aeon's ItalyPowerDemand (24 steps) and GunPoint
(150 steps), which `pip install 'vaenb[data]'` brings: probabilistic PCA, a linear VAE, and VAEs
with dense and with convolutional networks; latent size, epochs, learning rate and seeds are the
same. Each seed is another split of the data. A result that is in the file already is not computed
again, so a killed benchmark goes on where it was."""

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import aeon
import keras
import numpy as np
import sklearn
from aeon.datasets import load_gunpoint, load_italy_power_demand
from sklearn.decomposition import PCA

import vaenb
from vaenb import VAE
from vaenb.likelihood import Normal
from vaenb.network import dense
from vaenb.series import conv1d

DATA = {
    "ItalyPowerDemand": lambda: load_italy_power_demand(return_type="numpy2D"),
    "GunPoint": lambda: load_gunpoint(return_type="numpy2D"),
}
NETWORKS = {
    "linear VAE": dense([]),
    "VAE, dense": dense([128, 64]),
    "VAE, conv1d": conv1d((16, 32), 64),
}


def score(name, train, test, args, seed):
    "The average log p(x) of the test series, and the number of weights."
    if name == "probabilistic PCA":
        return PCA(args.latent_dim).fit(train).score(test), None
    keras.utils.set_random_seed(seed)
    model = VAE.for_data(
        train, args.latent_dim, network=NETWORKS[name], likelihood=Normal("learned")
    )
    epochs = math.ceil(args.steps * args.batch_size / len(train))
    steps = epochs * math.ceil(len(train) / args.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(args.learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate))
    model.fit(train, batch_size=args.batch_size, epochs=epochs, verbose=0)
    return model.log_likelihood(test, n_samples=args.n_samples).mean(), model.count_params()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="vaenb/records/series.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--latent-dim", type=int, default=6)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--n-samples", type=int, default=200)
    args = parser.parse_args()
    out = Path(args.out)
    protocol = {key: value for key, value in vars(args).items() if key not in ("out", "seeds")}
    record = json.loads(out.read_text()) if out.exists() else {"nats": {}, "weights": {}}
    if record.get("protocol", protocol) != protocol:
        raise SystemExit(f"{out} holds results of another protocol: {record['protocol']}")
    for data, load in DATA.items():
        x = load()[0].astype("float32")
        for seed in range(args.seeds):
            order = np.random.default_rng(seed).permutation(len(x))
            train, test = np.split(x[order], [round(0.75 * len(x))])
            for name in ("probabilistic PCA", *NETWORKS):
                kept, start = record["nats"].setdefault(data, {}), time.perf_counter()
                if str(seed) in kept.setdefault(name, {}):
                    continue
                value, weights = score(name, train, test, args, seed)
                kept[name][str(seed)] = round(float(value), 3)
                record["weights"].setdefault(data, {})[name] = weights
                record.update(
                    protocol=protocol,
                    data="aeon's ItalyPowerDemand and GunPoint, three quarters for training",
                    seeds=list(range(args.seeds)),
                    backend=keras.backend.backend(),
                    versions={
                        "vaenb": vaenb.__version__,
                        "keras": keras.__version__,
                        "scikit-learn": sklearn.__version__,
                        "aeon": aeon.__version__,
                        "numpy": np.__version__,
                        "python": platform.python_version(),
                    },
                    machine={"cpu_count": os.cpu_count(), "platform": platform.platform()},
                )
                out.write_text(json.dumps(record, indent=1) + "\n")
                seconds = time.perf_counter() - start
                print(f"{data:18s}{seed}  {name:20s}{value:9.2f}  {seconds:5.1f} s", flush=True)


if __name__ == "__main__":
    main()
