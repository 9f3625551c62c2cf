"""Lossy compression: real bytes beside the estimate, files that open under the other backend, and a
sentence for every file, model or image that does not fit."""

import os
import subprocess
import sys
from unittest.mock import patch

import keras
import numpy as np
import pytest
from keras import ops
from thorough import installed

from vaenb import lossy
from vaenb.data import digits
from vaenb.lossy import (
    ScaleHyperprior,
    code_images,
    compress_lossy,
    decompress_lossy,
    padded,
    start_linear,
    to_images,
    unpack,
)

pytest.importorskip("constriction")
OTHER = {"tensorflow": "jax", "jax": "tensorflow", "torch": "jax"}[keras.backend.backend()]
RNG = np.random.default_rng(0)


def picture(h, w, c=3, n=1):
    "Smooth random images with some noise, uint8 (n, h, w, c)."
    x = RNG.normal(size=(n, h, w, c)).cumsum(1).cumsum(2) * 3 + RNG.normal(size=(n, h, w, c))
    return np.clip(np.rint(127 + x), 0, 255).astype("uint8")


@pytest.fixture(scope="module")
def model():
    "Scales that depend on z, and corrections that are not 0."
    keras.utils.set_random_seed(1)
    made = start_linear(ScaleHyperprior(0.02, block=4, filters=24, hidden=8), picture(64, 64, n=4))
    for weight in (*made.before.weights, *made.after.weights, made.scale_of.kernel):
        weight.assign(weight + 0.05 * RNG.normal(size=weight.shape))
    return made


@pytest.mark.sample(2)
@pytest.mark.parametrize("shape", [(64, 64), (33, 41), (3, 2), (1, 9)])
def test_what_comes_back_is_what_the_rounded_codes_say(model, shape):
    x = picture(*shape, n=2)
    back = decompress_lossy(model, compress_lossy(model, x))
    y, _ = code_images(model, padded(x, 4))
    assert back.dtype == "uint8" and np.array_equal(back, to_images(model, y, x.shape))
    one = decompress_lossy(model, compress_lossy(model, x[0]))
    assert one.shape == x.shape[1:]


def test_bytes_are_within_a_hundredth_of_the_estimate(model):
    x = picture(160, 160, n=3)
    bits = 32 * len(unpack(compress_lossy(model, x))["words"])
    terms = {k: ops.convert_to_numpy(v).sum() for k, v in model(x).items()}
    assert abs(bits / (terms["bits_y"] + terms["bits_z"]) - 1) < 0.01


def test_training_lowers_the_loss_and_the_model_survives_saving(tmp_path):
    x = np.rint(16 * digits().train.x[:512]).astype("uint8")
    keras.utils.set_random_seed(0)
    model = ScaleHyperprior(0.2, 1, levels=17, block=4, filters=16, hidden=4)
    start_linear(model, x)
    model.compile(keras.optimizers.Adam(3e-3))
    losses = model.fit(x, epochs=6, batch_size=64, verbose=0).history["loss"]
    assert losses[-1] < 0.97 * losses[0]
    content = compress_lossy(model, x[:50])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    assert np.array_equal(decompress_lossy(again, content), decompress_lossy(model, content))


def test_codes_beyond_the_edge_are_cut(model):
    far = ScaleHyperprior(1e5, block=4, filters=24, hidden=0)
    x = start_linear(far, picture(32, 32)) and picture(32, 32)
    y, _ = code_images(far, x)
    assert abs(y).max() == lossy.EDGE
    assert decompress_lossy(far, compress_lossy(far, x)).shape == x.shape


READ = """
import sys, keras, numpy as np
from vaenb.lossy import decompress_lossy
model = keras.saving.load_model(sys.argv[1] + "/model.keras")
np.save(sys.argv[1] + "/back.npy", decompress_lossy(model, sys.argv[1] + "/x.vnl"))
"""


@pytest.mark.skipif(not installed(OTHER), reason="needs another backend")
def test_the_other_backend_reads_the_file(model, tmp_path):
    x = picture(48, 64, n=2)
    compress_lossy(model, x, tmp_path / "x.vnl")
    model.save(tmp_path / "model.keras")
    environment = {**os.environ, "KERAS_BACKEND": OTHER}
    command = [sys.executable, "-c", READ, str(tmp_path)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    back = np.load(tmp_path / "back.npy").astype(int)
    assert abs(back - decompress_lossy(model, tmp_path / "x.vnl")).max() <= 1


def test_files_that_do_not_fit(model, tmp_path):
    x = picture(32, 32)
    content = compress_lossy(model, x, tmp_path / "x.vnl")
    assert (tmp_path / "x.vnl").read_bytes() == content
    with pytest.raises(FileExistsError, match="is left as it is"):
        compress_lossy(model, x, tmp_path / "x.vnl")
    for position in RNG.integers(0, len(content), 60):
        changed = bytearray(content)
        changed[position] ^= int(RNG.integers(1, 256))
        with pytest.raises(ValueError, match="damaged|truncated|begin with VNL|version"):
            decompress_lossy(model, bytes(changed))
    for n in (0, 2, 20, 60, len(content) - 1):
        with pytest.raises(ValueError, match="damaged|truncated|begin with VNL"):
            decompress_lossy(model, content[:n])
    other = ScaleHyperprior(0.02, block=4, filters=24, hidden=8)
    for wrong in (other, keras.Sequential()):
        with pytest.raises(ValueError, match="another model"):
            decompress_lossy(wrong, content)


def test_a_machine_that_computes_differently_is_noticed(model):
    x, exact = picture(48, 48), lossy.found_scales
    content = compress_lossy(model, x)
    shown = decompress_lossy(model, content)
    noise = RNG.uniform(-1, 1, 4 * 48 * 48)

    def disturbed(size):
        def scales(*args):
            found = exact(*args)
            return found + size * noise[: len(found)]

        return patch.object(lossy, "found_scales", scales)

    with disturbed(1e-5):
        assert np.array_equal(decompress_lossy(model, content), shown)
    with disturbed(0.05), pytest.raises(ValueError, match="computes the networks differently"):
        decompress_lossy(model, content)


def test_input_that_does_not_fit(model):
    x = picture(16, 16)
    cases = [
        (x / 255, TypeError, "integers"),
        (x[..., :1], ValueError, "has shape"),
        (x[0, 0], ValueError, "has shape"),
        (x[:0], ValueError, "has shape"),
        (x.astype(int) - 300, ValueError, "256 levels"),
        (x.astype(int) + 300, ValueError, "256 levels"),
    ]
    for wrong, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            compress_lossy(model, wrong)
    with pytest.raises(ValueError, match="no lossy codec"):
        compress_lossy(keras.Sequential(), x)
    for options in ({"block": 0}, {"filters": 1.5}, {"scales": -1}, {"levels": 257}):
        with pytest.raises(ValueError, match="but"):
            ScaleHyperprior(0.01, **options)
    with pytest.raises(ValueError, match="lambda must be positive"):
        ScaleHyperprior(0)
    with pytest.raises(ValueError, match="only 12 numbers"):
        ScaleHyperprior(0.1, block=2, filters=13)
