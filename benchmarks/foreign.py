"""Where digits that other people wrote land in the demonstration: put in as files, in a browser.

    python benchmarks/foreign.py MNIST --out vaenb/records/foreign.json

MNIST is a folder with t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz. The models of
`vaenb demo` are trained on scikit-learn's digits. Twelve test images of MNIST of each class are put
in as PNG files of 28 by 28 pixels under "Your image"; the page centres, scales and encodes them.
Each code votes among the codes of the undistorted training digits: the class of the nearest one,
and the most frequent class of the ten nearest. The test digits of scikit-learn are the reference;
they are encoded in Python. KERAS_BACKEND chooses the backend; the record keeps one entry for each.
"""

import argparse
import gzip
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from vaenb.demo import train_demo
from vaenb.explorer import explore_page
from vaenb.run import environment

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]
import lab  # noqa: E402
from sitecheck import find_chromium  # noqa: E402


def read_idx(path, offset, shape):
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset).reshape(shape)


def foreign_digits(folder, each, seed):
    "Images (n, 28, 28) and labels: `each` of every class, drawn with the seed."
    x = read_idx(folder / "t10k-images-idx3-ubyte.gz", 16, (-1, 28, 28))
    y = read_idx(folder / "t10k-labels-idx1-ubyte.gz", 8, -1)
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.choice(np.flatnonzero(y == c), each, False) for c in range(10)])
    return x[rows], y[rows]


def shares(train, labels, codes, wanted):
    "Shares of codes whose nearest training code, and most of whose ten nearest, have their class."
    distance = ((codes[:, None] - train[None]) ** 2).sum(-1)
    near = labels[np.argsort(distance, axis=1)[:, :10]]
    vote = np.array([np.bincount(row, minlength=10).argmax() for row in near])
    found = {"nearest": near[:, 0] == wanted, "ten nearest": vote == wanted}
    return {name: round(float(right.mean()), 3) for name, right in found.items()}


def codes_of_files(browser, page, files):
    "The code that the page gives to each image file."
    tab = browser.new_page(viewport={"width": 1000, "height": 800})
    tab.goto(page.as_uri())
    view = tab.locator(".vx")
    view.get_by_role("tab", name="Your image").click()
    view.get_by_text("Take it along").click()
    text, codes = view.get_by_label("The code as NumPy text"), []
    for file in files:
        before = text.input_value()
        view.get_by_label("or an image file").set_input_files(file)
        for _ in range(100):
            if (now := text.input_value()) != before:
                break
            tab.wait_for_timeout(20)
        else:
            raise RuntimeError(f"{file}: the code did not change")
        codes.append(eval(now, {"np": np}))
    tab.close()
    return np.array(codes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--each", type=int, default=12, help="digits of each class")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    images, wanted = foreign_digits(given.folder, given.each, given.seed)
    start = time.perf_counter()
    data, results = train_demo(seed=given.seed, n_samples=10)
    seconds = time.perf_counter() - start
    found = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        files = [Path(folder) / f"{i}.png" for i in range(len(images))]
        for file, image in zip(files, images):
            Image.fromarray(image).save(file)
        browser = play.chromium.launch(executable_path=find_chromium(), args=lab.FLAGS)
        for d, result in results.items():
            page = Path(folder) / "page.html"
            page.write_text(explore_page(result["model"], data))
            codes = codes_of_files(browser, page, files)
            train = np.asarray(result["model"].encode(data.train.x))
            own = np.asarray(result["model"].encode(data.test.x))
            found[f"{d} numbers"] = {
                "foreign": shares(train, data.train.labels, codes, wanted),
                "own test digits": shares(train, data.train.labels, own, data.test.labels),
            }
        browser.close()
    entry = {
        "digits": len(images),
        "seed": given.seed,
        "training seconds": round(seconds, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        **environment(),
        "shares": found,
    }
    print(json.dumps(entry, indent=1))
    if given.out:
        record = json.loads(given.out.read_text()) if given.out.exists() else {}
        record[entry["backend"]] = entry
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
