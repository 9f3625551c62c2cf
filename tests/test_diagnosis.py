"""Every recipe can be diagnosed before it is trained, and causes come before consequences."""

import keras
import numpy as np
import pytest

import vaenb
import vaenb.data
from vaenb.columns import column_slices
from vaenb.data import digits, from_table
from vaenb.diagnosis import Finding, shares, show, sort_causes
from vaenb.network import dense


@pytest.mark.sample(8)
@pytest.mark.parametrize("name", vaenb.RECIPES)
def test_recipe(name):
    data = digits()
    if name == "nb-vae":  # the same images, as counts of ink
        data = vaenb.data.from_arrays(np.round(16 * data.train.x), counts=True)
    keras.utils.set_random_seed(0)
    few = {"prior": vaenb.VampPrior(5)} if name == "vamp-vae" else {}
    found = vaenb.diagnose(
        vaenb.recipe(name, data, 3, network=dense([16]), **few), data, n_samples=20, n_examples=359
    )
    assert found, "random weights are no model"
    assert all(
        f.severity in ("error", "warning", "note") and f.evidence and f.remedy for f in found
    )
    assert "nan" not in show(found) and "not finite" not in show(found)


def trained(data, epochs, rate, batch_size=32, network=None, latent_dim=4):
    keras.utils.set_random_seed(0)
    model = vaenb.VAE.for_data(data, latent_dim, network=network or dense([64]))
    model.compile(keras.optimizers.Adam(rate))
    model.fit(data.train.x, epochs=epochs, batch_size=batch_size, verbose=0)
    return [(f.name, f.cause) for f in vaenb.diagnose(model, data, n_samples=20)]


@pytest.mark.rotating
def test_three_epochs_are_too_few_steps():
    found = trained(digits(), 3, 1e-3, batch_size=128, latent_dim=10)
    assert found[0] == ("too few steps", None) and ("weak code", "too few steps") in found


@pytest.mark.sample(1)
@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_an_activation_on_the_logits_is_the_cause(activation):
    class Last(keras.layers.Layer):
        def call(self, x):
            return keras.ops.sigmoid(x) if activation else x

    body, pixels = keras.layers.Dense(64, "relu"), keras.layers.Reshape((8, 8, 1))
    head = [keras.layers.Flatten(), keras.layers.Dense(64, "relu")]
    encoder = keras.Sequential([keras.Input((8, 8, 1)), *head])
    decoder = keras.Sequential([keras.Input((4,)), body, keras.layers.Dense(64), Last(), pixels])
    found = trained(digits(), 15, 4e-3, network=(encoder, decoder))
    if activation is None:
        assert found == []
    else:
        assert found[0] == ("activation on the logits", None)
        assert all(cause == "activation on the logits" for _, cause in found[1:]), found


@pytest.mark.sample(1)
@pytest.mark.parametrize("scaled", [False, True])
def test_the_scale_of_the_data_comes_first(scaled):
    from sklearn.datasets import load_breast_cancer

    x = load_breast_cancer().data.astype("float32")
    if scaled:
        x = (x - x.mean(axis=0)) / x.std(axis=0)
    found = trained(vaenb.data.from_arrays(x), 20, 2e-3)
    if scaled:
        assert "data out of scale" not in [name for name, _ in found]
    else:
        assert found[0] == ("data out of scale", None) and len(found) > 2


def test_consequences_follow_their_cause():
    def finding(name, severity):
        return Finding(name, severity, "evidence", "remedy")

    found = sort_causes(
        [
            finding("overfitting", "warning"),
            finding("noise out of scale", "warning"),
            finding("posterior collapse", "error"),
            finding("dead units", "note"),
        ]
    )
    assert [(f.name, f.cause) for f in found] == [
        ("noise out of scale", None),
        ("posterior collapse", "noise out of scale"),
        ("dead units", "noise out of scale"),
        ("overfitting", None),
    ]
    text = show(found)
    assert text.count("a consequence of: noise out of scale") == 2 and text.count("-> remedy") == 2


@pytest.mark.parametrize("name", ["m2", "cvae"])
def test_data_without_the_condition_are_refused_in_a_sentence(name):
    data = digits()
    model = vaenb.recipe(name, data, 2)
    (found,) = vaenb.diagnosis.diagnose(model, data.test.x[:20], n_samples=2)
    assert found.name == "data refused" and "condition" in found.evidence
    with pytest.raises(ValueError, match="takes a Dataset or an array"):
        vaenb.diagnosis.diagnose(model, "digits")


def test_only_numbers_that_lie_between_0_and_1_are_asked_for_saturation():
    rng = np.random.default_rng(0)
    frame = pytest.importorskip("pandas").DataFrame(
        {
            "size": rng.normal(size=200),
            "seen": rng.poisson(3.0, 200),
            "on": rng.integers(0, 2, 200).astype(bool),
            "kind": rng.choice(list("abc"), 200),
        }
    )
    table = from_table(frame)
    model = vaenb.recipe("vae", table, 2, network=dense([4]))
    at = dict(zip([c["name"] for c in table.table.columns], column_slices(table.table.columns)))
    mask = shares(model, table.train.x.shape[1:])
    assert mask[at["on"]].all() and not mask[at["size"]].any() and not mask[at["seen"]].any()
    assert shares(vaenb.recipe("vae", rng.integers(0, 2, (20, 5)), 2), (5,)).all()
    assert not shares(vaenb.recipe("sigma-vae", frame[["size"]].to_numpy(), 2), (1,)).any()
