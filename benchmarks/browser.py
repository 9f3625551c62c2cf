"""What a packed model weighs, and how long a code takes to become pixels in plain JavaScript in
headless Chromium.

    python benchmarks/browser.py --out vaenb/records/browser.json

The networks have MNIST's shape and their first weights: time and size do not depend on training.
Each code is decoded once; the first few runs, in which the browser compiles the loops, are left out
of the percentiles and reported by themselves."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from playwright.sync_api import sync_playwright

from vaenb import VAE, conv, dense, resnet
from vaenb.browser import network_source, pack_model, packed_bytes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from sitecheck import find_chromium  # noqa: E402

NETWORKS = {
    "dense 784-512-512": dense((512, 512)),
    "conv 32-64": conv((32, 64)),
    "resnet 32-64": resnet((32, 64)),
}
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MEASURE = """async ({source, packed, codes, images, warm}) => {
  const url = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
  const {makeModel} = await import(url);
  const start = performance.now(), model = makeModel(packed), made = performance.now() - start;
  const time = (f, inputs) => inputs.map((x) => {
    const a = performance.now();
    f(Float32Array.from(x));
    return performance.now() - a;
  });
  const summary = (times) => {
    const sorted = times.slice(warm).sort((a, b) => a - b);
    const at = (p) => sorted[Math.ceil(p * sorted.length) - 1];
    return {first: times[0], p50: at(0.5), p95: at(0.95)};
  };
  const decode = summary(time(model.decode, codes));
  return {load: made, decode, encode: summary(time(model.encode, images))};
}"""


def rounded(value):
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else round(value, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--codes", type=int, default=200)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    rng, load, results = np.random.default_rng(0), os.getloadavg()[0], {}
    images, codes, warm = (
        rng.random((options.codes + 20, 28, 28, 1)).astype("float32"),
        rng.normal(size=(options.codes + 20, 16)),
        20,
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGS)
        for name, network in NETWORKS.items():
            model = VAE.for_data(images, 16, network=network)
            fine, coarse = (
                pack_model(model, dtype, max_bytes=10**8) for dtype in ("float16", "int8")
            )
            times = browser.new_page().evaluate(
                MEASURE,
                {
                    "source": network_source(),
                    "packed": fine,
                    "codes": codes.tolist(),
                    "images": images.reshape(len(images), -1).tolist(),
                    "warm": warm,
                },
            )

            def size(packed):
                return {
                    "decoder": len(packed["decoder"]["weights"]),
                    "both": packed_bytes(packed),
                }

            results[name] = {
                "milliseconds": rounded(times),
                "bytes": {"float16": size(fine), "int8": size(coarse)},
            }
            print(name, json.dumps(results[name]))
        version = browser.version
        browser.close()
    record = {
        "what": "code to pixels, image to code, and loading, in JavaScript; bytes of the weights "
        "as base64 text",
        "image": "28 x 28",
        "latent_dim": 16,
        "codes": options.codes,
        "chromium": version,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average_at_start": round(load, 1),
        "results": results,
    }
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
