"""Run by test_training.py in a process of its own: trains in children, kills them at random
moments, and compares what becomes of them with a training that was left alone.

Its children are forked after everything is imported and before the backend has done any work (and
so before it has threads): a start costs a fraction of a second.
"""

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

_, backend, folder, wanted = sys.argv
os.environ["KERAS_BACKEND"] = backend

import keras
import numpy as np
from thorough import amount

from vaenb import VAE, Autoencoder, data, dense
from vaenb.training import fit_resumable, read_checkpoint

folder, digits, chance = Path(folder), data.digits(), random.Random()
KINDS, STARTED, KILLS_IN_A_ROW = ("vae", "autoencoder"), b".", amount(2, 6)


class Tell(keras.callbacks.Callback):
    "Says that training has begun."

    def __init__(self, pipe):
        super().__init__()
        self.pipe, self.said = pipe, []

    def on_train_batch_end(self, batch, logs=None):
        if not self.said:
            os.write(self.pipe, STARTED)
            self.said.append("started")


def die_at(moment, count):
    "From now on this process kills itself at that call of a function of `os`, before or after it."
    name, after = moment.split()[1], moment.startswith("after")
    original, calls = getattr(os, name), []

    def deadly(*args, **options):
        calls.append(name)
        result = original(*args, **options) if after or len(calls) < count else None
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, name, deadly)


def train(kind, path, pipe):
    "Four epochs of twelve steps, with a checkpoint after each of them."
    keras.utils.set_random_seed(3)
    make = {
        "vae": lambda: VAE.for_data(digits, latent_dim=2, network=dense((16,))),
        "autoencoder": lambda: Autoencoder.for_data(
            digits, latent_dim=2, network=dense((16,)), noise=0.2
        ),
    }
    model = make[kind]()
    model.compile(
        keras.optimizers.Adam(3e-3), steps_per_execution={"vae": 5, "autoencoder": 1}[kind]
    )  # in blocks, and step by step
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=2.0),
        Tell(pipe),
    ]
    fit_resumable(
        model,
        digits.train.x[:600],
        path=path,
        epochs=4,
        batch_size=50,
        minutes=0,
        validation_data=(digits.val.x[:50],),
        verbose=0,
        callbacks=callbacks,
    )


def child(kind, path, moment=None, count=0):
    "A process that trains; its number, and a pipe that says when it has begun."
    reading, writing = os.pipe()
    number = os.fork()
    if number:
        return number, os.close(writing) or reading
    try:
        os.close(reading)
        if moment:
            die_at(moment, count)
        train(kind, path, writing)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def wait(number):
    "The signal that has ended the process, or 0."
    status = os.waitpid(number, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a child has failed")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def once(kind, path, how, times):
    "One child that is to be killed; whether it was, before it had finished."
    start, length = times
    if how == "writing":
        number, reading = child(
            kind,
            path,
            chance.choice(["before fsync", "after fsync", "before replace", "after replace"]),
            chance.randint(1, 40),
        )
    else:
        number, reading = child(kind, path)
        if how == "training":
            select.select([reading], [], [], 120)
        time.sleep(chance.uniform(0, start if how == "anywhere" else length / 2))
        os.kill(number, signal.SIGKILL)
    ended = wait(number)
    os.close(reading)
    return ended == signal.SIGKILL


def reference(kind):
    "Trains undisturbed; seconds until the first step and from there to the end."
    begin = time.monotonic()
    number, reading = child(kind, folder / f"{kind}.npz")
    select.select([reading], [], [], 300)
    begun = time.monotonic()
    assert wait(number) == 0
    os.close(reading)
    return begun - begin, time.monotonic() - begun


def progress(path):
    "Steps done; raises where the checkpoint is not whole."
    if not path.exists():
        return -1
    facts = read_checkpoint(path)[1]
    return facts["epoch"] * facts["order"]["steps"] + facts["step"]


def differences(a, b):
    (state, facts), (other, others) = read_checkpoint(a), read_checkpoint(b)
    names = [
        name
        for name in state.keys() | other.keys()
        if not (name in state and name in other and np.array_equal(state[name], other[name]))
    ]
    return names + [
        name for name in facts.keys() | others.keys() if facts.get(name) != others.get(name)
    ]


report = {
    "backend": backend,
    "threads": len(os.listdir("/proc/self/task")),
    "kills": {"anywhere": 0, "training": 0, "writing": 0},
    "runs": 0,
    "stops": [],
    "different": [],
}
times = {kind: reference(kind) for kind in KINDS}
while sum(report["kills"].values()) < int(wanted):
    kind = KINDS[report["runs"] % 2]
    path, before, killed = folder / f"{report['runs']}.npz", -1, 0
    while killed < KILLS_IN_A_ROW:
        how = next((kind for kind, n in report["kills"].items() if not n), None) or chance.choice(
            ["anywhere", "training", "training", "writing"]
        )  # each kind at least once
        if not once(kind, path, how, times[kind]):
            break
        killed += 1
        report["kills"][how] += 1
        now = progress(path)
        assert now >= before, "a checkpoint was lost"
        before = now
        report["stops"].append(now)
    else:
        assert wait(child(kind, path)[0]) == 0
    report["runs"] += 1
    report["different"] += differences(folder / f"{kind}.npz", path)
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith((path.name, "."))) == [
        path.name
    ], "something is left behind"
print(json.dumps(report))
