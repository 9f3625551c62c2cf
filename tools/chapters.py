"""Test notebooks as `nbdev_test` does, several at a time, each in a process as fresh as a new
kernel.

    python tools/chapters.py                              # every notebook
    python tools/chapters.py nbs/models/22_vae.ipynb ...
    python tools/chapters.py --today                      # those that `make test` runs
    python tools/chapters.py --workers 4

`--today` takes every notebook whose code was changed lately, and a share of the others (see
turns.py). `make test-all` runs every notebook.

One process imports Keras and the other libraries once, and nothing of vaenb. For every notebook it
forks a child, which has all of that and nothing else: no seeds drawn, no models made, no memory of
other notebooks. Where a process cannot be forked safely, `nbdev_test` itself runs instead.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import turns

ROOT = turns.ROOT
LIBRARIES = (
    "keras",
    "matplotlib.pyplot",
    "scipy.stats",
    "sklearn.decomposition",
    "sklearn.mixture",
    "PIL.Image",
    "IPython.display",
    "anywidget",
    "ipywidgets",
    "typer.testing",
    "nbdev.showdoc",
)


def notebooks():
    """The paths of all notebooks."""
    from nbdev.doclinks import nbglob

    return sorted(path.resolve() for path in nbglob(as_path=True))


def code(notebook):
    """The sources of a notebook's code cells, from its JSON text."""
    cells = json.loads(notebook)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def todays(paths):
    """Of all notebooks those with changed code, and those that have their turn."""
    return [
        path for i, path in enumerate(paths) if turns.has_turn(i) or turns.is_changed(path, code)
    ]


def start(path, skip):
    """Forks a child that tests one notebook: its number, and the file that gets what it says."""
    from nbdev.test import test_nb

    said = tempfile.TemporaryFile()
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child, said
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    passed = False
    try:
        passed, _ = test_nb(path, skip_flags=skip, basepath=ROOT)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0 if passed else 1)


def run(paths, workers):
    """Tests the notebooks; returns (CPU seconds, seconds, name, passed) of each."""
    from nbdev.config import get_config

    skip, waiting, running, done = get_config().tst_flags.split(), list(paths), {}, []
    while waiting or running:
        while waiting and len(running) < workers:
            path = waiting.pop(0)
            child, said = start(path, skip)
            running[child] = path, said, time.monotonic()
        child, status, used = os.wait4(-1, 0)
        path, said, began = running.pop(child)
        name = str(path.relative_to(ROOT))
        done.append((used.ru_utime + used.ru_stime, time.monotonic() - began, name, status == 0))
        if status:
            said.seek(0)
            print(f"{said.read().decode(errors='replace')}\n{name} fails", flush=True)
        said.close()
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--today", action="store_true", help="those that `make test` runs")
    parser.add_argument("--workers", type=int, default=min(4, max(2, os.cpu_count() or 1)))
    args = parser.parse_args()
    os.chdir(ROOT)
    paths = [path.resolve() for path in args.paths]
    if args.today:
        paths = todays(notebooks())
    if not sys.platform.startswith("linux"):
        command = [Path(sys.executable).parent / "nbdev_test", "--timing"]
        several = [[*command, "--path", path] for path in paths]
        several = several or [[*command, "--n_workers", str(args.workers)]]
        sys.exit(max(subprocess.run(command).returncode for command in several))

    paths = paths or notebooks()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in LIBRARIES:
        importlib.import_module(name)
    done = run(paths, args.workers)
    print(f"{len(done)} notebooks, {sum(row[0] for row in done):.0f} CPU seconds; the slowest:")
    for cpu, seconds, name, _ in sorted(done, reverse=True)[:10]:
        print(f"{cpu:6.1f} CPU s {seconds:6.1f} s  {name}")
    failed = [name for *_, name, passed in done if not passed]
    if failed:
        sys.exit(f"{len(failed)} of {len(done)} notebooks fail: {', '.join(failed)}")


if __name__ == "__main__":
    main()
