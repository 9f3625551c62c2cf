"""From a slider that moves to pixels that change, in milliseconds: in a page without a kernel, and
in JupyterLab with one.

    python benchmarks/explorer.py --out vaenb/records/explorer.json

The networks have MNIST's shape and their first weights: time does not depend on training. Each move
waits for the picture of the one before; what is timed runs from the slider's event until the canvas
holds the new pixels. Both views run with the map's tab open."""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from playwright.sync_api import sync_playwright

from vaenb import VAE, conv, dense
from vaenb.explorer import explore_page

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]
import lab  # noqa: E402
from sitecheck import find_chromium  # noqa: E402

NETWORKS = {"dense 512-512": "dense((512, 512))", "conv 32-64": "conv((32, 64))"}
MEASURE = """async (view, moves) => {
  const canvas = view.querySelector("canvas.frame"), times = [];
  const slider = view.querySelector("input[type=range]");
  let drawn = () => {}, kept = canvas.frame;
  Object.defineProperty(canvas, "frame", {
    get: () => kept,
    // set first, drawn in the same task
    set(value) { kept = value; queueMicrotask(() => drawn()); },
  });
  for (let i = 0; i < moves + 20; i++) {
    const start = performance.now(), done = new Promise((resolve) => { drawn = resolve; });
    slider.value = Math.sin(i);
    slider.dispatchEvent(new Event("input"));
    await done;
    times.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const sorted = times.slice(20).sort((a, b) => a - b);
  const at = (p) => Math.round(10 * sorted[Math.ceil(p * sorted.length) - 1]) / 10;
  return { p50: at(0.5), p95: at(0.95), max: at(1) };
}"""
CELL = """
import keras, numpy as np
from vaenb import VAE, conv, dense, LatentExplorer
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).random((500, 28, 28, 1)).astype("float32")
LatentExplorer(VAE.for_data(x, 16, network={network}), x)
"""


def static(network, moves):
    x = np.random.default_rng(0).random((500, 28, 28, 1)).astype("float32")
    page = explore_page(VAE.for_data(x, 16, network=network), x, max_bytes=10**7)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        file = Path(folder) / "page.html"
        file.write_text(page)
        browser = play.chromium.launch(executable_path=find_chromium(), args=lab.FLAGS)
        tab = browser.new_page()
        tab.goto(file.as_uri())
        tab.wait_for_function(
            "document.querySelector('.vaenb-explorer-view').shadowRoot.querySelector('canvas.frame').frame"
        )
        found = tab.locator(".vx").evaluate(MEASURE, moves)
        browser.close()
    return found


def live(network, moves):
    with (
        tempfile.TemporaryDirectory() as folder,
        lab.opened([CELL.format(network=network)], Path(folder)) as page,
    ):
        page.run_all()
        view = page.cell(0).locator(".vx").first
        page.page.wait_for_function(
            "c => c.frame", arg=view.locator("canvas.frame").first.element_handle()
        )
        return view.evaluate(MEASURE, moves)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--moves", type=int, default=200)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    load, results = os.getloadavg()[0], {}
    for name, network in NETWORKS.items():
        results[name] = {
            "page": static(eval(network, {"dense": dense, "conv": conv}), options.moves),
            "JupyterLab": live(network, options.moves),
        }
        print(name, json.dumps(results[name]), flush=True)
    record = {
        "what": "slider to pixels, milliseconds",
        "image": "28 x 28",
        "latent_dim": 16,
        "moves": options.moves,
        "backend": keras.backend.backend(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average_at_start": round(load, 1),
        "results": results,
    }
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
