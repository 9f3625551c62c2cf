"""What a notebook cannot test of training: processes that are killed, disks that are full, folders
that two want to write, and files that somebody has tampered with.

`make test` kills three trainings on each backend; the fifty of `make test-all` take three minutes.
"""

import errno
import inspect
import io
import json
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from thorough import amount, installed
from typer.testing import CliRunner

import vaenb
from vaenb import VAE, data, dense, load_model
from vaenb.cli import app
from vaenb.training import StateError, fit_resumable, read_checkpoint, training_state

HERE, KILLS, X = Path(__file__).parent, amount(3, 26), data.digits().train.x[:200]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_kills_at_random_moments_change_nothing(tmp_path):
    "Each backend in a process of its own, see training_worker.py."
    env = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),  # which a kill may leave broken
    }

    def kill(backend):
        (tmp_path / backend).mkdir()
        done = subprocess.run(
            [sys.executable, HERE / "training_worker.py", backend, tmp_path / backend, str(KILLS)],
            capture_output=True,
            text=True,
            env=env,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(kill, installed("tensorflow", "jax")))
    for report in reports:
        print(report)
        assert (
            report["different"] == []
            and sum(report["kills"].values()) >= KILLS
            and min(report["kills"].values()) > 0
        )
        assert len(set(report["stops"])) >= amount(1, 6), "the kills hit different moments"


def model(rate=1e-3):
    keras.utils.set_random_seed(1)
    made = VAE.for_data(X, latent_dim=2, network=dense((8,)))
    made.compile(
        keras.optimizers.Adam(rate), run_eagerly=keras.backend.backend() == "tensorflow"
    )  # tracing would take longer than these trainings
    return made


def fit(path, epochs=3, made=None, **options):
    made = made or model()
    history = fit_resumable(
        made,
        X,
        path=path,
        epochs=epochs,
        **{"batch_size": 50, "minutes": 0, "verbose": 0, **options},
    )
    return {
        **{name: a for name, a in training_state(made).items() if not name.startswith("metric")},
        **{k: np.array(v) for k, v in history.history.items()},
    }


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole") / "a.npz")


def sentence(error):
    return "\n" not in str(error.value) and 20 < len(str(error.value)) < 500


class At(keras.callbacks.Callback):
    "Does something after a number of steps of this process."

    def __init__(self, steps, act):
        super().__init__()
        self.steps, self.act, self.seen = steps, act, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.steps:
            self.act()


def go_on_after(path, whole, act, words, kind=OSError, undo=lambda: None):
    """Training stops with one sentence, the checkpoint before is whole, and going on gives what an
    undisturbed training gives."""
    with pytest.raises(kind, match=words) as error:
        fit(path, callbacks=[At(6, act)])
    undo()
    facts = read_checkpoint(path)[1]
    assert (
        sentence(error)
        and (facts["epoch"], facts["step"]) == (1, 1)
        and os.listdir(path.parent) == [path.name]
    )
    assert equal(fit(path), whole)


def test_a_full_disk(tmp_path, whole):
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "vaenb", tmp_path], capture_output=True
    ).returncode:
        pytest.skip("this user may not make a small disk")
    try:
        folder = tmp_path / "run"
        folder.mkdir()
        filler = tmp_path / "filler"

        def fill():
            with open(filler, "wb", 0) as file, pytest.raises(OSError):
                while True:
                    file.write(bytes(4096))

        go_on_after(folder / "a.npz", whole, fill, "No space left", undo=filler.unlink)
    finally:
        subprocess.run(["umount", tmp_path])


def test_a_limit_of_file_size(tmp_path, whole):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(soft):
        return resource.setrlimit(resource.RLIMIT_FSIZE, (soft, before[1]))

    go_on_after(
        tmp_path / "a.npz",
        whole,
        lambda: limit(1000),
        "File too large",
        undo=lambda: limit(before[0]),
    )


@pytest.mark.parametrize(
    "call, number",
    [
        ("os.fsync", errno.EIO),
        ("os.fsync", errno.ENOSPC),
        ("os.replace", errno.EROFS),
        ("vaenb.file.open", errno.EACCES),
        ("vaenb.file.open", errno.EDQUOT),
    ],
)
def test_a_disk_that_fails_or_may_not_be_written(tmp_path, whole, monkeypatch, call, number):
    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        go_on_after(
            tmp_path / "a.npz",
            whole,
            lambda: patch.setattr(call, fail, raising=False),
            re.escape(os.strerror(number)),
            undo=patch.undo,
        )


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="cannot be written to") as error:
        fit(tmp_path / "file" / "a.npz")
    assert sentence(error)


HOLD = (
    "import sys, time; from vaenb.file import locked\nwith locked(sys.argv[1]): "
    "print('held', flush=True); time.sleep(600)"
)


def test_a_second_process_is_refused_and_a_killed_one_is_not_in_the_way(tmp_path, whole):
    path = tmp_path / "a.npz"
    fit(path, epochs=1)
    before = path.read_bytes()
    owner = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"process {owner.pid}") as error:
            fit(path)
        assert sentence(error) and path.read_bytes() == before
    finally:
        owner.kill()
    owner.wait()
    assert (tmp_path / "a.npz.lock").read_text() == str(owner.pid), (
        "a killed process leaves its lock file behind"
    )
    assert equal(fit(path), whole) and os.listdir(tmp_path) == ["a.npz"]


def test_no_two_trainings_in_one_process(tmp_path):
    def second():
        fit(tmp_path / "a.npz")

    with pytest.raises(BlockingIOError, match=f"process {os.getpid()}"):
        fit(tmp_path / "a.npz", callbacks=[At(1, second)])


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("content") / "a.npz"
    fit(
        path, epochs=1, callbacks=[keras.callbacks.EarlyStopping("loss", restore_best_weights=True)]
    )
    return path.read_bytes()


def rewritten(content, **changes):
    "The same file with other members; the facts may be changed one by one."
    with np.load(io.BytesIO(content)) as file:
        members = dict(file)
    facts = json.loads(members["facts"].tobytes())
    facts.update(changes.pop("facts", {}))
    members = {**members, "facts": np.frombuffer(json.dumps(facts).encode(), "uint8"), **changes}
    memory = io.BytesIO()
    np.savez(memory, **{name: a for name, a in members.items() if a is not None})
    return memory.getvalue()


class Evil:
    "Whoever unpickles it runs its command."

    def __reduce__(self):
        return os.system, (f"touch {Path('evil').absolute()}",)


def test_a_damaged_tampered_or_foreign_checkpoint_gets_one_sentence(tmp_path, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, pickled = np.random.default_rng(0), io.BytesIO()
    np.savez(pickled, facts=np.array([Evil()], dtype=object))
    compressed = io.BytesIO()
    np.savez_compressed(compressed, facts=np.zeros(10_000_000, "uint8"))
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    bad = {
        "empty": b"",
        "foreign": b"holiday pictures" * 99,
        "pickle": pickle.dumps(Evil()),
        "pickled member": pickled.getvalue(),
        "bomb": compressed.getvalue(),
        "array": array.getvalue(),
        **{f"cut at {n}": content[:n] for n in rng.integers(1, len(content) - 1, 40)},
        **{
            f"byte {n}": content[:n] + bytes([content[n] ^ 0xFF]) + content[n + 1 :]
            for n in rng.integers(0, len(content), 200)
        },
        "other facts": rewritten(content, facts={"epoch": -1}),
        "text for a number": rewritten(content, facts={"step": "many"}),
        "layout": rewritten(content, facts={"vaenb_checkpoint": 2}),
        "facts of another kind": rewritten(content, facts={"history": [1]}),
        "callbacks of another kind": rewritten(content, facts={"callbacks": [3]}),
        "no facts": rewritten(content, facts={"order": None}),
        "steps": rewritten(content, facts={"step": 10**9}),
        "a member is missing": rewritten(content, **{"model/0001": None}),
        "a member too many": rewritten(content, **{"model/9999": np.zeros(3)}),
        "another shape": rewritten(content, **{"model/0001": np.zeros((2, 2), "float32")}),
        "another type": rewritten(content, **{"optimizer/0002": np.zeros((8,), "complex64")}),
        "an array of names": rewritten(content, **{"model/0001": np.array(["a"])}),
        "another seed": rewritten(content, facts={"order": {"seed": 9}}),
    }
    unharmed, made = 0, model()
    before = made.get_weights()
    for name, damaged in bad.items():
        Path("a.npz").write_bytes(damaged)
        try:
            state, facts = read_checkpoint("a.npz")
            if name.startswith("byte"):
                # Some bytes of a zip file mean nothing, such as times; what is read must be what
                # was written.
                whole_state, whole_facts = read_checkpoint_of(content)
                assert facts == whole_facts and equal(state, whole_state), name
                unharmed += 1
                continue
            fit("a.npz", made=made)
            raise AssertionError(name)
        except StateError as error:
            assert "\n" not in str(error) and len(str(error)) < 500, (name, error)
    assert (
        unharmed < 150
        and not Path("evil").exists()
        and all(map(np.array_equal, made.get_weights(), before))
    ), "nothing was run, and nothing half restored"


def read_checkpoint_of(content):
    Path("whole.npz").write_bytes(content)
    return read_checkpoint("whole.npz")


def test_nothing_in_the_package_unpickles_or_evaluates():
    banned = (
        r"\bpickle\.|import pickle|cloudpickle|\bmarshal\b|\bshelve\b|(?<![._\w])(eval|exec)\("
        r"|allow_pickle=True|safe_mode|unsafe_deserialization|Lambda\b|torch\.load|joblib\.load|yaml\.load|dill"
    )
    for path in Path(vaenb.__file__).parent.glob("*.py"):
        lines = [
            line
            for line in path.read_text().splitlines()
            if not line.lstrip().startswith(("#", '"'))
        ]
        if path.name == "recipes.py":  # `load_model` hands safe_mode on, and explains a refusal
            assert inspect.signature(load_model).parameters["safe_mode"].default is True
            lines = [line for line in lines if not re.search(r"safe_mode|Lambda layer", line)]
        assert [line for line in lines if re.search(banned, line)] == [], path
        assert all("allow_pickle=False" in line for line in lines if "np.load(" in line), path


def test_a_model_file_with_code_in_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Lambda(lambda x: (__import__("os").system("touch evil"), x)[1]),
        ]
    )
    Path("evil").unlink(missing_ok=True)  # making it has run it
    evil.save("model.keras")
    with pytest.raises(ValueError, match="holds a Lambda layer") as error:
        load_model("model.keras")
    assert sentence(error) and not Path("evil").exists()
    with zipfile.ZipFile("module.keras", "w") as file:
        file.writestr(
            "config.json",
            json.dumps(
                {
                    "module": "os",
                    "class_name": "system",
                    "config": "touch evil",
                    "registered_name": None,
                }
            ),
        )
        file.writestr("metadata.json", json.dumps({"keras_version": keras.__version__}))
        file.writestr("model.weights.h5", b"")
    with pytest.raises(ValueError, match="cannot be read"):
        load_model("module.keras")
    np.savez("objects.npz", x=np.array([[Evil()]], dtype=object))
    with pytest.raises(ValueError, match="Python objects"):
        data.load("objects.npz")
    assert not Path("evil").exists()


def test_the_best_weights_survive_a_restart(tmp_path):
    "Early stopping restores its best weights, also where the best epoch was in an earlier process."

    def stop():
        return [
            keras.callbacks.EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True)
        ]  # an early epoch is its best

    alone = fit(tmp_path / "a.npz", epochs=9, callbacks=stop())
    best = int(np.argmax(alone["loss"]))
    assert len(alone["loss"]) == best + 3 < 9
    fit(tmp_path / "b.npz", epochs=2, callbacks=stop())
    assert equal(fit(tmp_path / "b.npz", epochs=9, callbacks=stop()), alone)
    assert equal(fit(tmp_path / "b.npz", epochs=9, callbacks=stop()), alone), (
        "it has decided to stop"
    )
    first = fit(None, epochs=best + 1)
    assert all(np.array_equal(alone[name], first[name]) for name in alone if name == "model/0003")


def test_a_loss_that_is_not_finite_names_the_batch_and_the_cause(tmp_path):
    made = model(rate=1e6)
    start = made.get_weights()
    with pytest.raises(
        FloatingPointError, match=r"from batch \d+ of epoch \d on: the learning rate of 1e\+06"
    ) as error:
        fit(None, epochs=50, made=made)
    assert (
        sentence(error)
        and (
            all(map(np.array_equal, made.get_weights(), start)) or "from epoch" in str(error.value)
        )
        and np.isfinite(made.encode(X)).all()
    )
    plain = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(3)])
    plain.compile("adam", "mse")
    x = np.random.default_rng(0).random((100, 3)).astype("float32")
    x[17, 1] = np.nan
    row = int(np.flatnonzero(np.random.default_rng([0, 0]).permutation(100) == 17)[0])
    with pytest.raises(
        FloatingPointError, match=f"from batch {row // 10 + 1} of epoch 1 on: the batch holds NaN"
    ):
        fit_resumable(plain, x, x, epochs=2, batch_size=10, verbose=0)
    x[17, 1] = 1e30
    with pytest.raises(FloatingPointError, match="the data reach 1e"):
        fit_resumable(plain, x, x, epochs=2, batch_size=10, verbose=0)
    assert all(np.isfinite(w).all() for w in plain.get_weights())


def test_what_does_not_belong_together_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    fit(path, epochs=1)
    for options, words in (
        ({"batch_size": 20}, "batch_size 50"),
        ({"seed": 1}, "seed 0"),
        ({"made": VAE.for_data(X, latent_dim=3, network=dense((8,)))}, "another model"),
    ):
        with pytest.raises(StateError, match=words) as error:
            fit(path, **options)
        assert sentence(error)
    with pytest.raises(StateError, match="data"):
        fit_resumable(model(), 1 - X, path=path, epochs=2, batch_size=50, verbose=0)
    with pytest.raises(ValueError, match="one array"):
        fit_resumable(model(), iter(X), epochs=1)


TRAIN = (
    "train --data digits --latent-dim 2 --hidden 16 --epochs {epochs} --batch-size 256 "
    "--n-samples 2"
)


def command(line):
    return [
        sys.executable,
        "-c",
        "from vaenb.cli import app; app(prog_name='vaenb')",
        *line.split(),
    ]


def call(line):
    return CliRunner().invoke(app, line.split(), prog_name="vaenb")


@pytest.mark.rotating
def test_a_killed_run_goes_on_at_the_command_line(tmp_path):
    line = TRAIN.format(epochs=60)
    program = subprocess.Popen(
        command(f"{line} --out {tmp_path / 'a'}"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    draft, deadline = tmp_path / ".draft-a", time.monotonic() + 120

    def ready():
        return (draft / "checkpoint.npz").exists() and read_checkpoint(draft / "checkpoint.npz")[1][
            "epoch"
        ] >= 1

    while not ready() and program.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    program.send_signal(signal.SIGSTOP)  # else it may finish while the next line runs
    busy = call(f"{line} --out {tmp_path / 'a'}")
    program.send_signal(signal.SIGKILL)
    assert (
        program.wait() == -signal.SIGKILL
        and busy.exit_code == 2
        and f"process {program.pid}" in busy.stderr
        and busy.stderr.count("\n") == 1
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [".draft-a", ".draft-a.lock"]
    for other in (
        f"{line} --out {tmp_path / 'a'}",
        f"info {tmp_path / 'a'}",
        f"evaluate {tmp_path / 'a'}",
    ):
        refused = call(other)
        assert (
            refused.exit_code == 2
            and "--resume" in refused.stderr
            and refused.stderr.count("\n") == 1
        ), refused.output
    whole = (draft / "checkpoint.npz").read_bytes()
    (draft / "checkpoint.npz").write_bytes(whole[:5000])
    refused = call(f"train --resume {tmp_path / 'a'}")
    assert (
        refused.exit_code == 2
        and "damaged or not a checkpoint" in refused.stderr
        and refused.stderr.count("\n") == 1
    ), refused.output
    (draft / "checkpoint.npz").write_bytes(whole)
    again = call(f"train --resume {tmp_path / 'a'}")
    assert (
        again.exit_code == 0
        and "Trained 60 epochs" in again.output
        and [p.name for p in tmp_path.iterdir()] == ["a"]
    ), again.output
    alone = call(f"{line} --out {tmp_path / 'b'}")
    assert alone.exit_code == 0 and all(
        (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
        for name in ("history.json", "metrics.json")
    )
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(
        p.name for p in (tmp_path / "b").iterdir()
    )


@pytest.mark.rotating
def test_a_run_that_is_not_finite_exits_with_one_sentence_and_keeps_what_was_good(
    tmp_path, monkeypatch
):
    class Spoil(keras.callbacks.LearningRateScheduler):
        def __init__(self, rate):
            super().__init__(lambda epoch: 1e30 if epoch == 2 else 1e-3)

    monkeypatch.setattr(keras.callbacks, "LearningRateScheduler", Spoil)
    result = call(f"{TRAIN.format(epochs=5)} --out {tmp_path / 'a'}")
    assert (
        result.exit_code == 2
        and result.stderr.count("\n") == 1
        and "of epoch 3 on" in result.stderr
        and "vaenb evaluate" in result.stderr
    ), result.output
    assert (
        sorted(p.name for p in (tmp_path / "a").iterdir())
        == ["config.json", "history.json", "model.keras"]
        and len(json.loads((tmp_path / "a" / "history.json").read_text())["loss"]) == 2
    )
    monkeypatch.undo()
    assert call(f"evaluate {tmp_path / 'a'} --n-samples 2").exit_code == 0
