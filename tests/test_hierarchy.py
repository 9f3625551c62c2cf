"""Levels of codes in all that a model does: conditions, missing values, scores, the explorer."""

import keras
import numpy as np
import pytest
from keras import ops
from test_browser import TOLERANCE, in_browser, page, shake  # noqa: F401

from vaenb import (
    IWAE,
    VAE,
    LatentExplorer,
    LevelFreeBits,
    anomaly_score,
    bottom_up,
    decode_levels,
    dense,
    encode_levels,
    impute,
    ladder,
    level_kl,
    recipe,
)
from vaenb.browser import pack_model
from vaenb.evaluation import report
from vaenb.explorer import explore_page, static_facts
from vaenb.prior import ConditionalNormal

X = np.random.default_rng(0).random((60, 8)).astype("float32").round()
LABELS = np.arange(60) % 3
KINDS = {"bottom-up": bottom_up, "ladder": ladder}


def made(kind, data=X, below=(4, 5), **options):
    keras.utils.set_random_seed(0)
    levels = KINDS[kind](below, hidden=8)
    return VAE.for_data(data, 2, network=dense([8]), levels=levels, **options)


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
def test_three_levels_with_condition_and_missing_values(kind, tmp_path):
    holes = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X).astype("float32")
    given = {"condition": LABELS}
    options = {"missing": True, "prior": ConditionalNormal(), "objective": IWAE(3), **given}
    model = made(kind, holes, **options)
    assert model.decoder.input_shape[0] == (None, 5)
    model.fit(holes, epochs=1, batch_size=30, verbose=0, **given)
    filled = impute(model, holes, 20, condition=LABELS)
    assert np.isfinite(filled["mean"] if isinstance(filled, dict) else filled).all()
    codes = encode_levels(model, holes, condition=LABELS)
    assert [z.shape for z in codes] == [(60, 2), (60, 4), (60, 5)]
    remade = decode_levels(model, codes, condition=LABELS)
    np.testing.assert_allclose(remade, model.reconstruct(holes, condition=LABELS), atol=1e-5)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for m in (model, again):
        m.reset_seed(0)
    scores = [m.log_likelihood(holes, 10, **given) for m in (model, again)]
    assert np.array_equal(*scores)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_keep_to_their_example_and_condition(kind):
    """With k draws each level meets the state and the condition of its own row: the terms of an
    example are the same alone and among others."""
    model = made(kind, below=(3,), condition=LABELS, prior=ConditionalNormal())
    random = np.random.default_rng(1)  # one for all: names depend on earlier tests
    for v in model.trainable_variables:
        v.assign(v + 0.1 * random.normal(size=v.shape))
    last = model.prior.network.layers[-1].kernel
    last.assign(last + random.normal(size=last.shape))
    among = level_kl(model, X[:6], 400, condition=LABELS[:6])
    for i in (0, 4):
        alone = level_kl(model, X[i : i + 1], 4000, condition=LABELS[i : i + 1])[0]
        other = level_kl(model, X[i : i + 1], 4000, condition=LABELS[i + 1 : i + 2])[0]
        assert np.allclose(among[i], alone, rtol=0.1, atol=0.15), (among[i], alone)
        assert abs(alone[0] - other[0]) > 0.5, (alone, other)
    one = made(kind, below=(3,))
    log_w = one.run("log_weights", X, n_samples=7)
    assert log_w.shape == (60, 7) and len(np.unique(log_w)) > 400


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_explorer_take_the_top_code(kind):
    model = made(kind, below=(5,), objective=LevelFreeBits(0.5))
    model.fit(X, epochs=1, verbose=0)
    found = report(model, X, 20)
    assert np.isfinite(found["log_likelihood"]) and found["latent_dim"] == 2
    assert (found["mutual_information"] is None) == (kind == "bottom-up")
    score = anomaly_score(model, X, n_samples=200)
    assert abs(score.mean() + model.log_likelihood(X, 200).mean()) < 0.2
    assert np.isfinite(anomaly_score(model, X, "reconstruction")).all()
    view = LatentExplorer(model, X)
    assert view.facts["latent_dim"] == 2
    text = explore_page(model, X, "Levels")
    assert len(text) < 2e6 and "network" in static_facts(model, view.facts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_decodes_and_encodes_as_the_model_does(page, kind):  # noqa: F811
    model = made(kind)
    shake(model)
    packed = pack_model(model, "float32")
    z = np.random.default_rng(2).normal(size=(4, 2)).astype("float32")
    tolerance = TOLERANCE["float32"]
    found = in_browser(page, packed, z, "makeModel", "decode")
    np.testing.assert_allclose(found, model.decode(z), atol=tolerance)
    found = in_browser(page, packed, X[:4], "makeModel", "encode")
    np.testing.assert_allclose(found, model.encode(X[:4]), atol=tolerance)
    given = made(kind, condition=LABELS)
    with pytest.raises(ValueError, match="cannot run in a browser"):
        pack_model(given)


def test_a_recipe_takes_other_levels():
    model = recipe("ladder-vae", X, 2, network=dense([8]), levels=bottom_up(4))
    assert model.upward and len(model.levels) == 2
    with pytest.raises(ValueError, match="no option 'below'"):
        recipe("ladder-vae", X, 2, below=4)
    codes = ops.convert_to_numpy(model.draw_codes(3, seed=0))
    assert decode_levels(model, [codes], seed=1).shape == (3, 8)
