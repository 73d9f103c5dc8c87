import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from miniatures import write_image
from PIL import Image

from lure.data.sources import load_examples, read_class_names
from lure.data.sources.images import decode_image, measure_image
from lure.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*left out")


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


def test_a_folder_is_a_class_unless_it_is_hidden_or_a_known_leftover(tmp_path):
    for name in ("_rare", "__rarer", "cat", "@home", "__MACOSX", ".git", "@eaDir", "__pycache__"):
        write_image(tmp_path / name / "a.png")
    assert read_class_names(tmp_path) == ("@home", "__rarer", "_rare", "cat")
    assert len(load_examples(tmp_path)) == 4


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (".jfif", "JPEG"),
        (".jpe", "JPEG"),
        (".JPG", "JPEG"),
        (".dib", "DIB"),
        (".pnm", "PPM"),
        (".jp2", "JPEG2000"),
        (".apng", "PNG"),
        (".avif", "AVIF"),
        (".qoi", "QOI"),
        (".webp", "WEBP"),
    ],
)
def test_images_are_known_by_every_usual_ending(tmp_path, ending, kind):
    if kind not in Image.registered_extensions().values() and kind != "DIB":
        pytest.skip(f"this pillow writes no {kind}")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"1{ending}").write_bytes(stored(Image.new("RGB", (8, 8), (9, 9, 9)), kind))
    assert len(load_examples(tmp_path).inputs) == 2


@pytest.mark.parametrize("name", ["dog/link.png", "dog/link", "link", "dog/link.txt"])
def test_a_link_to_nothing_is_named(tree, name):
    (tree / name).symlink_to(tree / "gone.png")
    assert refusal(tree) == f"{tree / name} is a link to {tree / 'gone.png'}, which is not there"


def test_a_link_to_an_image_or_a_folder_is_followed(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_image(elsewhere / "bird" / "1.png")
    (tree / "bird").symlink_to(elsewhere / "bird")
    (tree / "dog" / "c.png").symlink_to(elsewhere / "bird" / "1.png")
    with pytest.warns(UserWarning, match="left out"):
        assert load_examples(tree).labels.tolist() == [0, 1, 2, 2, 2]


def test_what_is_left_out_is_counted_by_kind_in_one_line(tmp_path):
    for name in ("cat/1.png", "dog/1.png", "dog/more/2.png", "dog/more/deep/3.png", "loose.png"):
        write_image(tmp_path / name)
    for name in ("cat/a.txt", "cat/b.TXT", "dog/c.txt", "dog/none", "README.md", "dog/.hidden.png"):
        (tmp_path / name).write_text("x")
    for name in (".DS_Store", "dog/Thumbs.db", "dog/._1.png"):
        (tmp_path / name).write_text("x")
    with pytest.warns(UserWarning, match="left out") as told:
        assert len(load_examples(tmp_path)) == 2
    assert len(told) == 1
    start, kinds = str(told[0].message).removesuffix(")").split(" (")
    assert start == f"{tmp_path}: left out: 9 files"
    assert kinds.split(", ")[:2] == [".txt 3", "in folders of a class 2"]
    assert set(kinds.split(", ")[2:]) == {".md 1", ".png 1", "no ending 1", "hidden 1"}


def test_class_names_are_compared_as_people_read_them(tmp_path):
    one, two = "caf\u00e9", "cafe\u0301"
    for name in ("zebra", two):
        write_image(tmp_path / "holdout" / name / "1.png")
    write_image(tmp_path / "chunk" / one / "1.png")
    assert read_class_names(tmp_path / "holdout") == (one, "zebra") == (*read_class_names(tmp_path / "chunk"), "zebra")
    assert load_examples(tmp_path / "holdout").labels.tolist() == [0, 1]
    assert load_examples(tmp_path / "chunk", ["zebra", two]).labels.tolist() == [1]


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
    expected = 128 + (torch.from_numpy(RAMP).float() - 128) * torch.from_numpy(RAMP) / 255
    assert float((decoded - expected).abs().max()) <= 1


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


def stored(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def see_through(mode, colour):
    """An image whose left half cannot be seen, and that has one colour otherwise."""
    image = Image.new("RGBA", (8, 4), (*colour, 255))
    image.paste((*colour, 0), (0, 0, 4, 4))
    if mode == "P":
        palette = Image.new("P", (8, 4), 1)
        palette.putpalette([0, 0, 0, *colour])
        palette.paste(0, (0, 0, 4, 4))
        return stored(palette, transparency=0)
    if mode in ("L", "RGB"):
        other = tuple((value + 9) % 256 for value in colour)
        image = Image.new("RGB", (8, 4), colour)
        image.paste(other, (0, 0, 4, 4))
        image = image.convert(mode)
        return stored(image, transparency=image.getpixel((0, 0)))
    if mode == "I;16":
        pixels = np.full((4, 8), colour[0] * 257, np.uint16)
        pixels[:, :4] = 4660
        return stored(Image.fromarray(pixels), transparency=4660)
    return stored(image.convert(mode), "TIFF" if mode == "PA" else "PNG")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "I;16"])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_see_through_lies_on_grey(mode, colour, channels):
    decoded = decode_image(see_through(mode, colour), "x", (channels, 4, 8))
    assert decoded[:, :, :4].unique().tolist() == [128]
    assert decoded[:, :, 4:].unique().tolist() == [colour[0]]


def test_what_is_half_see_through_is_mixed_with_grey():
    decoded = decode_image(stored(Image.new("RGBA", (2, 2), (255, 0, 128, 51))), "x", (3, 2, 2))
    assert decoded[:, 0, 0].tolist() == pytest.approx([128 + 127 * 0.2, 128 * 0.8, 128], abs=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_images_are_turned_upright_as_the_camera_says(orientation, kind):
    image = Image.fromarray(np.repeat(RAMP[..., None], 3, 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = stored(image, kind, exif=exif, **options)
    height, width = measure_image(content, "x")
    assert (height, width) == ((24, 10) if orientation > 4 else (10, 24))
    turned = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    expected = RAMP.T if orientation > 4 else RAMP
    expected = np.flip(expected, [axis for axis, flip in enumerate(turned) if flip])
    decoded = decode_image(content, "x", (3, height, width))
    assert float(np.abs(decoded[0].numpy().astype(float) - expected).max()) <= 6


@pytest.mark.parametrize("brightest", [255.0, 1.01, -0.1, float("nan"), float("inf")])
def test_floats_that_are_no_shares_are_refused(tree, brightest):
    pixels = np.zeros((4, 4), np.float32)
    pixels[1, 2] = brightest
    (tree / "dog" / "b.tiff").write_bytes(encoded(pixels, kind="TIFF"))
    told = refusal(tree)
    assert f"{tree / 'dog' / 'b.tiff'}: it holds floats outside of [0, 1]" in told


@pytest.mark.parametrize("value", [-1, 65536])
def test_whole_numbers_beyond_16_bits_are_refused(value):
    with pytest.raises(InputError, match=r"outside of \[0, 65535\]"):
        decode_image(encoded(np.full((2, 2), value, np.int32), kind="TIFF"), "x", (3, 2, 2))


def test_an_image_of_another_format_than_the_known_ones_is_not_opened(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(InputError, match="unknown format"):
        decode_image(content, "x", (3, 9, 9))
    for kind in ("ICNS", "SGI", "PCX", "ICO", "TGA"):
        with pytest.raises(InputError, match="unknown format"):
            decode_image(stored(Image.new("RGB", (32, 32)), kind), "x", (3, 32, 32))
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("mode", ["I;16", "F", "I", "RGBA"])
def test_the_largest_image_takes_less_than_two_gigabytes(mode, tmp_path):
    code = f"""
import io, resource
from PIL import Image
from lure.data.sources.images import decode_image, measure_image
stream = io.BytesIO()
kind, options = ("PNG", {{}}) if {mode!r} in ("I;16", "RGBA") else ("TIFF", {{"compression": "tiff_adobe_deflate"}})
Image.new({mode!r}, (9400, 9400)).save(stream, kind, **options)
content = stream.getvalue()
assert len(content) < 1 << 22, len(content)
import torch
decode_image(content, "x", (3, 8, 8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_700_000
