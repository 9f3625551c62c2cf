"""Codes on a sphere in measurements, findings, pages and commands."""

import json
import re

import keras
import numpy as np
import pytest
from test_browser import page  # noqa: F401 (a fixture)
from test_cli import call, done
from test_condition import IN_PAGE

from vaenb import dense, diagnose, recipe
from vaenb.browser import pack_model
from vaenb.data import digits
from vaenb.evaluation import report
from vaenb.explorer import LatentExplorer, explore_page, static_facts
from vaenb.sphere import chart_place


@pytest.fixture(scope="module")
def data():
    return digits()


@pytest.fixture(scope="module")
def model(data):
    keras.utils.set_random_seed(0)
    made = recipe("s-vae", data, 3, network=dense([16]))
    made.compile(keras.optimizers.Adam(3e-3))
    made.fit(data.train.x, epochs=4, batch_size=64, verbose=0)
    return made


@pytest.mark.rotating
def test_it_is_measured_and_diagnosed(data, model):
    found = report(model, data.test, 5)
    assert found["latent_dim"] == 3 and np.isfinite(found["elbo"])
    diagnose(model, data, n_samples=5, n_examples=200)


def test_a_page_decodes_directions_and_encodes_to_them(page, data, model):  # noqa: F811
    packed = json.loads(json.dumps(pack_model(model, "float16")))
    z = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    z[0] = 0  # no direction: the first axis, as in Python
    given = {"packed": packed, "method": "decode", "inputs": [[a.tolist()] for a in z]}
    wanted = model.decode(z).reshape(5, -1)
    assert np.abs(np.array(page.evaluate(IN_PAGE, given)) - wanted).max() < 2e-3
    assert np.abs(model.decode(3 * z).reshape(5, -1) - wanted).max() < 1e-5
    x = data.test.x[:5]
    given = {**given, "method": "encode", "inputs": [[a.ravel().tolist()] for a in x]}
    got = np.array(page.evaluate(IN_PAGE, given))
    assert np.abs(got - model.encode(x)).max() < 5e-3
    assert np.abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-5


def test_the_explorer_knows_of_the_chart(data, model):
    view = LatentExplorer(model, data)
    assert view.facts["sphere"] and view.facts["chart"] and view.facts["axes"] is None
    assert "direction" in view.facts["notes"][0]
    static = static_facts(model, view.facts)
    assert static["chart"] and static["network"]["encoder"] is not None
    atlas = static_facts(model, view.facts, max_bytes=100)
    assert not atlas["chart"] and len(atlas["notes"]) == 2
    json.dumps(static)
    plain = recipe("s-vae", data, 4, network=dense([4]))
    facts = LatentExplorer(plain, data).facts
    assert facts["sphere"] and not facts["chart"]


def test_the_page_has_the_chart_of_python(page, data, model, tmp_path):  # noqa: F811
    """A click on the chart shows the code that lies there, or the one of a dot near to it."""
    file = tmp_path / "page.html"
    file.write_text(explore_page(model, data, "Sphere"))
    assert file.stat().st_size < 2e6
    view, trouble = page.context.browser.new_page(viewport={"width": 1100, "height": 1000}), []
    view.on("pageerror", lambda error: trouble.append(str(error)))
    view.goto(file.as_uri())
    map_of_codes = view.locator("canvas.map")
    box = map_of_codes.bounding_box()
    area = view.locator(".take textarea").first
    code = area.evaluate("area => area.value")
    for across, up in ((0.9, 0.8), (0.2, 0.3)):
        before = code
        map_of_codes.click(position={"x": across * box["width"], "y": (1 - up) * box["height"]})
        for _ in range(200):  # until the code has changed
            code = area.evaluate("area => area.value")
            if code != before:
                break
            view.wait_for_timeout(100)
        z = np.array(json.loads(re.search(r"\[.*\]", code)[0]))
        place = chart_place(z[None])[0] / [np.pi, 1]
        assert abs(np.linalg.norm(z) - 1) < 1e-4
        assert np.abs(place - [2 * across - 1, 2 * up - 1]).max() < 0.04  # five pixels
    assert view.get_by_text("whole sphere").count() and view.get_by_text("is a direction").count()
    view.get_by_role("tab", name="From A to B").click()
    view.get_by_text("apart").wait_for()
    view.close()
    assert not trouble


@pytest.mark.rotating
def test_commands(tmp_path):
    run = tmp_path / "run"
    done(
        "train --data digits --model s-vae --latent-dim 3 --hidden 16 --epochs 2 --n-samples 5 "
        "--batch-size 256 --out {run}",
        run=run,
    )
    assert "log p(x)" in done("evaluate {run} --n-samples 5", run=run)
    done("sample {run} --n 5 --out {out}", run=run, out=tmp_path / "five.npy")
    assert np.load(tmp_path / "five.npy").shape == (5, 8, 8, 1)
    said = call("sample {run} --n 5 --temperature 0.5 --out {out}", run=run, out=tmp_path / "a.npy")
    assert said.exit_code and "no spread to scale" in said.output
