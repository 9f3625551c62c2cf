"""Two processes on this machine train one model by `vaenb train --hosts`, on JAX."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jax")

BASE = "train --data digits --latent-dim 2 --hidden 16 --epochs 3 --n-samples 5 --seed 0".split()


def vaenb(*words):
    """A started command, and the environment in which it runs."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    program = Path(sys.executable).parent / "vaenb"
    return subprocess.Popen(
        [program, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def said(process):
    text = process.communicate(timeout=900)[0]
    return process.returncode, text


def free_address():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


@pytest.mark.rotating
def test_two_processes_write_the_run_of_one(tmp_path):
    hosts = f"{free_address()},127.0.0.1"
    together = [
        vaenb(*BASE, "--out", tmp_path / f"run{i}", "--hosts", hosts, "--process", str(i))
        for i in range(2)
    ]
    first, second = map(said, together)
    assert first[0] == second[0] == 0, (first, second)
    assert "the first one writes the run" in second[1] and not (tmp_path / "run1").exists()
    code, text = said(vaenb(*BASE, "--out", tmp_path / "alone", "--backend", "jax"))
    assert code == 0, text
    one, two = (
        json.loads((tmp_path / name / "history.json").read_text())["loss"]
        for name in ("alone", "run0")
    )
    assert len(one) == 3
    np.testing.assert_allclose(two, one, rtol=1e-5)
    metrics = json.loads((tmp_path / "run0" / "metrics.json").read_text())
    assert metrics and np.isfinite(two).all()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--process", "1"], "name them with --hosts"),
        (["--hosts", "127.0.0.1:1"], "one address for each process"),
        (["--hosts", "127.0.0.1,127.0.0.2"], "with a port"),
        (["--hosts", "127.0.0.1:1,127.0.0.2", "--process", "2"], "numbered 0 to 1"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, words, message):
    code, text = said(vaenb(*BASE, "--out", tmp_path / "run", *words))
    assert code == 2 and message in " ".join(text.split()), text
    assert not (tmp_path / "run").exists()
