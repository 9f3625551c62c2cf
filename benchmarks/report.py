"""The page about a file, for five real tables and two large ones.

    python benchmarks/report.py --out FILE [--pages FOLDER]

Each page is made in a process of its own. Noted are log p(x) of the test rows under the model and
under the simple ones, whether a classifier tells synthetic rows from real ones, the diagnosis, the
seconds of the wall clock and of the processors, and the largest memory of the process. The large
tables are synthetic: 20 columns that depend on six numbers, two of them made into categories and
counts, in Parquet files with groups of 10,000 rows. Linux only, for the memory."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np


def real_tables():
    "name -> a pandas frame; the diabetes have categories, and a tenth of their cells is missing."
    from sklearn import datasets

    names, tables = ("iris", "wine", "breast_cancer", "linnerud"), {}
    for name in names:
        loaded = getattr(datasets, f"load_{name}")(as_frame=True)
        tables[name] = loaded.frame
        if "target_names" in loaded and "target" in loaded.frame:
            tables[name]["target"] = np.array(loaded.target_names)[loaded.frame["target"]]
    frame = datasets.load_diabetes(as_frame=True, scaled=False).frame
    frame["sex"] = np.where(frame["sex"] == 1, "a", "b")
    frame["age"] = np.array(["young", "middle", "old"])[np.digitize(frame["age"], [40, 55])]
    gaps = np.random.default_rng(0).random(frame.shape) < 0.1
    tables["diabetes, a tenth missing"] = frame.mask(gaps)
    return tables


def write_large(path, n):
    "Writes the synthetic table of n rows as Parquet."
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, writer = np.random.default_rng(0), None
    loading = rng.normal(size=(6, 20))
    for start in range(0, n, 10_000):
        m = min(10_000, n - start)
        x = rng.normal(size=(m, 6)) @ loading + 0.5 * rng.normal(size=(m, 20))
        columns = {f"c{i}": x[:, i] for i in range(20)}
        columns["c3"] = np.exp(x[:, 3] / 3)
        columns["c5"] = np.array(["low", "middle", "high"])[np.digitize(x[:, 5], [-1, 1])]
        columns["c6"] = rng.poisson(np.exp(np.clip(x[:, 6] / 4, -3, 3)))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def one(path, page):
    "Makes the page of a file; what is noted of it, a dict."
    start = time.perf_counter()
    from vaenb.analysis import analyse
    from vaenb.opening import open_file
    from vaenb.report import report_page
    from vaenb.run import environment
    from vaenb.sections import verdict

    found = analyse(open_file(path))
    page.write_text(report_page(found, "vaenb report"))
    status = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    best, word = verdict(found["scores"])
    return {
        "rows": int(found["n"]),
        "chosen": found["tried"][found["best"]]["name"],
        "log_prob": {
            name: {"mean": float(s.mean()), "standard_error": float(s.std() / len(s) ** 0.5)}
            for name, s in found["scores"].items()
        },
        "best_simple": best,
        "verdict": word,
        "told": {k: float(found[k]["accuracy"]) for k in ("told", "told_alone")},
        "findings": [f.name for f in found["findings"]],
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "megabytes": round(kilobytes * 1024 / 1e6),
        "page_megabytes": round(page.stat().st_size / 1e6, 2),
        "environment": environment(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pages", type=Path, help="folder for the pages")
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument(
        "--one", type=Path, nargs=2, metavar=("FILE", "PAGE"), help="used by itself"
    )
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(*args.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        folder, results, env = Path(folder), [], None
        pages = args.pages or folder
        pages.mkdir(parents=True, exist_ok=True)
        files = {}
        for i, (name, frame) in enumerate(real_tables().items()):
            files[name] = folder / f"{i}.csv"
            frame.to_csv(files[name], index=False)
        for n in args.rows:
            files[f"{n:,} x 20"] = folder / f"{n}.parquet"
            write_large(files[f"{n:,} x 20"], n)
        for name, path in files.items():
            page = pages / f"{path.stem}.html"
            command = [sys.executable, __file__, "--one", path, page]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
            row = {"table": name} | json.loads(done.stdout.splitlines()[-1])
            env = row.pop("environment")
            results.append(row)
            print(row, flush=True)
    if args.out:
        machine = {"cpu_count": os.cpu_count(), "platform": platform.platform()}
        record = {"seed": 0, **env, "machine": machine, "results": results}
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
