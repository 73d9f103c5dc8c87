"""What a column holds decides whether it can be a feature, and what it holds is fixed with its name."""

import dataclasses
import datetime
import io

import numpy as np
import pytest
import torch
from PIL import Image

from lure.cli import main
from lure.data.sources import load_dataset, load_examples
from lure.data.sources.columns import TableForm
from lure.data.sources.dataset import Hints
from lure.data.sources.files import read_class_names, read_form
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
        assert read_form(file).names == ("a",)


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
    examples = load_examples(file, form=TableForm.of_names(["__index_level_0__", "a"]))
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
    assert list(read_form(tmp_path / "a.parquet").kinds) == kinds


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
    record = {name: value for name, value in dataclasses.asdict(old).items() if name not in ("column_kinds", "table")}
    assert Agreement.from_bytes(seal(record), tmp_path) == old


def picture(seed):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


PICTURES = [picture(seed) for seed in range(3)]


@pytest.mark.parametrize("form", ["bytes", "large bytes", "view", "records", "records with large bytes"])
def test_images_that_other_libraries_wrote_are_images(tmp_path, form):
    if form.startswith("records"):
        dtype = pyarrow.large_binary() if "large" in form else pyarrow.binary()
        dtype = pyarrow.struct({"bytes": dtype, "path": pyarrow.string()})
        cells = pyarrow.array([{"bytes": content, "path": None} for content in PICTURES], dtype)
    else:
        dtype = {"large bytes": pyarrow.large_binary(), "view": pyarrow.binary_view()}.get(form, pyarrow.binary())
        cells = pyarrow.array(PICTURES, dtype)
    parquet.write_table(pyarrow.table({"photo": cells, "label": ["x", "y", "x"]}), tmp_path / "a.parquet")
    examples = load_examples(tmp_path / "a.parquet")
    assert examples.input_shape == (3, 4, 4)
    assert examples.labels.tolist() == [0, 1, 0]
    assert len(examples.inputs) == 3


def test_the_columns_of_labels_and_images_can_be_named(tmp_path):
    table = pandas.DataFrame({"left": PICTURES, "right": PICTURES[::-1], "species": ["x", "y", "x"]})
    file = write(tmp_path / "a.parquet", table)
    assert "has no label column" in refusal(load_examples, file)
    named = Hints(label="species", image="right")
    assert "several columns of images (left, right): name one" in refusal(
        load_examples, file, hints=Hints(label="species")
    )
    with pytest.warns(UserWarning, match="inputs are the images of column 'right'; left out: left"):
        examples = load_examples(file, hints=named)
    assert examples.labels.tolist() == [0, 1, 0]
    with pytest.warns(UserWarning, match="left out: right"):
        assert torch.equal(
            load_examples(file, hints=Hints(label="species", image="left")).inputs[2], examples.inputs[0]
        )
    told = refusal(load_examples, file, labelled=False, hints=Hints(image="species"))
    assert f"{file}: column 'species' holds text, no images" in told
    assert "unknown column 'rihgt': did you mean 'right'" in refusal(
        load_examples, file, hints=Hints(label="species", image="rihgt")
    )


def test_bytes_that_are_no_image_are_named_by_row_column_and_file(tmp_path):
    file = write(tmp_path / "a.parquet", pandas.DataFrame({"photo": [*PICTURES[:2], b"GIF"], "label": [0, 1, 0]}))
    told = refusal(lambda: load_examples(file).inputs)
    assert f"in row 2 of {file}, column 'photo'" in told


@pytest.mark.parametrize("labels", [["cat", "dog", "cat"], [0, 1, 0], ["10", "2", "10"], ["a/b", "c d", "a/b"]])
def test_folders_that_are_partitioned_by_label_are_read(tmp_path, labels):
    table = pandas.DataFrame({"a": [0.5, 1.5, 2.5], "b": [1, 2, 3], "species": labels})
    table.to_parquet(tmp_path / "parts", partition_cols=["species"])
    hints = Hints(label="species")
    examples = load_examples(tmp_path / "parts", hints=hints)
    names = read_class_names(tmp_path / "parts", hints)
    rows = {tuple(row): label for row, label in zip(examples.inputs.tolist(), examples.labels.tolist(), strict=True)}
    for row, label in zip(table[["a", "b"]].to_numpy().tolist(), labels, strict=True):
        assert str(label) == (names[rows[tuple(row)]] if names else str(rows[tuple(row)]))
    table.rename(columns={"species": "label"}).to_parquet(tmp_path / "usual", partition_cols=["label"])
    assert len(load_examples(tmp_path / "usual")) == 3


def test_a_partition_without_a_label_is_named(tmp_path):
    table = pandas.DataFrame({"a": [0.5, 1.5, 2.5], "label": ["x", None, "y"]})
    table.to_parquet(tmp_path / "parts", partition_cols=["label"])
    assert "the label of row" in refusal(load_examples, tmp_path / "parts")


@pytest.mark.filterwarnings("default::UserWarning")
def test_columns_of_images_and_labels_are_remembered(tmp_path, capsys):
    table = pandas.DataFrame({"left": PICTURES, "right": PICTURES[::-1], "species": ["x", "y", "x"], "key": [7, 8, 9]})
    file, model = str(write(tmp_path / "a.parquet", table)), str(tmp_path / "model")
    named = ["--label", "species", "--image", "right", "--id", "key", "--ignore", "left"]
    words = ["--model", "mlp:width=4", "--epochs", "1", "--threads", "1"]
    assert main(["init", model, "--holdout", file, *named, *words]) == 0
    assert main(["update", model, file]) == 0
    assert "left out" not in capsys.readouterr().err
    assert main(["predict", model, file]) == 0
    assert [line.split(",")[1] for line in capsys.readouterr().out.splitlines()] == ["id", "7", "8", "9"]


def test_columns_can_be_named_in_every_command(tmp_path, capsys):
    table = frame(b=[1, 2, 3]).rename(columns={"label": "species"})
    for name in ("train", "test"):
        write(tmp_path / f"{name}.parquet", table)
    model, file = str(tmp_path / "model"), str(tmp_path / "test.parquet")
    words = ["--model", "mlp:width=4", "--epochs", "1", "--threads", "1"]
    assert main(["init", model, "--holdout", file, *words]) == 2
    assert "name it (--label NAME)" in capsys.readouterr().err
    label = ["--label", "species"]
    assert main(["init", model, "--holdout", file, *label, *words]) == 0
    for command in (["update", model, file], ["predict", model, file], ["evaluate", model, "--on", file]):
        assert main([*command, *label]) == 0
    assert main(["predict", model, str(write(tmp_path / "new.parquet", table.drop(columns="species")))]) == 0
    out = ["--out", str(tmp_path / "run"), "--data", str(tmp_path), "--num-mega-batches", "1", *words]
    assert main(["run", "own-data", *out, *label]) == 0
    assert 'dataset = "file:label=species"' in (tmp_path / "run" / "recipe.toml").read_text()
    out[1] = str(tmp_path / "compared")
    assert main(["compare", "own-data", *out, *label, "--unlearners", "scratch", "--seeds", "0"]) == 0


def test_messages_about_many_columns_stay_short(tmp_path):
    many = pandas.DataFrame({f"measurement_number_{number}": [0.5, 1.5] for number in range(500)})
    write(tmp_path / "all" / "0.parquet", frame())
    write(tmp_path / "all" / "1.parquet", many)
    told = refusal(load_examples, tmp_path / "all")
    assert "lacks the columns a, label and has the unknown columns measurement_number_0, " in told
    assert told.count("measurement") == 20
    assert "and 480 more" in told
    for action in (
        lambda: load_examples(tmp_path / "all" / "1.parquet"),
        lambda: load_examples(tmp_path / "all" / "1.parquet", hints=Hints(label="labell")),
        lambda: load_examples(write(tmp_path / "a.parquet", many.assign(label=0).astype(str))),
    ):
        assert refusal(action).count("measurement") <= 20
