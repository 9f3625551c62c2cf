"""Objectives with a discriminator: trainings in blocks that are saved and resumed, learned priors,
conditions, maps of codes, and what is refused. On both backends."""

import os

import keras
import numpy as np
import pytest
from keras import ops
from thorough import run_on

from vaenb import AAE, VAE, VAEGAN, FactorVAE, MixtureOfNormals, Normal, dense
from vaenb.adversary import two_optimizers
from vaenb.prior import ConditionalNormal
from vaenb.training import fit_resumable, training_state
from vaenb.vae import DiagonalNormal, Level

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(200, 2)) @ RNG.normal(size=(2, 8)) + RNG.normal(size=(200, 8))).astype(
    "float32"
)
OBJECTIVES = {
    "factor": lambda: FactorVAE(2.0, hidden=(8,)),
    "aae": lambda: AAE(hidden=(8,)),
    "gan": lambda: VAEGAN(1.0, hidden=(8,)),
}


@pytest.mark.skipif("VAENB_INNER" in os.environ, reason="this is the inner run")
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_on_the_other_backend(backend):
    if backend == BACKEND or not run_on(backend, __file__):
        pytest.skip(f"{backend} is this backend, or is not installed")


def made(name, latent_dim=3, x=X, optimizer=None, **parts):
    keras.utils.set_random_seed(0)
    parts = {"network": dense([8]), "likelihood": Normal(1.0), **parts}
    model = VAE.for_data(x, latent_dim, objective=OBJECTIVES[name](), **parts)
    model.compile(
        optimizer or two_optimizers(keras.optimizers.Adam(2e-3), keras.optimizers.SGD(0.05)),
        steps_per_execution=4,  # blocks of four steps
    )
    return model


def state(model):
    found = training_state(model)
    return {name: value for name, value in found.items() if not name.startswith("metric")}


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_training_in_blocks_is_resumed_bit_for_bit(name, tmp_path):
    """Four epochs, and two epochs whose model and optimisers are thrown away before the others."""
    options = {"batch_size": 50, "verbose": 0}
    whole = made(name)
    before = [np.array(w) for w in whole.objective.discriminator.get_weights()]
    fit_resumable(whole, X, path=tmp_path / "a.npz", epochs=4, **options)
    after = whole.objective.discriminator.get_weights()
    assert all(not np.array_equal(u, v) for u, v in zip(before, after))
    fit_resumable(made(name), X, path=tmp_path / "b.npz", epochs=2, **options)
    resumed = made(name)
    assert not equal(state(resumed), state(whole))
    fit_resumable(resumed, X, path=tmp_path / "b.npz", epochs=4, **options)
    assert equal(state(resumed), state(whole))
    # Saved and loaded, with both optimisers: the same numbers, and a further epoch is the same.
    resumed.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert len(again.optimizer.optimizers) == 2
    kept = [np.array(v) for v in resumed.optimizer.variables]
    assert all(np.array_equal(u, v) for u, v in zip(kept, again.optimizer.variables))
    assert np.array_equal(again.reconstruct(X[:9]), resumed.reconstruct(X[:9]))
    found = [m.evaluate(X, verbose=0, return_dict=True) for m in (again, resumed)]
    assert found[0] == found[1] and np.isfinite(list(found[0].values())).all()


def test_each_optimiser_moves_its_own_network():
    for still_is_judge in (True, False):
        moving, still = keras.optimizers.SGD(0.05), keras.optimizers.SGD(0.0)
        pair = (moving, still) if still_is_judge else (still, moving)
        model = made("factor", optimizer=two_optimizers(*pair))
        parts = model.objective.discriminator, model.encoder
        before = [[np.array(w) for w in part.get_weights()] for part in parts]
        model.fit(X, batch_size=50, verbose=0)
        moved = [
            any(not np.array_equal(u, v) for u, v in zip(old, part.get_weights()))
            for old, part in zip(before, parts)
        ]
        assert moved == [not still_is_judge, still_is_judge]


@pytest.mark.rotating
def test_a_learned_prior_of_an_adversarial_autoencoder_is_fitted_to_the_codes():
    model = made("aae", prior=MixtureOfNormals(3))
    before = {v.path: np.array(v) for v in model.prior.trainable_variables}
    model.fit(X, epochs=2, batch_size=50, verbose=0)
    for v in model.prior.trainable_variables:
        assert not np.array_equal(before[v.path], v), v.path
    model = made("aae", condition=np.arange(200) % 3, prior=ConditionalNormal())
    assert model.objective.discriminator.input_shape == (None, 3 + 3)
    before = [np.array(v) for v in model.prior.trainable_variables]
    model.fit(X, condition=np.arange(200) % 3, batch_size=50, verbose=0)
    assert any(not np.array_equal(u, v) for u, v in zip(before, model.prior.trainable_variables))


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_codes_may_be_maps_and_the_loss_of_an_evaluation_is_the_models(name):
    model = made(name, latent_dim=(2, 2, 2))
    model.fit(X, epochs=1, batch_size=50, verbose=0)
    found = model.evaluate(X, verbose=0, return_dict=True, batch_size=200)
    model.reset_seed()
    trace = model.trace(ops.convert_to_tensor(X), 1, model.eval_seed)
    terms = {k: ops.convert_to_numpy(getattr(trace, k)) for k in ("kl", "log_px_z")}
    z = np.reshape(ops.convert_to_numpy(trace.z), (200, -1))
    judge = model.objective.discriminator
    if name == "gan":
        rebuilt = model.decode(ops.convert_to_numpy(trace.z)[:, 0])
        features = [ops.convert_to_numpy(judge(v)[0]) for v in (X, rebuilt)]
        wanted = terms["kl"] + 0.5 * ((features[0] - features[1]) ** 2).sum(1)
    else:
        odds = ops.convert_to_numpy(judge(z)[1])[:, 0]
        beta, gamma = (1.0, 2.0) if name == "factor" else (0.0, 1.0)
        wanted = beta * terms["kl"] - terms["log_px_z"][:, 0] + gamma * odds
    model.reset_seed()
    found = model.evaluate(X, verbose=0, return_dict=True, batch_size=200)
    assert np.isclose(found["elbo"], (terms["log_px_z"][:, 0] - terms["kl"]).mean(), rtol=1e-4)
    assert np.isclose(found["loss"], wanted.mean(), rtol=1e-4)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_several_levels_are_refused_in_one_sentence(name):
    network = dense([8])((8,), 2)
    decoder = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(8)])
    below = Level(ConditionalNormal(()), DiagonalNormal(event_shape=(3,)))
    with pytest.raises(ValueError, match="levels of codes") as refused:
        VAE(
            network[0],
            decoder,
            latent_dim=2,
            likelihood=Normal(1.0),
            objective=OBJECTIVES[name](),
            levels=[below],
        )
    assert "\n" not in str(refused.value)
