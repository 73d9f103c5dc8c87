"""What a column holds decides whether it can be a feature, and what it holds is fixed with its name."""

import dataclasses
import datetime

import pytest

from lure.cli import main
from lure.data.sources import load_dataset, load_examples
from lure.data.sources.files import read_class_names, read_columns
from lure.errors import InputError
from lure.store.agreement import Agreement
from lure.store.durable import seal

pyarrow = pytest.importorskip("pyarrow")
pandas = pytest.importorskip("pandas")
pytest.importorskip("datasets")
parquet = pytest.importorskip("pyarrow.parquet")


def refusal(action, *arguments, **options):
    with pytest.raises(InputError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def frame(**more):
    return pandas.DataFrame({"a": [0.5, 1.5, 2.5], "label": [0, 1, 0], **more})


def write(path, table, **options):
    path.parent.mkdir(exist_ok=True)
    table.to_parquet(path, **options)
    return path


@pytest.mark.parametrize("name", [None, "customer"])
def test_the_index_of_pandas_is_no_feature(tmp_path, name):
    table = frame().set_index(pandas.Index([7, 3, 5], name=name))
    file = write(tmp_path / "a.parquet", table, index=True)
    column = name or "__index_level_0__"
    assert column in parquet.read_schema(file).names
    with pytest.warns(UserWarning, match=f"left out '{column}', which pandas wrote as the index") as told:
        examples = load_examples(file)
    assert len(told) == 1
    assert examples.inputs.tolist() == [[0.5], [1.5], [2.5]]
    with pytest.warns(UserWarning, match="left out"):
        assert list(read_columns(file)) == ["a"]


def test_an_index_that_came_through_a_csv_file_or_a_saved_table_is_no_feature(tmp_path):
    datasets = pytest.importorskip("datasets")
    frame().to_csv(tmp_path / "a.csv")
    file = write(tmp_path / "a.parquet", pandas.read_csv(tmp_path / "a.csv"))
    datasets.Dataset.from_pandas(frame().set_index(pandas.Index([7, 3, 5]))).save_to_disk(tmp_path / "saved")
    for place in (file, tmp_path / "saved"):
        with pytest.warns(UserWarning, match="left out"):
            assert load_examples(place).input_shape == (1,)


def test_labels_that_are_the_index_stay_labels(tmp_path):
    file = write(tmp_path / "a.parquet", frame().set_index("label"))
    assert load_examples(file).labels.tolist() == [0, 1, 0]


def test_a_model_that_was_begun_with_the_index_as_a_feature_still_gets_it(tmp_path):
    file = write(tmp_path / "a.parquet", frame().set_index(pandas.Index([7, 3, 5])), index=True)
    examples = load_examples(file, columns=["__index_level_0__", "a"])
    assert examples.inputs.tolist() == [[7, 0.5], [3, 1.5], [5, 2.5]]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pandas.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01"]), "times (timestamp["),
        ([datetime.date(2020, 1, day) for day in (1, 2, 3)], "times (date32[day])"),
        (pandas.to_timedelta([1, 2, 3], "s"), "times (duration["),
        ([datetime.time(1), datetime.time(2), datetime.time(3)], "times (time64["),
        (["01234", "01235", "01236"], "text"),
        (pandas.Categorical(["x", "y", "x"]), "text"),
        ([["1"], ["2"], ["3"]], "lists of text"),
        ([{"x": 1}, {"x": 2}, {"x": 3}], "struct"),
        ([None, None, None], "nothing"),
    ],
)
def test_what_is_no_number_is_refused_by_its_column(tmp_path, values, kind):
    file = write(tmp_path / "a.parquet", frame(when=values))
    told = refusal(load_examples, file)
    assert told.startswith(f"{file}: column 'when' ({kind}")
    assert "leave it out" in told


def test_numbers_truth_values_and_declared_categories_are_features(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "whole": datasets.Value("int16"),
            "truth": datasets.Value("bool"),
            "kind": datasets.ClassLabel(names=["x", "y"]),
            "pair": datasets.List(datasets.Value("float32"), length=2),
            "label": datasets.Value("int64"),
        }
    )
    table = {"whole": [3, 4], "truth": [True, False], "kind": [1, 0], "pair": [[1, 2], [3, 4]], "label": [0, 1]}
    datasets.Dataset.from_dict(table, features=features).to_parquet(tmp_path / "a.parquet")
    assert load_examples(tmp_path / "a.parquet").inputs.tolist() == [[3, 1, 1, 1, 2], [4, 0, 0, 3, 4]]
    kinds = ["numbers", "truth values", "categories: x, y", "lists of numbers"]
    assert list(read_columns(tmp_path / "a.parquet").values()) == kinds


def test_columns_of_another_kind_are_refused_in_the_test_set(tmp_path):
    write(tmp_path / "train.parquet", frame(b=[1, 2, 3]))
    write(tmp_path / "test.parquet", frame(b=[True, False, True]))
    told = refusal(load_dataset, "file", tmp_path)
    assert told == f"{tmp_path / 'test.parquet'}: column 'b' holds truth values; the model was begun with numbers"
    write(tmp_path / "test.parquet", frame(b=[1.5, 2.0, 3.0]))
    assert load_dataset("file", tmp_path).test.inputs.tolist()[0] == [0.5, 1.5]


def test_files_of_one_folder_hold_the_same_kinds_of_columns(tmp_path):
    write(tmp_path / "all" / "0.parquet", frame(b=[1, 2, 3]))
    write(tmp_path / "all" / "1.parquet", frame(b=["01", "02", "03"]))
    told = refusal(load_examples, tmp_path / "all")
    assert f"column 'b' holds text in {tmp_path / 'all' / '1.parquet'}, and numbers in" in told


def test_two_columns_that_may_be_the_labels_are_refused(tmp_path):
    file = write(tmp_path / "a.parquet", frame(target=[1, 0, 1]))
    assert "several columns that may be the labels (label, target)" in refusal(load_examples, file)
    assert read_class_names(file) == ()


def test_the_kind_of_a_column_is_agreed_when_a_model_is_begun(tmp_path, capsys):
    holdout = write(tmp_path / "holdout.parquet", frame(b=[1, 2, 3]))
    other = write(tmp_path / "other.parquet", frame(b=[True, False, True]))
    model = str(tmp_path / "model")
    words = ["--model", "mlp:width=4", "--epochs", "1", "--threads", "1", "--validation-fraction", "0"]
    assert main(["init", model, "--holdout", str(holdout), *words]) == 0
    before = sorted((tmp_path / "model").rglob("*"))
    assert main(["update", model, str(other)]) == 2
    message = f"{other}: column 'b' holds truth values; the model was begun with numbers"
    assert message in capsys.readouterr().err
    assert sorted((tmp_path / "model").rglob("*")) == before
    assert main(["update", model, str(holdout)]) == 0
    capsys.readouterr()
    for command in (["predict", model, str(other)], ["evaluate", model, "--on", str(other)]):
        assert main(command) == 2
        assert message in capsys.readouterr().err


def test_what_was_agreed_before_kinds_were_recorded_is_read(tmp_path):
    old = Agreement(
        holdout="0", independent=None, class_names=[], columns=["a"], normalization=None, gate={}, recipe={}
    )
    record = {name: value for name, value in dataclasses.asdict(old).items() if name != "column_kinds"}
    assert Agreement.from_bytes(seal(record), tmp_path) == old
