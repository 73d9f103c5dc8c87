from itertools import chain

import pytest
import torch
from miniatures import write_image

import lure.training.loader
from lure import Examples, InputError, Learner, Recipe
from lure.data.augmentation import draw_crops
from lure.data.sources import load_examples
from lure.training.loader import Loader, Sample, cut_batches

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def photographs(tmp_path):
    """Five images of different sizes in two classes, at 8 x 8."""
    for number, size in enumerate([(40, 30), (16, 64), (25, 25), (9, 80), (33, 31)]):
        write_image(tmp_path / ("cat", "dog")[number % 2] / f"{number}.png", number, size)
    return load_examples(tmp_path, size=8)


def rows_of(loader, *arguments, **options):
    inputs, labels = zip(*loader.batches(*arguments, **options), strict=True)
    return torch.cat(inputs), torch.cat(labels)


@pytest.mark.parametrize("augmentation", ["none", "crop-flip", "imagenet"])
def test_data_that_do_not_fit_give_the_same_batches(photographs, augmentation, monkeypatch):
    order = torch.tensor([4, 0, 3, 2, 1])

    def batches(workers=0):
        generator = torch.Generator().manual_seed(3)
        return rows_of(Loader(photographs, "cpu", workers=workers), order, 2, augmentation, generator)

    held, labels = batches()
    monkeypatch.setattr(lure.training.loader, "RESIDENT_BYTES", 0)
    read, again = batches()
    worked, _ = batches(workers=1)
    assert torch.equal(held, read)
    assert torch.equal(held, worked)
    assert torch.equal(labels, again)
    assert labels.tolist() == photographs.labels[order].tolist()


def test_crops_for_imagenet_come_out_of_the_whole_photograph(photographs):
    order = torch.tensor([3, 1, 4, 0, 2])
    inputs, _ = rows_of(Loader(photographs, "cpu"), order, 2, "imagenet", torch.Generator().manual_seed(3))
    reader = photographs.parts[0].inputs.reader
    generator, place = torch.Generator().manual_seed(3), 0
    for piece in cut_batches(order, 2):
        crops = draw_crops(len(piece), generator)
        for number, row in enumerate(piece.tolist()):
            with Image.open(reader.name(row)) as image:
                box = crops.box(number, image.height, image.width)
                expected = image.resize((8, 8), Image.Resampling.BILINEAR, box)
            if crops.mirrored[number]:
                expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = torch.tensor(list(expected.get_flattened_data()), dtype=torch.uint8).view(8, 8, 3)
            assert torch.equal((inputs[place] * 255).round().byte(), pixels.permute(2, 0, 1))
            place += 1


def test_boxes_lie_inside_of_every_image_and_have_the_drawn_area_and_aspect():
    crops = draw_crops(400, torch.Generator().manual_seed(0))
    for height, width in ((50, 50), (20, 200), (300, 10)):
        for number in range(400):
            left, top, right, bottom = crops.box(number, height, width)
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            if right - left < width and bottom - top < height:  # not cut down
                area = (right - left) * (bottom - top) / (height * width)
                assert area == pytest.approx(float(crops.area[number]), rel=1e-4)
                assert (right - left) / (bottom - top) == pytest.approx(float(crops.aspect[number]), rel=1e-4)


@pytest.mark.parametrize("damaged", ["train/cat/0.png", "test/dog/1.png"])
def test_an_image_that_cannot_be_decoded_is_found_before_any_training(tmp_path, damaged):
    for part in ("train", "test"):
        for number in range(8):
            write_image(tmp_path / part / ("cat", "dog")[number % 2] / f"{number}.png", number)
    (tmp_path / damaged).write_bytes((tmp_path / damaged).read_bytes()[:60])
    moments = []
    recipe = Recipe(model="convnet:width=2", epochs=1, batch_size=4, threads=1)
    test = load_examples(tmp_path / "test", size=8)
    stream = [load_examples(tmp_path / "train", size=8)]
    with (
        Learner.open(tmp_path / "run", recipe=recipe, test=test, stream=stream) as learner,
        pytest.raises(InputError, match=damaged),
    ):
        learner.learn(stream[0], watch=moments.append)
    assert moments == []
    assert not (tmp_path / "run").exists()


def test_a_single_row_that_is_left_over_joins_the_batch_before():
    assert [len(piece) for piece in cut_batches(torch.arange(9), 4)] == [4, 5]
    assert [len(piece) for piece in cut_batches(torch.arange(10), 4)] == [4, 4, 2]
    assert [len(piece) for piece in cut_batches(torch.arange(1), 4)] == [1]
    assert cut_batches(torch.arange(0), 4) == []


def test_loading_leaves_the_global_random_state_alone(photographs, monkeypatch):
    monkeypatch.setattr(lure.training.loader, "RESIDENT_BYTES", 0)
    before = torch.get_rng_state()
    rows_of(Loader(photographs, "cpu"), None, 2, "imagenet")
    assert torch.equal(torch.get_rng_state(), before)


def test_floats_and_integers_reach_the_model_as_they_are():
    for inputs in (torch.rand(3, 4), torch.arange(12).view(3, 4)):
        given, _ = rows_of(Loader(Examples(inputs, torch.arange(3)), "cpu"), None, 2)
        assert torch.equal(given, inputs)
        assert given.dtype == inputs.dtype


def numbered(count):
    return Loader(Examples(torch.arange(float(count))[:, None], torch.arange(count)), "cpu")


def labels_of(batches):
    return [labels.tolist() for _, labels in batches]


def test_a_sample_gives_the_mega_batches_by_themselves_and_counts_what_is_drawn():
    sample = Sample(numbered(9), 2, "none", 0, 1, arrivals=(3, 2, 4))
    assert labels_of(sample) == [[0, 1], [2, 3], [4, 5], [6, 7, 8]]
    for _ in range(2):  # again and again
        assert [labels_of(chunk) for chunk in sample.chunks()] == [[[0, 1, 2]], [[3, 4]], [[5, 6], [7, 8]]]
    assert sample.examples_drawn == 27
    assert [labels_of(chunk) for chunk in Sample(numbered(3), 2, "none", 0, 1).chunks()] == [[[0, 1, 2]]]


def test_a_sample_is_shuffled_by_the_given_generator():
    sample = Sample(numbered(9), 2, "none", 0, 1)
    orders = [labels_of(sample.shuffled(4, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)]
    assert [len(batch) for batch in orders[0]] == [4, 5]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(chain(*orders[2])) == list(range(9))
    assert sample.examples_drawn == 27


def test_two_processes_read_every_row_of_a_chunk_once(monkeypatch):
    monkeypatch.setattr(lure.training.loader, "number_of_processes", lambda: 2)
    read = []
    for rank in range(2):
        monkeypatch.setattr(lure.training.loader, "process_rank", lambda rank=rank: rank)
        sample = Sample(numbered(14), 2, "none", 0, 1, arrivals=(9, 5))
        read.append([[*chain(*labels_of(chunk))] for chunk in sample.chunks()])
    assert [sorted(one + other) for one, other in zip(*read, strict=True)] == [list(range(9)), list(range(9, 14))]
