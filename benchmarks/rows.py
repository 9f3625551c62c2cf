"""Reading an epoch from memory and from the disk: python benchmarks/rows.py --out FILE

Each source is read in batches of 256 in the random order that a training would take, in a process
of its own, three times. Noted are the rows per second and the memory that the process took beyond
what it had after its imports. The table has 20 columns and groups of 10,000 rows; the images are
64 x 64 x 3, one PNG file each."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

SOURCES = ("memory", "mapped", "parquet", "images in memory", "images")


def write(folder, n, n_images):
    "Writes a table of n rows as .npy and as Parquet, and the images as .npy and as files."
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng, names = np.random.default_rng(0), [f"c{i}" for i in range(20)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    table = np.lib.format.open_memmap(folder / "table.npy", "w+", "float32", (n, 20))
    with pq.ParquetWriter(folder / "table.parquet", schema) as writer:
        for start in range(0, n, 10_000):
            x = rng.normal(size=(min(10_000, n - start), 20)).astype("float32")
            table[start : start + len(x)] = x
            columns = [pa.array(x[:, i]) for i in range(20)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=10_000)
    table.flush()
    photographs, kept = load_sample_images().images, []
    (folder / "images").mkdir()
    for i in range(n_images):
        photograph = photographs[i % 2]
        top, left = (int(rng.integers(size - 64)) for size in photograph.shape[:2])
        kept.append(photograph[top : top + 64, left : left + 64])
        Image.fromarray(kept[-1]).save(folder / "images" / f"{i:06d}.png")
    np.save(folder / "images.npy", np.stack(kept))


def peak():
    "The largest memory of this process so far, MB; Linux only."
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def read(source, folder):
    "Reads one epoch; the number of rows, seconds, and MB beyond what the process had before."
    import pyarrow.parquet  # noqa: F401 (imported before memory is counted, as Pillow is)

    from vaenb.block import Ordered, permutation
    from vaenb.data import StoredRows
    from vaenb.rows import open_rows

    before = peak()
    if source == "memory":
        x = np.load(folder / "table.npy")
    elif source == "images in memory":
        x = np.load(folder / "images.npy")
        x = StoredRows(x, np.arange(len(x)), 256)
    else:
        names = {"mapped": "table.npy", "parquet": "table.parquet", "images": "images"}
        x = open_rows(folder / names[source])
    data = Ordered((x,), lambda epoch: permutation((x,), np.random.default_rng(epoch)), 256)
    start, total, batches = time.perf_counter(), 0.0, iter(data)
    for _ in range(data.steps):
        total += float(next(batches)[0].sum())
    seconds = time.perf_counter() - start
    return {"rows": len(x), "seconds": seconds, "megabytes": peak() - before, "sum": total}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--read", nargs=2, metavar=("SOURCE", "FOLDER"), help="used by itself")
    args = parser.parse_args()
    if args.read:
        print(json.dumps(read(args.read[0], Path(args.read[1]))))
        return
    results = []
    for n in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), n, args.images)
            found = {source: [] for source in SOURCES}
            for _ in range(args.times):
                for source in SOURCES:
                    command = [sys.executable, __file__, "--read", source, folder]
                    done = subprocess.run(command, capture_output=True, text=True)
                    assert done.returncode == 0, done.stderr[-2000:]
                    found[source].append(json.loads(done.stdout.splitlines()[-1]))
        for source, runs in found.items():
            row = {
                "source": source,
                "rows": runs[0]["rows"],
                "rows_per_second": [round(run["rows"] / run["seconds"]) for run in runs],
                "megabytes": [round(run["megabytes"], 1) for run in runs],
            }
            results.append(row)
            print(row, flush=True)
    if args.out:
        import pyarrow

        import vaenb

        record = {
            "results": results,
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
            },
            "versions": {
                "vaenb": vaenb.__version__,
                "numpy": np.__version__,
                "pyarrow": pyarrow.__version__,
                "python": platform.python_version(),
            },
            "load_average": [round(value, 1) for value in os.getloadavg()],
            "date": time.strftime("%Y-%m-%d"),
        }
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
