"""Data that is broken, missing or stolen from somebody else: one clear sentence each, and nothing
half written."""

import gzip
import hashlib
import importlib
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaenb import data, file

STEMS = list(file.MNIST_SHA256)
REAL = (
    os.environ.get("VAENB_DATA")
    and (Path(os.environ["VAENB_DATA"]) / "mnist" / f"{STEMS[0]}.gz").is_file()
)
needs_mnist = pytest.mark.skipif(not REAL, reason="MNIST's files are not under VAENB_DATA/mnist")
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5), dtype="uint8")


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def sentence(error):
    """The message of an error: one line, and not a novel."""
    text = str(error.value)
    assert "\n" not in text and 10 < len(text) < 600, text
    return text


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty VAENB_DATA and an empty cache; a small file passes as MNIST's; no network."""
    monkeypatch.setenv("VAENB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VAENB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(file.MNIST_SHA256, STEMS[0], hashlib.sha256(idx(IMAGES)).hexdigest())
    monkeypatch.setattr(file, "MNIST_MIRRORS", [(tmp_path / "mirror").as_uri() + "/"])
    for name in ("data", "mirror"):
        (tmp_path / name / "mnist").mkdir(parents=True)
    return tmp_path


# Arrays


@pytest.mark.parametrize(
    "x, says",
    [
        (np.where(np.eye(5), np.nan, 0.5), "5 NaN or infinite values, the first in example 0"),
        (np.array([[0.5], [np.inf]]), "1 NaN or infinite values, the first in example 1"),
        (
            np.array([[1.0, 2.0], [-np.inf, np.inf]], "float16"),
            "2 NaN or infinite values, the first in example 1",
        ),
        (np.zeros((0, 28, 28)), "empty"),
        (np.zeros((10, 0)), "empty"),
        (np.zeros(10), "(10,)"),
        (np.float32(3), "()"),
        (np.zeros((2, 2, 2, 2, 2)), "(2, 2, 2, 2, 2)"),
        (np.zeros((2, 3, 32, 32)), "channels first"),
        (np.arange(256).reshape(16, 16), "levels=256"),
        (np.arange(17, dtype="uint8").reshape(17, 1), "17"),
    ],
)
def test_wrong_arrays(x, says):
    with pytest.raises(ValueError) as error:
        data.from_arrays(x)
    assert says in sentence(error)


@pytest.mark.parametrize(
    "x", [np.array([["a", "b"]]), np.array([[None, {}]], dtype=object), np.zeros((2, 2), complex)]
)
def test_what_is_no_number(x):
    with pytest.raises(TypeError) as error:
        data.from_arrays(x)
    assert "numbers" in sentence(error)


@pytest.mark.parametrize(
    "labels, says",
    [
        (np.zeros(9), "(9,), but there are 10 examples"),
        (np.zeros((10, 3)), "(10, 3)"),
        ([], "(0,)"),
        (np.linspace(0, 1, 10), "whole numbers"),
        ([np.inf] * 10, "whole numbers"),
    ],
)
def test_wrong_labels(labels, says):
    with pytest.raises(ValueError) as error:
        data.from_arrays(np.zeros((10, 2)), labels)
    assert says in sentence(error)
    with pytest.raises(ValueError):
        data.Split(np.zeros((10, 2)), labels=np.zeros(9))


def test_numbers_mean_what_they_say():
    gray = np.arange(512, dtype="uint8").reshape(2, 16, 16)
    for levels, x in (
        (None, gray),
        (256, gray.astype(int)),
        (256, gray.astype("float64")),
        (256, gray.astype("float32") / 255),
    ):
        made = data.from_arrays(x, levels=levels, val=0, test=0.5)
        assert (
            made.levels == 256 and made.value_range == (0, 1) and made.train.x.dtype == np.float32
        )
        assert np.array_equal(made.train.x[..., 0], gray[:1].astype("float32") / np.float32(255))
    real = data.from_arrays(gray.astype("float32"), val=0, test=0.5)
    assert real.levels is None and real.value_range == (0, 255)
    for mask in (np.eye(4, dtype=bool), np.eye(4, dtype="uint8")):
        assert data.from_arrays(mask).levels == 2 and data.from_arrays(mask).train.x.max() == 1


def test_splits_stay_the_same():
    """Saved results name examples by split and row, so the rows must never change."""
    digits = data.digits()
    assert [len(s) for s in (digits.train, digits.val, digits.test)] == [1258, 180, 359]
    assert digits.test.labels[:10].tolist() == [7, 3, 0, 7, 2, 2, 8, 6, 3, 8]
    assert digits.test.x[:5].sum(axis=(1, 2, 3)).tolist() == [19.0, 17.375, 18.875, 18.625, 17.6875]
    assert data.shapes().test.x.index[:5].tolist() == [292479, 258584, 212140, 174468, 337330]


def test_every_class_gives_its_share():
    digits = data.digits()
    counts = np.array(
        [np.bincount(s.labels, minlength=10) for s in (digits.train, digits.val, digits.test)]
    )
    assert (abs(counts[1] - 0.1 * counts.sum(0)) < 1.5).all() and (
        abs(counts[2] - 0.2 * counts.sum(0)) < 1
    ).all()


# MNIST's files


@pytest.mark.parametrize(
    "name, content, says",
    [
        (".gz", gzip.compress(idx(IMAGES))[:-9], "truncated"),
        (".gz", gzip.compress(idx(IMAGES))[:200], "truncated"),
        (".gz", gzip.compress(idx(IMAGES)[:-50]), "1200 values"),
        ("", idx(IMAGES)[:-50], "1150 follow"),
        ("", idx(IMAGES)[:7], "not an IDX file"),
        ("", b"", "not an IDX file"),
        ("", b"<!DOCTYPE html><html>moved</html>", "not an IDX file"),
        ("", b"\x00\x00\x0d\x03" + idx(IMAGES)[4:], "300 follow"),
        ("", b"\x00\x00\x07\x03" + idx(IMAGES)[4:], "not an IDX file"),
        (".gz", gzip.compress(idx(IMAGES[::-1])), "wrong checksum"),
    ],
)
def test_broken_mnist_file(places, name, content, says):
    path = places / "data" / "mnist" / f"{STEMS[0]}{name}"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        file.mnist_file(STEMS[0])
    assert says in sentence(error) and str(path) in sentence(error)


@pytest.mark.parametrize("level", [None, 1, 9])
def test_any_wrapping_is_good(places, level):
    content = idx(IMAGES) if level is None else gzip.compress(idx(IMAGES), level)
    (places / "data" / "mnist" / (STEMS[0] + ("" if level is None else ".gz"))).write_bytes(content)
    assert np.array_equal(file.mnist_file(STEMS[0]), IMAGES)


def test_no_network_and_no_file(places, monkeypatch):
    import keras

    def offline(*args, **kwargs):
        raise Exception(
            "URL fetch failure on https://mirror: None -- [Errno -2] Name or service not known"
        )

    monkeypatch.setattr(keras.utils, "get_file", offline)
    with pytest.raises(FileNotFoundError) as error:
        data.mnist()
    assert all(
        word in sentence(error)
        for word in (STEMS[0], str(places / "cache"), "could not be downloaded", "VAENB_DATA")
    )
    assert not (places / "cache").exists()


def test_download_is_checked_and_kept(places):
    """Keras fetches from a mirror that is a folder: the same path as on the network, without
    one."""
    mirrored, kept = (
        places / "mirror" / f"{STEMS[0]}.gz",
        places / "cache" / "mnist" / f"{STEMS[0]}.gz",
    )
    mirrored.write_bytes(gzip.compress(idx(IMAGES[:20])))
    with pytest.raises(FileNotFoundError) as error:
        file.mnist_file(STEMS[0])
    assert "wrong checksum" in sentence(error) and not kept.exists()
    mirrored.write_bytes(gzip.compress(idx(IMAGES)))
    assert np.array_equal(file.mnist_file(STEMS[0]), IMAGES)
    assert os.listdir(kept.parent) == [kept.name]
    mirrored.unlink()
    assert np.array_equal(file.mnist_file(STEMS[0]), IMAGES)


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_failing_write_leaves_the_old_file(tmp_path, monkeypatch, fails):
    path = tmp_path / "kept.bin"
    file.write_atomic(path, b"old" * 1000)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError):
        file.write_atomic(path, b"new" * 2000)
    assert path.read_bytes() == b"old" * 1000 and os.listdir(tmp_path) == ["kept.bin"]


def test_killed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept.bin"
    path.write_bytes(b"old")
    code = (
        "import os; os.fsync = lambda f: os.kill(os.getpid(), 9)\nfrom vaenb.file import "
        f"write_atomic; write_atomic({str(path)!r}, b'new')"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert path.read_bytes() == b"old"


@needs_mnist
def test_real_mnist():
    mnist = data.mnist()
    assert [s.x.shape for s in (mnist.train, mnist.val, mnist.test)] == [
        (n, 28, 28, 1) for n in (50_000, 10_000, 10_000)
    ]
    assert mnist.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    bytes_ = sum(int(np.rint(s.x * 255).sum(dtype="float64")) for s in (mnist.train, mnist.val))
    assert bytes_ == 1_567_298_545 and (mnist.levels, mnist.train.x.dtype) == (256, np.float32)
    black_white = mnist.binarized()
    assert np.array_equal(
        black_white.test.x, np.random.default_rng(777).random(mnist.test.x.shape) < mnist.test.x
    )
    assert black_white.train.x is mnist.train.x


# Files and folders


def test_pickles_are_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    objects = np.array([Bomb()], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=objects)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(ValueError) as error:
            data.load(tmp_path / name)
        assert name in sentence(error)
    assert not (tmp_path / "executed").exists()


def test_broken_numpy_files(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((50, 50)))
    np.save(tmp_path / "b.npy", np.zeros((50, 50)))
    for name in ("a.npz", "b.npy"):
        whole = (tmp_path / name).read_bytes()
        for part in (whole[: len(whole) // 2], whole[:3], b"", b"PK" + whole[:60]):
            (tmp_path / name).write_bytes(part)
            with pytest.raises(ValueError) as error:
                data.load(tmp_path / name)
            assert name in sentence(error)


def test_numpy_files(tmp_path):
    x, y = np.random.default_rng(0).random((30, 4)), np.arange(30)
    np.savez(tmp_path / "plain.npz", x=x, labels=y)
    np.savez(tmp_path / "keras.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    np.save(tmp_path / "bare.npy", x)
    assert data.load(tmp_path / "keras.npz").test.labels.tolist() == list(range(20, 30))
    for split in (
        data.load(str(tmp_path / "plain.npz")).train,
        data.load(tmp_path / "keras.npz").val,
    ):
        assert np.allclose(split.x, x[split.labels])
    assert data.load(tmp_path / "bare.npy").image_shape == (4,)


def test_folders(tmp_path):
    for k in range(20):
        home = tmp_path / "photos" / ("left", "right")[k % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8), 10 * k, "uint8")).save(home / f"{k:02}.png")
    photos = data.load(tmp_path / "photos")
    assert (
        photos.image_shape == (6, 8, 1)
        and photos.class_names == ("left", "right")
        and photos.levels == 256
        and photos.name == "photos"
    )
    every = [(s.x, s.labels) for s in (photos.train, photos.val, photos.test)]
    x, labels = (np.concatenate(parts) for parts in zip(*every))
    value = np.rint(x[:, 0, 0, 0] * 255).astype(int)
    assert sorted(value) == list(range(0, 200, 10)) and (value // 10 % 2 == labels).all()

    bad = tmp_path / "photos" / "left" / "broken.jpg"
    bad.write_bytes((tmp_path / "photos" / "left" / "00.png").read_bytes()[:40])
    with pytest.raises(ValueError) as error:
        data.load(tmp_path / "photos")
    assert str(bad) in sentence(error)
    Image.new("L", (9, 9)).save(bad)
    with pytest.raises(ValueError) as error:
        data.load(tmp_path / "photos")
    assert str(bad) in sentence(error) and "size=" in sentence(error)
    assert data.load(tmp_path / "photos", size=7, gray=False).image_shape == (7, 7, 3)


def test_unknown_names(tmp_path):
    for name in ("cifar", "no such", str(tmp_path / "nowhere"), "image.png"):
        with pytest.raises(ValueError) as error:
            data.load(name)
        assert "digits, mnist, shapes" in sentence(error)
    with pytest.raises(FileNotFoundError) as error:
        data.load(tmp_path / "missing.npz")
    assert "missing.npz" in sentence(error)
    with pytest.raises(FileNotFoundError):
        data.load(tmp_path)  # a folder without images


# Shapes


def test_shapes_are_never_drawn_at_once():
    world = data.shapes(n_train=None)
    assert len(world.train) + len(world.val) + len(world.test) == 737_280
    for ask in (
        np.asarray,
        lambda x: x[:],
        lambda x: x[:70_000],
        lambda x: x[np.ones(len(x), bool)],
    ):
        with pytest.raises(ValueError) as error:
            ask(world.train.x)
        assert "batches" in sentence(error)


def test_keras_trains_on_batches():
    import keras

    world = data.shapes(n_train=300, n_val=100, n_test=1)
    inputs = keras.Input((64, 64, 1))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(inputs)))
    predicted = model.predict(world.train.batches(128, shuffle=False), verbose=0)
    assert np.allclose(predicted, model.predict(np.asarray(world.train.x), verbose=0), atol=1e-5)
    seen = [
        np.concatenate([b[0].sum((1, 2, 3)) for b in (batches[i] for i in range(3))])
        for batches in [world.train.batches(128, seed=1)] * 2
    ]
    assert np.array_equal(*seen) and sorted(seen[0]) == sorted(world.train.x[:].sum((1, 2, 3)))


def test_data_imports_without_keras():
    code = (
        "import sys, vaenb.data; sys.exit(any(m in sys.modules for m in ('keras', "
        "'tensorflow', 'jax', 'sklearn', 'matplotlib', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert importlib.import_module("vaenb.data").shapes is data.shapes
