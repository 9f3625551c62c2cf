"""Everything that must hold before a change is handed in; `make test` runs this, and nothing more.

    python tools/check.py              # all of it: what `make test` runs
    python tools/check.py --quick      # seconds: ruff, modules, README, clean notebooks
    python tools/check.py --notebooks  # that, and every notebook; no pytest
    VAENB_THOROUGH=1 python tools/check.py      # what `make test-all` runs

Notebooks and pytest run side by side, two processes each. The notebooks take what pytest leaves of
the processor: while a test waits for a browser, and when its processes have ended. So the cores are
always busy, and tests that watch the clock are not held up.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sitecheck
import translation

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
HANDWRITTEN = {"__init__.py"}
WORKERS = str(min(4, max(2, os.cpu_count() or 1)))
THOROUGH = os.environ.get("VAENB_THOROUGH", "") not in ("", "0")
# Measured: `make test` 10 with few changed chapters, 26 with other work beside it; everything 47.
MINUTES = "45" if THOROUGH else "10 to 20"


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
    """Exports and cleans a copy of the project; returns what differs from the original."""
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
            f"vaenb/ is out of step with the notebooks ({', '.join(stale)}): run `make export`; "
            "delete modules that no notebook exports"
        )
    if dirty:
        out.append(
            f"notebooks hold metadata that does not belong there ({', '.join(dirty)}): "
            "run `.venv/bin/nbdev_clean`"
        )
    return out


def lint():
    """What ruff finds; of exported modules only the notebooks are formatted."""
    places, out = ("nbs", "tests", "tools", "benchmarks"), []
    for words in (["check", "--output-format=concise", "vaenb"], ["format", "--check"]):
        done = subprocess.run(
            [BIN / "ruff", *words, *places], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            out.append(f"{done.stdout}{done.stderr}".strip())
            out.append(f"ruff {words[0]} finds this: run `.venv/bin/ruff {words[0]}`")
    return out


def quick():
    """A sentence for each thing that is wrong with the files as they lie there."""
    trouble = lint() + in_step()
    readme = subprocess.run(
        [sys.executable, ROOT / "tools" / "readme.py", "--check"], capture_output=True, text=True
    )
    if readme.returncode:
        trouble.append((readme.stdout + readme.stderr).strip())
    return [*trouble, *sitecheck.long_lines(ROOT / "nbs"), *translations()]


def translations():
    """A sentence for each Chinese text whose English has changed, or that is missing."""
    found = translation.review(ROOT)
    if found:
        found.append(
            f"{len(found)} translations do not hold: mend translations/, then run "
            "`.venv/bin/python tools/translation.py --accept PAGE CELL ...`"
        )
    return found


def lower_priority():
    os.nice(10)


def chapters(folder, everything):
    """Starts today's notebooks, or all, at a lower priority; the process, and its report's file."""
    report = open(Path(folder) / "notebooks.txt", "w+", encoding="utf-8")
    return subprocess.Popen(
        [
            *(sys.executable, ROOT / "tools" / "chapters.py", "--workers", WORKERS),
            *([] if everything else ["--today"]),
        ],
        stdout=report,
        stderr=subprocess.STDOUT,
        preexec_fn=lower_priority if hasattr(os, "nice") else None,
    ), report


def tests():
    """pytest in several processes, each file in one of them; the exit code."""
    command = [sys.executable, "-m", "pytest", "tests", "-n", WORKERS, "--today", "--durations=10"]
    return subprocess.run(command, cwd=ROOT).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="neither notebooks nor pytest")
    parser.add_argument("--notebooks", action="store_true", help="no pytest")
    args = parser.parse_args()
    began = time.monotonic()
    if not args.quick and not args.notebooks:
        what = "Everything" if THOROUGH else "One of each kind"
        print(f"{what}: about {MINUTES} minutes on two quiet cores.", flush=True)
    trouble = quick()
    for line in trouble:
        print(line, file=sys.stderr)
    if trouble:
        sys.exit(1)
    print(
        "Modules, notebooks, README and translations are in step; ruff finds nothing.", flush=True
    )
    if args.quick:
        return
    with tempfile.TemporaryDirectory(prefix="vaenb") as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(folder) / "compiled"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        process, report = chapters(folder, THOROUGH or args.notebooks)
        try:
            failed = [] if args.notebooks or not tests() else ["a test"]
            if process.wait():
                failed.append("a notebook")
        finally:
            process.kill()
        with report:
            report.seek(0)
            print(report.read(), flush=True)
    minutes = (time.monotonic() - began) / 60
    if failed:
        sys.exit(f"{' and '.join(failed).capitalize()} failed after {minutes:.1f} minutes.")
    print(f"All passed in {minutes:.1f} minutes.")


if __name__ == "__main__":
    main()
