"""Models with a condition in measurements, findings, resumable trainings, pages and commands."""

import json
import re

import keras
import numpy as np
import pytest
from test_browser import page  # noqa: F401 (a fixture)
from test_cli import call, done

from vaenb import VAE, ConditionalNormal, conv, dense, diagnose, fit_resumable, recipe
from vaenb.browser import pack_model
from vaenb.condition import rows_of
from vaenb.data import digits, from_arrays
from vaenb.diagnosis import beyond_condition
from vaenb.evaluation import report
from vaenb.explorer import LatentExplorer, explore_page, static_facts

IN_PAGE = """async ({packed, method, inputs}) => {
  const made = (await window.network).makeModel(packed);
  return inputs.map((x) => Array.from(made[method](...x.map((a) => Float32Array.from(a)))));
}"""


@pytest.fixture(scope="module")
def data():
    return digits()


@pytest.fixture(scope="module")
def model(data):
    keras.utils.set_random_seed(0)
    made = recipe("cvae", data, 3, network=dense([32]))
    made.compile(keras.optimizers.Adam(3e-3))
    made.fit(data.train.x, condition=data.train.labels, epochs=6, batch_size=64, verbose=0)
    return made


@pytest.mark.rotating
def test_a_split_brings_its_labels(data, model):
    given = {"x": data.test.x, "condition": data.test.labels}
    assert report(model, data.test, 5) == report(model, given, 5)
    wrong = {"x": data.test.x, "condition": (data.test.labels + 1) % 10}
    assert report(model, wrong, 5)["elbo"] < report(model, data.test, 5)["elbo"] - 1
    with pytest.raises(ValueError, match="without a condition"):
        report(model, data.test.x, 5)


@pytest.mark.rotating
def test_a_code_that_is_ignored_is_found_although_the_label_matters(data, model):
    """Swapping codes must leave the conditions where they are."""
    blind = keras.models.clone_model(model.decoder)
    blind.set_weights(model.decoder.get_weights())
    kernel = next(w for w in blind.weights if w.path.endswith("kernel"))  # of [z, c]
    kernel.assign(np.concatenate([np.zeros((3, 32)), keras.ops.convert_to_numpy(kernel)[3:]]))
    encoder = keras.models.clone_model(model.encoder)
    dead = VAE(
        encoder,
        blind,
        latent_dim=3,
        likelihood=type(model.likelihood).from_config(model.likelihood.get_config()),
        condition=model.condition,
    )
    found = diagnose(dead, data, n_samples=5, n_examples=200)
    assert "posterior collapse" in [f.name for f in found]
    assert "posterior collapse" not in [f.name for f in diagnose(model, data, n_samples=5)]


def test_what_the_condition_explains_is_left_out():
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(0)
    c, x = rng.normal(size=(50, 2)), rng.normal(size=(50, 4))
    train = {"x": x, "condition": c}
    wanted = x - LinearRegression().fit(c, x).predict(c)
    np.testing.assert_allclose(beyond_condition(train, train), wanted, atol=1e-12)
    assert beyond_condition({"x": x, "condition": None}, train) is x


def test_a_training_with_a_condition_resumes_where_it_was(data, tmp_path):
    batch = rows_of({"x": data.train.x, "condition": data.train.labels}, slice(200))

    def trained(path, *epochs):
        for n in epochs:
            keras.utils.set_random_seed(1)
            made = recipe("cvae", data, 2, network=dense([8]))
            made.compile("adam")
            fit_resumable(made, batch, path=path, epochs=n, batch_size=64, verbose=0)
        return made.get_weights()

    for a, b in zip(trained(tmp_path / "a.npz", 4), trained(tmp_path / "b.npz", 2, 4)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("network", [dense([16]), conv((4,), hidden=8)])
def test_a_page_decodes_and_encodes_under_each_condition(page, data, network):  # noqa: F811
    keras.utils.set_random_seed(0)
    made = recipe("cvae", data, 3, network=network)
    packed = json.loads(json.dumps(pack_model(made, "float16")))
    z = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    c = np.eye(10, dtype="float32")
    given = {"packed": packed, "method": "decode"}
    rows = [[a.tolist(), b.tolist()] for a, b in zip(z, c)]
    got = np.array(page.evaluate(IN_PAGE, {**given, "inputs": rows}))
    wanted = made.decode(z, condition=np.arange(10)).reshape(10, -1)
    assert np.abs(got - wanted).max() < 2e-3 and np.abs(wanted[0] - wanted[1]).max() > 0
    x = data.test.x[:10]
    rows = [[a.ravel().tolist(), b.tolist()] for a, b in zip(x, c)]
    got = np.array(page.evaluate(IN_PAGE, {**given, "method": "encode", "inputs": rows}))
    assert np.abs(got - made.encode(x, condition=np.arange(10))).max() < 5e-3


def test_the_explorer_answers_under_the_chosen_condition(data, model):
    view, sent = LatentExplorer(model, data), []
    view.send = lambda content, buffers=None: sent.append((content, buffers or []))
    z = np.random.default_rng(0).normal(size=(2, 3)).astype("<f4")

    def ask(array=None, **question):
        view.answer(None, {"id": "1", **question}, [array.tobytes()] if array is not None else [])
        assert "error" not in sent[-1][0], sent[-1]
        return sent[-1]

    for c in (0, 7):
        frames = np.frombuffer(ask(z, kind="decode", condition=[c])[1][0], "uint8")
        wanted = np.rint(255 * model.decode(z, condition=c)).ravel()
        assert np.abs(frames - wanted).max() <= 1
    label = int(data.test.labels[5])
    answer, (codes, _) = ask(kind="example", index=5)
    assert answer["given"] == [label] and answer["labels"] == [label]
    own = model.encode(data.test.x[5:6], condition=label)
    np.testing.assert_allclose(np.frombuffer(codes, "<f4"), own[0], atol=1e-6)
    code = np.frombuffer(ask(data.test.x[5], kind="encode", condition=[label])[1][0], "<f4")
    np.testing.assert_allclose(code, own[0], atol=0.05)  # pixels are rounded to grey levels
    ask(kind="sample", n=3, seed=0, temperature=1, source=0, condition=[2])
    ask(z, kind="nearest", condition=[1])


def test_conditions_of_all_kinds_have_selectors(data):
    x, labels = data.test.x, data.test.labels
    condition = {"digit": labels, "grey": x.mean((1, 2, 3)).astype("float64")}
    made = VAE.for_data(x, 2, network=dense([8]), condition=condition, prior=ConditionalNormal())
    view = LatentExplorer(made, {"x": x, "condition": condition})
    columns = view.facts["condition"]["columns"]
    assert [c["name"] for c in columns] == ["digit", "grey"]
    assert [len(c["choices"]) for c in columns] == [10, 5]
    middle = condition["grey"].mean()
    assert abs(float(columns[1]["choices"][2]) - middle) < 1e-3
    first = view.facts["index"][0]
    assert view.facts["condition"]["given"][0][0] == labels[first]
    only = LatentExplorer(
        VAE.for_data(x, 2, network=dense([8]), condition=labels, prior=ConditionalNormal()),
        {"x": x, "condition": labels},
    )
    assert len(only.facts["sources"][0]["by"]) == 10
    assert "table of frames" in static_facts(made, view.facts, max_bytes=10)["notes"][0]
    assert "under digit" in static_facts(made, view.facts, max_bytes=10)["notes"][0]
    with pytest.raises(ValueError, match="data have no labels"):
        LatentExplorer(made, x)


def test_the_selector_moves_the_picture(page, data, model, tmp_path):  # noqa: F811
    file = tmp_path / "page.html"
    file.write_text(explore_page(model, data, "Digits"))
    assert file.stat().st_size < 2e6
    view, trouble = page.context.browser.new_page(), []
    view.on("pageerror", lambda error: trouble.append(str(error)))
    view.goto(file.as_uri())
    select = view.locator(".condition select")
    for c in ("3", "0"):
        select.select_option(c)
        view.wait_for_timeout(1500)
        code = view.locator(".take textarea").first.evaluate("area => area.value")
        z = np.array(json.loads(re.search(r"\[.*\]", code)[0]), "float32")[None]
        pixels = view.locator(".picture canvas").first.evaluate(
            "c => Array.from(c.getContext('2d').getImageData(0, 0, 8, 8).data)"
        )
        grey = np.array(pixels).reshape(64, 4)[:, 0]
        mean = model.decode(z, condition=int(c)).ravel()
        assert np.abs(grey - (255 - 231 * mean)).max() < 3
    view.close()
    assert not trouble


@pytest.mark.rotating
def test_commands(tmp_path):
    run = tmp_path / "run"
    done(
        "train --data digits --model cvae --latent-dim 2 --hidden 16 --epochs 2 --n-samples 5 "
        "--batch-size 256 --out {run}",
        run=run,
    )
    assert {"samples.png", "grid.png", "codes.png"} <= {path.name for path in run.iterdir()}
    assert "log p(x)" in done("evaluate {run} --n-samples 5", run=run)
    assert "64 examples" in done("sample {run} --out {out}", run=run, out=tmp_path / "all.npy")
    done("sample {run} --label 3 --n 5 --out {out}", run=run, out=tmp_path / "three.npy")
    assert np.load(tmp_path / "three.npy").shape == (5, 8, 8, 1)
    np.save(tmp_path / "x.npy", np.load(tmp_path / "three.npy"))
    names = {"run": run, "x": tmp_path / "x.npy", "out": tmp_path / "again.npy"}
    done("reconstruct {run} --out {out}", **names)
    done("reconstruct {run} --file {x} --label 3 --out {out}", **names)
    done("explore {run} --no-open --out {out}", run=run, out=tmp_path / "page.html")
    assert done("diagnose {run}", run=run)
    for command, words in (
        ("sample {run} --label 11 --out {out}", "known are 0, 1"),
        ("reconstruct {run} --file {x} --out {out}", "add --label"),
        ("reconstruct {run} --label 3 --out {out}", "--file"),
    ):
        result = call(command, **names)
        assert result.exit_code == 2 and words in " ".join(result.stderr.split()), result.output


def test_tables_bytes_and_scalars_as_conditions():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    x, k = rng.normal(size=(60, 6)).astype("float32"), np.arange(60) % 3
    names = np.array(["a", "b", "c"])[k]
    for table, words in (
        (pd.DataFrame(np.stack([k, k], 1), columns=["a", "a"]), "two columns of one name"),
        (pd.DataFrame(index=range(60)), "no columns"),
    ):
        with pytest.raises(ValueError, match=words):
            recipe("cvae", x, 2, condition=table)
    model = recipe("cvae", x, 2, condition=names)
    z = np.zeros((2, 2))
    assert np.array_equal(model.decode(z, np.array([b"a", b"c"])), model.decode(z, ["a", "c"]))
    with pytest.raises(ValueError, match="has 2 columns: this model takes 1"):
        model.decode(z, condition=np.zeros((2, 2), int))
    model = recipe("cvae", x, 2, condition={"k": k, "b": rng.normal(size=60)})
    both = model.decode(z, condition={"k": [1, 1], "b": [0.5, 0.5]})
    assert np.array_equal(model.decode(z, condition={"k": 1, "b": 0.5}), both)


def test_a_category_for_each_label_of_the_data():
    x, labels = np.random.default_rng(0).normal(size=(60, 4)), ["abc"[i % 3] for i in range(60)]
    data = from_arrays(x, labels=labels)
    assert recipe("m2", data, 2).n_categories == 3
    assert recipe("m2", data, 2, n_categories=5).n_categories == 5
    assert recipe("gm-vae", data, 2).n_categories == 10
