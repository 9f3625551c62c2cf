"""Likelihoods of colour photographs: python benchmarks/colour.py --out vaenb/records/colour.json

Bits for each number of 64 x 64 patches of two photographs that were held out, at most (from the
ELBO), of VAEs that differ in the likelihood: the discretised logistic, and mixtures of one and of
three components, with channels that are independent given the component or each conditioned on
the ones before. Network, latent size, steps, batches and seeds are the same. Beside them PNG, of
each patch by itself and of all patches of a photograph as one picture. The photographs are
scikit-learn's, and those in the wheel of scikit-image (`pip install scikit-image`). A result that
is in the file already is not computed again, so a killed benchmark goes on where it was."""

import argparse
import importlib.util
import json
import math
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import PIL
import sklearn
from PIL import Image
from sklearn.datasets import load_sample_images

import vaenb
from vaenb import VAE, conv
from vaenb.colour import DiscretizedLogisticMixture, patches, png_bits
from vaenb.evaluation import bits_per_dim
from vaenb.likelihood import DiscretizedLogistic

TRAIN = ("china", "astronaut", "coffee", "rocket", "motorcycle_left")
TEST = ("flower", "chelsea")
LIKELIHOODS = {
    "discretised logistic": lambda: DiscretizedLogistic(256, per_channel=True),
    "1 component, independent": lambda: DiscretizedLogisticMixture(1, autoregressive=False),
    "1 component, conditioned": lambda: DiscretizedLogisticMixture(1),
    "3 components, independent": lambda: DiscretizedLogisticMixture(3, autoregressive=False),
    "3 components, conditioned": lambda: DiscretizedLogisticMixture(3),
}


def photograph(name):
    "One photograph, (h, w, 3) uint8."
    if name in ("china", "flower"):
        return load_sample_images().images[("china", "flower").index(name)]
    found = importlib.util.find_spec("skimage")
    if found is None:
        raise SystemExit("the photographs are in scikit-image: pip install scikit-image")
    folder = Path(found.submodule_search_locations[0]) / "data"
    with Image.open(next(folder.glob(f"{name}.*"))) as image:
        return np.asarray(image.convert("RGB"))


def tiled(image, size):
    "The part of a photograph that its patches fill."
    return np.ascontiguousarray(image[tuple(slice(n - n % size) for n in image.shape[:2])])


def score(likelihood, train, test, args, seed):
    "Bits for each number of the test patches, the KL in nats, weights, and CPU seconds."
    keras.utils.set_random_seed(seed)
    network = conv(tuple(args.filters), args.hidden)
    model = VAE.for_data(train, args.latent_dim, network=network, likelihood=likelihood)
    rate = keras.optimizers.schedules.CosineDecay(args.learning_rate, args.steps)
    model.compile(keras.optimizers.Adam(rate))
    rng, start = np.random.default_rng(seed), time.process_time()
    epochs = math.ceil(args.steps * args.batch_size / len(train))
    rows = np.concatenate([rng.permutation(len(train)) for _ in range(epochs)])
    rows = rows[: args.steps * args.batch_size]
    model.fit(train[rows], batch_size=args.batch_size, shuffle=False, verbose=0)
    seconds = time.process_time() - start
    found = model.evaluate(test, batch_size=args.batch_size, verbose=0, return_dict=True)
    bits = bits_per_dim(-found["elbo"], test.shape[1:])
    return bits, found["kl"], model.count_params(), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="vaenb/records/colour.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--stride", type=int, default=32)
    parser.add_argument("--latent-dim", type=int, default=64)
    parser.add_argument("--filters", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    args = parser.parse_args()
    out = Path(args.out)
    protocol = {key: value for key, value in vars(args).items() if key not in ("out", "seeds")}
    record = json.loads(out.read_text()) if out.exists() else {"bits": {}, "kl": {}, "weights": {}}
    if record.get("protocol", protocol) != protocol:
        raise SystemExit(f"{out} holds results of another protocol: {record['protocol']}")
    train = np.concatenate([patches(photograph(name), args.size, args.stride) for name in TRAIN])
    pictures = [tiled(photograph(name), args.size) for name in TEST]
    test = np.concatenate([patches(picture, args.size) for picture in pictures])
    sizes = [picture.size for picture in pictures]
    record.update(
        protocol=protocol,
        data={
            "train": {"photographs": TRAIN, "patches": len(train)},
            "test": {"photographs": TEST, "patches": len(test)},
        },
        png={
            "each patch": round(float(np.mean([png_bits(one) for one in test])), 3),
            "tiled": round(float(np.average([png_bits(one) for one in pictures], weights=sizes)), 3),
        },
        seeds=list(range(args.seeds)),
        backend=keras.backend.backend(),
        versions={
            "vaenb": vaenb.__version__,
            "keras": keras.__version__,
            "scikit-learn": sklearn.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        machine={"cpu_count": os.cpu_count(), "platform": platform.platform()},
    )
    train, test = ((x / 255).astype("float32") for x in (train, test))
    for seed in range(args.seeds):
        for name, likelihood in LIKELIHOODS.items():
            if str(seed) in record["bits"].setdefault(name, {}):
                continue
            bits, kl, weights, seconds = score(likelihood(), train, test, args, seed)
            record["bits"][name][str(seed)] = round(float(bits), 3)
            record["kl"].setdefault(name, {})[str(seed)] = round(float(kl), 1)
            record["weights"][name] = weights
            record.setdefault("cpu_seconds", {}).setdefault(name, {})[str(seed)] = round(seconds)
            out.write_text(json.dumps(record, indent=1) + "\n")
            print(f"{seed}  {name:28s}{bits:6.3f} bits  KL {kl:6.1f}  {seconds:4.0f} s", flush=True)


if __name__ == "__main__":
    main()
