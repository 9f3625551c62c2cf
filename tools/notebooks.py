"""Run notebooks top to bottom in a fresh Jupyter kernel, keep their outputs, and clean them.

    python tools/notebooks.py                    # every notebook
    python tools/notebooks.py nbs/models/22_vae.ipynb ...
    python tools/notebooks.py --check            # run them all, write nothing: each must finish in a minute, without warnings

Cells flagged slow, data or gpu are left as they are, with their saved output, unless the flag is named: --with slow,data.
"""

import argparse
import base64
import io
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
FLAGS = {"slow", "data", "gpu", "notest"}
LIMIT_S = 60
WIDGET = "application/vnd.jupyter.widget-view+json"
LARGE_PNG = 40_000  # letters; what is larger is kept with 256 colours
# TensorFlow's start-up messages, written past Python, are about the machine and not about the chapter; Python's warnings are kept.
KERNEL_ARGUMENTS = ["--IPKernelApp.capture_fd_output=False"]


def notebooks():
    return sorted(
        p
        for p in (ROOT / "nbs").rglob("*.ipynb")
        if not {"_proc", ".ipynb_checkpoints"} & set(p.parts)
    )


def skipped(source, allowed):
    flags = set(re.findall(r"^#\|\s*(\w+)\s*$", source, re.M)) & FLAGS
    return bool(flags - allowed) or bool(re.search(r"^#\|\s*eval:\s*false", source, re.M))


class Client(NotebookClient):
    allowed = frozenset()

    async def async_execute_cell(self, cell, cell_index, *args, **kwargs):
        if cell.cell_type == "code" and skipped(cell.source, self.allowed):
            return cell
        return await super().async_execute_cell(cell, cell_index, *args, **kwargs)


def smaller(png):
    """A large picture with 256 colours, if that makes it smaller; both in base64."""
    if len(png) < LARGE_PNG:
        return png
    file = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(
        256, dither=Image.Dither.NONE
    ).save(file, "PNG", optimize=True)
    return min(base64.b64encode(file.getvalue()).decode(), png, key=len)


def run(path, allowed):
    """Execute one notebook; returns the notebook, the seconds it took, and what went wrong."""
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code" and not skipped(cell.source, allowed):
            cell.outputs, cell.execution_count = [], None
    client = Client(
        nb,
        timeout=600,
        coalesce_streams=True,
        kernel_name="python3",
        extra_arguments=KERNEL_ARGUMENTS,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.allowed = allowed
    start, trouble = time.perf_counter(), []
    try:
        client.execute()
    except CellExecutionError as error:
        trouble.append(str(error)[-3000:])
    seconds = time.perf_counter() - start
    nb.metadata.pop(
        "widgets", None
    )  # a saved notebook has no kernel behind it: what its pages show must do without
    for i, cell in enumerate(nb.cells):
        # A widget with nothing but its repr leaves no output; what stands behind it stays.
        cell.get("outputs", [])[:] = [
            out
            for out in cell.get("outputs", [])
            if WIDGET not in out.get("data", {}) or set(out["data"]) - {WIDGET, "text/plain"}
        ]
        for out in cell.get("outputs", []):
            data = out.get("data", {})
            data.pop(WIDGET, None)
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
            if out.get("name") == "stderr":
                trouble.append(f"cell {i} writes to stderr: {out['text'][:300]}")
    return nb, seconds, trouble


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument(
        "--with", dest="allowed", default="", help="flags whose cells are run too: slow,data,gpu"
    )
    args = parser.parse_args()
    failed = False
    for path in [p.resolve() for p in args.paths] or notebooks():
        nb, seconds, trouble = run(path, frozenset(filter(None, args.allowed.split(","))))
        if args.check and seconds > LIMIT_S:
            trouble.append(f"took {seconds:.0f} s; the limit is {LIMIT_S} s")
        print(
            f"{path.relative_to(ROOT)}: {seconds:.0f} s{'' if not trouble else ' FAILED'}",
            flush=True,
        )
        for line in trouble:
            print(f"  {line}", flush=True)
        failed |= bool(trouble)
        if not args.check and not any("Error" in t for t in trouble):
            nbformat.write(nb, path)
            subprocess.run(
                [str(Path(sys.executable).parent / "nbdev_clean"), "--fname", str(path)],
                check=True,
                cwd=ROOT,
            )
    sys.exit(failed)


if __name__ == "__main__":
    main()
