"""Install the wheel in many ways and use it as a person would, in a table.

    python tools/matrix.py                                   # every Python that is found
    python tools/matrix.py --backends jax --versions lowest --pythons python3.12

Each row is a fresh environment: a Python x a backend x the newest or the lowest versions that
settings.ini admits. The columns are commands: demo, train, evaluate, loading the model in a new
process by `import keras, vaenb`, and the page of the explorer.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from configparser import ConfigParser
from pathlib import Path

from alone import ROOT, wheel

PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")
BACKENDS = ("tensorflow", "jax", "torch")
LOAD = """
import keras, vaenb
model = keras.saving.load_model("run/model.keras")
x = vaenb.data.digits().test.x[:5]
assert model.encode(x).shape == (5, 2)
"""


def requirements(backend):
    """The requirements of the package and of one of its backends, as settings.ini has them."""
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    cfg = settings["DEFAULT"]
    return f"{cfg['requirements']} {cfg[f'{backend}_requirements']}".split()


def lowest(backend):
    """Lines of a constraints file that holds each requirement at its lowest version."""
    pins = [re.sub(r">=([\d.]+).*", r"==\1", line) for line in requirements(backend)]
    # jax admits any newer jaxlib, so the pair is held together.
    return pins + [line.replace("jax==", "jaxlib==") for line in pins if line.startswith("jax==")]


def version(python):
    """The version of a Python, such as "3.12.1", or None where it cannot be started."""
    try:
        call = [python, "-c", "import platform; print(platform.python_version())"]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # a shim of pyenv may lead nowhere
        return None


def install(folder, python, backend, versions, built):
    """The folder of the programs of a fresh environment that has the wheel."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(lowest(backend) if versions == "lowest" else []))
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call = [*pip, "-c", constraints, f"{built}[{backend}]"]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return programs


def use(programs, backend):
    """For each column "ok", or the last line of the error."""
    vaenb = [str(programs / "vaenb")]
    calls = {
        "demo": [*vaenb, "demo", "--epochs", "2"],
        "train": [*vaenb, *"train --data digits --latent-dim 2 --epochs 2 --out run".split()],
        "evaluate": [*vaenb, "evaluate", "run", "--n-samples", "20"],
        "load": [str(programs / "python"), "-c", LOAD],
        "explore": [*vaenb, "explore", "run", "--out", "explorer.html", "--no-open"],
    }
    # KERAS_BACKEND is not set: the one backend that is installed has to be found. `load` imports
    # keras first, so there the user names it.
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "KERAS_BACKEND")}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        env["KERAS_HOME"] = folder
        for name, call in calls.items():
            named = {"KERAS_BACKEND": backend} if name == "load" else {}
            done = subprocess.run(
                call, cwd=folder, env={**env, **named}, capture_output=True, text=True
            )
            lines = done.stderr.strip().splitlines() or ["no message"]
            found[name] = "ok" if done.returncode == 0 else lines[-1]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pythons", nargs="+", default=PYTHONS)
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--versions", nargs="+", default=("newest", "lowest"))
    args = parser.parse_args()
    found = {python: version(python) for python in args.pythons}
    missing = [python for python, name in found.items() if name is None]
    print(f"not found here: {', '.join(missing)}" if missing else "", end="\n" if missing else "")
    columns = ("install", "demo", "train", "evaluate", "load", "explore")
    print("| Python | backend | versions |", " | ".join(columns), "| MB | s |")
    print("|---" * (len(columns) + 5) + "|", flush=True)
    failed = len(missing) == len(found)
    with tempfile.TemporaryDirectory() as temporary:
        built = wheel(temporary)
        for python in (python for python in args.pythons if found[python]):
            for backend in args.backends:
                for versions in args.versions:
                    start, folder = time.perf_counter(), Path(temporary) / "environment"
                    try:
                        programs = install(folder, python, backend, versions, built)
                        row = {"install": "ok", **use(programs, backend)}
                    except (RuntimeError, subprocess.CalledProcessError) as error:
                        row = {"install": str(error)}
                    size = sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
                    failed |= any(row.get(column) != "ok" for column in columns)
                    cells = [found[python], backend, versions, *(row.get(c, "-") for c in columns)]
                    seconds = time.perf_counter() - start
                    cells += [f"{size:,.0f}", f"{seconds:.0f}"]
                    print("|", " | ".join(cells), "|", flush=True)
                    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
