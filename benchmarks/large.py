"""Time and memory of a training step as images grow, and with 16-bit numbers.

    python benchmarks/large.py --out vaenb/records/large.json
    python benchmarks/large.py --sizes 32 --policies float32 --out mine.json

Each size, backend and policy has a process of its own, whose largest memory is noted: the VAE with
convolutions (channels 32, 64, 128, code of 32, normal likelihood) on crops of two photographs, in
batches of 16. Of the steps after the first, which compiles, the median of the processor time
counts, because other work on the machine changes it less than the time on the clock. After the
same steps from the same start the ELBO of the images is compared with that in float32, on three
seeds."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

SIZES, BACKENDS = (32, 64, 128), ("tensorflow", "jax")
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
BATCH, N, CODE, FILTERS = 16, 64, 32, (32, 64, 128)


def crops(side, n=N):
    "Crops (n, side, side, 3) of the two photographs in scikit-learn, in [0, 1]."
    import numpy as np
    from sklearn.datasets import load_sample_images

    rng, found, made = np.random.default_rng(0), load_sample_images().images, []
    for i in range(n):
        photograph = found[i % 2]
        top, left = (int(rng.integers(size - side)) for size in photograph.shape[:2])
        made.append(photograph[top : top + side, left : left + side])
    return np.stack(made).astype("float32") / 255


def peak():
    "The largest memory of this process so far, MiB; Linux only."
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(side, policy, steps, seeds):
    "One row of the results, a dict."
    from vaenb.terminal import start

    start()  # also loads what Keras loads with its first model, TensorFlow on any backend

    import keras
    import numpy as np

    from vaenb import VAE, conv
    from vaenb.likelihood import Normal

    x, times, elbos, after_imports = crops(side), [], [], peak()
    for seed in range(seeds):
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(seed)
        model = VAE.for_data(x, CODE, network=conv(FILTERS), likelihood=Normal("learned"))
        model.compile(keras.optimizers.Adam(1e-3))
        for step in range(steps + 1):
            some = x[step * BATCH % N :][:BATCH]
            start = time.process_time()
            model.train_on_batch(some)
            if step and not seed:
                times.append(time.process_time() - start)
        if not seed:
            mib = peak() - after_imports  # of one model
        elbos.append(model.evaluate(x, batch_size=BATCH, verbose=0, return_dict=True)["elbo"])
    return {
        "milliseconds": [round(1e3 * t, 1) for t in sorted(times)],
        "elbo": elbos,
        "mib": round(mib),
        "weights": model.count_params(),
        "numbers": int(np.prod(x.shape[1:])),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("BACKEND", "SIZE", "POLICY"))
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(int(args.one[1]), args.one[2], args.steps, args.seeds)))
        return
    cases = [(side, backend, "float32") for side in args.sizes for backend in BACKENDS]
    # 16-bit numbers are measured at one size only
    cases += [(64, b, p) for b in BACKENDS for p in args.policies if p != "float32"]
    results = []
    for side, backend, policy in cases:
        command = [sys.executable, __file__, "--out", args.out, "--steps", args.steps]
        command += ["--seeds", args.seeds if side == 64 else 1]
        command += ["--one", backend, side, policy]
        env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        text = subprocess.run(
            list(map(str, command)), env=env, check=True, capture_output=True, text=True
        ).stdout
        row = {"size": side, "backend": backend, "policy": policy}
        results.append(row | json.loads(text.splitlines()[-1]))
        write(args, results)
        median = statistics.median(results[-1]["milliseconds"])
        print(f"{side} {backend} {policy}: {median:.0f} ms, {results[-1]['mib']} MiB", flush=True)


def write(args, results):
    "Writes what is known so far."
    from importlib.metadata import version

    processor = next(
        line.partition(":")[2].strip()
        for line in [*Path("/proc/cpuinfo").read_text().splitlines(), f"model name:{os.uname()[4]}"]
        if line.startswith("model name")
    )
    names = ("vaenb", "keras", "tensorflow", "jax", "numpy")
    record = {
        "batch": BATCH,
        "filters": FILTERS,
        "code": CODE,
        "images": N,
        "steps": args.steps,
        "results": results,
        "machine": {"processor": processor, "cores": os.cpu_count(), "system": platform.system()},
        "load_average": [round(v, 1) for v in os.getloadavg()],
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": {name: version(name) for name in names},
        "date": time.strftime("%Y-%m-%d"),
    }
    args.out.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
