"""Lossy compression of a photograph and of digits with a scale hyperprior, beside JPEG and WebP:
python benchmarks/lossy.py --out vaenb/records/lossy.json

The photographs are scikit-learn's. The codec is trained on patches of china, mirrored, turned, with
other contrasts, orders of colours and sizes, and tested on all of flower; the digits are the
training and the test split. Rates are bits a pixel of whole files, headers counted, weights not;
PSNR is of the mean squared error over all pixels and channels. JPEG and WebP get the test digits as
one picture with grey levels stretched to 0..255; the PSNR is again that of all its pixels of
digits. The control "flat" is the codec whose z is always 0, so that each channel of y has one
scale. A result that is in the file already is not computed again."""

import argparse
import io
import json
import math
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import PIL
import sklearn
from keras import ops
from PIL import Image
from sklearn.datasets import load_sample_images

import vaenb
from vaenb import data
from vaenb.colour import patches
from vaenb.lossy import (
    ScaleHyperprior,
    compress_lossy,
    decompress_lossy,
    padded,
    start_linear,
    unpack,
)

OTHERS = {
    "JPEG": ({"format": "JPEG", "optimize": True}, (3, 6, 10, 15, 20, 30, 45, 60, 75, 85)),
    "JPEG 4:4:4": (
        {"format": "JPEG", "optimize": True, "subsampling": 0},
        (3, 6, 10, 15, 20, 30, 45, 60, 75, 85),
    ),
    "WebP": ({"format": "WEBP", "method": 6}, (1, 5, 10, 20, 30, 45, 60, 75, 85)),
}


def psnr(a, b, peak):
    "Decibels of the mean squared error."
    return 10 * math.log10(peak**2 / ((a.astype("float64") - b) ** 2).mean())


def others(picture, score, pixels):
    "The rates of other programs for one picture."
    results = {}
    for name, (options, qualities) in OTHERS.items():
        if picture.ndim == 2 and "subsampling" in options:
            continue
        results[name] = []
        for quality in qualities:
            memory = io.BytesIO()
            Image.fromarray(picture).save(memory, quality=quality, **options)
            back = np.asarray(Image.open(memory).convert("L" if picture.ndim == 2 else "RGB"))
            bpp = 8 * len(memory.getvalue()) / pixels
            point = {"quality": quality, "bpp": round(bpp, 4), "psnr": round(score(back), 3)}
            results[name].append(point)
    return results


def views(image, n, rng):
    "Patches of the photograph and of one twice as large, changed at random, (n, 64, 64, 3) uint8."
    large = Image.fromarray(image).resize([2 * s for s in image.shape[1::-1]], Image.BICUBIC)
    pool = np.concatenate([patches(image, 64, 16), patches(np.asarray(large), 64, 32)])
    found = pool[rng.integers(0, len(pool), n)]
    for i, one in enumerate(found):
        one = one[:, :: rng.choice([-1, 1])]
        one = one.transpose(1, 0, 2) if rng.random() < 0.5 else one
        one = one[..., rng.permutation(3)]
        one = 255 - one if rng.random() < 0.5 else one
        contrast = math.exp(rng.uniform(math.log(0.3), 0))
        found[i] = np.rint(one * contrast + rng.uniform(0, 255 * (1 - contrast)))
    return found


def trained(x, weight, seed, args, flat=False, **options):
    "A codec, and the seconds of its training; with `flat` its z is always 0."
    keras.utils.set_random_seed(seed)
    model = start_linear(ScaleHyperprior(weight, x.shape[-1], **options), x[:3000])
    if flat:
        model.summary_of.kernel.assign(0 * model.summary_of.kernel)
        model.summary_of.trainable = False
    rate = keras.optimizers.schedules.CosineDecay(args.learning_rate, len(x) // args.batch_size)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0))
    start = time.process_time()
    model.fit(x, batch_size=args.batch_size, shuffle=False, verbose=0)
    return model, time.process_time() - start


def score(model, x, pixels):
    "What a file of x costs and gives."
    content = compress_lossy(model, x)
    back = decompress_lossy(model, content)
    images = padded(x.reshape(-1, *x.shape[-3:]), model.block)
    terms = {k: ops.convert_to_numpy(v).sum() for k, v in model(images).items()}
    bits = 32 * len(unpack(content)["words"])
    estimate = float(terms["bits_y"] + terms["bits_z"])
    return {
        "bpp": round(8 * len(content) / pixels, 4),
        "psnr": round(psnr(back, x, model.levels - 1), 3),
        "off": round(bits / estimate - 1, 5),
        "share of z": round(float(terms["bits_z"]) / estimate, 4),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="vaenb/records/lossy.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--photo-weights", type=float, nargs="+", default=[0.002, 0.005, 0.015])
    parser.add_argument("--digit-weights", type=float, nargs="+", default=[0.05, 0.2, 0.8])
    args = parser.parse_args()
    china, flower = load_sample_images().images
    digits = data.digits()
    train, test = (np.rint(16 * part.x).astype("uint8") for part in (digits.train, digits.test))
    side = math.ceil(len(test) / 18)
    sheet = np.zeros((side * 18, 8, 8), "uint8")
    sheet[: len(test)] = np.rint(test[..., 0] * (255 / 16))

    def tiled(x):
        return np.hstack([np.vstack(column) for column in x.reshape(18, side, 8, 8)])

    def apart(picture):
        columns = [np.split(column, side) for column in np.hsplit(picture, 18)]
        return np.concatenate(columns)[: len(test)] * (16 / 255)

    photo_pixels = flower.shape[0] * flower.shape[1]
    digit_pixels = test.size
    record = {
        "protocol": {k: v for k, v in vars(args).items() if k != "out"},
        "results": {
            "the photograph flower": {
                "shown": 1.2,
                "others": others(flower, lambda back: psnr(back, flower, 255), photo_pixels),
                "ours": {},
            },
            "test digits": {
                "shown": 3.0,
                "others": others(
                    tiled(sheet), lambda back: psnr(apart(back), test[..., 0], 16), digit_pixels
                ),
                "ours": {},
            },
        },
        "backend": keras.backend.backend(),
        "versions": {
            "vaenb": vaenb.__version__,
            "keras": keras.__version__,
            "scikit-learn": sklearn.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
    }
    out = Path(args.out)
    if out.exists():
        earlier = json.loads(out.read_text())
        if earlier["protocol"] != record["protocol"]:
            raise SystemExit(f"{out} holds results of another protocol: {earlier['protocol']}")
        record = earlier
    photo, small = record["results"].values()
    photo_options = {"block": 16, "filters": 192}
    digit_options = {"filters": 64, "levels": 17}
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        x = views(china, args.steps * args.batch_size, rng)
        rows = rng.integers(0, len(train), 4 * args.steps * args.batch_size)
        for found, weights, images, wanted, pixels, options in (
            (photo, args.photo_weights, x, flower, photo_pixels, photo_options),
            (small, args.digit_weights, train[rows], test, digit_pixels, digit_options),
        ):
            middle = weights[len(weights) // 2]
            for key, weight in [*(("ours", w) for w in weights), ("flat", middle)]:
                runs = found.setdefault(key, {}).setdefault(str(weight), {})
                if str(seed) in runs:
                    continue
                flat = key == "flat"
                model, seconds = trained(images, weight, seed, args, flat, **options)
                runs[str(seed)] = {
                    **score(model, wanted, pixels),
                    "cpu_seconds": round(seconds, 1),
                }
                print(seed, key, weight, runs[str(seed)], flush=True)
                out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
