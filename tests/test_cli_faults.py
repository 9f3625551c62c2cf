"""Faults people met at the terminal and around a training: refused in one sentence, or mended."""

import keras
import numpy as np
import pytest

from vaenb import Autoencoder, Normal, data, dense
from vaenb.training import fit_resumable

X = data.digits().train.x[:100]


def still(kind=Autoencoder):
    "A model whose weights do not move in training, so that losses can be computed by hand."
    keras.utils.set_random_seed(0)
    model = kind.for_data(X, 2, network=dense((16,)), likelihood=Normal(1.0))
    model.compile(keras.optimizers.SGD(0.0))
    return model


def loss(model, x):
    return model.evaluate(x, verbose=0, return_dict=True)["loss"]


class Frame:
    "The part of a pandas.DataFrame that matters: iterating and indexing go by column names."

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def to_numpy(self):
        return self.values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, name):
        raise KeyError(name)


def test_resumable_fit_holds_out_the_last_rows():
    model = still()
    history = fit_resumable(model, X, batch_size=20, validation_split=0.2, verbose=0).history
    assert np.isclose(history["loss"][0], loss(model, X[:80]), rtol=1e-5)
    assert np.isclose(history["val_loss"][0], loss(model, X[80:]), rtol=1e-5)


def test_resumable_fit_weights_the_losses():
    model, x, weight = still(), X[:12], np.linspace(0, 2, 12, dtype="float32")
    by_hand = np.mean([w * loss(model, x[i : i + 1]) for i, w in enumerate(weight)])
    for given in (weight, weight[:, None]):
        history = fit_resumable(model, x, batch_size=6, sample_weight=given, verbose=0).history
        assert np.isclose(history["loss"][0], by_hand, rtol=1e-5)


def test_resumable_fit_takes_a_table():
    rows = X.reshape(100, 64)
    keras.utils.set_random_seed(0)
    model = Autoencoder.for_data(rows, 2, network=dense((16,)), likelihood=Normal(1.0))
    model.compile(keras.optimizers.SGD(0.0))
    history = fit_resumable(model, Frame(rows), batch_size=20, verbose=0).history
    assert np.isclose(history["loss"][0], loss(model, rows), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shuffle": False}, "does not take shuffle"),
        ({"initial_epoch": 2}, "does not take initial_epoch"),
        ({"steps_per_epoch": 2}, "does not take steps_per_epoch"),
        ({"class_weight": {0: 1.0}}, "does not take class_weight"),
        ({"sample_weight": np.ones(3)}, "sample_weight has shape"),
        ({"validation_split": 2.0}, "validation_split is 2.0"),
        ({"validation_split": 0.999}, "leaves one part empty"),
        ({"val_split": 0.2}, "no argument 'val_split'"),
    ],
)
def test_resumable_fit_refuses_what_it_cannot_use(options, words):
    model = still()
    with pytest.raises((ValueError, TypeError), match=words) as error:
        fit_resumable(model, X, verbose=0, **options)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    assert model.optimizer.iterations == 0


def call(command, **names):
    from typer.testing import CliRunner

    from vaenb.cli import app

    words = [word.format(**names) for word in command.split()]
    result = CliRunner().invoke(app, words, prog_name="vaenb")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(command, **names):
    result = call(command, **names)
    assert result.exit_code == 0, result.output
    return result.output


TINY = "--latent-dim 2 --hidden 8 --epochs 1 --n-samples 2"


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    "A Poisson run, trained on integer counts."
    home = tmp_path_factory.mktemp("counts")
    x = np.random.default_rng(0).poisson(4.0, (60, 5))
    np.save(home / "counts.npy", x)
    done(
        f"train --data {{data}} --likelihood poisson {TINY} --out {{out}}",
        data=home / "counts.npy",
        out=home / "run",
    )
    return home, x


@pytest.mark.rotating
def test_poisson_models_integer_counts(counts):
    home, x = counts
    from vaenb.run import Run

    run = Run(home / "run")
    assert run.data().value_range == (0, x.max()), "counts are not scaled"
    assert sorted(run.data().train.x.sum(1))[-1] <= x.sum(1).max()
    assert np.isclose(run.data().train.x.mean(), 4, atol=0.5)
    np.save(home / "more.npy", x[:30] + 1)
    done("evaluate {run} --n-samples 2 --data {data}", run=home / "run", data=home / "more.npy")
    assert np.array_equal(run.examples(home / "more.npy"), x[:30] + 1)


def test_integers_are_explained_in_options_of_the_terminal(counts, tmp_path):
    home, x = counts
    refused = call(
        f"train --data {{data}} {TINY} --out {{out}}",
        data=home / "counts.npy",
        out=tmp_path / "run",
    )
    assert refused.exit_code == 2 and refused.stderr.count("\n") == 1
    assert "--likelihood poisson" in refused.stderr and "--levels" in refused.stderr
    both = call(
        f"train --data {{data}} --likelihood poisson --levels 9 {TINY} --out {{out}}",
        data=home / "counts.npy",
        out=tmp_path / "run",
    )
    assert both.exit_code == 2 and "leave levels out" in both.stderr
    for name, values, words, python in (
        ("floats", np.round(255 * X), "--levels 256", "Poisson()"),
        ("gaps", np.where(X > 0.9, np.nan, X), "NaN", "missing=True"),
    ):
        np.save(tmp_path / f"{name}.npy", values.astype("float32"))
        refused = call(
            f"train --data {{data}} {TINY} --out {{out}}",
            data=tmp_path / f"{name}.npy",
            out=tmp_path / "run",
        )
        assert refused.exit_code == 2 and words in refused.stderr and python not in refused.stderr
    refused = call("models nothing")
    assert "such as ae, vae or vq-vae" in refused.stderr and len(refused.stderr) < 400


@pytest.mark.rotating
def test_a_run_remembers_its_levels(tmp_path):
    from vaenb.run import Run

    rng = np.random.default_rng(0)
    x = rng.integers(0, 10, (60, 6, 6))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "other.npy", x[:30])
    done(
        f"train --data {{x}} --levels 10 --likelihood discretized-logistic {TINY} --out {{out}}",
        x=tmp_path / "x.npy",
        out=tmp_path / "run",
    )
    done("evaluate {run} --n-samples 2 --data {x}", run=tmp_path / "run", x=tmp_path / "other.npy")
    run = Run(tmp_path / "run")
    other = run.data(tmp_path / "other.npy")
    found = np.concatenate([getattr(other, part).x for part in ("train", "val", "test")])
    assert np.allclose(np.sort(found.sum((1, 2, 3))), np.sort(x[:30].sum((1, 2)) / 9), atol=1e-4)
    assert np.allclose(run.examples(tmp_path / "other.npy")[..., 0], x[:30] / 9)


@pytest.mark.rotating
def test_a_run_remembers_the_size_of_its_images(tmp_path):
    from PIL import Image

    from vaenb.run import Run

    rng = np.random.default_rng(0)
    for folder, side in (("photos", 12), ("others", 20)):
        (tmp_path / folder).mkdir()
        for i in range(20):
            pixels = rng.integers(0, 255, (side, side + i % 3), dtype="uint8")
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    colour = np.zeros((40, 30, 3), "uint8")
    colour[:, :15] = 200  # the left half is light grey
    Image.fromarray(colour).save(tmp_path / "photo.png")
    done(
        f"train --data {{x}} --size 6 {TINY} --out {{out}}",
        x=tmp_path / "photos",
        out=tmp_path / "run",
    )
    done("evaluate {run} --n-samples 2 --data {x}", run=tmp_path / "run", x=tmp_path / "others")
    done(
        "reconstruct {run} --file {file} --out {out}",
        run=tmp_path / "run",
        file=tmp_path / "photo.png",
        out=tmp_path / "r.npy",
    )
    assert np.load(tmp_path / "r.npy").shape == (1, 6, 6, 1)
    x = Run(tmp_path / "run").examples(tmp_path / "photo.png")[0, ..., 0]
    assert np.allclose(x[:, :2], 200 / 255, atol=5 / 255) and np.allclose(x[:, 4:], 0, atol=5 / 255)


@pytest.mark.rotating
def test_tables_and_archives_are_read_as_arrays_and_folders_are(tmp_path):
    "Counts in a CSV, rows of it to reconstruct, and a zip archive of images with --size."
    import io
    import zipfile

    from PIL import Image

    from vaenb.run import Run

    rng = np.random.default_rng(0)
    x = rng.poisson(4.0, (60, 3))
    rows = ["a,b,c,kind"] + [",".join(map(str, row)) + ",xy"[:2] for row in x]
    (tmp_path / "counts.csv").write_text("\n".join(rows))
    done(
        f"train --data {{x}} --likelihood poisson {TINY} --out {{out}}",
        x=tmp_path / "counts.csv",
        out=tmp_path / "run",
    )
    run = Run(tmp_path / "run")
    assert run.data().value_range == (0, x.max()) and run.data().columns == ("a", "b", "c")
    assert np.array_equal(run.examples(tmp_path / "counts.csv"), x)
    done(
        "reconstruct {run} --file {file} --out {out}",
        run=tmp_path / "run",
        file=tmp_path / "counts.csv",
        out=tmp_path / "r.npy",
    )
    assert np.load(tmp_path / "r.npy").shape == (60, 3)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for i in range(20):
            memory = io.BytesIO()
            Image.fromarray(np.full((12, 9), 10 * i, "uint8")).save(memory, "PNG")
            archive.writestr(f"{i:02}.png", memory.getvalue())
    done(
        f"train --data {{x}} --size 6 {TINY} --out {{out}}",
        x=tmp_path / "photos.zip",
        out=tmp_path / "photos",
    )
    run = Run(tmp_path / "photos")
    done("evaluate {run} --n-samples 2 --data {x}", run=run.folder, x=tmp_path / "photos.zip")
    found = run.examples(tmp_path / "photos.zip")
    assert found.shape == (20, 6, 6, 1)
    assert np.allclose(found[:, 0, 0, 0], np.arange(20) * 10 / 255)


def test_draws_from_the_likelihood(counts, tmp_path):
    import inspect

    from vaenb import VAE

    if "mean" not in inspect.signature(VAE.sample).parameters:
        pytest.skip("sample(n, mean=False) is not there yet")
    home, _ = counts
    for kind in ("mean", "draw"):
        done(
            "sample {run} --n 200 --{kind} --out {x}",
            run=home / "run",
            kind=kind,
            x=tmp_path / f"{kind}.npy",
        )
    means, draws = (np.load(tmp_path / f"{kind}.npy") for kind in ("mean", "draw"))
    assert np.array_equal(draws, np.round(draws)) and not np.array_equal(means, np.round(means))
    # the codes are the same, so the two differ by the deviation of a Poisson, the root of its mean
    apart = ((draws - means) / np.sqrt(np.maximum(means, 1e-3))).std()
    assert abs(apart - 1) < 0.1
