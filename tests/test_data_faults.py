"""What people bring as data, and what it must become: each case was once read wrongly, or refused
in vain."""

import numpy as np
import pytest

from vaenb import data

RNG = np.random.default_rng(0)


def sentence(error):
    """The message of an error: one line that fits a screen."""
    text = str(error.value)
    assert "\n" not in text and 10 < len(text) <= 400, text
    return text


def every_x(made):
    """All examples of a data set, in an order of their own."""
    return np.concatenate([np.asarray(part.x) for part in (made.train, made.val, made.test)])


# What marks a value as absent is never read as a number


def absent():
    """name -> a table whose value in row 1, column 0 is absent, under which NumPy finds 999."""
    values = np.array([[1.0, 2.0], [999.0, 4.0], [5.0, 6.0]])
    masked = np.ma.masked_equal(values, 999)
    yield "masked", masked
    yield "list of masked rows", [masked[i] for i in range(3)]
    yield "nan", np.where(values == 999, np.nan, values)
    yield "None", np.where(values == 999, None, values)
    yield "lists", np.where(values == 999, None, values).tolist()
    try:
        import pandas as pd
    except ImportError:
        return
    nullable = pd.DataFrame({"a": pd.array([1, None, 5], "Int64"), "b": [2.0, 4.0, 6.0]})
    yield "nullable integers", nullable
    yield "nullable floats", nullable.astype({"a": "Float64"})
    yield "objects", nullable.astype({"a": object})


@pytest.mark.parametrize(
    "name, x", list(absent()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_absent_values(name, x):
    with pytest.raises(ValueError) as error:
        data.from_arrays(x, val=0, test=0)
    assert "1 " in sentence(error) and "first in example 1" in sentence(error)
    kept = data.from_arrays(x, val=0, test=0, missing=True)
    found = every_x(kept)
    found = found[np.argsort(found[:, 1])]
    np.testing.assert_array_equal(found, np.float32([[1, 2], [np.nan, 4], [5, 6]]))
    assert kept.missing and kept.value_range == (1, 6) and kept.levels is None


def test_masked_images_keep_their_levels():
    gray = RNG.integers(0, 256, (6, 4, 4)).astype("uint8")
    gray[0, 0, 0] = 255
    masked = np.ma.array(gray, mask=gray < 40)
    made = data.from_arrays(masked, val=0, test=0, missing=True)
    found = np.sort(every_x(made)[~np.isnan(every_x(made))])
    assert made.levels == 256 and np.isnan(every_x(made)).sum() == (gray < 40).sum()
    np.testing.assert_allclose(found * 255, np.sort(gray[gray >= 40]), rtol=1e-6)
    with pytest.raises(ValueError) as error:
        data.from_arrays(np.ma.masked_all((4, 3)), missing=True)
    assert "every value" in sentence(error)
    unmasked = data.from_arrays(np.ma.array(gray, mask=False), val=0, test=0)
    assert not unmasked.missing and not np.isnan(every_x(unmasked)).any()


def test_data_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"colour": ["red", "blue", "red", "blue"], "size": [1.5, 2, 2.5, 3]})
    for dummies in (pd.get_dummies(frame), pd.get_dummies(frame, dtype=float)):
        made = data.from_arrays(dummies, val=0, test=0)
        assert made.columns == ("size", "colour_blue", "colour_red") and made.image_shape == (3,)
        found = every_x(made)
        np.testing.assert_array_equal(
            found[np.argsort(found[:, 0])],
            np.float32([[1.5, 0, 1], [2, 1, 0], [2.5, 0, 1], [3, 1, 0]]),
        )
    only = data.from_arrays(pd.get_dummies(frame["colour"]), val=0, test=0)
    assert only.levels == 2 and only.columns == ("blue", "red")
    assert data.from_arrays(pd.get_dummies(frame["colour"]).astype("Int64"), val=0).levels == 2
    with pytest.raises(TypeError) as error:
        data.from_arrays(frame)
    assert "colour" in sentence(error) and "get_dummies" in sentence(error)
    assert data.from_arrays(pd.DataFrame([[1.5, 2], [3, 4]], columns=["a", "a"])).columns == (
        "a",
        "a",
    )


def test_other_tables():
    columns = {"a": [1.5, 2.5, None], "b": [True, False, True]}
    for library, build in (("polars", "DataFrame"), ("pyarrow", "table")):
        try:
            table = getattr(__import__(library), build)(columns)
        except ImportError:
            continue
        made = data.from_arrays(table, val=0, test=0, missing=True)
        assert made.columns == ("a", "b") and np.isnan(every_x(made)).sum() == 1


def test_binarisation_leaves_gaps():
    x = np.float32([[0, 1, np.nan], [np.nan, 0.5, 1]])
    drawn = data.binarize(x)
    assert np.array_equal(np.isnan(drawn), np.isnan(x)) and set(drawn[~np.isnan(x)]) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "x",
    [
        [[1, 2], [3]],
        [[[1, 2], [3, 4]], [[1, 2], [3]]],
        [np.zeros((2, 3)), np.zeros((2, 4))],
        [np.zeros(3), np.zeros(4)],
    ],
)
def test_ragged_lists(x):
    with pytest.raises(ValueError) as error:
        data.from_arrays(x)
    assert "differ in length or shape" in sentence(error)


# Labels


@pytest.mark.parametrize(
    "labels, numbers, names",
    [
        (np.arange(1, 11), range(10), [str(k) for k in range(1, 11)]),
        ([1.0, 2.0, 3.0, 3.0], [0, 1, 2, 2], ["1", "2", "3"]),
        ([-1, 1, 1, -1], [0, 1, 1, 0], ["-1", "1"]),
        ([0, 100, 200, 0], [0, 1, 2, 0], ["0", "100", "200"]),
        ([0, 2, 3], [0, 2, 3], ["0", "1", "2", "3"]),
        ([b"cat", b"dog", b"cat"], [0, 1, 0], ["cat", "dog"]),
        (np.array(["b", "a"], dtype=object), [1, 0], ["a", "b"]),
        (np.array([2, 1, 0], dtype=object), [2, 1, 0], ["0", "1", "2"]),
        ([True, False], [1, 0], ["0", "1"]),
        ([[3], [1], [2]], [2, 0, 1], ["1", "2", "3"]),
    ],
)
def test_labels(labels, numbers, names):
    found, named = data.as_labels(labels, len(labels))
    assert found.tolist() == list(numbers) and list(named) == names and found.dtype == np.int64


def test_labels_that_count_from_one():
    names = ["cat", "dog", "cow"]
    for labels in ([1, 3, 2], [0, 2, 1]):
        assert data.as_labels(labels, 3, names)[0].tolist() == [0, 2, 1]
    for labels in ([1, 4, 2], [0, 3, 1], [-1, 0, 1]):
        with pytest.raises(ValueError) as error:
            data.as_labels(labels, 3, names)
        assert "3 class names" in sentence(error)
    made = data.from_arrays(np.eye(20), np.arange(20) % 10 + 1)
    assert made.class_names == tuple(map(str, range(1, 11))) and made.test.labels.min() >= 0


def missing_labels():
    yield [1.0, np.nan, 2.0]
    yield ["cat", None, "dog"]
    yield np.ma.masked_equal([1, 99, 2], 99)
    yield np.array([1, None, 2], dtype=object)
    try:
        import pandas as pd
    except ImportError:
        return
    yield pd.Series(["cat", None, "dog"])
    yield pd.Series(pd.array([1, None, 2], "Int64"))
    yield pd.Series(pd.Categorical(["cat", None, "dog"]))


@pytest.mark.parametrize("labels", list(missing_labels()))
def test_a_missing_label_is_no_class(labels):
    with pytest.raises(ValueError) as error:
        data.from_arrays(np.eye(3), labels)
    assert "1 missing values, the first for example 1" in sentence(error)
    assert "unknown" in sentence(error)


# What whole numbers mean


def advised(x):
    """The arguments that the refusal of x names, tried: they must be accepted."""
    with pytest.raises(ValueError) as error:
        data.from_arrays(x)
    return sentence(error)


@pytest.mark.parametrize("dtype, high", [("uint8", 100), ("uint16", 255), ("int64", 255)])
def test_advice_about_levels_is_accepted(dtype, high):
    x = RNG.integers(0, high + 1, (9, 5, 5)).astype(dtype)
    x.flat[0] = high
    text = advised(x)
    assert "levels=256" in text and "counts=True" in text
    assert every_x(data.from_arrays(x, levels=256)).max() == np.float32(high) / np.float32(255)
    counted = data.from_arrays(x, counts=True)
    assert every_x(counted).max() == high and counted.levels is None


def test_images_of_sixteen_bits():
    x = RNG.integers(0, 4096, (9, 5, 5)).astype("uint16")
    x.flat[0] = 4095
    text = advised(x)
    assert "levels=65536" in text and "(or 4096)" in text and "levels=256" not in text
    assert every_x(data.from_arrays(x, levels=4096)).max() == 1
    assert every_x(data.from_arrays(x, levels=65536)).max() == np.float32(4095) / np.float32(65535)
    x.flat[0] = 60_000  # the whole range is used: an image
    made = data.from_arrays(x, val=0, test=0)
    assert made.levels == 65536
    np.testing.assert_array_equal(
        np.sort(np.rint(every_x(made) * 65535).ravel()), np.sort(x.ravel())
    )


def test_images_of_signed_bytes():
    x = RNG.integers(-128, 128, (9, 5, 5)).astype("int8")
    text = advised(x)
    assert "x.astype('int16') + 128" in text and "pass levels" not in text
    made = data.from_arrays(x.astype("int16") + 128, levels=256)
    assert made.levels == 256 and 0 <= every_x(made).min() and every_x(made).max() <= 1
    assert "levels=" not in advised(np.array([[-5, 3], [2, 70]]))


def test_counts():
    x = np.array([[0, 3], [100_000, 7]])
    assert "counts=True" in advised(x) and "levels=1" not in advised(x)
    made = data.from_arrays(x, counts=True, val=0, test=0)
    assert np.array_equal(np.sort(every_x(made), axis=None), [0, 3, 7, 100_000])
    for wrong in (np.array([[0.5, 1], [2, 3]]), np.array([[-1, 1], [2, 3]])):
        with pytest.raises(ValueError) as error:
            data.from_arrays(wrong, counts=True)
        assert "counts are 0, 1, 2" in sentence(error)
    with pytest.raises(ValueError) as error:
        data.from_arrays(x, counts=True, levels=256)
    assert "leave counts out" in sentence(error)


# One chooser of likelihood


def kinds_of_data():
    """name -> an array, its levels, and the likelihood that everybody must choose for it."""
    gray = RNG.integers(0, 256, (40, 6, 6, 1)) / 255
    colours = RNG.integers(0, 256, (40, 6, 6, 3)) / 255
    yield "black and white", (gray > 0.5) * 1.0, None, "Bernoulli(binarize=False)"
    yield "grey bytes", (gray * 255).astype("uint8"), 256, "Bernoulli(binarize=True)"
    yield "grey floats", gray, None, "Bernoulli(binarize=True)"
    yield (
        "colour bytes",
        (colours * 255).round().astype("uint8"),
        256,
        "DiscretizedLogistic(levels=256",
    )
    yield "colour floats", colours, None, "DiscretizedLogistic(levels=256"
    yield "colours between", colours**1.1, None, "Normal(sigma='learned')"
    yield "real vectors", RNG.normal(size=(40, 5)), None, "Normal(sigma='learned')"
    yield "fractions", RNG.random((40, 5)), None, "Bernoulli(binarize=True)"


@pytest.mark.parametrize(
    "name, x, levels, wanted", list(kinds_of_data()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_one_chooser(name, x, levels, wanted):
    import vaenb
    from vaenb.run import likelihood_by_name

    made = data.from_arrays(x, levels=levels)
    chosen = [
        vaenb.VAE.for_data(made, 2).likelihood,
        vaenb.recipe("beta-vae", made, 2).likelihood,
        likelihood_by_name("auto", made),
        vaenb.VAE.for_data(made.train.x, 2).likelihood,
    ]
    assert all(repr(found).startswith(wanted) for found in chosen), chosen
    assert chosen[2].bind(made.image_shape).check(made.train.x) is None


def test_raw_bytes_as_floats_are_refused_by_everybody():
    import vaenb
    from vaenb.run import likelihood_by_name

    made = data.from_arrays(RNG.integers(0, 256, (40, 6, 6)).astype("float32"))
    for choose in (
        lambda: vaenb.VAE.for_data(made, 2),
        lambda: vaenb.recipe("vae", made, 2),
        lambda: likelihood_by_name("auto", made),
    ):
        with pytest.raises(ValueError) as error:
            choose()
        assert "whole numbers up to 255" in sentence(error) and "x / 255" in sentence(error)
