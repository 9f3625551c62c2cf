"""What people bring as data, and what it must become; each case was once read wrongly."""

import gzip
import importlib.util
import io
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest

import vaenb
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


# Folders and image files


def paint(path, value=120, size=(6, 4), mode="L"):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def values_of(split):
    """The grey value of each image of a split of images of one colour each."""
    return sorted(int(round(v * 255)) for v in np.asarray(split.x)[:, 0, 0, 0])


@pytest.mark.parametrize("words", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_folders_keep_their_own_split(tmp_path, words):
    value, wanted = 0, {}
    for part, count in zip(words, (12, 4, 4)):
        wanted[part] = []
        for name in ("cat", "dog"):
            for k in range(count):
                paint(tmp_path / part / name / f"{k}.png", value)
                wanted[part].append(value)
                value += 1
    made = data.load(tmp_path)
    assert [len(s) for s in (made.train, made.val, made.test)] == [24, 8, 8]
    assert made.class_names == ("cat", "dog")
    for part, split in zip(words, (made.train, made.val, made.test)):
        assert values_of(split) == wanted[part]
        assert np.bincount(split.labels).tolist() == [len(split) // 2] * 2


def test_splits_without_classes_and_without_a_part(tmp_path):
    for part, values in (("train", range(20)), ("test", range(100, 105))):
        for v in values:
            paint(tmp_path / part / f"{v}.png", v)
    made = data.load(tmp_path)
    assert made.class_names is None and values_of(made.test) == list(range(100, 105))
    assert len(made.train) + len(made.val) == 20 and len(made.val) == 2
    for v in (7, 8):  # a class may have any other name, and then nothing is a split
        paint(tmp_path / "other" / f"{v}.png", v)
    assert data.load(tmp_path).class_names == ("other", "test", "train")


def test_hidden_files_are_no_data(tmp_path):
    for k in range(10):
        paint(tmp_path / "cat" / f"{k}.png", k)
        for folder in (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbs/deep"):
            paint(tmp_path / folder / f"{k}.png", 200)
            paint(tmp_path / "cat" / folder / f"{k}.png", 200)
        paint(tmp_path / "cat" / f"._{k}.png", 200)
    made = data.load(tmp_path)
    assert made.class_names == ("cat",) and every_x(made).shape[0] == 10
    assert every_x(made).max() < 10 / 255


@pytest.mark.parametrize("suffix", ["tiff", "gif", "png", "webp"])
def test_every_frame_is_an_example(tmp_path, suffix):
    from PIL import Image

    pages = [Image.fromarray(np.full((8, 8), 5 * k, "uint8")) for k in range(40)]
    path = tmp_path / f"pages.{suffix}"
    options = {"lossless": True, "minimize_size": False} if suffix == "webp" else {}
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    made = data.load(path, gray=True)
    found = sorted(np.rint(every_x(made)[:, 0, 0, 0] * 255).astype(int).tolist())
    assert found == [5 * k for k in range(40)]
    assert len(every_x(data.load(tmp_path, gray=True))) == 40


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    from PIL import Image

    deep = RNG.integers(0, 65_536, (10, 5, 7)).astype("uint16")
    for k, image in enumerate(deep):
        Image.fromarray(image).save(tmp_path / f"{k}.{suffix}")
    made = data.load(tmp_path, val=0, test=0)
    assert made.levels == 65_536 and made.image_shape == (5, 7, 1)
    np.testing.assert_array_equal(
        np.sort(np.rint(every_x(made) * 65_535).ravel()), np.sort(deep.ravel())
    )


@pytest.mark.parametrize("size", [np.int64(16), np.int32(16), 16, (np.int64(16), 16), [16, 16]])
def test_sizes_are_numbers(tmp_path, size):
    for k in range(4):
        paint(tmp_path / f"{k}.png", k, (20 + k, 30))
    assert data.from_folder(tmp_path, size=size).image_shape == (16, 16, 1)


@pytest.mark.parametrize("share", [np.float32(0.25), np.float64(0.25), np.array(0.25)])
def test_shares_are_numbers(share):
    assert len(data.from_arrays(np.eye(40), test=share).test) == 10
    assert len(data.from_arrays(np.eye(40), levels=np.int16(2), seed=np.int64(3)).train) == 28
    for seed in ("a", -1, 0.5):
        with pytest.raises(ValueError) as error:
            data.from_arrays(np.eye(40), seed=seed)
        assert f"seed is {seed!r}" in sentence(error)


# Files of other programs


X = RNG.integers(0, 256, (24, 6, 5)).astype("uint8")
Y = np.arange(24) % 3


def idx(array):
    code = {"u1": 8, "f4": 13, "i4": 12}[array.dtype.str[1:]]
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)


def png(image):
    from PIL import Image

    memory = io.BytesIO()
    Image.fromarray(image).save(memory, "PNG")
    return memory.getvalue()


def written(name, path):
    """Write X, and Y where the format holds labels, in a format; returns the arguments of load."""
    if name == "npz X y":
        np.savez(path / "a.npz", X=X, y=Y)
    elif name == "npz data labels":
        np.savez(path / "a.npz", data=X, labels=Y)
    elif name == "npz alone":
        np.savez(path / "a.npz", pixels=X)
    elif name == "npz medical":
        np.savez(
            path / "a.npz",
            train_images=X[:16],
            train_labels=Y[:16, None],
            val_images=X[16:20],
            val_labels=Y[16:20, None],
            test_images=X[20:],
            test_labels=Y[20:, None],
        )
    elif name == "idx.gz":
        (path / "a-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(X)))
        (path / "a-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(Y.astype("uint8"))))
        return path / "a-images-idx3-ubyte.gz"
    elif name == "hdf5":
        with pytest.importorskip("h5py").File(path / "a.h5", "w") as file:
            file["group/images"], file["group/labels"] = X, Y
    elif name == "hdf5 names":
        with pytest.importorskip("h5py").File(path / "a.h5", "w") as file:
            file["scan"], file["kind"], file["more"] = X, [b"a", b"b", b"c"] * 8, X[0]
    elif name == "mat":
        from scipy.io import savemat

        savemat(path / "a.mat", {"X": np.moveaxis(X, 0, -1), "y": Y[:, None] + 1})
    elif name == "zip":
        classes = [("a", "b", "c")[k] for k in Y]
        write_zip(
            path / "a.zip", [(f"photos/{c}/{k:02}.png", png(X[k])) for k, c in enumerate(classes)]
        )
    elif name == "csv":
        rows = [",".join(map(str, [label, *image.ravel()])) for image, label in zip(X, Y)]
        head = "label," + ",".join(f"p{k}" for k in range(30))
        (path / "a.csv").write_text("\n".join([head, *rows]))
    elif name == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {f"p{k}": X.reshape(24, 30)[:, k] for k in range(30)}
        pq.write_table(pa.table({**columns, "label": Y}), path / "a.parquet")
    return next(p for p in path.iterdir())


@pytest.mark.parametrize(
    "name, options",
    [
        ("npz X y", {}),
        ("npz data labels", {}),
        ("npz alone", {"labels": Y}),
        ("npz medical", {}),
        ("idx.gz", {}),
        ("hdf5", {}),
        ("hdf5 names", {"array": "scan", "labels": "kind"}),
        ("mat", {}),
        ("zip", {}),
        ("csv", {"levels": 256}),
        ("parquet", {"levels": 256}),
    ],
)
def test_foreign_files(tmp_path, name, options):
    made = data.load(written(name, tmp_path), **options)
    rows = {tuple(image.ravel()): int(label) for image, label in zip(X, Y)}
    assert made.levels == 256 and len(made.class_names) == 3
    for split in (made.train, made.val, made.test):
        for image, label in zip(np.rint(np.asarray(split.x) * 255).astype(int), split.labels):
            assert rows.pop(tuple(image.ravel())) == label
    assert not rows
    if name == "npz medical":
        assert [len(s) for s in (made.train, made.val, made.test)] == [16, 4, 4]
    if name in ("csv", "parquet"):
        assert made.columns == tuple(f"p{k}" for k in range(30))


def test_a_folder_of_idx_files(tmp_path):
    for part, rows in (("train", slice(0, 18)), ("t10k", slice(18, 24))):
        for word, array in (("images-idx3", X[rows]), ("labels-idx1", Y[rows].astype("uint8"))):
            (tmp_path / f"{part}-{word}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    made = data.load(tmp_path)
    assert len(made.test) == 6 and len(made.train) + len(made.val) == 18
    np.testing.assert_array_equal(np.rint(made.test.x[..., 0] * 255), X[18:])
    assert made.test.labels.tolist() == Y[18:].tolist()


def test_one_image(tmp_path):
    (tmp_path / "one.png").write_bytes(png(X[0]))
    made = data.load(tmp_path / "one.png", val=0, test=0)
    np.testing.assert_array_equal(np.rint(made.train.x[0, ..., 0] * 255), X[0])
    assert data.load(tmp_path / "one.png", size=3).image_shape == (3, 3, 1)


def test_idx_files_of_floats(tmp_path):
    values = RNG.normal(size=(10, 4)).astype("float32")
    (tmp_path / "values.idx").write_bytes(idx(values))
    made = data.load(tmp_path / "values.idx", val=0, test=0)
    np.testing.assert_array_equal(np.sort(every_x(made), axis=0), np.sort(values, axis=0))


def test_tables_with_gaps_and_names(tmp_path):
    path = tmp_path / "flowers.csv"
    path.write_text(
        "id,length,width,species\n1,5.1,NA,setosa\n2,,3.5,setosa\n3,6.3,3.3,virginica\n"
    )
    with pytest.raises(ValueError) as error:
        data.load(path)
    assert "2 missing values" in sentence(error) or "2 NaN" in sentence(error)
    made = data.load(path, missing=True, val=0, test=0)
    assert made.columns == ("id", "length", "width") and made.class_names == ("setosa", "virginica")
    assert np.isnan(every_x(made)).sum() == 2
    path.write_text("city,name,v\nx,y,1\nz,w,2\n")
    with pytest.raises(ValueError) as error:
        data.load(path)
    assert "columns of text, city, name" in sentence(error) and "labels='city'" in sentence(error)


def test_tables_that_pandas_writes(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"colour": ["red", "blue", "red"], "size": [1.5, 2, 2.5]})
    pd.get_dummies(frame).to_csv(tmp_path / "a.csv")  # with a column that counts the rows
    made = data.load(tmp_path / "a.csv", val=0, test=0)
    assert made.columns == ("size", "colour_blue", "colour_red")
    assert sorted(every_x(made)[:, 0].tolist()) == [1.5, 2, 2.5]
    if importlib.util.find_spec("pyarrow"):
        frame.to_parquet(tmp_path / "b.parquet")
        found = data.load(tmp_path / "b.parquet", val=0, test=0)
        assert found.columns == ("size",) and found.class_names == ("blue", "red")


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "an empty file"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b'{"cells": []}', "a Jupyter notebook"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\0\0\0\x18ftypheic", "a HEIC photograph"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (pickle.dumps({"x": 1}), "a pickle"),
        (b"\0" * 300, "a file of an unknown kind"),
    ],
)
@pytest.mark.parametrize("suffix", ["npz", "csv", "dat"])
def test_what_cannot_be_read_is_named(tmp_path, content, says, suffix):
    (tmp_path / f"some.{suffix}").write_bytes(content)
    with pytest.raises(ValueError) as error:
        data.load(tmp_path / f"some.{suffix}")
    assert says in sentence(error) and "allow_pickle" not in sentence(error)


def test_archives_that_are_no_data(tmp_path):
    for names, says in (
        (["[Content_Types].xml", "xl/sheet.xml"], "an Excel or Word file"),
        (["archive/data.pkl", "archive/data/0"], "a PyTorch file"),
        (["model.weights.h5", "config.json"], "a Keras model"),
        (["table.csv"], "a zip archive"),
    ):
        write_zip(tmp_path / "some.zip", [(name, b"x") for name in names])
        with pytest.raises(ValueError) as error:
            data.load(tmp_path / "some.zip")
        assert says in sentence(error)


def test_no_message_is_a_novel(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100) / ("f" * 100)
    deep.mkdir(parents=True)
    write_zip(deep / "many.zip", [(f"photo_{k:05}.txt", b"x") for k in range(5000)])
    np.savez(deep / "many.npz", **{f"array_{k}": np.eye(2) for k in range(500)})
    (deep / "many.csv").write_text(
        ",".join(f"name{k}" for k in range(2000)) + "\n" + "a," * 1999 + "b\n" * 1
    )
    (deep / "ragged.csv").write_text("1,2\n" + "3," * 5000 + "\n")
    write_zip(
        deep / "odd.zip", [(f"{k}.png", png(X[0])) for k in range(2)] + [("9.png", png(X[0].T))]
    )
    for name in ("many.zip", "many.npz", "many.csv", "ragged.csv", "odd.zip", "x" * 200):
        with pytest.raises(ValueError) as error:
            data.load(deep / name)
        assert sentence(error)
    for wrong in (
        np.full((3, 2), "a" * 1000),
        [["b" * 5000, None]],
        {f"k{k}": 1 for k in range(900)},
    ):
        with pytest.raises((TypeError, ValueError)) as error:
            data.from_arrays(wrong)
        assert sentence(error)


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(RNG.random((30, 8)) < 0.2, RNG.random((30, 8)), 0).astype("float32")
    for build in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
        made = data.from_arrays(build(dense), val=0, test=0)
        np.testing.assert_array_equal(np.sort(every_x(made), axis=0), np.sort(dense, axis=0))


# Memory, and columns that are not scaled


def test_large_arrays_keep_their_bytes(monkeypatch):
    x = RNG.integers(0, 256, (50, 8, 8, 3)).astype("uint8")
    small = data.from_arrays(x, np.arange(50) % 5)
    monkeypatch.setattr(data, "LARGE", 1)
    large = data.from_arrays(x, np.arange(50) % 5)
    assert isinstance(large.train.x, data.StoredRows) and large.train.x.stored.dtype == np.uint8
    assert np.shares_memory(large.train.x.stored, x)
    for part in ("train", "val", "test"):
        a, b = getattr(small, part), getattr(large, part)
        np.testing.assert_array_equal(a.x, np.asarray(b.x))
        np.testing.assert_array_equal(a.labels, b.labels)
    assert (small.levels, small.value_range) == (large.levels, large.value_range)
    assert large._repr_html_() == small._repr_html_()
    np.testing.assert_array_equal(small.binarized().test.x, large.binarized().test.x)
    counts = data.from_arrays(x, counts=True)
    assert counts.value_range == (0, 255) and counts.train.x.max() == 255
    for wrong in ({"levels": 17}, {}):
        with pytest.raises(ValueError):
            data.from_arrays(x.astype("int32") - (0 if wrong else 1), **wrong)


def test_memory_of_a_large_array():
    """Preparing 31 MB of bytes takes less than as much again, where float32 copies took eight
    times."""
    code = (
        "import numpy as np, tracemalloc; from vaenb import data\n"
        "x = np.random.default_rng(0).integers(0, 256, (40_000, 28, 28), dtype='uint8')\n"
        "tracemalloc.start(); made = data.from_arrays(x); peak = "
        "tracemalloc.get_traced_memory()[1]\n"
        "tracemalloc.stop(); first = made.train.x[:128]\n"
        "print(peak / x.nbytes, first.dtype, first.max() <= 1)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    share, dtype, inside = out.stdout.split()
    assert float(share) < 0.5 and (dtype, inside) == ("float32", "True")


def test_a_model_takes_large_arrays(monkeypatch):
    import keras

    import vaenb

    monkeypatch.setattr(data, "LARGE", 1)
    x = (RNG.random((60, 8, 8)) < 0.3).astype("uint8") * 255
    losses = []
    for made in (data.from_arrays(x, levels=256), data.from_arrays(x / 255, levels=256)):
        keras.utils.set_random_seed(0)
        model = vaenb.VAE.for_data(made, 2, network=vaenb.dense((8,)))
        losses.append(model.fit(made.train.x, epochs=2, batch_size=20, verbose=0).history["loss"])
    assert np.allclose(*losses)


def test_unscaled_columns_are_named():
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    with pytest.warns(UserWarning) as heard:
        assert data.warn_unscaled(found.data, "the data", found.feature_names)
    text = str(heard[0].message)
    assert len(heard) == 1 and "'worst area' has mean 880.6" in text and len(text) <= 400
    assert "StandardScaler" in text and "\n" not in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = (found.data - found.data.mean(0)) / found.data.std(0)
        for quiet in (scaled, scaled * 3 + 2, X / 255, np.zeros((4, 3)), scaled[:, :1]):
            assert not data.warn_unscaled(quiet)
    with pytest.warns(UserWarning, match="standard deviations run from 0.00"):
        assert data.warn_unscaled(scaled * np.r_[0.001, np.ones(29)])
    with pytest.warns(UserWarning, match="its values have mean"):
        assert data.warn_unscaled(X[..., None].astype("float32"))


def test_a_model_for_an_unscaled_table_warns_where_it_is_made():
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    table = data.from_arrays(found.data, columns=tuple(found.feature_names))
    for make in (vaenb.VAE.for_data, vaenb.Autoencoder.for_data):
        with pytest.warns(UserWarning, match="'worst area' has mean"):
            make(table, 2, network=vaenb.dense((8,)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scaled = (found.data - found.data.mean(0)) / found.data.std(0)
            make(scaled.astype("float32"), 2, network=vaenb.dense((8,)))


def test_masked_entries_are_not_observed():
    x = np.random.default_rng(0).random((40, 3)).astype("float32")
    hidden = np.ma.masked_array(x, mask=x > 0.9)
    model = vaenb.VAE.for_data(x, 2, network=vaenb.dense((8,)), likelihood=vaenb.Normal(1.0))
    with pytest.raises(ValueError, match="NaN"):
        model.encode(hidden)
    right = np.where(x > 0.9, np.nan, x)
    made = vaenb.VAE.for_data(
        right, 2, network=vaenb.dense((8,)), likelihood=vaenb.Normal(1.0), missing=True
    )
    assert np.array_equal(made.encode(hidden), made.encode(right))


LARGE = """
import resource, sys
import numpy as np
import keras
import vaenb
from vaenb import data

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

x = np.random.default_rng(0).integers(0, 256, (90_000, 28, 28), dtype="uint8")
made = data.from_arrays(x, val=0, test=0.001, seed=0)
small = data.from_arrays(x[:2000], val=0, test=0.001, seed=0)
keras.utils.set_random_seed(0)
model = vaenb.VAE.for_data(small, 2, network=vaenb.dense((8,)))
model.fit(small.train.x, batch_size=1000, verbose=0)
before = peak()
history = model.fit(made.train.x, batch_size=1000, verbose=0).history
assert np.isfinite(history["loss"]).all()
print(peak() - before)
"""


def test_bytes_stay_bytes_until_the_batch():
    """71 MB of bytes are 282 MB as float32, and were 470 MB at the peak of a training."""
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < 200, done.stdout


@pytest.mark.parametrize(
    "text, rows",
    [
        ("a,b\n1,2\n,\n3,4\n\n\n", [[1, 2], [None, None], [3, 4]]),
        ("a,b\n,\n1,2\n3,4\n", [[None, None], [1, 2], [3, 4]]),
        ("a;b\n1;2\n3;4\n;\n", [[1, 2], [3, 4], [None, None]]),
        ("a\tb\n1\t2\n\t\n3\t4\n \n", [[1, 2], [None, None], [3, 4]]),
        (",\n1,2\n3,4\n", [[None, None], [1, 2], [3, 4]]),
        ('a\n1\n""\n3\n\n', [[1], [None], [3]]),
        ("a\n1\n\n3\n   \n", [[1], [3]]),
    ],
)
def test_rows_of_separators_alone_are_rows_of_gaps(tmp_path, text, rows):
    """A blank line is no row, a line of separators is one, wherever it stands."""
    from vaenb.reader import read_csv

    found = np.stack([column for _, column in read_csv(text, tmp_path / "t.csv")], 1)
    np.testing.assert_array_equal(found.astype("float64"), np.array(rows, "float64"))
