"""Run each notebook alone: a copy in an empty folder, in an environment that has only the wheel.

    python tools/alone.py --env build/alone --extra jax               # make it, run all
    python tools/alone.py --env build/alone --extra jax nbs/index.ipynb ...

The environment gets the wheel of this clone with the extra and `ipykernel`, as a hosted notebook
would have them, and what single chapters ask for: the extras of tables and compression, and polars.
The notebooks are driven from the environment that runs this script.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellExecutionError, DeadKernelError
from notebooks import ROOT, Client, notebooks


def wheel(folder):
    """The path of this clone's wheel, built into the folder."""
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # of an earlier state of the clone
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True)
    return next(Path(folder).glob("vaenb-*.whl"))


def environment(folder, extra, constraints):
    """The Python of an environment that has the wheel, its requirements and a kernel."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["-c", constraints] if constraints else []
    with tempfile.TemporaryDirectory() as temporary:
        built = wheel(temporary)
        asked = f"{built}[{extra},table,compression]"
        subprocess.run([*pip, asked, "polars", "ipykernel"], check=True)
        again = ["--force-reinstall", "--no-deps", built]  # of the same version, perhaps changed
        subprocess.run([*pip, *again], check=True)
    return python


def run(path, python, backend):
    """Seconds that the notebook took in an empty folder, and the error that stopped it, or None."""
    nb = nbformat.read(path, as_version=4)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VAENB_DATA")}
    env |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        manager = AsyncKernelManager()
        command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        manager._kernel_spec = KernelSpec(argv=command, env=env, language="python")
        client = Client(nb, km=manager, timeout=600, resources={"metadata": {"path": folder}})
        try:
            client.execute(env=env)
        except (CellExecutionError, DeadKernelError) as error:
            return time.perf_counter() - start, str(error)
        finally:  # a client ends only the kernels that it has made itself
            run_sync(manager.shutdown_kernel)(now=True)
    return time.perf_counter() - start, None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--env", type=Path, required=True, help="folder of the environment")
    parser.add_argument("--extra", default="jax", help="tensorflow, jax or torch")
    parser.add_argument("--constraints", type=Path, help="a file of pinned versions")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    constraints = args.constraints and args.constraints.resolve()
    python = environment(args.env.resolve(), args.extra, constraints)
    paths = [path.resolve() for path in args.paths] or notebooks()
    with ThreadPoolExecutor(args.workers) as pool:
        runs = pool.map(lambda path: run(path, python, args.extra), paths)
        failed = 0
        for path, (seconds, error) in zip(paths, runs):
            failed += error is not None
            print(f"{path.relative_to(ROOT)}: {seconds:.0f} s {'FAILED' if error else ''}".strip())
            print(error[-1500:] if error else "", end="\n" if error else "", flush=True)
    print(f"{len(paths) - failed} of {len(paths)} notebooks run alone on {args.extra}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
