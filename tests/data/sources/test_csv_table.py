"""CSV files: what they hold is found from their cells, and what is wrong in them is named by its line."""

import sys

import pytest

from lure.data.sources import load_dataset, load_examples, read_class_names
from lure.data.sources.columns import Column, TableForm
from lure.data.sources.dataset import Hints
from lure.data.sources.files import read_form, read_ids
from lure.errors import InputError

pytest.importorskip("datasets")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.csv"


def refusal(action, *arguments, **options):
    with pytest.raises(InputError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(file, text, encoding="utf-8"):
    file.write_bytes(text.encode(encoding))
    return file


def kinds(text, file):
    form = read_form(write(file, text))
    return {column.name: column.kind for column in form.columns}


def test_a_table_is_read_with_its_labels(file):
    write(file, "a,b,label\n1,2.5,cat\n3,-4e1,dog\n")
    examples = load_examples(file)
    assert examples.inputs.tolist() == [[1, 2.5], [3, -40]]
    assert (examples.labels.tolist(), read_class_names(file)) == ([0, 1], ("cat", "dog"))
    assert load_examples(write(file, "a,label\n1,1\n2,0\n")).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa,b,label\n1,2,0\n3,4,1\n",
        "a,b,label\r\n1,2,0\r\n3,4,1\r\n",
        "a,b,label\r1,2,0\r3,4,1",
        " a ,b, label\n 1, 2 ,0\n\n3,4,1\n\n",
        '"a","b","label"\n"1","2","0"\n"3","4","1"\n',
    ],
    ids=["mark of UTF-8", "Windows", "old Macintosh", "spaces and empty lines", "quotes"],
)
def test_what_programs_write_is_the_same_table(file, text):
    examples = load_examples(write(file, text))
    assert (examples.inputs.tolist(), examples.labels.tolist()) == ([[1, 2], [3, 4]], [0, 1])


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2", "3"], "numbers"),
        (["1.5", "2", "1e3"], "numbers"),
        (["1.5", "", "NA"], "numbers"),
        (["true", "FALSE", "True"], "truth values"),
        (["1", "0", "1"], "numbers"),
        (["01234", "1", "2"], "text"),
        (["0.5", "0", "-0.25"], "numbers"),
        (["red", "", "blue"], "text"),
        (["1", "2", "many"], "text"),
        (["05:00", "06:30", "07:00"], "text"),
    ],
)
def test_what_a_column_holds_is_found_from_all_its_cells(file, cells, kind):
    text = "x,label\n" + "".join(f"{cell},{row % 2}\n" for row, cell in enumerate(cells))
    assert kinds(text, file) == {"x": kind}


@pytest.mark.parametrize("cell", ["2024-01-05", "2024-01-05 10:30:00", "2024-01-05T10:30:00Z"])
def test_times_are_refused_by_their_column(file, cell):
    write(file, f"a,when,label\n1,{cell},0\n2,{cell},1\n")
    told = refusal(read_form, file)
    assert f"{file}: column 'when' (times (timestamp" in told
    assert "leave it out (--ignore when), or write it as numbers" in told
    assert read_form(file, Hints(ignore=("when",))).names == ("a",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,label\n1,2,0\n3,4\n", "line 3: 2 cells, and the first line names 3 columns"),
        ("a,b,label\n1,2,0\n\n3,4,1,\n", "line 4: 4 cells, and the first line names 3 columns"),
        ('a,b,label\n"1\n2",2,0\n3,4\n', "line 4: 2 cells, and the first line names 3 columns"),
        ('a,b,label\n1,2,0\n"3,4,1\n5,6,0\n', "line 3: 1 cell, and the first line names 3 columns"),
        ("a;b;label\n1;2;0\n", "line 1: semicolons between the names: a CSV file should have commas"),
        ("a\tb\tlabel\n1\t2\t0\n", "line 1: tabs between the names: a CSV file should have commas"),
        ("a,b,a,label\n1,2,3,0\n", "line 1: several columns are named 'a'"),
        ("a,b,label\n", "holds no rows"),
        ("", "is empty: its first line should name the columns"),
        ("a,label\n1,0\n2,\n", "column 'label': the label of row 1 (line 3) is missing"),
        ("a,label\n1,0\n2,-1\n", "got -1 at row 1 (line 3)"),
        ("a,label\n1,0.5\n2,1\n", "must be integers or names of classes"),
        ("a,label\n1,0\ninf,1\n", "column 'a': inputs hold NaN or infinity at row 1 (line 3)"),
        ("a,label\n1,0\n,1\n", "column 'a': inputs hold NaN or infinity at row 1 (line 3)"),
        ("a,label\nred,0\nblue,1\n", "column 'a' (text) cannot be a feature"),
        ("1,2,3\n4,5,6\n", "has no label column"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(file, text, message):
    told = refusal(load_examples, write(file, text))
    assert told.startswith((str(file), f"{file}, "))
    assert message in told


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("latin-1", "line 2: the byte 0xe9 is not UTF-8"),
        ("utf-16", "line 1: the byte 0xff is not UTF-8"),
        ("utf-16-le", "line 1: a zero byte, so this is no text"),
    ],
)
def test_another_encoding_is_named_by_its_line(file, encoding, message):
    told = refusal(load_examples, write(file, "a,label\n1,café\n", encoding))
    assert f"{file}, {message}" in told
    assert "save the file as UTF-8" in told


def test_a_column_holds_what_was_agreed_whatever_its_cells_look_like(file):
    form = TableForm(
        columns=(
            Column(name="code", kind="text", levels=("1", "x")),
            Column(name="use", kind="truth values"),
            Column(name="size", kind="numbers", mean=2.5),
        ),
        label="label",
        label_kind="text",
    )
    write(file, "code,size,use,label\n1,4,1,1\n1,NA,0,2\n")
    examples = load_examples(file, ["2", "x", "1"], form=form)
    assert examples.inputs.tolist() == [[1, 0, 0, 1, 4, 0], [1, 0, 0, 0, 2.5, 1]]
    assert examples.labels.tolist() == [2, 0]
    write(file, "code,size,use,label\n1,4,1,1\n1,5,maybe,2\n")
    told = refusal(load_examples, file, ["2", "x", "1"], form=form)
    assert told == f"{file}, line 3: column 'use' should hold truth values, got 'maybe'"
    write(file, "code,size,use,label\n1,many,1,1\n1,5,0,2\n")
    assert "line 2: column 'size' should hold numbers, got 'many'" in refusal(load_examples, file, form=form)


def test_a_label_that_looks_like_a_slip_is_asked_about(file):
    write(file, "a,label\n1,cat\n2,dgo\n")
    told = refusal(load_examples, file, ["cat", "dog"])
    assert told.endswith("row 1 (line 3): unknown class 'dgo': did you mean 'dog'? (valid: cat, dog)")


def test_truth_values_are_two_classes(file):
    write(file, "a,label\n1,True\n2,False\n")
    assert (read_class_names(file), load_examples(file).labels.tolist()) == (("False", "True"), [1, 0])


def test_the_index_of_pandas_is_no_feature(file):
    write(file, ",a,label\n0,5,0\n1,6,1\n")
    with pytest.warns(UserWarning, match="which pandas wrote as the index"):
        assert load_examples(file).inputs.tolist() == [[5], [6]]


def test_the_column_that_names_rows_is_carried_through_as_it_stands(file):
    write(file, "key,a,label\n7.0,1,0\n8.10,2,1\n")
    hints = Hints(id="key")
    form = read_form(file, hints)
    assert (form.names, form.id) == (("a",), "key")
    assert read_ids(file, form=form) == ["7.0", "8.10"]
    assert load_examples(file, form=form).inputs.tolist() == [[1], [2]]
    assert read_ids(file) is None
    write(file, "key,a,label\n7,1,0\n8,2,1\n\n7,3,1\n")
    told = refusal(load_examples, file, form=form)
    assert told == (
        f"{file}, column 'key': the id '7' is that of row 0 (line 2) and of row 2 (line 5): each row needs its own"
    )
    assert "row 0 (line 2) has no id" in refusal(load_examples, write(file, "key,a,label\n,1,0\n"), form=form)
    assert "unknown column 'key'" in refusal(read_ids, write(file, "a,label\n1,0\n"), form=form)


def test_both_parts_of_a_data_set_agree(tmp_path):
    write(tmp_path / "train.csv", "name,a,colour,label\nx,1,red,0\ny,,blue,1\n")
    write(tmp_path / "test.csv", "name,a,colour,label\nz,,red,1\n")
    dataset = load_dataset("file:ignore=name", tmp_path)
    assert dataset.train.inputs.tolist() == [[1, 0, 0, 1, 0], [1, 1, 1, 0, 0]]
    assert dataset.test.inputs.tolist() == [[1, 1, 0, 1, 0]]
    assert dataset.form.names == ("a", "colour")


def test_a_folder_of_csv_files_is_no_table(tmp_path):
    write(tmp_path / "a.csv", "a,label\n1,0\n")
    assert f"{tmp_path} is a folder with a.csv: name the file" in refusal(load_examples, tmp_path)


def test_without_the_library_the_error_says_what_to_install(file, monkeypatch):
    write(file, "a,label\n1,0\n")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'lure-torch[data]'" in refusal(load_examples, file)
