"""What becomes of the columns of a table is fixed by the first one, and repeated for all that follow."""

import json

import pytest
import torch

from lure.data.sources import load_examples
from lure.data.sources.columns import MAX_LEVELS, Column, TableForm
from lure.data.sources.dataset import Hints
from lure.data.sources.files import read_form
from lure.errors import InputError

pandas = pytest.importorskip("pandas")
pytest.importorskip("datasets")


def refusal(action, *arguments, **options):
    with pytest.raises(InputError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FIRST = pandas.DataFrame(
    {
        "who": ["p", "q", "r", "s"],
        "age": [30.0, None, 50.0, 40.0],
        "colour": ["red", "blue", None, "red"],
        "vip": [True, False, None, True],
        "size": [1, 2, 3, 4],
        "label": [0, 1, 0, 1],
    }
)
HINTS = Hints(id="who")


@pytest.fixture(params=["parquet", "csv"])
def save(request, tmp_path):
    def save(table, name="a"):
        path = tmp_path / f"{name}.{request.param}"
        (table.to_parquet if request.param == "parquet" else table.to_csv)(path, index=False)
        return path

    return save


def test_text_is_a_category_and_missing_numbers_have_a_mean_and_an_indicator(save):
    file = save(FIRST)
    form = read_form(file, HINTS)
    assert form.columns == (
        Column(name="age", kind="numbers", mean=40.0),
        Column(name="colour", kind="text", levels=("blue", "red")),
        Column(name="vip", kind="truth values", mean=pytest.approx(2 / 3)),
        Column(name="size", kind="numbers"),
    )
    assert form.inputs == (
        *("age", "age is missing", "colour = blue", "colour = red", "colour is another", "vip", "vip is missing"),
        "size",
    )
    mean = pytest.approx(2 / 3)
    assert load_examples(file, form=form).inputs.tolist() == [
        [30, 0, 0, 1, 0, 1, 0, 1],
        [40, 1, 1, 0, 0, 0, 0, 2],
        [50, 0, 0, 0, 1, mean, 1, 3],
        [40, 0, 0, 1, 0, 1, 0, 4],
    ]
    for rows in ([2, 0], [3, 1, 1], [1, 2, 3], []):
        assert load_examples(file, form=form)[torch.tensor(rows, dtype=torch.int64)].inputs.equal(
            load_examples(file, form=form).inputs[rows]
        )
    told = "\n".join(form.describe())
    for words in ("id, carried through to predictions: who", "numbers: size", "age (40)", "colour (blue, red)"):
        assert words in told


def test_a_form_is_plain_values_and_back(save):
    form = read_form(save(FIRST), Hints(id="who", ignore=("size",)))
    assert TableForm.from_dict(json.loads(json.dumps(form.as_dict()))) == form
    assert form.as_dict()["inputs"][:2] == ["age", "age is missing"]


def test_later_tables_become_what_the_first_one_fixed(save):
    form = read_form(save(FIRST), HINTS)
    later = pandas.DataFrame(
        {
            "size": [5, 6],
            "vip": [False, None],
            "colour": ["redd", "blue"],
            "age": [None, None],
            "label": [1, 1],
            "who": ["t", "u"],
        }
    )
    with pytest.warns(UserWarning, match="column 'colour'") as told:
        examples = load_examples(save(later, "b"), form=form)
    assert "column 'colour' holds 1 text that the model was not begun with, 'redd': did you mean 'red'?" in str(
        told[0].message
    )
    assert examples.inputs[:, :5].tolist() == [[40, 1, 0, 0, 1], [40, 1, 1, 0, 0]]


def test_a_number_that_is_missing_where_none_was_is_named_by_row_and_column(save):
    form = read_form(save(FIRST), HINTS)
    file = save(FIRST.assign(size=[1, 2, None, 4]), "b")
    told = refusal(load_examples, file, form=form)
    assert told.startswith(f"{file}, column 'size': inputs hold NaN or infinity at row 2")
    assert "only if it did in the data of the beginning" in told
    assert ("(line 4)" in told) == (file.suffix == ".csv")


def test_missing_numbers_and_text_are_no_features_where_nothing_is_fixed(save):
    file = save(FIRST[["age", "label"]])
    assert "column 'age': inputs hold NaN or infinity at row 1" in refusal(load_examples, file)
    assert "column 'colour' (text) cannot be a feature" in refusal(load_examples, save(FIRST[["colour", "label"]]))


def test_more_texts_than_a_category_has_are_refused_by_their_column(save):
    count = MAX_LEVELS + 1
    table = pandas.DataFrame({"size": range(count), "note": [f"n{i}" for i in range(count)], "label": 0})
    file = save(table)
    told = refusal(read_form, file)
    assert told == (
        f"{file}: column of too many different texts: 'note' ({count}, such as 'n0'); a category has at most "
        f"{MAX_LEVELS}: leave out names and notes (--ignore note; or --id, if a column names the rows)"
    )
    told = refusal(read_form, save(table.assign(more=table["note"])))
    assert "columns of too many different texts: 'note' (101, such as 'n0'), 'more' (101, such as 'n0')" in told
    assert "(--ignore note,more; or" in told
    assert read_form(save(table[1:]), None).columns[1].levels[0] == "n1"


def test_a_text_among_numbers_is_named(save):
    cells = [str(number) for number in range(2 * MAX_LEVELS)]
    cells[7] = "?"
    told = refusal(read_form, save(pandas.DataFrame({"a": cells, "label": 0})))
    assert "column 'a' holds numbers, and the text '?' at row 7" in told
    assert "leave the column out (--ignore a)" in told


def test_a_column_that_holds_nothing_is_named(save):
    table = FIRST.assign(nothing=pandas.Series([None] * 4, dtype="float64"))
    told = refusal(read_form, save(table), HINTS)
    assert "'nothing'" in told
    assert "--ignore" in told


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (Hints(ignore=("who", "siez")), "unknown column 'siez': did you mean 'size'?"),
        (Hints(id="hwo"), "unknown column 'hwo': did you mean 'who'?"),
    ],
)
def test_columns_that_are_named_and_not_there_are_named(save, hints, message):
    assert message in refusal(read_form, save(FIRST), hints)


def test_columns_that_were_left_out_may_come_or_not(save):
    form = read_form(save(FIRST), Hints(ignore=("who", "size")))
    with_them, without = save(FIRST, "b"), save(FIRST.drop(columns=["who", "size"]), "c")
    assert load_examples(with_them, form=form).fingerprint == load_examples(without, form=form).fingerprint
    told = refusal(load_examples, save(FIRST.assign(new=1), "d"), form=form)
    assert "has the unknown columns new" in told
    assert len(load_examples(save(FIRST.assign(new=1), "d"), form=form, hints=Hints(ignore=("new",)))) == 4


def test_the_column_of_labels_is_remembered(save):
    form = read_form(save(FIRST.rename(columns={"label": "bought"})), Hints(label="bought", id="who"))
    assert load_examples(save(FIRST.rename(columns={"label": "bought"}), "b"), form=form).labels.tolist() == [
        0,
        1,
        0,
        1,
    ]
    told = refusal(load_examples, save(FIRST.rename(columns={"label": "target"}), "c"), form=form)
    assert "has no label column (bought)" in told


def test_levels_are_compared_in_one_form_of_unicode(save):
    first = pandas.DataFrame({"name": ["caf\u00e9", "bar"], "label": [0, 1]})
    form = read_form(save(first))
    again = pandas.DataFrame({"name": ["cafe\u0301", "bar"], "label": [0, 1]})
    assert load_examples(save(again, "b"), form=form).inputs.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_both_formats_give_the_same_inputs(tmp_path):
    FIRST.to_csv(tmp_path / "a.csv", index=False)
    FIRST.to_parquet(tmp_path / "a.parquet")
    forms = [read_form(tmp_path / name, HINTS) for name in ("a.csv", "a.parquet")]
    assert forms[0] == forms[1]
    prints = {load_examples(tmp_path / name, form=forms[0]).fingerprint for name in ("a.csv", "a.parquet")}
    assert len(prints) == 1


def test_categories_of_pandas_are_text(tmp_path):
    table = FIRST[["size", "label"]].assign(kind=pandas.Categorical(["x", "y", None, "x"]))
    table.to_parquet(tmp_path / "a.parquet")
    form = read_form(tmp_path / "a.parquet")
    assert form.columns[1].levels == ("x", "y")
    assert load_examples(tmp_path / "a.parquet", form=form).inputs.tolist()[2] == [3, 0, 0, 1]


def test_lists_are_one_column_of_several_inputs(tmp_path):
    table = pandas.DataFrame({"pair": [[1.0, 2.0], [3.0, 4.0]], "size": [5, 6], "label": [0, 1]})
    table.to_parquet(tmp_path / "a.parquet")
    form = read_form(tmp_path / "a.parquet")
    assert form.inputs == ("pair[0]", "pair[1]", "size")
    table.assign(size=[5, float("inf")]).to_parquet(tmp_path / "b.parquet")
    assert "column 'size': inputs hold NaN or infinity at row 1" in refusal(
        load_examples, tmp_path / "b.parquet", form=form
    )


def test_a_column_is_for_one_thing():
    assert "the column 'a' is named twice" in refusal(Hints, label="a", ignore=("b", "a"))
