"""Series: windows, ends, and networks of convolutions along time, as users meet them."""

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from thorough import some

from vaenb import VAE, load_model
from vaenb.missing import impute
from vaenb.series import conv1d, pad_series, series_lengths, windows

RNG = np.random.default_rng(0)
RECORD = RNG.normal(size=(50, 2)).astype("float32")


@pytest.mark.parametrize("record", [RECORD, RECORD[:, 0], RECORD.tolist()])
@pytest.mark.parametrize("length, stride", [(7, 1), (7, 3), (7, None), (50, 1), (1, 1)])
def test_windows_are_those_of_numpy(record, length, stride):
    wanted = sliding_window_view(np.asarray(record), length, axis=0)[:: stride or length]
    found = windows(record, length, stride)
    assert np.array_equal(found, np.moveaxis(wanted, -1, 1))


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: windows(RECORD, 51), "at least length=51 steps"),
        (lambda: windows(RECORD, 0), "length is 0"),
        (lambda: windows(RECORD, 5, 0), "stride is 0"),
        (lambda: windows(RECORD[None], 5), r"\(steps, channels\)"),
        (lambda: pad_series([]), "there is no series"),
        (lambda: pad_series([RECORD, RECORD[:0]]), "series 1 has shape"),
        (lambda: pad_series([RECORD], 49), "1 to 49 steps"),
        (lambda: pad_series([RECORD, RECORD[:, :1]]), "2 channels"),
        (lambda: conv1d(filters=(0,)), "filters"),
        (lambda: conv1d(hidden=-1), "hidden"),
    ],
)
def test_wrong_inputs_are_refused_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        call()
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


def test_padding_keeps_the_values_and_the_lengths():
    series = [RECORD[:n] for n in (3, 9, 1)]
    padded = pad_series(series, 11)
    assert padded.shape == (3, 11, 2) and series_lengths(padded).tolist() == [3, 9, 1]
    assert all(np.array_equal(row[: len(one)], one) for row, one in zip(padded, series))
    assert np.isnan(padded).sum() == 2 * (8 + 2 + 10)


def model_of(x, **options):
    keras.utils.set_random_seed(0)
    return VAE.for_data(x, 2, network=conv1d(filters=(4, 6), hidden=8), **options)


@pytest.mark.parametrize("shape", some([(13,), (1,), (16, 1), (9, 3)], 1, "series"))
def test_a_model_of_series_does_all_that_models_do(shape, tmp_path):
    x = RNG.normal(size=(24, *shape)).astype("float32")
    model = model_of(x)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, epochs=1, batch_size=8, verbose=0)
    assert model.encode(x).shape == (24, 2) and model.sample(3).shape == (3, *shape)
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again.reconstruct(x), model.reconstruct(x), rtol=1e-6, atol=1e-6)


def test_what_lies_behind_the_end_of_a_series_does_not_matter():
    """Channels of a step are seen with the mask, so NaN is "not observed" and no number."""
    x = pad_series([RNG.normal(size=(n, 2)) for n in (5, 12, 8, 3) * 4])
    labels = np.arange(16) % 2
    model = model_of(x, missing=True, condition=labels)
    model.compile("adam")
    model.fit(x, condition=labels, epochs=1, batch_size=8, verbose=0)
    masked = np.ma.MaskedArray(np.where(np.isnan(x), 1e6, x), np.isnan(x))
    codes = [model.encode(given, condition=labels) for given in (x, masked)]
    assert np.isfinite(codes[0]).all() and np.array_equal(*codes)
    assert not np.allclose(codes[0], model.encode(x, condition=1 - labels))
    filled = impute(model, x, 20, condition=labels)
    assert np.array_equal(filled[~np.isnan(x)], x[~np.isnan(x)]) and np.isfinite(filled).all()


def test_one_filter_sees_the_same_shape_anywhere():
    """Convolutions share their weights over time: a shifted bump gives shifted features."""
    x = np.zeros((2, 64, 1), "float32")
    x[0, 20:24], x[1, 36:40] = 1, 1  # 16 steps later, which four halvings divide
    encoder = model_of(x).encoder
    inner = keras.Model(encoder.inputs, encoder.get_layer("half_2").output)
    first, second = inner.predict_on_batch({"x": x})
    np.testing.assert_allclose(first[:12], second[4:], atol=1e-6)
    assert np.ptp(first) > 0
