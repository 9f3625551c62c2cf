"""Everything that must hold besides pytest: modules in step with notebooks, notebooks clean, README current, notebooks pass.

python tools/check.py            # all of it
python tools/check.py --quick    # without running the notebooks
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
HANDWRITTEN = {"__init__.py"}


def files(folder, pattern):
    skip = {"_proc", ".ipynb_checkpoints", "__pycache__"}
    return {
        p.relative_to(folder): p
        for p in folder.rglob(pattern)
        if not skip & set(p.relative_to(folder).parts)
    }


def differences(ours, theirs, pattern):
    """Relative paths that exist on one side only, or differ."""
    a, b = files(ours, pattern), files(theirs, pattern)
    return sorted(
        str(p)
        for p in a.keys() | b.keys()
        if p not in a or p not in b or not filecmp.cmp(a[p], b[p], shallow=False)
    )


def in_step():
    """Exports and cleans a copy of the project; returns what the copy has otherwise than the original."""
    with tempfile.TemporaryDirectory(prefix="vaenb") as tmp:
        copy = Path(tmp) / "project"
        copy.mkdir()
        shutil.copytree(
            ROOT / "nbs",
            copy / "nbs",
            symlinks=True,
            ignore=shutil.ignore_patterns("_proc", ".ipynb_checkpoints"),
        )
        shutil.copy(ROOT / "settings.ini", copy)
        (copy / "vaenb").mkdir()
        for name in HANDWRITTEN:  # an orphaned module is one that nothing writes again
            shutil.copy(ROOT / "vaenb" / name, copy / "vaenb")
        for command in ("nbdev_export", "nbdev_clean"):
            subprocess.run([BIN / command], cwd=copy, check=True)
        stale = differences(ROOT / "vaenb", copy / "vaenb", "*.py")
        dirty = differences(ROOT / "nbs", copy / "nbs", "*.ipynb")
    out = []
    if stale:
        out.append(
            f"vaenb/ is out of step with the notebooks ({', '.join(stale)}): run `make export`; delete modules that no notebook exports"
        )
    if dirty:
        out.append(
            f"notebooks hold metadata that does not belong there ({', '.join(dirty)}): run `.venv/bin/nbdev_clean`"
        )
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="do not run the notebooks")
    args = parser.parse_args()
    trouble = in_step()
    readme = subprocess.run(
        [sys.executable, ROOT / "tools" / "readme.py", "--check"], capture_output=True, text=True
    )
    if readme.returncode:
        trouble.append((readme.stdout + readme.stderr).strip())
    for line in trouble:
        print(line, file=sys.stderr)
    if trouble:
        sys.exit(1)
    print("Modules, notebooks and README are in step.", flush=True)
    if args.quick:
        return
    workers = str(min(4, os.cpu_count() or 1))
    if subprocess.run(
        [BIN / "nbdev_test", "--n_workers", workers, "--timing"], cwd=ROOT
    ).returncode:
        sys.exit("A notebook fails; its cell and traceback stand above.")
    print("Every notebook passes.", flush=True)


if __name__ == "__main__":
    main()
