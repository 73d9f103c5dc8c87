import importlib.util
import sys

import numpy as np
import pytest
import torch
from miniatures import write_image

from lure.data.sources import load_dataset, load_examples, read_class_names
from lure.errors import InputError

needs_datasets = pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs the extra 'data'")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The library without progress bars, its cache in a folder of the test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    yield datasets
    if bars:
        datasets.enable_progress_bars()


def picture_table(hub, folder, names=("dog", "cat")):
    features = hub.Features({"img": hub.Image(), "label": hub.ClassLabel(names=list(names))})
    files = [write_image(folder / f"{seed}.png", seed) for seed in range(4)]
    cells = [{"bytes": file.read_bytes(), "path": None} for file in files]
    return hub.Dataset.from_dict({"img": cells, "label": [0, 1, 1, 0]}, features=features)


def refusal(action, *arguments, **options):
    with pytest.raises(InputError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@needs_datasets
def test_parquet_and_a_saved_copy_hold_the_same_images(hub, tmp_path):
    from PIL import Image

    table = picture_table(hub, tmp_path / "files")
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "shards").mkdir()
    table.select([0, 1]).to_parquet(tmp_path / "shards" / "0.parquet")
    table.select([2, 3]).to_parquet(tmp_path / "shards" / "1.parquet")
    table.save_to_disk(tmp_path / "saved")
    expected = [np.array(Image.open(tmp_path / "files" / f"{seed}.png")).transpose(2, 0, 1) for seed in range(4)]
    fingerprints = set()
    for place in ("a.parquet", "shards", "saved"):
        examples = load_examples(tmp_path / place)
        assert torch.equal(examples.inputs, torch.from_numpy(np.stack(expected)))
        assert examples.labels.tolist() == [0, 1, 1, 0]
        assert read_class_names(tmp_path / place) == ("dog", "cat")
        assert load_examples(tmp_path / place, ["cat", "bird", "dog"], (1, 4, 5)).labels.tolist() == [2, 0, 0, 2]
        fingerprints.add(examples.fingerprint)
    assert len(fingerprints) == 1
    assert "unknown class 'cat'" in refusal(load_examples, tmp_path / "saved", ["dog", "bird"])


@needs_datasets
def test_a_table_of_numbers_becomes_float_rows(hub, tmp_path):
    table = {"size": [1.5, 2.5, 3.5], "count": [4, 5, 6], "label": ["x", "y", "x"]}
    hub.Dataset.from_dict(table).to_parquet(tmp_path / "a.parquet")
    examples = load_examples(tmp_path / "a.parquet")
    assert examples.inputs.tolist() == [[1.5, 4], [2.5, 5], [3.5, 6]]
    assert examples.labels.tolist() == [0, 1, 0]
    assert read_class_names(tmp_path / "a.parquet") == ("x", "y")
    assert load_examples(tmp_path / "a.parquet", ["y", "x"]).labels.tolist() == [1, 0, 1]
    assert load_examples(tmp_path / "a.parquet", labelled=False).inputs.shape == (3, 2)
    hub.Dataset.from_dict({"inputs": [[1, 2], [3, 4]], "name": ["p", "q"], "labels": [3, 0]}).to_parquet(
        tmp_path / "b.parquet"
    )
    examples = load_examples(tmp_path / "b.parquet")
    assert examples.inputs.tolist() == [[1, 2], [3, 4]]
    assert examples.labels.tolist() == [3, 0]
    assert read_class_names(tmp_path / "b.parquet") == ()


@needs_datasets
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": [1.0, float("nan")], "label": [0, 1]}, "inputs hold NaN or infinity at row 1"),
        ({"a": ["p", "q"], "label": [0, 1]}, "column 'a' (text) cannot be a feature"),
        ({"a": [[1], [1, 2]], "label": [0, 1]}, "rows of different length"),
        ({"a": [1, 2], "label": [0.5, 1]}, "must be integers or names of classes"),
        ({"a": [1, 2], "label": [0, None]}, "the label of row 1 is missing"),
        ({"a": [1, 2], "label": [0, -1]}, "got -1 at row 1"),
        ({"a": [1, 2], "number": [0, 1]}, "has no label column"),
        ({"label": [0, 1]}, "holds nothing but labels"),
        ({"a": [], "label": []}, "holds no rows"),
    ],
)
def test_unusable_tables_are_named(hub, tmp_path, table, message):
    hub.Dataset.from_dict(table).to_parquet(tmp_path / "a.parquet")
    told = refusal(load_examples, tmp_path / "a.parquet")
    assert message in told
    assert str(tmp_path / "a.parquet") in told


@needs_datasets
def test_damaged_parquet_is_named(hub, tmp_path, capfd):
    file = tmp_path / "a.parquet"
    hub.Dataset.from_dict({"a": [1.0] * 1000, "label": [0] * 1000}).to_parquet(file)
    content = file.read_bytes()
    for damaged in (b"", b"PAR1 nonsense PAR1", content[: len(content) // 2]):
        file.write_bytes(damaged)
        assert f"cannot read {file}" in refusal(load_examples, file)
    capfd.readouterr()


@needs_datasets
def test_files_with_different_columns_are_named(hub, tmp_path, capfd):
    for name, columns in (("0", {"a": [1.0], "label": [0]}), ("1", {"b": [1.0], "label": [0]})):
        hub.Dataset.from_dict(columns).to_parquet(tmp_path / f"{name}.parquet")
    told = refusal(load_examples, tmp_path)
    assert f"{tmp_path / '1.parquet'} lacks the columns a and has the unknown columns b, compared with" in told
    assert str(tmp_path / "0.parquet") in told
    assert capfd.readouterr().err == ""


@needs_datasets
def test_values_of_different_types_are_named_without_a_log(hub, tmp_path, capfd):
    for name, value in (("0", 1.0), ("1", "text")):
        hub.Dataset.from_dict({"a": [value], "label": [0]}).to_parquet(tmp_path / f"{name}.parquet")
    assert "text" in refusal(load_examples, tmp_path)
    assert capfd.readouterr().err == ""


@needs_datasets
def test_a_table_that_claims_more_rows_than_bytes_is_refused(hub, tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"label": pyarrow.array(np.zeros(2_000_000, np.int64))})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert "claims 2000000 rows, more than it has bytes" in refusal(load_examples, tmp_path / "a.parquet")


@needs_datasets
def test_a_saved_data_set_is_read_with_both_splits(hub, tmp_path):
    table = picture_table(hub, tmp_path / "files")
    hub.DatasetDict(train=table, test=table.select([3])).save_to_disk(tmp_path / "both")
    dataset = load_dataset("hugging-face:size=6", tmp_path / "both")
    assert dataset.train.inputs.shape == (4, 3, 6, 6)
    assert dataset.test.inputs.shape == (1, 3, 6, 6)
    assert dataset.test.labels.tolist() == [0]
    assert dataset.class_names == ("dog", "cat")
    assert len(load_dataset("hugging-face:test=train:image=img:label=label", tmp_path / "both").test) == 4
    told = refusal(load_dataset, "hugging-face:test=validation", tmp_path / "both")
    assert "has no split 'validation', it holds train, test" in told
    assert "unknown column 'pic'" in refusal(load_dataset, "hugging-face:image=pic", tmp_path / "both")
    assert "holds the tables train, test" in refusal(load_examples, tmp_path / "both")


@needs_datasets
def test_a_row_without_an_image_is_named(hub, tmp_path):
    features = hub.Features({"image": hub.Image(), "label": hub.Value("int64")})
    good = write_image(tmp_path / "a.png").read_bytes()
    cells = [{"bytes": good, "path": None}, None]
    hub.Dataset.from_dict({"image": cells, "label": [0, 1]}, features=features).save_to_disk(tmp_path / "saved")
    examples = load_examples(tmp_path / "saved")
    with pytest.raises(InputError, match="there is no image in row 1"):
        examples.inputs  # noqa: B018


@needs_datasets
def test_progress_bars_are_restored(hub, tmp_path):
    picture_table(hub, tmp_path / "files").to_parquet(tmp_path / "a.parquet")
    hub.enable_progress_bars()
    load_examples(tmp_path / "a.parquet")
    assert hub.is_progress_bar_enabled()


def test_a_data_set_from_the_hub_is_downloaded_only_on_request():
    assert "add --download" in refusal(load_dataset, "hugging-face:id=someone/something")
    assert "needs a saved copy" in refusal(load_dataset, "hugging-face")


@needs_datasets
def test_a_data_set_is_fetched_by_its_id_and_configuration(hub, tmp_path):
    # The library takes a local folder that looks like a repository for one.
    repository = tmp_path / "someone" / "something"
    repository.mkdir(parents=True)
    table = picture_table(hub, tmp_path / "files")
    table.to_parquet(repository / "train.parquet")
    table.select([3]).to_parquet(repository / "test.parquet")
    (repository / "README.md").write_text("""---
configs:
- config_name: small
  data_files:
  - {split: train, path: train.parquet}
  - {split: test, path: test.parquet}
- config_name: other
  data_files: test.parquet
---
""")
    dataset = load_dataset(f"hugging-face:id={repository}:config=small", tmp_path / "kept", download=True)
    assert (len(dataset.train), len(dataset.test), dataset.class_names) == (4, 1, ("dog", "cat"))
    assert list((tmp_path / "kept").rglob("*.arrow"))
    told = refusal(load_dataset, f"hugging-face:id={repository}:config=other", tmp_path / "kept", download=True)
    assert f"{repository} has no split 'test', it holds train" in told


def test_without_the_library_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'lure-torch[data]'" in refusal(load_examples, tmp_path / "a.parquet")


def test_a_number_too_large_for_float32_is_refused_by_its_row(hub, tmp_path):
    hub.Dataset.from_dict({"x": [0.5, 1e300], "label": [0, 1]}).to_parquet(str(tmp_path / "a.parquet"))
    assert refusal(load_examples, tmp_path / "a.parquet").endswith("inputs hold NaN or infinity at row 1")
