"""Quantised codes in all that a model does: streams, conditions, missing values, samplers."""

import keras
import numpy as np
import pytest

from vaenb import (
    VAE,
    Autoencoder,
    FiniteScalarQuantizer,
    LatentExplorer,
    ResidualQuantizer,
    TokenSampler,
    VectorQuantizer,
    dense,
    recipe,
)

X = np.random.default_rng(0).random((200, 8)).astype("float32")
KINDS = {
    "vq": lambda: VectorQuantizer(6),
    "fsq": lambda: FiniteScalarQuantizer(4),
    "rq": lambda: ResidualQuantizer(2, 5),
}


def made(kind, latent_dim=3, data=X, **options):
    keras.utils.set_random_seed(0)
    bottleneck = KINDS[kind]()
    return Autoencoder.for_data(
        data, latent_dim, network=dense([8]), bottleneck=bottleneck, **options
    )


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("latent_dim", [3, (2, 3), (2, 2, 4)])
def test_tokens_are_the_code(kind, latent_dim, tmp_path):
    model = made(kind, latent_dim)
    model.fit(X, epochs=2, verbose=0)
    tokens = model.tokens(X)
    assert tokens.dtype == "int32" and tokens.shape == (200, *model.bottleneck.token_shape)
    assert np.array_equal(model.decode(tokens=tokens), model.reconstruct(X))
    found = model.evaluate(X, verbose=0, return_dict=True)
    kinds = tokens.reshape(-1, model.bottleneck.per_place)
    used = np.mean([len(np.unique(column)) for column in kinds.T]) / model.bottleneck.n_codes
    assert np.isclose(found["codes_used"], used, atol=1e-6)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert np.array_equal(again.tokens(X), tokens)
    assert np.array_equal(again.decode(tokens=tokens), model.decode(tokens=tokens))


@pytest.mark.parametrize("kind", ["vq", "rq"])
def test_a_stream_starts_the_codebook(kind):
    keras.utils.set_random_seed(0)
    model = Autoencoder(8, 3, network=dense([8]), bottleneck=KINDS[kind]())
    assert not model.bottleneck.ready
    model.fit((X[i : i + 50] for i in range(0, 200, 50)), verbose=0)
    assert model.bottleneck.ready
    found = model.evaluate(X, verbose=0, return_dict=True)
    assert np.isfinite(found["loss"]) and found["codes_used"] > 0.5


def test_fit_starts_a_codebook_that_has_seen_nothing_and_no_other():
    keras.utils.set_random_seed(0)
    model = Autoencoder(8, 3, network=dense([8]), bottleneck=VectorQuantizer(6))
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(X, epochs=1, batch_size=200, verbose=0)
    first = np.asarray(model.bottleneck.book.vectors)
    assert 0 < np.asarray(model.bottleneck.book.use).sum() < 6.01
    model.adapt(X)
    assert np.array_equal(np.asarray(model.bottleneck.book.vectors), first)


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
def test_conditions_and_missing_values(kind):
    c = np.arange(200) % 3
    x = X.copy()
    x[::7, 2] = np.nan
    model = made(kind, data=x, condition=c, missing=True)
    assert model.bottleneck.ready
    model.fit(x, condition=c, epochs=2, verbose=0)
    tokens = model.tokens(x, condition=c)
    same = model.decode(tokens=tokens, condition=c)
    assert np.array_equal(same, model.reconstruct(x, condition=c))


def test_an_evaluation_leaves_the_codebook_alone():
    model = made("vq")
    before = [np.asarray(w) for w in model.bottleneck.get_weights()]
    model.evaluate(X, verbose=0)
    model.encode(X)
    model.tokens(X)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.bottleneck.get_weights()))


@pytest.mark.rotating
def test_a_sampler_of_tokens_and_its_refusals():
    model = made("vq", (2, 3))
    sampler = TokenSampler(6, width=8, n_layers=1, n_heads=2, epochs=2).fit(model.tokens(X))
    drawn = model.sample(5, seed=1, sampler=sampler)
    assert np.array_equal(drawn, model.decode(tokens=sampler.sample(5, seed=1)))
    assert np.isfinite(sampler.log_prob(model.tokens(X))).all()
    longer = TokenSampler(6, width=8, n_layers=1, n_heads=2, epochs=1)
    longer.fit(np.zeros((30, 5), "int32"))
    for call, words in (
        (lambda: model.sample(2, sampler=longer), "(n, 2)"),
        (lambda: model.decode(tokens=[[0, 6]]), "0 to 5"),
        (lambda: model.decode(tokens=[[0, -1]]), "0 to 5"),
        (lambda: model.decode(np.zeros((1, 2, 3)), tokens=[[0, 1]]), "codes or tokens"),
        (lambda: Autoencoder(8, 2, network=dense([8])).tokens(X), "no tokens"),
        (lambda: LatentExplorer(model, X), "(2, 3)"),
        (lambda: recipe("vq-vae", X[:60], 2), "60 vectors"),
        (lambda: VAE.for_data(X, 2, network=dense([8])).sample(2, sampler=sampler), "have none"),
    ):
        with pytest.raises(ValueError) as refused:
            call()
        assert words in str(refused.value) and "\n" not in str(refused.value)
