"""Models with a category in commands, findings, pages, and trainings that are taken up again."""

import keras
import numpy as np
import pytest
from test_cli import done

from vaenb import CategoricalVAE, SemiSupervised, dense, diagnose, fit_resumable, recipe
from vaenb.condition import training_fields
from vaenb.data import digits
from vaenb.evaluation import report
from vaenb.explorer import LatentExplorer, explore_page


@pytest.fixture(scope="module")
def data():
    return digits()


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["m2", "gm-vae"])
def test_tools_take_models_with_a_category(data, name, tmp_path):
    keras.utils.set_random_seed(0)
    model = recipe(name, data, 3, network=dense([16]))
    batch = training_fields(model, data.train)
    fit_resumable(model, batch, path=tmp_path / "a.npz", epochs=1, batch_size=256, verbose=0)
    assert np.isfinite(report(model, data.test, 5)["elbo"])
    assert isinstance(diagnose(model, data, n_samples=5, n_examples=100), list)
    LatentExplorer(model, data)
    page = tmp_path / "page.html"
    page.write_text(explore_page(model, data, "Digits"))
    assert page.stat().st_size < 2e6


def test_examples_without_labels_are_scored_by_the_sum(data):
    keras.utils.set_random_seed(0)
    model = recipe("m2", data, 3, network=dense([16]))
    model.fit(data.train.x, epochs=10, verbose=0)  # few samples suffice for a posterior that fits
    x = data.test.x[:20]
    one_by_one = [model.log_likelihood(x, 2000, condition=[c] * 20) for c in range(10)]
    summed = np.logaddexp.reduce(one_by_one, axis=0) - np.log(10)
    np.testing.assert_allclose(model.log_likelihood(x, 2000), summed, atol=0.2)


def test_pixels_that_are_missing_pass(data):
    x = data.train.x[:64].copy()
    x[:, :2] = np.nan
    model = CategoricalVAE.for_data(
        x, 2, network=dense([4]), missing=True, objective=SemiSupervised()
    )
    history = model.fit(x, target=data.train.labels[:64], epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.rotating
def test_commands(tmp_path):
    run = tmp_path / "run"
    done(
        "train --data digits --model m2 --latent-dim 2 --hidden 16 --epochs 1 --n-samples 5 "
        "--batch-size 256 --out {run}",
        run=run,
    )
    assert "log p(x)" in done("evaluate {run} --n-samples 5", run=run)
    done("sample {run} --label 3 --n 5 --out {out}", run=run, out=tmp_path / "three.npy")
    assert np.load(tmp_path / "three.npy").shape == (5, 8, 8, 1)
