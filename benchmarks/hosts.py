"""Time of a training step as the processes grow: measured for one and two, modelled beyond.

    python benchmarks/hosts.py --out vaenb/records/hosts.json
    python benchmarks/hosts.py --hidden 128 --repeats 1 --out mine.json

JAX only, on a machine of two cores. Two processes either train one model together, each on its half
of the batch, or each a model of its own: so both cores are busy in either case, and what differs is
the adding of the gradients over the network, here over loopback. No process is bound to a core:
bound to one, a step together took three times as long, because the threads that wait for the other
process share it with those that compute. The order changes with every repetition. The median over
the epochs of a run is noted, and of the runs the median.

The time that the adding takes for P parameters in n processes is modelled as that of a ring,
2 (n - 1) (latency + 4 P / (n bandwidth)); latency and bandwidth are fitted to what two processes
took, by least squares with neither below 0.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HIDDEN, BATCHES, STEPS, EPOCHS, DROPPED = (128, 512, 1024), (128, 512), 20, 8, 3
MODELLED = (2, 4, 8, 16)


def worker(process, n, port, hidden, batches):
    """Trains for each batch size; prints the number of parameters and the seconds of a step."""
    import keras

    from vaenb.hosts import join_hosts

    if n > 1:
        join_hosts([f"127.0.0.1:{port}", *["127.0.0.1"] * (n - 1)], process)
    from vaenb import VAE, dense
    from vaenb.run import environment

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append((time.perf_counter() - self.began) / STEPS)

    found = {}
    for batch in batches:  # the work and the noise of a process are those of its part of the batch
        seconds = []
        keras.utils.set_random_seed(0)
        x = np.random.default_rng(0).random((batch * STEPS, 784), dtype="float32")
        vae = VAE.for_data(x, 16, network=dense([hidden]))
        vae.compile(keras.optimizers.Adam(1e-3))
        vae.fit(x, batch_size=batch, epochs=EPOCHS, verbose=0, callbacks=[Clock()])
        found[batch] = statistics.median(seconds[DROPPED:])
    words = {"parameters": vae.count_params(), "seconds": found, "environment": environment()}
    print("RESULT", json.dumps(words), flush=True)


def free_port():
    """A port of this machine that nothing uses."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def two(together, hidden, batches):
    """What two processes print that train at once, together or each for itself."""
    plan = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "VAENB_PLAN": "rule"}
    how = [str(free_port()), str(hidden), ",".join(map(str, batches))]
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", str(i), "2" if together else "1", *how],
            env={**os.environ, **plan, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=1800)[0] for process in started]
    assert not any(process.returncode for process in started), said
    return [json.loads(text.split("RESULT ")[1].splitlines()[0]) for text in said]


def fitted(rows):
    """Seconds that a message takes, and that a byte takes, from the times of two processes."""
    from scipy.optimize import nnls

    added = np.array([row["together"] - row["half"] for row in rows])
    terms = np.array([[2.0, 4.0 * row["parameters"]] for row in rows])
    scale = terms.max(axis=0)
    return (nnls(terms / scale, added)[0] / scale).tolist()


def modelled(row, latency, per_byte, n):
    """Seconds of a step in n processes: an equal part of the work each, and the ring."""
    work = row["start"] + row["per_example"] * row["batch"] / n
    return work + 2 * (n - 1) * (latency + per_byte * 4 * row["parameters"] / n)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=HIDDEN)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    halves = [batch // 2 for batch in BATCHES]
    runs = []
    for repeat in range(args.repeats):
        for hidden in args.hidden:
            for together in (False, True)[:: 1 if repeat % 2 else -1]:
                batches = BATCHES if together else sorted({*BATCHES, *halves})
                found = two(together, hidden, batches)
                given = found[0].pop("environment")
                seconds = {b: max(one["seconds"][str(b)] for one in found) for b in batches}
                runs.append((hidden, together, found[0]["parameters"], seconds))
                print(hidden, "together" if together else "each its own", seconds, flush=True)

    def median(hidden, together, batch):
        return statistics.median(
            seconds[batch] for h, t, _, seconds in runs if (h, t) == (hidden, together)
        )

    rows = []
    for hidden in args.hidden:
        parameters = next(p for h, _, p, _ in runs if h == hidden)
        for batch in BATCHES:
            one, half = (median(hidden, False, b) for b in (batch, batch // 2))
            rows.append(
                {
                    "hidden": hidden,
                    "parameters": parameters,
                    "batch": batch,
                    "one": one,
                    "half": half,
                    "together": median(hidden, True, batch),
                    "per_example": (one - half) / (batch - batch // 2),
                    "start": 2 * half - one,
                }
            )
    latency, per_byte = fitted(rows)
    for row in rows:
        row["modelled"] = {n: modelled(row, latency, per_byte, n) for n in MODELLED}
    record = {
        "seconds_of_a_step": rows,
        "latency": latency,
        "seconds_per_byte": per_byte,
        "repeats": args.repeats,
        "environment": given,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        index, n, port, hidden, batches = sys.argv[2:]
        worker(int(index), int(n), port, int(hidden), [int(b) for b in batches.split(",")])
    else:
        main()
