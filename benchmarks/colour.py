"""Likelihoods of colour photographs: python benchmarks/colour.py --out vaenb/records/colour.json

Bits for each number of 32 x 32 patches of photographs that were held out, at most (from the ELBO),
of VAEs that differ in the likelihood: the discretised logistic, a mixture of one component (a scale
for each pixel), the same with each channel conditioned on the ones before, and three components.
Network, latent size, steps, batches and seeds are the same. The scales of the discretised logistic
are three weights that move slowly; a second value is with these fitted to the training patches
afterwards. Beside them PNG, of each patch by itself and of the photographs as a whole, cut to the
patches. The photographs are scikit-learn's, Matplotlib's, and those in the wheel of scikit-image
(`pip install scikit-image`). A result that is in the file already is not
computed again, so a killed benchmark goes on where it was."""

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
from keras import ops
from matplotlib import cbook
from PIL import Image
from sklearn.datasets import load_sample_images

import vaenb
from vaenb import VAE, conv
from vaenb.colour import DiscretizedLogisticMixture, patches, png_bits
from vaenb.evaluation import bits_per_dim
from vaenb.levels import discretized_logistic_log_prob
from vaenb.likelihood import DiscretizedLogistic

PHOTOGRAPHS = ("china", "flower", "grace_hopper")
PHOTOGRAPHS += ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket")  # scikit-image's
FITTED = ", scales fitted"
LIKELIHOODS = {
    "discretised logistic": lambda: DiscretizedLogistic(256, per_channel=True),
    "1 component, independent": lambda: DiscretizedLogisticMixture(1, autoregressive=False),
    "1 component, conditioned": lambda: DiscretizedLogisticMixture(1),
    "3 components, conditioned": lambda: DiscretizedLogisticMixture(3),
}


def photograph(name):
    "One photograph, (h, w, 3) uint8."
    if name in ("china", "flower"):
        return load_sample_images().images[("china", "flower").index(name)]
    if name == "grace_hopper":
        with cbook.get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    found = importlib.util.find_spec("skimage")
    if found is None:
        raise SystemExit("the photographs are in scikit-image: pip install scikit-image")
    folder = Path(found.submodule_search_locations[0]) / "data"
    with Image.open(next(folder.glob(f"{name}.*"))) as image:
        return np.asarray(image.convert("RGB"))


def tiled(image, size):
    "The part of a photograph that its patches fill."
    return np.ascontiguousarray(image[tuple(slice(n - n % size) for n in image.shape[:2])])


def fit_scales(model, x):
    "Sets the scale of each channel to the best of a grid, at the codes of x."
    likelihood = model.likelihood
    features = model.run("features", model.encode(x)[:, None])[:, 0]
    grid, level = np.linspace(-5, -1, 81), np.rint(255 * x)
    found = []
    for c in range(x.shape[-1]):
        each = [
            ops.convert_to_numpy(
                discretized_logistic_log_prob(level[..., c], features[..., c], s, event_ndim=0)
            ).mean()
            for s in grid
        ]
        found.append(grid[np.argmax(each)])
    likelihood.raw_scale.assign(found)


def score(likelihood, train, test, args, seed):
    "Per measurement: bits for each number of the test patches, and KL in nats; weights; CPU s."
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
    results = {}
    for suffix in ("", FITTED) if isinstance(likelihood, DiscretizedLogistic) else ("",):
        if suffix:
            fit_scales(model, train[::9])
        found = model.evaluate(test, batch_size=args.batch_size, verbose=0, return_dict=True)
        results[suffix] = bits_per_dim(-found["elbo"], test.shape[1:]), found["kl"]
    return results, model.count_params(), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="vaenb/records/colour.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", choices=PHOTOGRAPHS, nargs="+", default=["astronaut", "chelsea"])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--latent-dim", type=int, default=64)
    parser.add_argument("--filters", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    args = parser.parse_args()
    out = Path(args.out)
    protocol = {key: value for key, value in vars(args).items() if key not in ("out", "seeds")}
    record = json.loads(out.read_text()) if out.exists() else {"bits": {}, "kl": {}, "weights": {}}
    if record.get("protocol", protocol) != protocol:
        raise SystemExit(f"{out} holds results of another protocol: {record['protocol']}")
    names = [name for name in PHOTOGRAPHS if name not in args.test]
    train = np.concatenate([patches(photograph(name), args.size, args.stride) for name in names])
    pictures = [tiled(photograph(name), args.size) for name in args.test]
    test = np.concatenate([patches(picture, args.size) for picture in pictures])
    sizes = [picture.size for picture in pictures]
    record.update(
        protocol=protocol,
        data={
            "train": {"photographs": names, "patches": len(train)},
            "test": {"photographs": args.test, "patches": len(test)},
        },
        png={
            "each patch": round(float(np.mean([png_bits(one) for one in test])), 3),
            "whole photographs": round(
                float(np.average([png_bits(one) for one in pictures], weights=sizes)), 3
            ),
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
            results, weights, seconds = score(likelihood(), train, test, args, seed)
            for suffix, (bits, kl) in results.items():
                kept = record["bits"].setdefault(name + suffix, {})
                kept[str(seed)] = round(float(bits), 3)
                record["kl"].setdefault(name + suffix, {})[str(seed)] = round(float(kl), 1)
                print(f"{seed}  {name + suffix:36s}{bits:6.3f} bits  KL {kl:6.1f}", flush=True)
            record["weights"][name] = weights
            record.setdefault("cpu_seconds", {}).setdefault(name, {})[str(seed)] = round(seconds)
            out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
