"""What an exported model costs: python benchmarks/export.py --out vaenb/records/export.json

A dense VAE 784-512-16 is exported as ONNX and for LiteRT. Encoding and decoding take turns in the
model itself, in onnxruntime and in LiteRT, for one example and for many at once; noted are the
median milliseconds of a call, the largest difference from the model relative to its largest number,
and for each format the seconds of the export and the size of its files. TensorFlow only, because
LiteRT files are written from it."""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import machine
import numpy as np

SIZES, CALLS = (1, 256), 200


def exported(model, folder):
    """Writes both formats; format -> seconds and megabytes."""
    from vaenb.export import export_model

    found = {}
    for name in ("onnx", "litert"):
        begin = time.perf_counter()
        export_model(model, folder / name, format=name)
        seconds = time.perf_counter() - begin
        size = sum(file.stat().st_size for file in (folder / name).iterdir())
        found[name] = {"seconds": round(seconds, 2), "megabytes": round(size / 1e6, 2)}
    return found


def programs(model, folder):
    """(program, function) -> a function of one array that returns one."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    found = {("vaenb", "encode"): model.encode, ("vaenb", "decode"): model.decode}
    for name, given, taken in (("encode", "x", "code"), ("decode", "z", "mean")):
        session = onnxruntime.InferenceSession(folder / "onnx" / f"{name}.onnx")
        run = Interpreter(str(folder / "litert" / f"{name}.tflite")).get_signature_runner()
        found["ONNX", name] = lambda a, s=session, g=given, t=taken: s.run([t], {g: a})[0]
        found["LiteRT", name] = lambda a, r=run, g=given, t=taken: r(**{g: a})[t]
    return found


def milliseconds(calls, given, n):
    """Program -> median milliseconds of a call; the programs take turns."""
    seconds = {program: [] for program in calls}
    for _ in range(n):
        for program, call in calls.items():
            begin = time.perf_counter()
            call(given)
            seconds[program].append(time.perf_counter() - begin)
    return {program: round(1e3 * statistics.median(s), 3) for program, s in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    import keras

    from vaenb import VAE, dense

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = (rng.random((max(SIZES), 784)) > 0.5).astype("float32")
    model = VAE.for_data(x, 16, network=dense([512]))
    inputs = {"encode": x, "decode": rng.normal(size=(max(SIZES), 16)).astype("float32")}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        formats = exported(model, Path(folder))
        made = programs(model, Path(folder))
        for name, many in inputs.items():
            calls = {program: call for (program, what), call in made.items() if what == name}
            for size in SIZES:
                given = many[:size]
                wanted, *others = (np.asarray(call(given)) for call in calls.values())
                gap = max(abs(other - wanted).max() for other in others) / abs(wanted).max()
                row = {"function": name, "examples": size, "largest_difference": float(gap)}
                rows.append({**row, "milliseconds": milliseconds(calls, given, args.calls)})
                print(rows[-1], flush=True)
    facts = machine.facts("onnxruntime", "ai-edge-litert", "tf2onnx")
    record = {"network": "784-512-16", "formats": formats, "rows": rows, **facts}
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
