"""Trackers: what a training writes is read back by each program's own client, a resume goes on in
the same record, and what is wrong with an address is said before the training."""

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest

from vaenb.tracking import check_tracker, split_tracker, tracked

TRAIN = (
    "train --data digits --latent-dim 2 --hidden 8 --batch-size 256 --n-samples 5 --seed 0".split()
)


def vaenb(*words, **env):
    """Status and output of the command line in a process of its own."""
    command = [sys.executable, "-c", "from vaenb.cli import app; app(prog_name='vaenb')"]
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **env}
    found = subprocess.run(
        [*command, *map(str, words)], env=env, capture_output=True, text=True, timeout=900
    )
    return found.returncode, found.stdout + found.stderr


def read_tensorboard(folder):
    """Tag -> epochs and values, with TensorBoard's own reader."""
    reader = import_module("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def history_of(run):
    return json.loads((run / "history.json").read_text())


def tracking_of(run):
    return json.loads((run / "config.json").read_text())["tracking"]


@pytest.mark.rotating
def test_a_training_that_is_killed_and_resumed_has_one_record_in_tensorboard(tmp_path):
    """Killed with SIGKILL after the second epoch: what was written since the checkpoint is not
    written twice."""
    pytest.importorskip("tensorboard")
    run, board = tmp_path / "run", tmp_path / "board"
    code = (
        "import os, signal, keras, vaenb.run as r\n"
        "def begin(self, epoch, logs=None):\n"
        "    self.epoch = epoch\n"
        "    if epoch == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "r.Watch.on_epoch_begin = begin\n"
        "from vaenb.cli import app; app()"
    )
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    words = [*TRAIN, "--epochs", "5", "--out", run, "--track", f"tensorboard:{board}"]
    killed = subprocess.run([sys.executable, "-c", code, *map(str, words)], env=env)
    assert killed.returncode == -signal.SIGKILL
    assert [p.name for p in board.iterdir()] == ["run"]
    assert [step for step, _ in read_tensorboard(board / "run")["loss"]] == [0, 1, 2]
    status, text = vaenb("train", "--resume", run)
    assert status == 0, text
    assert tracking_of(run) == {"to": f"tensorboard:{board}", "run": "run"}
    found, history = read_tensorboard(board / "run"), history_of(run)
    assert set(found) >= set(history)
    for name, values in history.items():
        assert found[name] == [(i, pytest.approx(v, rel=1e-6)) for i, v in enumerate(values)]
    assert "tracked in" in vaenb("info", run)[1]


def test_hyperparameters_are_where_tensorboard_looks_for_them(tmp_path):
    pytest.importorskip("tensorboard")
    for expected in ("run", "run-2"):
        given = {"beta": 0.5, "model": "vae", "flag": True}
        with tracked(f"tensorboard:{tmp_path}", "run", None, given) as callback:
            assert callback.record.run == expected
    reader = import_module("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(tmp_path / "run"))
    found.Reload()
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    data = import_module("tensorboard.plugins.hparams.plugin_data_pb2").HParamsPluginData
    kept = data.FromString(content).session_start_info.hparams
    assert kept["beta"].number_value == 0.5 and kept["model"].string_value == "vae"
    assert kept["flag"].bool_value is True


def mlflow_or_skip(*more):
    for name in ("mlflow", *more):
        pytest.importorskip(name)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    return import_module("mlflow")


def check_mlflow(client, run):
    """A run's record in MLflow has its history, its parameters and its end."""
    found, history = client.get_run(tracking_of(run)["run"]), history_of(run)
    assert found.info.status == "FINISHED" and found.info.run_name == run.name
    assert found.data.params["latent_dim"] == "2" and found.data.params["seed"] == "0"
    for name, values in history.items():
        written = client.get_metric_history(found.info.run_id, name)
        assert [(m.step, m.value) for m in written] == list(enumerate(values))


@pytest.mark.rotating
def test_a_resume_goes_on_in_the_same_run_of_mlflow(tmp_path):
    mlflow = mlflow_or_skip()
    place, run = (tmp_path / "mlflow").as_uri(), tmp_path / "run"
    allowed = {"MLFLOW_ALLOW_FILE_STORE": "true"}
    more = ["--epochs", "4", "--out", run, "--track", f"mlflow:{place}"]
    code = (
        "import vaenb.run as r\n"
        "plain = r.Watch.on_epoch_begin\n"
        "def begin(self, epoch, logs=None):\n"
        "    plain(self, epoch, logs)\n"
        "    if epoch == 2: self.interrupt()\n"
        "r.Watch.on_epoch_begin = begin\n"
        "from vaenb.cli import app; app()"
    )
    env = {**os.environ, **allowed, "TF_CPP_MIN_LOG_LEVEL": "3"}
    cut = subprocess.run([sys.executable, "-c", code, *TRAIN, *map(str, more)], env=env)
    assert cut.returncode == 130
    os.environ |= allowed
    client = mlflow.MlflowClient(place)
    name = tracking_of(run)["run"]
    assert client.get_run(name).info.status == "KILLED"
    assert [m.step for m in client.get_metric_history(name, "loss")] == [0, 1]
    status, text = vaenb("train", "--resume", run, **allowed)
    assert status == 0 and tracking_of(run)["run"] == name, text
    check_mlflow(client, run)


@pytest.mark.rotating
def test_mlflow_in_a_database(tmp_path):
    mlflow = mlflow_or_skip("sqlalchemy", "alembic")
    place, run = f"sqlite:///{tmp_path / 'runs.db'}", tmp_path / "run"
    more = ["--epochs", "2", "--out", run, "--track", f"mlflow:{place}"]
    status, text = vaenb(*TRAIN, *more)
    assert status == 0, text
    check_mlflow(mlflow.MlflowClient(place), run)


@pytest.mark.rotating
def test_trackio_keeps_a_run(tmp_path):
    pytest.importorskip("trackio")
    run, env = tmp_path / "run", {"TRACKIO_DIR": str(tmp_path / "trackio")}
    status, text = vaenb(*TRAIN, "--epochs", "2", "--out", run, "--track", "trackio:digits", **env)
    assert status == 0, text
    code = (
        "import json, sys, trackio\n"
        "from trackio.sqlite_storage import SQLiteStorage\n"
        "run, = trackio.Api().runs('digits')\n"
        "print(json.dumps([run.config, SQLiteStorage.get_logs('digits', run.name)]))"
    )
    env = {**os.environ, **env}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    config, rows = json.loads(said.stdout.splitlines()[-1])
    assert config["latent_dim"] == 2
    for name, values in history_of(run).items():
        assert [(row["step"], row[name]) for row in rows] == list(enumerate(values))


def test_a_server_is_asked_whether_it_is_there(monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("no_proxy", "*")

    class Silent(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *words):
            pass

    asked = []
    with http.server.HTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        assert check_tracker(f"mlflow:{place}") == ("mlflow", place)
        server.shutdown()
    assert asked == ["/health"]
    start = time.monotonic()
    with pytest.raises(ConnectionError, match="no server answers at http://127.0.0.1"):
        check_tracker(f"mlflow:{place}", 5)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "text, message",
    [
        ("mlflow", "names no tracker"),
        ("wandb:x", "names no tracker"),
        ("tensorboard:", "names no tracker"),
        ("mlflow:https://a:b@host/", "holds a password"),
        ("mlflow:postgresql://a:b@host/d", "holds a password"),
    ],
)
def test_an_address_that_cannot_be_is_refused_before_the_training(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        split_tracker(text)
    if text == "wandb:x":  # the command line says the same, in one line
        status, said = vaenb(*TRAIN, "--out", tmp_path / "run", "--track", text)
        assert status == 2 and message in " ".join(said.split())
        assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("vaenb.tracking.find_spec", lambda name: None)
    for text, words in (
        ("tensorboard:x", "tensorboard: pip install 'vaenb[tracking]'"),
        ("mlflow:sqlite:///x.db", "mlflow and sqlalchemy and alembic: pip"),
        ("trackio:x", "pip install trackio"),
    ):
        with pytest.raises(ImportError, match=re.escape(words)):
            check_tracker(text)


def test_the_tracker_of_a_resume_can_be_left_or_changed(tmp_path):
    """The record that has gone stops a resume with a sentence; `--track none` goes on."""
    pytest.importorskip("tensorboard")
    from vaenb.folder import Settings
    from vaenb.run import Watch, train

    def begin(self, epoch, logs=None):
        self.epoch = epoch
        if epoch == 1:
            self.interrupt()

    settings = Settings(hidden=(8,), latent_dim=2, epochs=3, batch_size=256)
    for name in ("left", "changed"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Watch, "on_epoch_begin", begin)
            train(tmp_path / name, settings, track=f"tensorboard:{tmp_path / 'a'}")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(ConnectionError, match="train without tracking"):
        train(tmp_path / "left")
    assert "tracking" not in train(tmp_path / "left", track="none").config
    changed = train(tmp_path / "changed", track=f"tensorboard:{tmp_path / 'b'}")
    found = read_tensorboard(Path(tmp_path / "b" / "changed"))["loss"]
    assert sorted(step for step, _ in found) == [0, 1, 2] and len(changed.history["loss"]) == 3
