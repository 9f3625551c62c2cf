"""The plan of a long training: timing leaves no trace in a model, the choice outlives the process,
and a resumed training goes on as it began."""

import json
import os

import keras
import numpy as np
import pytest

import vaenb.plan
from vaenb import dense, fit_resumable, recipe, two_optimizers
from vaenb.block import BlockPlan
from vaenb.plan import MEASURING
from vaenb.run import Watch
from vaenb.training import StateError, read_checkpoint, write_checkpoint

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
X = (np.random.default_rng(0).random((48, 36)) < 0.4).astype("float32")
pytestmark = pytest.mark.skipif(
    not ON_TENSORFLOW, reason="the chapter tests JAX; on PyTorch there is no choice"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every training is timed, for a moment; the cache is a folder of this test."""
    assert os.environ["VAENB_PLAN"] == "rule", "see conftest.py"
    monkeypatch.setenv("VAENB_PLAN", "")
    monkeypatch.setenv("VAENB_CACHE", str(tmp_path / "cache"))
    for name, value in {"shortest": 0.0, "share": 1e9, "seconds": 0.001, "turns": 1}.items():
        monkeypatch.setitem(MEASURING, name, value)
    return tmp_path / "cache" / "plans"


def with_state():
    """A model with everything that changes while it is trained, and its optimizer."""
    layers = keras.layers
    encoder = [
        keras.Input((36,)),
        layers.GaussianNoise(0.1),
        layers.Dense(4, "tanh"),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
    ]
    pair = keras.Sequential(encoder), keras.Sequential([keras.Input((2,)), layers.Dense(36)])
    averaging = keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=7)
    model = recipe("factor-vae", X, 2, network=pair)
    return model, two_optimizers(averaging, keras.optimizers.Adam(1e-3))


def smallest():
    return recipe("annealed-vae", X, 2, network=dense([3])), "adam"


def fitted(make, **fixed):
    keras.utils.set_random_seed(3)
    model, optimizer = make()
    model.compile(optimizer, **fixed)
    return model, model.fit(X, epochs=4, batch_size=20, verbose=0).history


def everything(model):
    """All numbers of a model, of its optimizer and of its metrics."""
    return [keras.ops.convert_to_numpy(v.value) for v in vaenb.plan.all_variables(model)]


def assert_same(model, other):
    for a, b in zip(everything(model), everything(other), strict=True):
        np.testing.assert_array_equal(a, b)


def prefer(monkeypatch, **wanted):
    """Nothing is timed; the fastest plan is the one that is so."""

    def invented(plans, *args, **kwargs):
        alike = [all(getattr(p, k) == v for k, v in wanted.items()) for p in plans]
        return {p: [3.0 - 2 * like] for p, like in zip(plans, alike)}, {}

    monkeypatch.setattr(vaenb.plan, "measured", invented)


def test_timing_leaves_no_trace(cache, monkeypatch):
    """Blocks of two steps or step by step; the chapter does the same with XLA."""
    timed, losses = fitted(with_state, jit_compile=False)
    drawn = np.random.random()
    assert timed.plan.chosen == "measured" and len(list(cache.iterdir())) == 1
    monkeypatch.setenv("VAENB_PLAN", "rule")
    at_once = timed.plan.size or 1
    other, without = fitted(with_state, jit_compile=False, steps_per_execution=at_once)
    assert other.plan == timed.plan and other.plan.chosen == "rule"
    assert_same(timed, other)
    assert losses == without and np.random.random() == drawn


def test_the_choice_is_remembered_until_something_changes(cache, monkeypatch):
    asked = {"steps_per_execution": 1}
    prefer(monkeypatch, jit=False)
    first, _ = fitted(smallest, **asked)
    assert first.plan == BlockPlan(0, False) and first.plan.chosen == "measured"
    prefer(monkeypatch, jit=True)
    second, _ = fitted(smallest, **asked)
    assert second.plan == first.plan and second.plan.chosen == "remembered"
    assert_same(first, second)
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["key"]["batch_size"] == 20
    for content in ("", "{", "[1]", '{"size": 0, "jit": "yes"}', '{"size": -1, "jit": true}'):
        file.write_text(content)
        changed, optimizer = smallest()
        changed.compile(optimizer, **asked)
        data = vaenb.block.shuffled((X,), 20)
        changed._plan(data, 4, [])
        assert changed.plan == BlockPlan(0, True) and changed.plan.chosen == "measured"
    monkeypatch.setattr(vaenb.plan, "can_be_kept", lambda path: False)
    file.unlink()
    changed.compile(optimizer, **asked)
    changed._plan(data, 4, [])
    assert changed.plan.chosen == "rule", "what cannot be remembered is not measured"


def test_arguments_and_limits_leave_nothing_to_measure(monkeypatch):
    def never(*args):
        raise AssertionError("it was timed")

    monkeypatch.setattr(vaenb.plan, "measured", never)
    model, optimizer = smallest()
    data = vaenb.block.shuffled((X,), 20)

    def planned(callbacks=(), epochs=4, **asked):
        model.compile(optimizer, **asked)
        model._plan(data, epochs, list(callbacks))
        return model.plan

    assert planned(jit_compile=True, steps_per_execution=1) == BlockPlan(0, True)
    assert planned(jit_compile=False, steps_per_execution=3) == BlockPlan(3, False)
    monkeypatch.setitem(MEASURING, "shortest", 60.0)
    assert planned() == BlockPlan(0, False)  # twelve steps
    assert planned([Watch(minutes=0.9)], 10**6).chosen == "rule"
    with pytest.raises(AssertionError, match="it was timed"):
        planned([Watch(minutes=1.1)], 10**6)
    monkeypatch.setenv("VAENB_PLAN", "rule")
    assert planned(epochs=10**6).chosen == "rule"


@keras.saving.register_keras_serializable("test_plan")
class NotForXLA(keras.layers.Layer):
    """A layer that TensorFlow runs and XLA cannot compile."""

    def call(self, x):
        import tensorflow as tf

        return tf.reshape(tf.numpy_function(lambda a: a, [x], tf.float32), tf.shape(x))


def test_what_xla_cannot_compile_is_left_out(recwarn):
    pair = (
        keras.Sequential([keras.Input((36,)), NotForXLA(), keras.layers.Dense(3)]),
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(36)]),
    )
    make = lambda: (recipe("vae", X, 2, network=pair), "adam")  # noqa: E731
    model, history = fitted(make, steps_per_execution=1)
    said = [
        str(w.message) for w in recwarn if "cannot be trained compiled by XLA" in str(w.message)
    ]
    assert len(said) == 1 and model.plan == BlockPlan(0, False)
    assert np.isfinite(history["loss"]).all()


class Cut(keras.callbacks.Callback):
    """Ends the process, as it were, after two epochs."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_a_resumed_training_goes_on_as_it_began(tmp_path, cache, monkeypatch):
    def train(path, callbacks=()):
        keras.utils.set_random_seed(3)
        model, optimizer = smallest()
        model.compile(optimizer, steps_per_execution=1)
        fit_resumable(
            model, X, path=path, epochs=4, batch_size=20, verbose=0, every=1, callbacks=callbacks
        )
        return model

    prefer(monkeypatch, jit=False)
    whole = train(tmp_path / "whole.npz")
    assert whole.plan.chosen == "measured" and whole.plan.jit is False
    path = tmp_path / "cut.npz"
    with pytest.raises(KeyboardInterrupt):
        train(path, [Cut()])
    for file in cache.iterdir():  # now the cache says otherwise
        file.write_text(json.dumps({**json.loads(file.read_text()), "jit": True}))
    state, facts = read_checkpoint(path)
    assert facts["plan"] == {"size": 0, "jit": False, "chosen": "remembered"}
    resumed = train(path)
    assert resumed.plan == whole.plan and resumed.plan.chosen == "remembered"
    assert_same(whole, resumed)
    for plan in ({}, {**facts["plan"], "size": -1}, {**facts["plan"], "jit": "yes"}, None):
        write_checkpoint(path, state, {**facts, "plan": plan})
        with pytest.raises(StateError, match="wrong types|damaged"):
            read_checkpoint(path)
    del facts["plan"]  # as an earlier version wrote it: the rule's, and nothing is timed
    write_checkpoint(path, state, facts)
    assert train(path).plan.chosen == "rule"
