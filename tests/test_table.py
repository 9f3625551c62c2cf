"""Tables: what is refused, in one sentence each, and what comes back."""

import datetime
import importlib
import sys

import keras
import numpy as np
import pandas as pd
import polars as pl
import pytest

from vaenb import VAE, data, dense
from vaenb.missing import impute
from vaenb.table import Table, from_table, to_frame

N = 40
RNG = np.random.default_rng(0)
GOOD = pd.DataFrame(
    {
        "size": RNG.normal(5, 2, N),
        "kind": RNG.choice(["a", "b", "c"], N),
        "visits": RNG.poisson(2, N),
        "day": pd.date_range("2024-01-01", periods=N, freq="D"),
        "smokes": RNG.random(N) < 0.5,
    }
)


def without(**columns):
    "The good table with some columns replaced."
    return GOOD.assign(**columns)


REFUSED = {
    "empty": (GOOD[:0], "0 rows"),
    "one row": (GOOD[:1], "1 rows"),
    "no columns": (pd.DataFrame(), "no columns"),
    "all-missing column": (without(size=np.nan), "'size' has no values"),
    "all-missing row": (
        GOOD.astype(object).mask(np.arange(N)[:, None] + np.zeros(5) == 3),
        "first is row 3",
    ),
    "infinite": (without(size=[np.inf, *GOOD["size"][1:]]), "infinite number in row 0"),
    "duplicate names": (GOOD.rename(columns={"size": "kind"}), "two columns named 'kind'"),
    "mixed types": (without(kind=[1, *GOOD["kind"][1:]]), "types int, str"),
    "dates as text": (without(day=GOOD["day"].astype(str)), "dates as text"),
    "numbers as text": (without(size=GOOD["size"].astype(str)), "numbers as text"),
    "nothing left": (pd.DataFrame({"a": [1, 1, 1]}), "nothing is left"),
    "lists": (without(kind=[[1, 2]] * N), "types list"),
    "an array": (np.zeros((4, 2)), "from_arrays"),
    "no such file": ("nowhere.csv", "there is no file"),
}


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_table_is_refused_in_one_sentence(case):
    table, words = REFUSED[case]
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=words) as caught:
        from_table(table)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "kinds, words",
    [
        ({"size": "lengthy"}, "no kind of column"),
        ({"height": "number"}, "does not have"),
        ({"kind": "number"}, "takes numbers"),
        ({"size": "count"}, "whole numbers"),
        ({"size": "positive"}, "above 0"),
        ({"visits": "boolean"}, "True and False"),
        ({"visits": "date"}, "dates"),
    ],
)
def test_a_kind_that_does_not_fit_is_refused(kinds, words):
    table = without(size=[-1.5, *GOOD["size"][1:]])
    with pytest.raises(ValueError, match=words):
        from_table(table, kinds=kinds)


PREDICTION = {
    "absent column": (GOOD.drop(columns="day"), "lacks the column 'day'"),
    "unknown category": (without(kind=["z", *GOOD["kind"][1:]]), "'z', which is new"),
    "text for numbers": (without(size="tall"), "'size' holds text"),
    "numbers for text": (without(kind=1.5), "'kind' holds number"),
    "numbers for dates": (without(day=3), "'day' holds whole"),
    "negative count": (without(visits=-1), "'visits' is a count"),
    "infinite": (without(size=-np.inf), "infinite number"),
}


@pytest.mark.parametrize("case", PREDICTION)
def test_a_table_that_changed_is_refused(case):
    table, words = PREDICTION[case]
    with pytest.raises(ValueError, match=words):
        Table.for_frame(GOOD).encode(table)


def test_kinds_are_found_and_can_be_overruled():
    found = {c["name"]: c["kind"] for c in Table.for_frame(GOOD).columns}
    assert found == {
        **{"size": "number", "kind": "category", "visits": "count"},
        **{"day": "date", "smokes": "boolean"},
    }
    kinds = {"visits": "ordinal", "kind": "ordinal", "day": "drop"}
    found = {c["name"]: c["kind"] for c in Table.for_frame(GOOD, kinds).columns}
    assert found["visits"] == found["kind"] == "ordinal" and "day" not in found
    ordered = pd.Categorical(GOOD["kind"], categories=["c", "a", "b"], ordered=True)
    column = Table.for_frame(without(kind=ordered)).columns[1]
    assert column["kind"] == "ordinal" and column["values"] == ["c", "a", "b"]


def test_what_teaches_nothing_is_left_out_with_a_sentence():
    table = without(study="x", name=[f"p{i}" for i in range(N)], row=range(N))
    with pytest.warns(UserWarning) as heard:
        found = Table.for_frame(table)
    text = " ".join(str(w.message) for w in heard)
    assert "study" in text and "name, row" in text
    assert [c["name"] for c in found.columns] == list(GOOD.columns)


def test_scales_come_from_the_training_rows_only():
    found = from_table(GOOD, val=np.arange(5), test=np.arange(5, 15))
    size = GOOD["size"][15:]
    column = found.table.columns[0]
    assert np.isclose(column["shift"], size.mean()) and np.isclose(
        column["scale"], size.std(ddof=0)
    )
    assert np.allclose(found.train.x[:, 0].mean(), 0, atol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files_are_read(tmp_path, ending):
    path = tmp_path / f"mine.{ending}"
    table = GOOD.drop(columns="day")
    getattr(table, f"to_{ending}")(path, index=False)
    found = data.from_table(path)
    assert found.table.names[:2] == ("size", "kind=a") and len(found.train) == 28


def test_a_csv_with_two_columns_of_one_name_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("a,a\n1,2\n3,4\n")
    with pytest.raises(ValueError, match="two columns named 'a'"):
        from_table(path)


def test_labels_are_taken_out():
    found = from_table(GOOD, labels="kind")
    assert found.class_names == ("a", "b", "c") and "kind=a" not in found.columns
    with pytest.raises(ValueError, match="no column 'height'"):
        from_table(GOOD, labels="height")


def test_without_narwhals_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(ImportError, match="pip install 'vaenb\\[table\\]'"):
        from_table(GOOD)


def test_importing_the_package_imports_no_table_library():
    module = importlib.import_module("vaenb.table")
    assert not {"narwhals", "nw", "pd", "pl"} & set(vars(module)) - {"narwhals"}


def test_a_model_gives_frames_back_filled_and_saved(tmp_path):
    holes = GOOD.astype(object).mask(RNG.random(GOOD.shape) < 0.2)
    holes = holes.astype({"size": float}).assign(day=pd.to_datetime(holes["day"]))
    found = from_table(pl.from_pandas(holes.infer_objects()))
    with pytest.raises(ValueError, match="missing=True"):
        VAE.for_data(found, 2, network=dense([8]))
    keras.utils.set_random_seed(0)
    model = VAE.for_data(found, 2, network=dense([8]), missing=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    table = pl.from_pandas(holes.infer_objects())
    filled, draws = impute(again, table, n_samples=50, n_draws=2, seed=1)
    assert isinstance(filled, pl.DataFrame) and filled.columns == table.columns
    assert not sum(filled.null_count().row(0)) and len(draws) == 2
    assert filled["kind"].is_in(["a", "b", "c"]).all() and filled["visits"].min() >= 0
    assert isinstance(filled["day"][0], datetime.datetime)
    for name in table.columns:
        seen = table[name].is_not_null()
        assert filled.filter(seen)[name].to_list() == table.filter(seen)[name].to_list()
    drawn = to_frame(again, again.sample(5, seed=0, mean=False))
    assert drawn.columns == table.columns and len(drawn) == 5


def test_other_models_know_no_columns():
    x = RNG.random((8, 3)).astype("float32")
    model = VAE.for_data(x, 2, network=dense([4]))
    with pytest.raises(ValueError, match="knows no columns"):
        to_frame(model, x)
    with pytest.raises(ValueError, match="missing=True"):
        impute(model, x)
