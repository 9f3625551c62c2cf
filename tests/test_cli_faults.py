"""Faults that people ran into at the terminal and around a training: each is refused in one sentence, or works."""

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
