"""Lossless compression of MNIST's 10,000 binarised test images with a VAE, beside other programs:
python benchmarks/compress.py --out vaenb/records/compress.json

The VAE is dense, trained on the 50,000 training images (coins tossed anew at every visit); the test
images are binarised once (seed 777). Rates are bits a pixel of all test images together, headers
counted: one stream of packed bits for gzip, bz2 and lzma, one picture with all digits for PNG and
WebP, and both again with one file an image. The weights of the VAE are not counted. The images of
the file are read back and compared."""

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
from vaenb import VAE, data
from vaenb.compression import compress, decompress, encode, to_symbols, unpack
from vaenb.likelihood import Bernoulli
from vaenb.network import dense


def saved(pixels, **options):
    "Bytes of a black and white picture."
    memory = io.BytesIO()
    Image.fromarray(pixels * np.uint8(255)).convert("1").save(memory, **options)
    return len(memory.getvalue())


def others(x):
    "Bytes that other programs need for the images (n, h, w) of zeros and ones."
    packed = np.packbits(x).tobytes()
    columns = max(k for k in range(1, 101) if len(x) % k == 0)
    tiled = np.hstack([np.vstack(column) for column in np.split(x, columns)])
    png = {"format": "PNG", "optimize": True}
    webp = {"format": "WEBP", "lossless": True, "quality": 100, "method": 6}
    return {
        "one bit a pixel": len(packed),
        "gzip": len(gzip.compress(packed, 9)),
        "bz2": len(bz2.compress(packed, 9)),
        "lzma": len(lzma.compress(packed, preset=9 | lzma.PRESET_EXTREME)),
        "PNG, one picture": saved(tiled, **png),
        "WebP, one picture": saved(tiled, **webp),
        "PNG, a file each": sum(saved(image, **png) for image in x),
        "WebP, a file each": sum(saved(image, **webp) for image in x),
    }


def trained(digits, args):
    "The model, and the seconds of its training."
    keras.utils.set_random_seed(args.seed)
    model = VAE.for_data(
        digits,
        args.latent_dim,
        network=dense((args.hidden,)),
        likelihood=Bernoulli(binarize=True),
    )
    steps = args.epochs * (len(digits.train.x) // args.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(args.learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate))
    start = time.monotonic()
    model.fit(digits.train.x, batch_size=args.batch_size, epochs=args.epochs, verbose=0)
    return model, time.monotonic() - start


def timed(function, *args, **options):
    start = time.monotonic()
    return function(*args, **options), time.monotonic() - start


def measure(model, x, batch_size):
    "Rates, parts and speed for the images (n, h, w, 1), uint8."
    symbols, levels = to_symbols(model, x)
    encode(model, symbols[:2000], levels, batch_size)  # compiles the networks for every size
    (words, initial, spent), seconds = timed(encode, model, symbols, levels, batch_size)
    content = compress(model, x, batch_size=batch_size)
    back, more = timed(decompress, model, content)
    assert np.array_equal(unpack(content)["words"], words)
    model.reset_seed(0)
    terms = model.run("pass_terms", x.astype("float32"), n_samples=16)
    bound = (terms["kl"].sum() - terms["log_px_z"].mean(axis=1).sum()) / np.log(2)
    rates = {name: 8 * size / x.size for name, size in others(x[..., 0]).items()}
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
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--latent-dim", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--images", type=int, default=10_000, help="of the test images")
    parser.add_argument("--coded-together", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    digits = data.mnist()
    x = digits.binarized().test.x[: args.images].astype("uint8")
    model, seconds = trained(digits, args)
    record = {
        "protocol": {k: v for k, v in vars(args).items() if k != "out"},
        "data": "MNIST, training resampled at every visit, test binarised once (seed 777)",
        "training_seconds": round(seconds, 1),
        "results": measure(model, x, args.coded_together),
        "backend": keras.backend.backend(),
        "versions": {
            "vaenb": vaenb.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["results"], indent=1))


if __name__ == "__main__":
    main()
