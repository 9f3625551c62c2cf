"""What watching costs: one training in a notebook's kernel, watched in every other block of epochs.

    python benchmarks/monitor.py                # TensorFlow: vaenb/records/monitor.json
    python benchmarks/monitor.py --backend jax  # JAX: vaenb/records/monitor-jax.json

Blocks with and without the monitor take turns within seconds, so that other work on the machine
meets both alike; neighbours are compared, and the standard error says how well. The blocks without
it do not count as time that the monitor may spend of. The first look, which compiles, comes before
the first block and is added to the cost of watching. The kernel is a real one: what is drawn is
also packed and sent; no browser is attached. The still picture at the end is not part of the
training and is timed by itself. Digits, dense network; `spent` is the share that the monitor itself
has counted."""

import argparse
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import numpy as np

CODE = """
import json, time, keras
import vaenb.monitor as module
from vaenb import VAE, data

clocks = {"wall": time.perf_counter, "cpu": time.process_time}
read = lambda: {name: clock() for name, clock in clocks.items()}
since = lambda begin: {name: clock() - begin[name] for name, clock in clocks.items()}
looks, look = [0], module.look
def counted(*args):
    looks[0] += 1
    return look(*args)
module.look = counted

class Alternating(module.Monitor):
    def on_train_begin(self, logs=None):
        begin, self.on, self.blocks = read(), False, []
        super().on_train_begin(logs)
        self.first = since(begin)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch % BLOCK == 0:
            if epoch: self.blocks.append({"on": self.on, **since(self.begin)})
            if epoch and not self.on:
                for budget in (self.budget, self.look_budget):
                    budget.pass_over(self.blocks[-1]["wall"])
            self.on = not self.on if epoch else epoch > 0
            self.begin = read()
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        if self.on: super().on_train_batch_begin(batch, logs)

    def on_test_batch_begin(self, batch, logs=None):
        if self.on: super().on_test_batch_begin(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.on: super().on_epoch_end(epoch, logs)

    def close(self, *result):
        begin = read()
        super().close(*result)
        self.picture = since(begin)["wall"]

digits = data.digits()
keras.utils.set_random_seed(0)
model = VAE.for_data(digits, latent_dim=6, network="dense")
monitor = Alternating(digits)
options = {"epochs": BLOCK * BLOCKS + 1, "batch_size": 128, "verbose": 0}
model.fit(digits.train.x, validation_data=(digits.val.x,), callbacks=[monitor], **options)
watched = sum(block["wall"] for block in monitor.blocks[2:] if block["on"])
found = {"first": monitor.first, "blocks": monitor.blocks, "picture": monitor.picture}
spent = monitor.spent() / (watched + monitor.first["wall"])
print(json.dumps({**found, "looks": looks[0] - 1, "spent": spent}))
"""


def execute(client, code, timeout=3600):
    "What the code prints in the kernel; an error there is an error here."
    printed, failed = [], []

    def hook(message):
        content = message["content"]
        if message["msg_type"] == "stream" and content["name"] == "stdout":
            printed.append(content["text"])
        if message["msg_type"] == "error":
            failed.append("\n".join(content["traceback"]))

    client.execute_interactive(code, output_hook=hook, timeout=timeout)
    if failed:
        raise RuntimeError(failed[0])
    return "".join(printed)


def compare(run, clock):
    """The cost of watching as a share of the time without it, its standard error, and the seconds
    without it."""
    blocks = run["blocks"][2:]  # the first two warm up
    times = np.array([[off[clock], on[clock]] for off, on in zip(blocks[::2], blocks[1::2])])
    extra, base = times[:, 1] - times[:, 0], times[:, 0].mean()
    return (
        (extra.mean() + run["first"][clock] / len(times)) / base,
        extra.std(ddof=1) / np.sqrt(len(times)) / base,
        times[:, 0].sum(),
    )


def main():
    from jupyter_client.manager import start_new_kernel

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax"))
    parser.add_argument("--block", type=int, default=4, help="epochs")
    parser.add_argument("--blocks", type=int, default=200)
    options = parser.parse_args()
    manager, client = start_new_kernel(
        env={**os.environ, "KERAS_BACKEND": options.backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    try:
        run = json.loads(
            execute(client, f"BLOCK, BLOCKS = {options.block}, {options.blocks}\n{CODE}")
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    result = {
        name: dict(zip(("cost", "standard_error", "seconds_without"), compare(run, clock)))
        for name, clock in (("wall_time", "wall"), ("processor_time", "cpu"))
    }
    result = {
        **result,
        "limit": 0.03,
        "spent": run["spent"],
        "looks": run["looks"],
        "seconds_of_the_first_look": run["first"]["wall"],
        "seconds_of_the_still_picture": run["picture"],
        "backend": options.backend,
        "epochs_in_a_block": options.block,
        "blocks": options.blocks,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("vaenb", "keras", options.backend, "ipykernel", "anywidget", "numpy")
        },
    }
    path = (
        Path(__file__).parent.parent
        / "vaenb"
        / "records"
        / f"monitor{'' if options.backend == 'tensorflow' else '-' + options.backend}.json"
    )
    path.write_text(json.dumps(result, indent=1) + "\n")
    said = ", ".join(
        f"{name.replace('_', ' ')} {result[name]['cost']:+.1%} (standard error "
        f"{result[name]['standard_error']:.1%})"
        for name in ("wall_time", "processor_time")
    )
    print(
        f"{path.name}: watching costs {said}; the monitor counted {run['spent']:.1%} in "
        f"{run['looks']} looks"
    )


if __name__ == "__main__":
    main()
