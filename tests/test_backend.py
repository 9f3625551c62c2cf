"""A process that has just been started: its backend, its imports, the classes of saved files."""

import os
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from vaenb import IWAE, VAE, Autoencoder, Normal, VampPrior, dense
from vaenb.backend import BACKENDS

INSTALLED = [name for name in BACKENDS if find_spec(name)]
# Makes packages look as if they were not installed.
HIDE = """
import sys
from importlib.machinery import PathFinder
class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {hidden} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
"""


def python(code, hidden=(), **env):
    """What a new process says that runs the code where the hidden packages are not installed."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **env}
    code = HIDE.format(hidden=tuple(hidden)) + code
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)


def printed(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_the_package_loads_neither_keras_nor_a_backend():
    heavy = {*BACKENDS, "keras", "matplotlib", "sklearn", "PIL", "typer", "ipywidgets"}
    done = python(f"import vaenb, sys; print(*{heavy} & set(sys.modules))")
    assert printed(done) == ""


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize("keras_json", ["tensorflow", None])
def test_the_backend_that_is_installed_is_used_where_none_is_named(tmp_path, backend, keras_json):
    if keras_json:
        (tmp_path / "keras.json").write_text(f'{{"backend": "{keras_json}"}}')
    others = [name for name in BACKENDS if name != backend]
    done = python(
        "import vaenb; from vaenb import Normal; import keras; print(keras.backend.backend())",
        others,
        KERAS_BACKEND="",
        KERAS_HOME=str(tmp_path),
    )
    assert printed(done) == backend


@pytest.mark.parametrize("named", ["", *BACKENDS])
def test_without_a_backend_one_sentence_says_what_to_install(tmp_path, named):
    env = {"KERAS_BACKEND": named, "KERAS_HOME": str(tmp_path)}
    done = python("from vaenb import VAE", BACKENDS, **env)
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("ImportError: ") and f"vaenb[{named or 'jax'}]" in sentence
    done = python("from vaenb.cli import app; app(['models'])", BACKENDS, **env)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert sentence.removeprefix("ImportError: ") in done.stderr


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of saved models, and their codes of the same examples."""
    folder, x = tmp_path_factory.mktemp("saved"), np.eye(8, 6, dtype="float32")
    models = {
        "vae": VAE.for_data(
            x, 2, network=dense([4]), likelihood=Normal(), prior=VampPrior(3), objective=IWAE(k=2)
        ),
        "autoencoder": Autoencoder.for_data(x, 2, network=dense([4])),
    }
    for name, model in models.items():
        model.fit(x, epochs=1, verbose=0)
        model.save(folder / f"{name}.keras")
    np.savez(folder / "codes.npz", **{name: model.encode(x) for name, model in models.items()})
    return folder


@pytest.mark.parametrize("imports", ["import keras, vaenb", "import vaenb, keras"])
def test_keras_finds_the_classes_of_a_file_whichever_was_imported_first(saved, imports):
    codes = dict(np.load(saved / "codes.npz"))
    done = python(
        f"{imports}\nimport numpy as np\nfor name in {list(codes)}:\n"
        f"    model = keras.saving.load_model({str(saved)!r} + f'/{{name}}.keras')\n"
        "    print(model.encode(np.eye(8, 6, dtype='float32')).tolist())",
        KERAS_BACKEND=keras.backend.backend(),
    )
    for line, code in zip(printed(done).splitlines(), codes.values(), strict=True):
        np.testing.assert_array_equal(np.array(eval(line), "float32"), code)


def test_every_class_that_a_chapter_registers_is_found_before_its_chapter_is_imported():
    done = python(
        "import vaenb, keras, pkgutil, importlib\n"
        "known = keras.saving.get_custom_objects()\n"
        "before = set(known)\n"
        "for chapter in pkgutil.iter_modules(vaenb.__path__):\n"
        "    importlib.import_module(f'vaenb.{chapter.name}')\n"
        "made = {n for n, c in known.items() if n.startswith('vaenb>') and isinstance(c, type)}\n"
        "print(len(made), *made - before)",
        KERAS_BACKEND=keras.backend.backend(),
    )
    number, *missing = printed(done).split()
    assert int(number) > 30 and missing == []
