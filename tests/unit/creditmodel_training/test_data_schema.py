from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from creditmodel_training.data import read_table
from creditmodel_training.errors import DataError, SchemaError
from creditmodel_training.schema import Schema, features_of, infer, read_schema

TOML = """
label = "outcome"
positive = "bad"

[split]
column = "year"
validation = [2023]
holdout = [2024]

[[features]]
name = "income"
dtype = "number"
unit = "EUR"
minimum = 0
monotonic = "decreasing"
reason = {code = "INCOME", text = "Income is low"}

[[features]]
name = "home"
dtype = "category"
categories = ["own", "rent", {value = "other", code = 9, label = "Anything else"}]
"""


def frame(**columns: list[Any]) -> pa.Table:
    return pa.table(columns or {"outcome": ["bad", "good"], "year": [1, 2], "income": [1.0, None], "home": ["own"] * 2})


def written(directory: Path, text: str, name: str = "schema.toml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_a_schema_in_toml_and_the_same_in_json_are_one(tmp_path: Path) -> None:
    schema = read_schema(written(tmp_path, TOML))
    assert schema == read_schema(written(tmp_path, schema.model_dump_json(), "schema.json"))
    assert schema.split is not None
    assert schema.features[0].reason is not None


def test_what_a_schema_leaves_out_comes_from_the_table(tmp_path: Path) -> None:
    text = TOML.replace(', {value = "other", code = 9, label = "Anything else"}', "")
    income, home = features_of(read_schema(written(tmp_path, text)), frame())
    assert (income.missing, income.example) == ("allowed", 1.0)
    assert (home.missing, home.example) == ("forbidden", "own")
    assert [(c.value, c.code) for c in home.categories] == [("own", 0), ("rent", 1)]
    assert (home.reason.code, home.reason.text) == ("HOME", "Value of home")


def test_categories_without_a_list_are_those_of_the_table() -> None:
    schema = Schema.model_validate({"label": "outcome", "features": [{"name": "home", "dtype": "category"}]})
    table = frame(outcome=[0, 1, 1], home=["rent", None, "own"])
    assert [category.value for category in features_of(schema, table)[0].categories] == ["own", "rent"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('label = "outcome"', "label = ", "not TOML"),
        ('label = "outcome"', "", "label: Field required"),
        ('dtype = "number"', 'dtype = "float"', "features.0.dtype"),
        ('name = "home"', 'name = "income"', "'income' stands twice"),
        ('name = "home"', 'name = "Income"', "'Income' stands twice"),
        ('name = "home"', 'name = "outcome"', "is the label and cannot be a feature"),
        ('name = "home"', 'name = "year"', "is the split column and cannot be a feature"),
        ('dtype = "category"', 'dtype = "category"\nmonotonic = "increasing"', "has no order"),
        ('unit = "EUR"', 'unit = "EUR"\ncategories = ["a"]', "only dtype category"),
        ("minimum = 0", "lowest = 0", "features.0.lowest"),
    ],
)
def test_a_wrong_schema_is_refused_with_the_place(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=message):
        read_schema(written(tmp_path, TOML.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("column", "role"),
    [("outcome", "label"), ("year", "split column"), ("income", "feature")],
)
def test_a_column_that_the_table_lacks_is_named(column: str, role: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=rf"no column '{column}' \(the {role}\)"):
        features_of(read_schema(written(tmp_path, TOML)), frame().drop_columns([column]))


def test_contradictions_that_only_show_with_the_table_are_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"minimum 0\.0 is above maximum -1\.0"):
        features_of(read_schema(written(tmp_path, TOML.replace("minimum = 0", "minimum = 0\nmaximum = -1"))), frame())
    with pytest.raises(SchemaError, match="value or code stands twice"):
        features_of(read_schema(written(tmp_path, TOML.replace('"rent"', '"own"'))), frame())


def test_an_absent_schema_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"nosuch\.toml"):
        read_schema(tmp_path / "nosuch.toml")


def test_inference_takes_what_can_be_learned_from_and_leaves_the_rest() -> None:
    rows = 120
    table = frame(
        label=[i % 2 for i in range(rows)],
        id=list(range(rows)),
        amount=[i / 7 for i in range(rows)],
        months=[i % 9 for i in range(rows)],
        home=["own", "rent", None] * (rows // 3),
        note=[f"free text {i}" for i in range(rows)],
        empty=[None] * rows,
        _system=[1.0] * rows,
        client=[f"c{i}" for i in range(rows)],
    )
    schema = infer(table, "label", None, "client").schema
    assert {f.name: f.dtype for f in schema.features} == {"amount": "number", "months": "integer", "home": "category"}
    assert (schema.positive, schema.key) == (1, "client")


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ([f"{i}.5" if i % 9 else "?" for i in range(120)], r"values like '\?' are no numbers"),
        ([f"{i},5" for i in range(120)], "values like '0,5' are no numbers"),
        ([f"word {i}" for i in range(120)], "text of 120 different values"),
        (["2024-01-31", "2024-02-29"] * 60, "dates: make a duration of them"),
        (list(range(120)), "a whole number of its own in every row"),
        ([None] * 120, "no row has a value"),
    ],
)
def test_a_column_that_is_left_out_has_its_reason(column: list[Any], reason: str) -> None:
    table = frame(label=[i % 2 for i in range(120)], x=[i % 7 / 7 for i in range(120)], odd=column)
    inferred = infer(table, "label", None, None)
    assert list(inferred.left_out) == ["odd"]
    assert re.search(reason, inferred.left_out["odd"])


def test_a_category_of_numbers_and_a_few_words_is_pointed_out() -> None:
    months = ["1", "2", "3", "?"]
    inferred = infer(frame(label=[0, 1, 0, 1], months=months, home=["own", "rent"] * 2), "label", None, None)
    assert inferred.notes == ["months is a category, since values like '?' are no numbers"]


@pytest.mark.parametrize(
    ("column", "codes"),
    [
        ([-9, -8, -7, *range(60, 97)] * 3, "-9, -8, -7"),
        ([-9.0, 0.5, 0.7, None] * 30, "-9"),
        ([999, *range(20)] * 6, "999"),
        ([99, -1, 0, 3, 7] * 24, "-1, 99"),
        ([*range(-9, 31)] * 3, None),
        ([90, 99, 105, 120, 60] * 24, None),
        ([0, 1, 2, 9] * 30, None),
        ([-9, *(i % 40 for i in range(119))], None),
        ([None, 999] * 60, None),
    ],
)
def test_numbers_that_look_like_codes_of_a_missing_value_are_pointed_out(column: list[Any], codes: str | None) -> None:
    inferred = infer(frame(label=[i % 2 for i in range(len(column))], score=column), "label", None, None)
    noted = f"score has {codes} beside other numbers: if that says why there is no value, leave it empty"
    assert inferred.notes == ([] if codes is None else [noted])


def test_a_features_name_does_not_depend_on_the_order_of_the_columns() -> None:
    columns: dict[str, Any] = {"город": ["a", "b"], "доход": [1.0, 2.0], "年収": [3.0, 4.0]}
    names = []
    for ordered in (columns, dict(reversed(columns.items()))):
        features = infer(frame(label=[0, 1], **ordered), "label", None, None).schema.features
        names.append({feature.source: feature.name for feature in features})
    assert names[0] == names[1]
    assert len(set(names[0].values())) == 3


@pytest.mark.parametrize(
    ("column", "feature"),
    [
        ("Monthly Income", "Monthly_Income"),
        ("größe", "grosse"),
        ("Fälligkeit", "Falligkeit"),
        ("1st", "x_1st"),
        ("a/b~c", "a_b_c"),
        ("収入", "ShouRu"),
        ("город", "gorod"),
        ("доход, ₽", "dokhod_Rb"),
        ("?", "x"),
        ("x", "x_2"),
        ("Class", "Class_2"),
    ],
)
def test_a_column_whose_name_no_feature_can_have_gives_a_feature_of_a_like_name(column: str, feature: str) -> None:
    before = {"x_2": "?", "Class_2": "class"}.get(feature)
    columns = {name: [1.0, 2.0] for name in (before, column) if name is not None}
    inferred = infer(frame(label=[0, 1], **columns), "label", None, None)
    spec = inferred.schema.features[-1]
    assert (spec.name, spec.source) == (feature, column)
    assert features_of(inferred.schema, frame(label=[0, 1], **columns))[-1].reason.text == f"Value of {column}"


@pytest.mark.parametrize(
    ("labels", "given", "expected"),
    [
        (["good", "bad"], "bad", "bad"),
        (["good", "bad"], "BAD", "bad"),
        (["GOOD ", "BAD "], "bad", "BAD "),
        ([1, 2], "2", 2),
        ([1.0, 2.0], "2", 2.0),
        ([0.0, 1.0], "1.0", 1.0),
        ([0.0, 1.0], None, 1),
        (["true", "false"], None, "true"),
        (["true", "false"], "False", "false"),
    ],
)
def test_the_positive_label_is_found_whatever_its_type(labels: list[Any], given: str | None, expected: object) -> None:
    positive = infer(frame(label=labels, x=[1.0, 2.0]), "label", given, None).schema.positive
    assert (positive, type(positive)) == (expected, type(expected))


def test_a_label_of_words_needs_to_be_told_which_is_bad() -> None:
    with pytest.raises(SchemaError, match="'bad', 'good'; say which one is a bad payer with --positive"):
        infer(frame(status=["good", "bad"], x=[1.0, 2.0]), "status", None, None)


def test_a_table_without_anything_but_a_label_is_refused() -> None:
    with pytest.raises(SchemaError, match="no column to learn from"):
        infer(frame(label=[0, 1], empty=[None, None]), "label", None, None)


def test_a_csv_that_comes_through_a_pipe_is_read_whole(tmp_path: Path) -> None:
    text = "a,b\n" + "".join(f"{number},x\n" for number in range(100_000))
    pipe = tmp_path / "data.csv"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as writer:
        writer.submit(pipe.write_text, text)
        table = read_table(pipe)
    assert (table.column_names, table.num_rows) == (["a", "b"], 100_000)


def test_a_csv_file_is_read_with_its_missing_values_and_booleans(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "a,b,c\n1,x,true\nNA,,false\n", "data.csv"))
    assert table.to_pylist() == [{"a": 1, "b": "x", "c": "true"}, {"a": None, "b": None, "c": "false"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_csv_file_may_use_any_usual_delimiter_and_have_lines_in_quotes(delimiter: str, tmp_path: Path) -> None:
    text = delimiter.join("ab") + "\n" + delimiter.join(["1", '"two\nlines"']) + "\n"
    assert read_table(written(tmp_path, "\ufeff" + text, "data.csv")).to_pylist() == [{"a": 1, "b": "two\nlines"}]


def test_a_delimiter_in_a_quoted_name_delimits_nothing(tmp_path: Path) -> None:
    text = '"income, net, EUR";"debt, EUR";age\n1;2;3\n'
    assert read_table(written(tmp_path, text, "data.csv")).column_names == ["income, net, EUR", "debt, EUR", "age"]


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("city\nKöln\n", "latin-1", "column 'city' is not UTF-8; convert it first"),
        ("größe\n1\n", "latin-1", "header is not UTF-8"),
        ("a\n1\n", "utf-16", "is UTF-16; save it as UTF-8"),
    ],
)
def test_a_csv_file_that_is_no_utf_8_is_refused_with_what_to_do(
    text: str, encoding: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "data.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.csv", "", "cannot be read"),
        ("data.csv", "a,b\n", "no rows"),
        ("data.csv", "a,b\n1,2,3\n", "cannot be read"),
        ("data.csv", "a,a\n1,2\n", "two columns of the same name"),
        ("data.parquet", "not parquet", "cannot be read"),
        ("data.xlsx", "anything", r"\.csv or \.parquet"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path, content, name))


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nosuch\.csv"):
        read_table(tmp_path / "nosuch.csv")


def test_a_nested_column_is_refused(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [[1, 2]]}), tmp_path / "nested.parquet")
    with pytest.raises(DataError, match=r"column 'a': .* neither number nor text"):
        read_table(tmp_path / "nested.parquet")


def test_nan_is_a_missing_value(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1.0, float("nan")]}), tmp_path / "nan.parquet")
    assert read_table(tmp_path / "nan.parquet")["a"].to_pylist() == [1.0, None]


def test_an_inferred_schema_reads_back_as_itself(tmp_path: Path) -> None:
    schema = infer(frame(label=[0, 1], x=[1.0, 2.0]), "label", None, None).schema
    document = schema.model_dump_json(exclude_defaults=True)
    assert read_schema(written(tmp_path, document, "schema.json")) == schema
    assert "unit" not in json.loads(document)["features"][0]
