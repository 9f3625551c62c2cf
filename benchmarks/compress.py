"""Lossless compression of MNIST's 10,000 test images with a VAE, beside other programs:

    python benchmarks/compress.py --out vaenb/records/compress.json
    python benchmarks/compress.py --pixels grey --epochs 100 --out build/compress-grey.json

The VAE is trained on the 50,000 training images. Binary pixels: Bernoulli, coins tossed anew at
every visit; the test images are binarised once (seed 777). Grey pixels: the file's 256 levels under
a beta-binomial, and the weights of the epoch with the largest ELBO on the 10,000 validation images.
Rates are bits a pixel of all test images together, headers counted: one stream for gzip, bz2 and
lzma (of packed bits where the pixels are binary), one picture with all digits for PNG and WebP, and
both again with one file an image. The weights of the VAE are not counted. The images of the file
are read back and compared. A model trained elsewhere is kept in a file: --model FILE trains where
the file is missing, and reads it where it is there."""

import argparse
import bz2
import gzip
import io
import json
import lzma
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image

import vaenb
from vaenb import ELBO, VAE, data
from vaenb.compression import compress, decompress, encode, scaled, to_symbols, unpack
from vaenb.likelihood import Bernoulli, BetaBinomial
from vaenb.network import conv, dense, resnet


def saved(pixels, binary, **options):
    "Bytes of a picture, black and white or grey."
    memory = io.BytesIO()
    picture = Image.fromarray(pixels * np.uint8(255) if binary else pixels)
    picture.convert("1" if binary else "L").save(memory, **options)
    return len(memory.getvalue())


def others(x, binary):
    "Bytes that other programs need for the images (n, h, w), uint8: zeros and ones, or grey."
    packed = np.packbits(x).tobytes() if binary else x.tobytes()
    columns = max(k for k in range(1, 101) if len(x) % k == 0)
    tiled = np.hstack([np.vstack(column) for column in np.split(x, columns)])
    png = {"binary": binary, "format": "PNG", "optimize": True}
    webp = {"binary": binary, "format": "WEBP", "lossless": True, "quality": 100, "method": 6}
    return {
        "one bit a pixel" if binary else "one byte a pixel": len(packed),
        "gzip": len(gzip.compress(packed, 9)),
        "bz2": len(bz2.compress(packed, 9)),
        "lzma": len(lzma.compress(packed, preset=9 | lzma.PRESET_EXTREME)),
        "PNG, one picture": saved(tiled, **png),
        "WebP, one picture": saved(tiled, **webp),
        "PNG, a file each": sum(saved(image, **png) for image in x),
        "WebP, a file each": sum(saved(image, **webp) for image in x),
    }


def versions():
    return {
        "vaenb": vaenb.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def trained(digits, args):
    "The model, and a dict about its training."
    keras.utils.set_random_seed(args.seed)
    binary = args.pixels == "binary"
    sizes, images = tuple(args.hidden), {"conv": conv, "resnet": resnet}
    if args.network == "dense":
        network = dense(sizes)
    else:
        network = images[args.network](sizes[:-1], hidden=sizes[-1])
    model = VAE.for_data(
        digits,
        args.latent_dim,
        network=network,
        likelihood=Bernoulli(binarize=True) if binary else BetaBinomial(256),
        objective=ELBO(warmup=args.warmup),
    )
    steps = args.epochs * (len(digits.train.x) // args.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(args.learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate))
    best = keras.callbacks.EarlyStopping(
        "val_elbo", mode="max", patience=args.epochs, restore_best_weights=True
    )
    held = {} if binary else {"validation_data": digits.val.x, "callbacks": [best]}
    start = time.monotonic()
    found = model.fit(
        digits.train.x, batch_size=args.batch_size, epochs=args.epochs, verbose=args.verbose, **held
    )
    about = {"training_seconds": round(time.monotonic() - start, 1)}
    if held:
        elbo = found.history["val_elbo"]
        about |= {"best_epoch": int(np.argmax(elbo)) + 1, "validation_elbo": float(max(elbo))}
    if keras.backend.backend() == "jax":
        import jax

        about["device"] = jax.devices()[0].device_kind
    model.compile("sgd")  # which has no state: the file holds the weights alone
    return model, about | {
        "backend": keras.backend.backend(),
        "versions": versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def timed(function, *args, **options):
    start = time.monotonic()
    return function(*args, **options), time.monotonic() - start


def measure(model, x, batch_size):
    "Rates, parts and speed for the images (n, h, w, 1), uint8."
    symbols, levels = to_symbols(model, x)
    binary = levels == 2
    encode(model, symbols[:2000], levels, batch_size)  # compiles the networks for every size
    (words, initial, spent), seconds = timed(encode, model, symbols, levels, batch_size)
    content = compress(model, x, batch_size=batch_size)
    back, more = timed(decompress, model, content)
    assert np.array_equal(unpack(content)["words"], words)
    model.reset_seed(0)
    seen = scaled(model, symbols, levels).reshape(x.shape)
    terms = model.run("pass_terms", seen, n_samples=16)
    bound = (terms["kl"].sum() - terms["log_px_z"].mean(axis=1).sum()) / np.log(2)
    rates = {name: 8 * size / x.size for name, size in others(x[..., 0], binary).items()}
    rates |= {
        "VAE, whole file": 8 * len(content) / x.size,
        "VAE, without initial bits": (8 * len(content) - 32 * initial) / x.size,
        "bound of the VAE (-ELBO)": bound / x.size,
    }
    return {
        "images": len(x),
        "round_trip": back.tobytes() == x.tobytes() and back.dtype == x.dtype,
        "bytes": len(content),
        "initial_bits": 32 * initial,
        "bits_per_pixel": rates,
        "bits_per_image": {name: bits / len(x) for name, bits in spent.items()},
        "images_per_second": {"compress": len(x) / seconds, "decompress": len(x) / more},
        "batch_size": batch_size,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/compress.json"))
    parser.add_argument("--pixels", choices=["binary", "grey"], default="binary")
    parser.add_argument("--network", choices=["dense", "conv", "resnet"], default="dense")
    parser.add_argument(
        "--hidden",
        type=int,
        nargs="+",
        default=[200],
        help="widths; conv and resnet: filters, then width",
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=0, help="epochs until the KL counts in full")
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--latent-dim", type=int, default=40)
    parser.add_argument("--images", type=int, default=10_000, help="of the test images")
    parser.add_argument("--coded-together", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="FILE.keras: the trained model is kept here")
    parser.add_argument("--only-train", action="store_true", help="write --model, measure nothing")
    parser.add_argument("--verbose", type=int, default=0)
    args = parser.parse_args()
    digits = data.mnist()
    about = args.model and args.model.with_suffix(".json")
    if args.model and args.model.exists():
        model, kept = vaenb.load_model(args.model), json.loads(about.read_text())
        protocol, training = kept["protocol"], kept["training"]
    else:
        unsaid = ("out", "model", "only_train", "verbose", "images", "coded_together")
        protocol = {k: v for k, v in vars(args).items() if k not in unsaid}
        model, training = trained(digits, args)
        if args.model:
            args.model.parent.mkdir(parents=True, exist_ok=True)
            model.save(args.model)
            about.write_text(json.dumps({"protocol": protocol, "training": training}) + "\n")
    if args.only_train:
        return print(json.dumps({"protocol": protocol, "training": training}))
    if protocol["pixels"] == "binary":
        x = digits.binarized().test.x[: args.images].astype("uint8")
    else:
        x = np.rint(255 * digits.test.x[: args.images]).astype("uint8")
    record = {
        "protocol": protocol | {"images": args.images, "coded_together": args.coded_together},
        "data": "MNIST, training resampled at every visit, test binarised once (seed 777)"
        if protocol["pixels"] == "binary"
        else "MNIST, 256 grey levels; the epoch chosen on the 10,000 validation images",
        "training": training,
        "results": measure(model, x, args.coded_together),
        "backend": keras.backend.backend(),
        "versions": versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["results"], indent=1))


if __name__ == "__main__":
    main()
