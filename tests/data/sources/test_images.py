import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from miniatures import write_image
from PIL import Image

from lure.data.sources import load_examples, read_class_names
from lure.data.sources.images import decode_image
from lure.errors import InputError


def encoded(pixels, mode=None, kind="PNG"):
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def tree(tmp_path):
    for seed, name in enumerate(["dog/b.png", "dog/a.png", "cat/z.PNG", "cat/notes.txt", "cat/.hidden.png"]):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            write_image(tmp_path / name, seed)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.md").write_text("no class")
    return tmp_path


def refusal(*arguments, **options):
    with pytest.raises(InputError) as caught:
        load_examples(*arguments, **options).inputs  # noqa: B018
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_are_classes_and_files_are_examples_in_order_of_names(tree):
    examples = load_examples(tree)
    assert read_class_names(tree) == ("cat", "dog")
    assert examples.labels.tolist() == [0, 1, 1]
    for row, name in enumerate(["cat/z.PNG", "dog/a.png", "dog/b.png"]):
        pixels = torch.from_numpy(np.array(Image.open(tree / name))).permute(2, 0, 1)
        assert torch.equal(examples[[row]].inputs[0], pixels)
    assert examples.input_shape == (3, 10, 12)
    assert examples.input_dtype == torch.uint8


def test_the_order_of_examples_does_not_depend_on_the_order_of_writing(tmp_path):
    for number in (3, 0, 4, 1, 5, 2):
        write_image(tmp_path / f"class {number * 7 % 6}" / f"{number}.png")
        write_image(tmp_path / "many" / f"{number}.png", number)
    examples = load_examples(tmp_path / "many", labelled=False)
    assert examples.parts[0].inputs.reader.names == [f"{number}.png" for number in range(6)]
    assert load_examples(tmp_path).parts[0].inputs.reader.names[:2] == ["class 0/0.png", "class 1/1.png"]


def test_known_classes_decide_the_labels(tree):
    assert load_examples(tree, ["bird", "dog", "cat"]).labels.tolist() == [2, 1, 1]
    assert f"{tree / 'dog'}: unknown class 'dog' (valid: bird, cat)" in refusal(tree, ["bird", "cat"])


def test_images_are_scaled_to_the_model_and_made_grey_or_rgb(tree):
    assert load_examples(tree, input_shape=(1, 6, 7)).inputs.shape == (3, 1, 6, 7)
    assert load_examples(tree, size=5).inputs.shape == (3, 3, 5, 5)
    assert "the model takes inputs of shape (784,)" in refusal(tree, input_shape=(784,))
    assert "size must be at least 1" in refusal(tree, size=0)


def test_scaling_crops_at_the_centre():
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 200
    assert bool((decode_image(encoded(pixels), "x", (3, 4, 4)) == 200).all())


def test_labels_may_be_missing_if_they_are_not_needed(tree):
    write_image(tree / "loose.png")
    assert load_examples(tree, labelled=False).labels.tolist() == [0, 0, 0, 0]
    assert len(load_examples(tree / "dog", labelled=False)) == 2


RAMP = np.arange(240, dtype=np.uint8).reshape(10, 24)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_mode_are_read(mode, channels):
    if mode == "I;16":
        content = encoded(RAMP.astype(np.uint16) * 257)
    elif mode == "I":
        content = encoded(RAMP.astype(np.int32) * 257, kind="TIFF")
    elif mode == "F":
        content = encoded(RAMP.astype(np.float32) / 255, kind="TIFF")
    else:
        kind = "TIFF" if mode in ("CMYK", "YCbCr", "LAB") else "PNG"
        content = encoded(np.repeat(RAMP[..., None], 3, 2) if mode == "LAB" else RAMP, mode, kind)
    decoded = decode_image(content, "x", (channels, 10, 24))
    assert decoded.dtype == torch.uint8
    expected = torch.from_numpy(RAMP).float().expand(channels, -1, -1)
    assert float((decoded.float() - expected).abs().max()) <= 3


@pytest.mark.parametrize("channels", [1, 3])
def test_a_palette_with_levels_of_transparency_is_read_without_a_warning(channels):
    stream = io.BytesIO()
    Image.fromarray(RAMP).convert("P").save(stream, "PNG", transparency=bytes(range(256)))
    decoded = decode_image(stream.getvalue(), "x", (channels, 10, 24))
    assert torch.equal(decoded, torch.from_numpy(RAMP).expand(channels, -1, -1))


def test_two_level_images_become_black_and_white():
    content = encoded((RAMP > 100).astype(np.uint8) * 255, "1")
    assert torch.equal(decode_image(content, "x", (1, 10, 24))[0] == 255, torch.from_numpy(RAMP > 100))


@pytest.mark.parametrize("content", [b"", b"garbage", encoded(RAMP)[:45], b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_a_damaged_image_is_named(tree, content):
    (tree / "dog" / "b.png").write_bytes(content)
    assert f"cannot decode the image {tree / 'dog' / 'b.png'}" in refusal(tree)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_an_image_that_claims_too_many_pixels_is_refused(tree, side):
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    (tree / "dog" / "b.png").write_bytes(stream.getvalue())
    assert "decompression bomb" in refusal(tree)


def test_a_deleted_image_is_named(tree):
    examples = load_examples(tree)
    (tree / "dog" / "a.png").unlink()
    with pytest.raises(InputError, match=r"cannot read the image .*a\.png"):
        examples[[1]].inputs  # noqa: B018


def test_folders_without_images_are_named(tree):
    (tree / "bird").mkdir()
    assert f"{tree / 'bird'} holds no images" in refusal(tree)
    (tree / "empty" / ".x").mkdir(parents=True)
    assert "holds no images: it should hold a folder of images for each class" in refusal(tree / "empty")


def test_the_fingerprint_depends_on_names_content_and_order_but_not_on_the_place(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("copy")
    for name in ("dog/b.png", "dog/a.png", "cat/z.PNG"):
        (elsewhere / name).parent.mkdir(exist_ok=True)
        (elsewhere / name).write_bytes((tree / name).read_bytes())
    first = load_examples(tree)
    assert load_examples(elsewhere).fingerprint == first.fingerprint
    assert first[[1, 2]].fingerprint != first[[2, 1]].fingerprint
    assert first[[1, 2]].fingerprint != first.fingerprint
    assert load_examples(elsewhere, input_shape=(1, 10, 12)).fingerprint != first.fingerprint
    content = bytearray((elsewhere / "dog" / "a.png").read_bytes())
    content[-20] ^= 1
    (elsewhere / "dog" / "a.png").write_bytes(content)
    assert load_examples(elsewhere).fingerprint != first.fingerprint


def test_a_fingerprint_decodes_nothing(tree):
    (tree / "dog" / "b.png").write_bytes(b"garbage")
    assert len(load_examples(tree).fingerprint) == 64


def test_arrays_and_tables_are_read_without_pillow(tmp_path):
    np.savez(tmp_path / "images.npz", inputs=np.zeros((3, 4, 4), np.uint8), labels=[0, 1, 0])
    program = f"""
import sys
import lure
from lure.data.sources import load_dataset, load_examples
load_examples({str(tmp_path / "images.npz")!r}).inputs
load_dataset("fashion-mnist-sample").train.inputs
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "lure.data.sources.images" in loaded
    assert not loaded & {"PIL", "datasets"}
