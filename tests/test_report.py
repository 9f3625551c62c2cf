"""`vaenb report` and `vaenb impute`: what is refused, in one sentence each, and what is written."""

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import vaenb.candidate
from vaenb.cli import app
from vaenb.network import dense

N = 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))


def rows(lines, header="size,width,kind"):
    return "\n".join([header, *lines]) + "\n"


GOOD = [f"{a:.3f},{a + b / 4:.3f},{'ab'[int(c > 0)]}" for a, b, c in X]


def call(command, *words):
    "Runs a command in this process; a bug surfaces as itself."
    result = CliRunner().invoke(app, [command, *map(str, words)], prog_name="vaenb")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def replaced(row, text, lines=GOOD):
    return [text if i == row else line for i, line in enumerate(lines)]


BAD = {
    "empty": ("", "empty file"),
    "one row": (rows(GOOD[:1]), "1 rows"),
    "few rows": (rows(GOOD[:10]), "at least 20"),
    "empty column": (rows([f"{line}," for line in GOOD], "size,width,kind,note"), "note=drop"),
    "empty row": (rows(replaced(3, "NA,NA,NA")), "no values"),
    "all constant": (rows(["1,a"] * N, "n,k"), "constant"),
    "infinite": (rows(replaced(3, "inf,1.5,a")), "infinite"),
    "two names": (rows(GOOD, "size,size,kind"), "two columns named 'size'"),
    "dates as text": (rows([f"{i},2024-01-{1 + i % 28:02d}" for i in range(N)], "n,day"), "dates"),
    "unequal rows": (rows(replaced(3, "1.0,2.0")), "values in row"),
    "encoding": ("size,width\n".encode("utf-16-le") + b"\xff\xfe\x00\x81", "."),
    "many columns": (
        rows([",".join(["1.5", "2.5"] * 5000)] * N, ",".join(f"c{i}" for i in range(10_000))),
        "10,000 columns",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["report", "impute"])
def test_bad_table_is_refused_in_one_sentence(name, command, tmp_path):
    content, word = BAD[name]
    path, out = tmp_path / "bad.csv", tmp_path / ("old.html" if command == "report" else "new.csv")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if command == "report":
        out.write_text("what was here before")
    result = call(command, path, "--out", out)
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and result.stderr.count("\n") == 1 and word in result.stderr
    assert "Traceback" not in result.stderr and "kinds=" not in result.stderr
    kept = {path.name, *(["old.html"] if command == "report" else [])}
    assert {p.name for p in tmp_path.iterdir()} == kept
    assert command == "impute" or out.read_text() == "what was here before"


def test_bad_frames_and_arrays_are_refused(tmp_path):
    mixed = pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    mixed.to_parquet(tmp_path / "cut.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "cut.parquet").read_bytes()[:200])
    np.save(tmp_path / "infinite.npy", np.where(np.arange(120).reshape(40, 3) == 7, np.inf, X))
    np.save(tmp_path / "wide.npy", np.zeros((40, 1000)))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]] * 40))
    np.save(tmp_path / "empty.npy", np.zeros((0, 3)))
    (tmp_path / "holidays").mkdir()
    (tmp_path / "model.keras").write_bytes(b"nothing")
    for path in sorted(tmp_path.iterdir()):
        result = call("report", path, "--out", tmp_path / "new.html")
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, (path, result.output)
    assert not (tmp_path / "new.html").exists()


@pytest.mark.parametrize(
    "options, word",
    [
        ("--kind size", "COLUMN=KIND|= between"),
        ("--kind size=large", "no kind of column"),
        ("--kind shoe=count", "--kind names the column 'shoe'"),
        ("--kind size=count", "count"),
        ("--kind size=drop --kind size=number", "twice"),
    ],
)
def test_bad_options_are_refused(options, word, tmp_path):
    path = tmp_path / "good.csv"
    path.write_text(rows(replaced(3, "1.0,,a")))
    for command, out in (("report", "new.html"), ("impute", "new.csv")):
        result = call(command, path, "--out", tmp_path / out, *options.split())
        assert result.exit_code == 2 and re.search(word, result.stderr), result.output
    assert [p.name for p in tmp_path.iterdir()] == ["good.csv"]


def test_what_impute_will_not_do(tmp_path):
    path = tmp_path / "whole.csv"
    path.write_text(rows(GOOD))
    assert "no missing value" in call("impute", path).stderr
    path.write_text(before := rows(replaced(3, "1.0,,a")))
    result = call("impute", path, "--out", path)
    assert result.exit_code == 2 and "exists" in result.stderr and path.read_text() == before
    np.save(tmp_path / "images.npy", RNG.random((30, 4, 4)))
    result = call("impute", tmp_path / "images.npy")
    assert result.exit_code == 2 and "images" in result.stderr
    assert call("impute", tmp_path / "absent.csv").exit_code == 2


@pytest.mark.rotating
def test_page_and_completed_tables(tmp_path, monkeypatch):
    linear = {"linear": (1, dense(()))}
    monkeypatch.setattr(vaenb.candidate, "candidates", lambda data: linear)
    lines = [line if i % 3 else re.sub(",.*,", ",,", line) for i, line in enumerate(GOOD)]
    lines = [f"{line},CH,id{i}" for i, line in enumerate(lines)]
    path, out = tmp_path / "good.csv", tmp_path / "page.html"
    path.write_text(rows(lines, "size,width,<i>kind</i>,country,name"))
    result = call("report", path, "--out", out)
    assert result.exit_code == 0, result.output
    page = out.read_text()
    heads = re.findall(r'<h2 id="(\w+)"', page)
    assert heads == "data model score map unusual missing synthetic diagnosis".split()
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import""", page)
    assert "<i>kind</i>" not in page and "&lt;i&gt;kind" in page
    assert "country</b>, because it has only one value" in page
    assert page.count('alt="') == page.count("<img") and 'alt=""' not in page

    result = call("impute", path, "--draws", 2)
    assert result.exit_code == 0, result.output
    given = pd.read_csv(path)
    for i in (1, 2):
        table = pd.read_csv(tmp_path / f"good-imputed-{i}.csv")
        seen = given["width"].notna()
        assert list(table.columns) == list(given.columns) and not table.isna().any().any()
        assert np.allclose(table["width"][seen], given["width"][seen])
        assert table.drop(columns="width").equals(given.drop(columns="width"))
    gaps = np.add.outer(np.arange(N), np.arange(3)) % 5 == 0  # none or one in a row
    x = np.where(gaps, np.nan, X).astype("float32")
    np.save(tmp_path / "x.npy", x)
    result = call("impute", tmp_path / "x.npy")
    assert result.exit_code == 0, result.output
    filled = np.load(tmp_path / "x-imputed.npy")
    assert filled.dtype == x.dtype and np.isfinite(filled).all()
    assert np.array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
