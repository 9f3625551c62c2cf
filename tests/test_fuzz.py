"""Ten thousand generated inputs: arrays, configurations, command lines and damaged files. What
comes back is either right (finite, of the right shape, or what was saved), or one sentence that the
package itself raises; at the command line one line and an exit code. Nothing hangs, and no error
comes out of the depth of a library.

`make test` generates the first tenth of them, `make test-all` all.
"""

import collections
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import tempfile
import traceback
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = tempfile.mkdtemp()
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from thorough import amount

import vaenb
import vaenb.folder
from vaenb import data, file, picture
from vaenb.likelihood import likelihood_for
from vaenb.model import check_array

PACKAGE = str(Path(vaenb.__file__).parent)
DONE = collections.Counter()
WANTED = {}
INNARDS = (
    "not supported between",
    "unsupported operand",
    "object is not",
    "has no attribute",
    "cannot be interpreted",
    "not subscriptable",
    "unexpected keyword",
    "ufunc",
    "must be real number",
)
ERRORS = (ValueError, TypeError, FileNotFoundError, NotImplementedError)


def fuzz(n, /, **strategies):
    """Runs a test `n` times (a tenth of that in `make test`), with the same inputs on every
    machine, and counts the runs; an input that takes ten seconds counts as a hang."""
    n = amount(n // 10, n)

    def decorate(test):
        WANTED[test.__name__] = n

        def counted(*args, **kwargs):
            DONE[test.__name__] += 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                test(*args, **kwargs)

        counted.__name__, counted.__doc__ = test.__name__, test.__doc__
        inputs = [
            name
            for name in test.__code__.co_varnames[: test.__code__.co_argcount]
            if name not in strategies
        ]
        counted = _with_arguments(counted, [*inputs, *strategies])
        return settings(
            max_examples=n,
            derandomize=True,
            database=None,
            deadline=10_000,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
        )(given(**strategies)(counted))

    return decorate


def _with_arguments(function, names):
    import inspect

    function.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return function


def tried(function, *args, **kwargs):
    """What the function returns; None after an error that the package raised in one sentence.
    Anything else fails the test."""
    try:
        return function(*args, **kwargs)
    except ERRORS as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        assert where.startswith(PACKAGE), f"{type(error).__name__} comes from {where}: {error}"
        text = str(error)
        assert "cannot be read" in text or not any(words in text for words in INNARDS), (
            f"Python speaks, not the package: {text!r}"
        )
        assert "\n" not in text.strip() and 15 < len(text) < 900, f"not one sentence: {text!r}"
        return None


# Arrays of every kind

DTYPES = [
    "float32",
    "float64",
    "float16",
    "longdouble",
    "int64",
    "int8",
    "uint8",
    "uint64",
    "bool",
    "complex64",
    "object",
    "U3",
    "S3",
    "datetime64[s]",
    "timedelta64[s]",
]
VALUES = {
    "zeros": lambda rng, s: np.zeros(s),
    "ones": lambda rng, s: np.ones(s),
    "coins": lambda rng, s: rng.integers(0, 2, s),
    "unit": lambda rng, s: rng.random(s),
    "grey": lambda rng, s: rng.integers(0, 256, s),
    "levels": lambda rng, s: rng.integers(0, 17, s) / 16,
    "counts": lambda rng, s: rng.poisson(5, s),
    "normal": lambda rng, s: rng.normal(size=s),
    "huge": lambda rng, s: rng.normal(size=s) * 1e300,
    "largest": lambda rng, s: rng.choice([-65504, 65504.0], s),
    "tiny": lambda rng, s: rng.random(s) * 1e-310,
    "odd": lambda rng, s: rng.choice([0, -0.0, 1, 1 + 1e-7, -1e-30, 0.5], s),
    "nan": lambda rng, s: np.where(rng.random(s) < 0.2, np.nan, rng.random(s)),
    "inf": lambda rng, s: np.where(rng.random(s) < 0.2, rng.choice([-np.inf, np.inf], s), 0.5),
}
TWISTS = {
    "plain": lambda a: a,
    "reversed": lambda a: a[::-1] if a.ndim else a,
    "transposed": lambda a: a.T,
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and len(a) else a,
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a) if a.ndim else a,
    "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder()),
    "masked": lambda a: np.ma.masked_array(a, mask=np.zeros(a.shape, bool)),
    "read-only": lambda a: (a.setflags(write=False), a)[1],
    "structured": lambda a: np.zeros(a.shape, [("x", "f4"), ("y", "i2")]),
}
NO_ARRAYS = [
    None,
    3,
    "text",
    b"bytes",
    {},
    [],
    [[]],
    [[1, 2], [3]],
    [None, None],
    {"x": 1},
    [["a", 1], ["b", 2]],
    float("nan"),
    True,
    object,
    (np.zeros(3), np.zeros(4)),
    [[[]], []],
    range(5),
    set(),
]
SHAPES = st.one_of(
    st.sampled_from(
        [(6, 8, 8, 1), (5, 8, 8), (4, 64), (8, 8, 1), (3, 1, 8, 8), (2, 8, 8, 3), (30, 4), (7, 1)]
    ),
    st.lists(st.integers(0, 6), max_size=5).map(tuple),
)


@st.composite
def arrays(draw, shapes=SHAPES):
    if draw(st.integers(0, 19)) == 0:
        return draw(st.sampled_from(NO_ARRAYS))
    shape, rng = draw(shapes), np.random.default_rng(draw(st.integers(0, 10**6)))
    made = np.asarray(VALUES[draw(st.sampled_from(list(VALUES)))](rng, shape))
    dtype = draw(st.one_of(st.none(), st.sampled_from(DTYPES)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dtype is not None:
            made = (
                np.nan_to_num(made, posinf=9, neginf=-9).astype("int64")
                if "time" in dtype
                else made
            ).astype(dtype)
        return TWISTS[draw(st.sampled_from(list(TWISTS)))](made)


SHARES = st.sampled_from(
    [
        0.1,
        0.2,
        0,
        0.5,
        0.99,
        1.0,
        -0.1,
        float("nan"),
        "half",
        None,
        [0],
        [0, 1],
        [0, 0],
        [-1],
        [100],
        [],
        [0.5],
        [[0, 1]],
        np.array([True, False]),
    ]
)


@fuzz(
    2600,
    x=arrays(),
    labels=st.one_of(
        st.none(), st.none(), arrays(st.sampled_from([(6,), (5,), (4,), (30,), (6, 1), (2, 2)]))
    ),
    val=SHARES,
    test=SHARES,
    levels=st.sampled_from(
        [None, None, None, 2, 17, 256, 0, 1, -3, 2.5, "many", float("nan"), 2**70]
    ),
    names=st.sampled_from([None, None, None, ("a", "b"), (), "ab", 3]),
)
def test_arrays_become_data_sets(x, labels, val, test, levels, names):
    made = tried(data.from_arrays, x, labels, val=val, test=test, levels=levels, class_names=names)
    if made is None:
        return
    splits = made.train, made.val, made.test
    low, high = made.value_range
    rows = np.concatenate([split.x for split in splits])
    assert (
        rows.dtype == np.float32
        and len(rows) == len(x)
        and len(made.train)
        and np.isfinite(rows).all()
        and low <= rows.min()
        and rows.max() <= high
    )
    assert rows.shape[1:] == made.image_shape and all(
        split.x.shape[1:] == made.image_shape for split in splits
    )
    scale = (
        made.levels - 1
        if made.levels and (np.asarray(x).dtype.kind in "uib" or np.asarray(x, float).max() > 1)
        else 1
    )
    with np.errstate(all="ignore"):
        assert np.allclose(
            np.sort(rows, axis=None) * scale,
            np.sort(np.asarray(x, "float64"), axis=None),
            rtol=1e-3,
            atol=1e-3,
        ), "the values are those that were given"
    if labels is not None:
        assert sum(len(split.labels) for split in splits) == len(x)
    repr(made), made._repr_html_() if min(made.image_shape) else None


PARTS = {
    "Bernoulli": {},
    "Bernoulli grey": {"binarize": True},
    "ContinuousBernoulli": {},
    "Normal": {},
    "DiscretizedLogistic": {"levels": 17},
    "BetaBinomial": {"levels": 4},
    "Categorical": {"levels": 2},
    "Poisson": {},
}
FITS = {
    "Bernoulli": lambda x: np.isin(x, (0, 1)),
    "Bernoulli grey": lambda x: (x >= 0) & (x <= 1),
    "ContinuousBernoulli": lambda x: (x >= 0) & (x <= 1),
    "Normal": lambda x: np.isfinite(x),
    "Poisson": lambda x: (x >= 0) & (x == np.floor(x)),
    **{
        name: lambda x, n=PARTS[name]["levels"] - 1: (
            (x >= 0) & (x <= 1) & (np.abs(x * n - np.rint(x * n)) < 2e-3)
        )
        for name in ("DiscretizedLogistic", "BetaBinomial", "Categorical")
    },
}


@pytest.fixture(scope="module")
def likelihoods():
    return {name: getattr(vaenb, name.split()[0])(**options) for name, options in PARTS.items()}


@fuzz(
    1500,
    x=arrays(),
    name=st.sampled_from(list(PARTS)),
    shape=st.sampled_from([(8, 8, 1), (64,), (1,), (4,), ()]),
)
def test_arrays_are_checked(likelihoods, x, name, shape):
    checked = tried(check_array, x, shape)
    if checked is not None:
        assert (
            checked.dtype == np.float32
            and checked.shape[1:] == shape
            and len(checked)
            and np.isfinite(checked).all()
        )

    def check():
        likelihoods[name].check(x)
        return True

    if tried(check):
        with np.errstate(all="ignore"):
            seen = np.asarray(x).astype("float32")
        assert seen.size and np.isfinite(seen).all() and FITS[name](seen).all()
    tried(likelihood_for, x)
    tried(data.binarize, x)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A VAE, an autoencoder and a VampPrior's VAE of 8 x 8 images, with their methods compiled for
    one batch of 8."""
    import keras

    from vaenb import VAE, Autoencoder, VampPrior, dense

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((8, 8, 8, 1)).astype("float32")
    return {
        "vae": VAE.for_data(x, 2, network=dense([4])),
        "ae": Autoencoder.for_data(x, 3, network=dense([4])),
        "vamp": VAE.for_data(x, 2, network=dense([4]), prior=VampPrior(3)),
    }


BAD_FIRST = st.one_of(arrays(), arrays(), arrays(st.just((8, 8, 8, 1))))
METHODS = [
    "encode",
    "reconstruct",
    "evaluate",
    "fit",
    "predict",
    "log_likelihood",
    "posterior_params",
    "decode",
]


@fuzz(
    1200, x=BAD_FIRST, name=st.sampled_from(["vae", "ae", "vamp"]), method=st.sampled_from(METHODS)
)
def test_arrays_meet_models(models, x, name, method):
    """Almost all are refused on the host; what is not must give finite numbers of the right
    shape."""
    model = models[name]
    if not hasattr(model, method):
        return
    if isinstance(x, range) and method in ("fit", "evaluate", "predict"):
        return  # may be a stream of batches, which is Keras's business
    good = method != "decode" and tried(model.check_data, x)
    if isinstance(good, np.ndarray) and (
        method in ("fit", "evaluate", "predict") or len(x) not in (1, 8)
    ):
        return  # test_model.py trains on such batches; another length would be compiled anew
    options = (
        {"verbose": 0}
        if method in ("fit", "evaluate", "predict")
        else {"n_samples": 2}
        if method == "log_likelihood"
        else {}
    )
    found = tried(getattr(model, method), x, **options)
    if found is None:
        return
    for value in found.values() if isinstance(found, dict) else [found]:
        assert len(value) == len(x) and np.isfinite(value).all()


@fuzz(
    300,
    x=arrays(),
    latent_dim=st.sampled_from([1, 2, 2, 2, 0, -1, 1.5, "two", None, True, np.int64(2)]),
    network=st.sampled_from(["dense", "dense", "auto", "conv", "transformer", None, 3]),
    kind=st.sampled_from(["VAE", "Autoencoder"]),
)
def test_models_are_made_for_arrays(x, latent_dim, network, kind):
    model = tried(
        getattr(vaenb, kind).for_data,
        x,
        latent_dim,
        network=vaenb.dense([3]) if network == "dense" else network,
    )
    if model is not None:
        assert (
            model.image_shape == np.shape(x)[1:] and model.latent_dim == int(latent_dim) and len(x)
        )


@fuzz(
    300,
    n=st.sampled_from([0, -1, 1.5, None, "three", float("nan"), [2], 2, True, 2**63]),
    seed=st.sampled_from([0, 3, -1, None, "seed", 1.5, 2**70]),
    temperature=st.sampled_from([1.0, 0.0, -1.0, float("nan"), float("inf"), "hot", None]),
    name=st.sampled_from(["vae", "ae", "vamp"]),
)
def test_samples_are_asked_for(models, n, seed, temperature, name):
    if n == 2**63:
        n = -n
    found = tried(models[name].sample, n, seed, temperature)
    if found is not None:
        assert found.shape == (int(n), 8, 8, 1) and np.isfinite(found).all()


# Configurations

ODD = st.sampled_from(
    [
        None,
        0,
        -1,
        1,
        2,
        3,
        0.5,
        1.0,
        -0.5,
        float("nan"),
        float("inf"),
        "x",
        "auto",
        "iaf",
        "rbf",
        "sampled",
        "closed",
        True,
        (),
        (4,),
        (4, 0),
        [8],
        {},
        2**70,
        1e300,
    ]
)
NUMBERS = [
    "beta",
    "k",
    "m",
    "n_samples",
    "floor",
    "capacity",
    "warmup",
    "cycle",
    "kl",
    "alpha",
    "gamma",
    "estimator",
    "n_data",
    "version",
    "off_diagonal",
    "diagonal",
    "scale",
    "kernel",
    "n_components",
    "flow",
    "n_layers",
    "hidden",
    "context_dim",
    "noise",
    "l1",
    "l2",
    "sparsity",
    "target",
    "contraction",
    "sigma",
    "levels",
    "per_channel",
    "binarize",
    "bta",
    "Prior",
    "",
]


@fuzz(
    1000,
    name=st.sampled_from([*vaenb.RECIPES, "vea", "", None, 3]),
    overrides=st.dictionaries(st.sampled_from(NUMBERS), ODD, max_size=3),
)
def test_overrides_of_recipes(name, overrides):
    from vaenb.recipes import find_recipe, with_overrides

    row = tried(find_recipe, name)
    parts = tried(with_overrides, row, overrides) if row else None
    if parts is not None:
        known = {
            k: v
            for made in parts.values()
            if isinstance(made, tuple) and made and isinstance(made[0], type)
            for k, v in made[1].items()
        } | {k: v for k, v in parts.items() if not isinstance(v, tuple) or k in overrides}
        for key, value in overrides.items():
            assert known[key] is value, "every override has gone somewhere"


@fuzz(
    500,
    changes=st.dictionaries(
        st.sampled_from([*vars(vaenb.folder.Settings()), "warp", "seeds"]), ODD, max_size=3
    ),
    kind=st.sampled_from(["dict", "dict", "dict", "list", "none", "text"]),
)
def test_settings_of_runs(changes, kind):
    from vaenb.folder import Settings, read_settings

    whole = {
        "dict": {"settings": {**vars(Settings()), **changes}},
        "list": [changes],
        "none": {"settings": None},
        "text": {"settings": "x"},
    }[kind]
    made = tried(read_settings, whole)
    if made is not None:
        assert {
            k: v for k, v in vars(made).items() if k in changes and k not in ("hidden", "options")
        } == {k: v for k, v in changes.items() if k not in ("hidden", "options")} or any(
            v != v for v in changes.values()
        )


# Damaged files


@st.composite
def damage(draw, n=10**6):
    """A function of bytes to other bytes."""
    kind, rng = (
        draw(
            st.sampled_from(
                [
                    "flip",
                    "flip",
                    "cut",
                    "insert",
                    "remove",
                    "zero",
                    "twice",
                    "swap",
                    "empty",
                    "text",
                ]
            )
        ),
        np.random.default_rng(draw(st.integers(0, n))),
    )

    def act(content):
        a, b = sorted(rng.integers(0, len(content) + 1, 2).tolist())
        if kind == "flip":
            changed = bytearray(content)
            for at in rng.integers(
                0, len(content) if rng.random() < 0.5 else min(64, len(content)), rng.integers(1, 4)
            ):
                changed[at] ^= 1 << int(rng.integers(8))
            return bytes(changed)
        return {
            "cut": content[:a],
            "insert": content[:a] + rng.bytes(4) + content[a:],
            "remove": content[:a] + content[b:],
            "zero": content[:a] + bytes(b - a) + content[b:],
            "twice": content + content[:a],
            "swap": content[b:] + content[a:b] + content[:a],
            "empty": b"",
            "text": b"<!DOCTYPE html><html>moved</html>",
        }[kind]

    return act


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 5), dtype="uint8")
IDX = struct.pack(">BBBB3I", 0, 0, 8, 3, *IMAGES.shape) + IMAGES.tobytes()


@fuzz(1500, change=damage(), packed=st.booleans(), inside=st.booleans())
def test_damaged_idx_files(change, packed, inside):
    content = change(IDX) if inside or not packed else IDX
    if packed:
        content = (
            gzip.compress(content, mtime=0) if inside else change(gzip.compress(content, mtime=0))
        )
    plain = tried(file.gunzip, content)
    read = None if plain is None else tried(file.read_idx, plain)
    if read is not None:
        kind = np.dtype(file.IDX_TYPES[plain[2]])  # a damaged type may be that of another array
        assert (
            read.dtype == kind.newbyteorder("=")
            and read.astype(kind).tobytes() == plain[4 + 4 * read.ndim :]
            and read.size < 10**5
        )
    file.MNIST_SHA256["fuzz"] = hashlib.sha256(IDX).hexdigest()
    try:
        checked = tried(file.checked_idx, content, "fuzz")
    finally:
        del file.MNIST_SHA256["fuzz"]
    if checked is not None:
        assert np.array_equal(checked, IMAGES), "what has the right checksum is the right file"


def packed_arrays(**arrays):
    memory = io.BytesIO()
    np.savez_compressed(memory, **arrays)
    return memory.getvalue()


@fuzz(900, change=damage(), kind=st.sampled_from(["npy", "npz", "keras npz", "zip of text"]))
def test_damaged_numpy_files(tmp_path_factory, change, kind):
    rng, memory = np.random.default_rng(0), io.BytesIO()
    x, y = rng.random((30, 4)).astype("float32"), np.arange(30) % 3
    np.save(memory, x)
    whole = {
        "npy": memory.getvalue(),
        "npz": packed_arrays(x=x, y=y),
        "keras npz": packed_arrays(x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:]),
        "zip of text": b"PK" + b"text" * 50,
    }[kind]
    path = (
        tmp_path_factory.getbasetemp()
        / f"damaged.{kind.split()[-1] if kind.split()[-1] in ('npy', 'npz') else 'npz'}"
    )
    path.write_bytes(change(whole))
    made = tried(data.load, path)
    if made is None:
        return
    rows = np.concatenate([split.x for split in (made.train, made.val, made.test)])
    assert np.isfinite(rows).all() and rows.size < 10**4
    if kind != "npy":
        assert rows.shape == x.shape and np.array_equal(
            np.sort(rows, axis=0), np.sort(x, axis=0)
        ), "an .npz file carries checksums"


@fuzz(
    250,
    change=damage(),
    suffix=st.sampled_from(["png", "bmp", "jpg", "gif", "tiff"]),
    mode=st.sampled_from(["L", "RGB", "P", "1"]),
)
def test_damaged_images(tmp_path_factory, change, suffix, mode):
    from PIL import Image

    memory = io.BytesIO()
    drawn = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype="uint8"))
    drawn.convert("RGB" if suffix == "jpg" and mode == "P" else mode).save(
        memory, {"jpg": "JPEG"}.get(suffix, suffix.upper())
    )
    path = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    path.write_bytes(change(memory.getvalue()))
    found = tried(picture.read_frames, path)
    if found is not None:
        assert (
            found.ndim == 4
            and found.dtype in (np.uint8, np.uint16)
            and found.shape[3] in (1, 3)
            and found.size < 10**8
        )


@fuzz(
    500,
    change=damage(),
    header=st.one_of(
        st.none(),
        st.none(),
        st.dictionaries(
            st.sampled_from(["sampler", "options"]),
            st.one_of(
                ODD,
                st.sampled_from(
                    ["MixtureSampler", "FlowSampler", "_Trained", {"k": 3}, {"n_components": "x"}]
                ),
            ),
            max_size=2,
        ),
    ),
    drop=st.sampled_from([None, None, "weights", "means", "dim"]),
)
def test_damaged_samplers(tmp_path_factory, fitted, change, header, drop):
    from vaenb.sampler import MixtureSampler

    state = {k: v for k, v in fitted.state.items() if k != drop}
    path = tmp_path_factory.getbasetemp() / "sampler.npz"
    path.write_bytes(
        change(
            packed_arrays(
                header=json.dumps({"sampler": "MixtureSampler", "options": fitted.options}), **state
            )
        )
        if header is None
        else packed_arrays(header=json.dumps(header), **state)
    )
    again = tried(MixtureSampler.load, path)
    if again is None:
        return
    drawn = tried(again.sample, 3, seed=1)
    if drawn is not None:
        assert np.array_equal(drawn, fitted.sample(3, seed=1)), (
            "a damaged sampler draws other codes"
        )


@pytest.fixture(scope="module")
def fitted():
    from vaenb.sampler import MixtureSampler

    return MixtureSampler(2).fit(np.random.default_rng(0).normal(size=(50, 2)).astype("float32"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch."""
    from typer.testing import CliRunner

    from vaenb.cli import app

    folder = tmp_path_factory.mktemp("fuzz") / "run"
    done = CliRunner().invoke(
        app,
        (
            "train --data digits --latent-dim 2 --hidden 4 --epochs 1 --batch-size 600 "
            f"--n-samples 2 --out {folder}"
        ).split(),
        prog_name="vaenb",
    )
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def saved(run):
    import keras

    return (run / "model.keras").read_bytes(), [
        keras.ops.convert_to_numpy(w) for w in vaenb.load_model(run / "model.keras").weights
    ]


def rebuilt(content, member, change):
    """The zip file with one of its members changed, and its checksum with it."""
    memory = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(memory, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            if name == member:
                part = change(part)
            if part is not None:
                new.writestr(name, part)
    return memory.getvalue()


def spoiled_json(rng):
    """A function that replaces one value somewhere in a JSON text."""

    def act(text):
        whole = json.loads(text)
        at = whole
        for _ in range(int(rng.integers(1, 7))):
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = keys[int(rng.integers(len(keys)))]
            if not isinstance(at[key], (dict, list)) or not at[key]:
                break
            parent, at = at, at[key]
        else:
            at, key = (
                parent,
                next(
                    k
                    for k, v in (parent.items() if isinstance(parent, dict) else enumerate(parent))
                    if v is at
                ),
            )
        at[key] = [
            None,
            -1,
            0,
            "x",
            [],
            {},
            1e300,
            True,
            "os.system",
            {"class_name": "Lambda", "config": {}},
        ][int(rng.integers(10))]
        return json.dumps(whole).encode()

    return act


@fuzz(
    150,
    change=damage(),
    where=st.sampled_from(
        [
            "file",
            "file",
            "config.json",
            "json",
            "json",
            "model.weights.h5",
            "metadata.json",
            "lost config.json",
            "lost model.weights.h5",
        ]
    ),
    seed=st.integers(0, 10**6),
)
def test_damaged_models(tmp_path_factory, saved, change, where, seed):
    """A file that loads holds the weights that were saved, unless the damage was dressed up as a
    whole member."""
    import keras

    content, weights = saved
    if where == "file":
        content = change(content)
    elif where == "json":
        content = rebuilt(content, "config.json", spoiled_json(np.random.default_rng(seed)))
    else:
        content = rebuilt(
            content,
            where.removeprefix("lost "),
            (lambda part: None) if where.startswith("lost") else change,
        )
    path = tmp_path_factory.getbasetemp() / "damaged.keras"
    path.write_bytes(content)
    model = tried(vaenb.load_model, path)
    if model is None:
        return
    again = [keras.ops.convert_to_numpy(w) for w in model.weights]
    if where in ("file", "lost model.weights.h5"):
        assert len(again) == len(weights) and all(
            np.array_equal(a, b) for a, b in zip(weights, again)
        ), "other weights than were saved"


@fuzz(
    300,
    change=damage(),
    name=st.sampled_from(["config.json", "config.json", "metrics.json", "history.json"]),
    deep=st.booleans(),
    seed=st.integers(0, 10**6),
    lost=st.sampled_from([None] * 6 + ["model.keras", "config.json"]),
)
def test_damaged_runs(tmp_path_factory, run, change, name, deep, seed, lost):
    """`vaenb info` reads everything but the model."""
    folder = tmp_path_factory.getbasetemp() / "damaged run"
    folder.mkdir(exist_ok=True)
    for file_name in ("config.json", "metrics.json", "history.json"):
        (folder / file_name).write_bytes((run / file_name).read_bytes())
    (folder / "model.keras").write_bytes(b"")
    content = (run / name).read_bytes()
    (folder / name).write_bytes(
        spoiled_json(np.random.default_rng(seed))(content) if deep else change(content)
    )
    if lost:
        (folder / lost).unlink(missing_ok=True)
    one_line(["info", str(folder)], unsaid=())


# Command lines


def one_line(words, unsaid=INNARDS):
    """Runs a command: success, or 2 and one line."""
    from typer.testing import CliRunner

    from vaenb.cli import app

    result = CliRunner().invoke(app, words, prog_name="vaenb")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    if result.exit_code == 0:
        return result
    assert (
        result.exit_code == 2
        and result.stderr.startswith("vaenb: ")
        and result.stderr.count("\n") == 1
        and 15 < len(result.stderr) < 900
    ), (words, result.output)
    assert not any(part in result.stderr for part in unsaid), result.stderr
    return result


TEXTS = st.sampled_from(
    [
        "",
        "x",
        "-1",
        "0",
        "1",
        "2",
        "3.5",
        "1e30",
        "nan",
        "inf",
        "auto",
        "digits",
        "vae",
        "k=2",
        "k=0",
        "k=",
        "=",
        "beta=nan",
        "n_components=1e9",
        "None",
        "()",
        "__import__('os')",
        "é☃",
        "a\nb",
        "-",
        "--",
        "/dev/null/x",
        "/proc/nowhere",
        ".",
        "x.png",
        "x.npy",
        "x.json",
        "8,8",
        "8,,8",
        ",",
    ]
)
OPTIONS = [
    "--data",
    "--out",
    "--model",
    "--set",
    "--network",
    "--hidden",
    "--activation",
    "--latent-dim",
    "--likelihood",
    "--beta",
    "--epochs",
    "--batch-size",
    "--learning-rate",
    "--schedule",
    "--max-minutes",
    "--n-samples",
    "--size",
    "--levels",
    "--seed",
    "--n",
    "--temperature",
    "--sampler",
    "--file",
    "--colour",
    "-n",
    "--overwrite",
]


@fuzz(
    500,
    command=st.sampled_from(
        [
            "train",
            "train",
            "evaluate",
            "sample",
            "reconstruct",
            "info",
            "models",
            "models",
            "trian",
            "",
        ]
    ),
    where=st.sampled_from(["RUN", "nowhere", "", ".", "/dev/null"]),
    options=st.lists(st.tuples(st.sampled_from(OPTIONS), TEXTS), max_size=4),
)
def test_command_lines(tmp_path_factory, run, monkeypatch, command, where, options):
    """`train` stops where it would begin to train: what comes after is tested elsewhere."""
    import vaenb.run

    class Ready(Exception):
        pass

    def ready(*args, **kwargs):
        raise Ready

    monkeypatch.setattr(vaenb.run, "train", ready)
    monkeypatch.setattr(vaenb.run.Run, "measure", ready)
    monkeypatch.setattr(vaenb.run, "fit_sampler", ready)
    home = tmp_path_factory.getbasetemp() / "commands"
    home.mkdir(exist_ok=True)
    monkeypatch.chdir(home)
    words = [word for word in (command, str(run) if where == "RUN" else where) if word]
    if command == "train":
        words = ["train", "--data", "digits", "--out", "new", "--hidden", "4"]
    with contextlib.suppress(Ready):
        one_line(
            [
                *words,
                *(
                    part
                    for option in options
                    for part in (option if option[0] != "--overwrite" else option[:1])
                ),
            ]
        )


# What the inputs above found first


def test_settings_whose_options_are_no_dictionary():
    from vaenb.folder import read_settings

    assert tried(read_settings, {"settings": {"options": None}}) is None


def test_a_message_about_a_damaged_zip_file_is_short(tmp_path):
    whole = bytearray(packed_arrays(x=np.random.default_rng(0).random((30, 40))))
    whole[27] = 4  # the length of the member's name is 1029 now
    (tmp_path / "damaged.npz").write_bytes(whole)
    assert tried(data.load, tmp_path / "damaged.npz") is None


def test_a_run_without_a_number(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text('{"elbo": 1.0}')
    one_line(["info", str(tmp_path / "run")])


# At the end


def test_so_many_inputs(request):
    if {name for name in WANTED} - set(DONE):
        pytest.skip("a part of the file was run alone")
    assert sum(DONE.values()) >= amount(1_000, 10_000), DONE
    assert not (Path(request.config.rootpath) / ".hypothesis").exists()
