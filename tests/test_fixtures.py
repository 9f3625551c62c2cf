"""A small saved model of every recipe, which each later version must load and encode alike.

`python tests/test_fixtures.py NAME ...` writes the files of new recipes; those that are there stay.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import vaenb

FOLDER = Path(__file__).parent / "fixtures"
X = np.random.default_rng(0).random((6, 6)).astype("float32").round(2)
CONDITION = [0, 1, 2, 0, 1, 2]
SMALL = {"k": 4, "m": 2, "n_components": 3, "n_layers": 1, "n_codes": 4}


def examples(name):
    """What the recipe is trained on: numbers in [0, 1], or counts."""
    return np.round(9 * X) if name == "nb-vae" else X


def write(name):
    """Trains the recipe for a moment and saves it, with the codes that it gives."""
    row = vaenb.RECIPES[name]
    numbers = {}
    for role, part in row.all_parts().items():
        if isinstance(part, tuple) and isinstance(part[0], type):
            known = set(SMALL) - ({"k"} if role == "bottleneck" else set())
            numbers |= {k: SMALL[k] for k in part[0].arguments if k in known}
    keras.utils.set_random_seed(0)
    x = np.tile(examples(name), (10, 1))
    own = {} if "network" in row.parts else {"network": vaenb.dense([4])}
    given = {"condition": 10 * CONDITION} if row.parts.get("condition") else {}
    model = vaenb.recipe(name, x, 2, **own, **numbers, **given)
    model.fit(x, epochs=2, verbose=0, **given)
    model.save(FOLDER / f"{name}.keras")
    codes = encode(model, name).tolist()
    (FOLDER / f"{name}.json").write_text(json.dumps({"codes": codes}) + "\n")


def encode(model, name):
    """The codes of its examples, under a condition where the model has one."""
    given = {} if model.condition is None else {"condition": CONDITION}
    return model.encode(examples(name), **given)


def misses():
    """The recipes whose file does not give the codes that it gave when it was written."""
    found = {}
    for file in sorted(FOLDER.glob("*.keras")):
        wanted = json.loads(file.with_suffix(".json").read_text())["codes"]
        try:
            apart = encode(vaenb.load_model(file), file.stem) - np.array(wanted)
            apart = np.abs(apart).max()
        except Exception as error:  # each fixture is reported, whatever it raises
            found[file.stem] = repr(error)
        else:
            if not apart < 2e-5:
                found[file.stem] = f"codes differ by {apart}"
    return found


def test_every_recipe_has_a_file():
    assert {file.stem for file in FOLDER.glob("*.keras")} == set(vaenb.RECIPES)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_saved_models_of_every_recipe_load(backend):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    code = "import test_fixtures, json; print(json.dumps(test_fixtures.misses()))"
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=env,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == {}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for recipe in sys.argv[1:] or vaenb.RECIPES:
        if not (FOLDER / f"{recipe}.keras").exists():
            write(recipe)
