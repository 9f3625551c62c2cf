"""How much the tests do: one of each kind, or all of it with VAENB_THOROUGH=1 (`make test-all`).

What `make test` leaves out takes turns: which combinations and which recipe of a kind it takes is
another choice every day. VAENB_ROTATION=<the number that pytest prints at its start> repeats one.
"""

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import pytest
import turns

THOROUGH = os.environ.get("VAENB_THOROUGH", "") not in ("", "0")
ROTATION = turns.turn()

# Recipes of one kind take the same way through the code. One that is not named here is a kind of
# its own, and so always tested.
KINDS = {
    "autoencoder": ("ae", "denoising-ae", "sparse-ae", "contractive-ae", "rae-l2", "rae-gp"),
    "codebook": ("vq-vae", "rq-vae"),
    "sparse code": ("topk-sae", "batch-topk-sae", "jumprelu-sae", "matryoshka-sae"),
    "bound": ("vae", "beta-vae", "annealed-vae", "cyclical-vae", "free-bits-vae", "stl-vae"),
    "several samples": ("iwae", "miwae", "piwae", "ciwae", "dreg-iwae"),
    "whole batches": ("beta-tcvae", "dip-vae-i", "dip-vae-ii", "info-vae", "wae-mmd"),
    "adversary of codes": ("factor-vae", "aae"),
    "likelihood": ("sigma-vae", "nb-vae"),
    "pseudo-inputs": ("vamp-vae",),
    "prior": ("mog-vae", "flow-prior-vae"),
    "flow posterior": ("planar-vae", "radial-vae", "iaf-vae"),
    "full covariance": ("full-cov-vae",),
    "levels upwards": ("hvae",),
    "levels downwards": ("ladder-vae",),
    "sphere": ("s-vae",),
    "category": ("m2", "gm-vae"),
}


def amount(quick, thorough):
    """The first in `make test`, the second in `make test-all`."""
    return thorough if THOROUGH else quick


def some(items, n, of):
    """All items in `make test-all`, `n` of them in `make test`, in their order; `of` is a name."""
    items = list(items)
    if THOROUGH or len(items) <= n:
        return items
    chosen = random.Random(f"{ROTATION} {of}").sample(range(len(items)), n)
    return [items[i] for i in sorted(chosen)]


def installed(*backends):
    """Those of the named backends of Keras that are installed, in their order."""
    return [name for name in backends if importlib.util.find_spec(name)]


def recipes_of_each_kind():
    """All recipes in `make test-all`; in `make test` one recipe of each kind."""
    from vaenb import RECIPES

    named = {name for names in KINDS.values() for name in names}
    chosen = {name for kind, names in KINDS.items() for name in some(names, 1, kind)}
    return [name for name in RECIPES if name in chosen or name not in named]


def recipes_to_check():
    """All recipes in `make test-all`; in `make test` three of different kinds."""
    return some(recipes_of_each_kind(), 3, "backends")


def run_on(backend, file, *options):
    """Runs a file of tests on another backend, in a process of its own.

    That run has VAENB_INNER in its environment, so that it does not start others; `make test` runs
    a part of the file there, another each day. Nothing is run where `backend` is not installed:
    the answer is False.
    """
    if not importlib.util.find_spec(backend):
        return False
    env = {**os.environ, "KERAS_BACKEND": backend, "VAENB_INNER": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    turns_only = "VAENB_TODAY" in env and not THOROUGH
    command += ["--today"] if turns_only else []
    done = subprocess.run([*command, *options, file], capture_output=True, text=True, env=env)
    nothing_today = turns_only and done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert nothing_today or done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return True
