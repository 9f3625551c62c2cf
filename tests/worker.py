"""Run by test_model.py in processes of its own: trains and saves models, or loads them, and records
what they compute."""

import json
import os
import sys

_, backend, task, folders, *blocked = sys.argv
folders = json.loads(folders)
os.environ["KERAS_BACKEND"] = backend

from parts_worker import hide

hide(blocked)

import keras
import numpy as np

from vaenb import VAE, Autoencoder, DiscretizedLogistic, VariationalAutoencoder, conv, data, dense

digits = data.digits()
x, flat = digits.train.x[:256], digits.train.x[:256].reshape(-1, 64)
test = digits.binarized().test.x[:40]


def models():
    """Name, model, data to train on, data to test with."""
    yield "vae", VAE.for_data(digits, latent_dim=3, network=dense([32])), x, test
    yield (
        "conv",
        VAE.for_data(
            digits, latent_dim=2, network=conv((4,), hidden=8), likelihood=DiscretizedLogistic(17)
        ),
        x,
        x[:40],
    )
    yield (
        "article",
        VariationalAutoencoder(input_dim=64, encoding_dim=16, output_dim=64, z_dim=4),
        flat,
        test.reshape(-1, 64),
    )
    yield (
        "autoencoder",
        Autoencoder.for_data(digits, latent_dim=3, network=dense([32]), noise=0.2),
        x,
        x[:40],
    )


def outputs(model, x):
    out = {
        "encode": model.encode(x),
        "reconstruct": model.reconstruct(x),
        "decode": model.decode(np.ones((3, model.latent_dim))),
    }
    if isinstance(model, VAE):
        out |= {
            "log_likelihood": model.log_likelihood(x, n_samples=30),
            "sample": model.sample(5, seed=1),
        }
    return {**out, **model.evaluate(x, verbose=0, return_dict=True)}


def record(folder, name, results):
    np.savez(
        os.path.join(folder, name),
        **{
            f"{model}/{key}": value
            for model, values in results.items()
            for key, value in values.items()
        },
    )


def trained(folder=None, only=None):
    """What each model, or only one, computes after an epoch from a fixed seed; saved in between."""
    keras.utils.set_random_seed(5)
    results = {}
    for name, model, train, probe in models():
        history = model.fit(
            train, validation_data=(train[:50],), epochs=1, batch_size=64, verbose=0
        ).history
        if folder:
            model.save(os.path.join(folder, f"{name}.keras"))
        results[name] = {**outputs(model, probe), **{f"history/{k}": v for k, v in history.items()}}
        if only == name:
            break
    return results


if task == "train":
    record(folders[backend], "trained.npz", trained(folders[backend]))
else:
    probes = {"vae": test, "conv": x[:40], "article": test.reshape(-1, 64), "autoencoder": x[:40]}
    for folder in folders.values():
        results = {}
        for name, probe in probes.items():
            model = keras.saving.load_model(os.path.join(folder, f"{name}.keras"))
            results[name] = outputs(model, probe)
            model.fit(probe, epochs=1, verbose=0)  # a loaded model goes on training
        record(folder, f"loaded_by_{backend}.npz", results)
    record(folders[backend], "again.npz", trained(only="vae"))
assert not any(name in sys.modules for name in blocked)
