import math

import pytest
import torch
from torch import nn

from lure.errors import InputError
from lure.models import MODELS, build_model
from lure.models.cifar_resnet import ThinBlock
from lure.randomness import forked_rng

# As published for 1000 classes and images of 224 pixels, and for 10 classes and images of 32.
IMAGENET_COUNTS = {
    "resnet18:stem=imagenet": 11_689_512,
    "resnet34:stem=imagenet": 21_797_672,
    "resnet50:stem=imagenet": 25_557_032,
    "resnet101:stem=imagenet": 44_549_160,
    "wide_resnet50_2:stem=imagenet": 68_883_240,
    "wide_resnet101_2:stem=imagenet": 126_886_696,
    "vgg16_bn:head=imagenet": 138_365_992,
}
CIFAR_COUNTS = {
    "resnet18": 11_173_962,
    "resnet20s": 269_722,
    "resnet32s": 464_154,
    "resnet44s": 658_586,
    "resnet56s": 853_018,
    "vgg16_bn": 14_728_266,
    "mlp": 855_050,
}
NARROW = {
    "mlp": "mlp:width=8",
    "convnet": "convnet:width=4",
    "cifar-resnet": "cifar-resnet:depth=8:width=4",
    "resnet44s": "resnet44s:width=4",
    "resnet56s": "resnet56s:width=4",
    "vit": "vit:width=8:depth=2:heads=2",
}


FAMILIES = ["mlp", "convnet", "resnet18", "resnet50", "resnet20s", "vgg16_bn", "vit"]


def narrow(name: str) -> str:
    return NARROW.get(name, f"{name}:width=4")


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("choice", "published"), IMAGENET_COUNTS.items())
def test_parameter_counts_for_imagenet_are_the_published_ones(choice, published):
    with torch.device("meta"):
        assert count(build_model(choice, 1000, (3, 224, 224))) == published


@pytest.mark.parametrize(("choice", "published"), CIFAR_COUNTS.items())
def test_parameter_counts_for_cifar_are_the_published_ones(choice, published):
    with torch.device("meta"):
        assert count(build_model(choice, 10, (3, 32, 32))) == published


@pytest.mark.parametrize("name", MODELS)
def test_every_network_gives_finite_logits_and_trains_every_parameter(name):
    with forked_rng(None):
        model = build_model(narrow(name), 5, (3, 32, 32), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
        logits = model(torch.rand(4, 3, 32, 32))
        logits.square().sum().backward()
    assert logits.shape == (4, 5)
    assert bool(torch.isfinite(logits).all())
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_the_global_random_state_decides_the_weights(name):
    states = []
    for seed in (1, 1, 2):
        with forked_rng(torch.Generator().manual_seed(seed)):
            states.append(build_model(narrow(name), 3, (1, 32, 32)).state_dict())
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", FAMILIES[1:])
def test_channels_last_gives_the_same_logits(name):
    with forked_rng(None):
        model = build_model(narrow(name), 5, (3, 32, 32)).eval()
        images = torch.rand(2, 3, 32, 32)
    plain = model(images)
    inside = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(inside, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_normalisation_is_inside_the_network_and_outside_of_its_state(name):
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    with forked_rng(None):
        plain = build_model(narrow(name), 5, (3, 32, 32)).eval()
        images = torch.rand(2, 3, 32, 32)
    normalised = build_model(narrow(name), 5, (3, 32, 32), mean, std).eval()
    normalised.load_state_dict(plain.state_dict(), strict=True)
    by_hand = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalised(images), plain(by_hand), rtol=1e-4, atol=1e-4)


def published_resnet_names(depths: tuple[int, ...], convolutions: int, first_shortcut: bool) -> list[str]:
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    names = ["conv1.weight", *(f"bn1.{key}" for key in norm)]
    for group, depth in enumerate(depths, 1):
        for block in range(depth):
            start = f"layer{group}.{block}"
            for number in range(1, convolutions + 1):
                names += [f"{start}.conv{number}.weight", *(f"{start}.bn{number}.{key}" for key in norm)]
            if block == 0 and (group > 1 or first_shortcut):
                names += [f"{start}.downsample.0.weight", *(f"{start}.downsample.1.{key}" for key in norm)]
    return [*names, "fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("name", "depths", "convolutions", "size"),
    [("resnet18", (2, 2, 2, 2), 2, 122), ("resnet34", (3, 4, 6, 3), 2, 218), ("resnet50", (3, 4, 6, 3), 3, 320)],
)
def test_resnets_use_the_names_of_the_published_weights(name, depths, convolutions, size):
    with torch.device("meta"):
        state = build_model(f"{name}:stem=imagenet", 1000, (3, 224, 224)).state_dict()
    assert list(state) == published_resnet_names(depths, convolutions, convolutions == 3)
    assert len(state) == size
    assert state["conv1.weight"].shape == (64, 3, 7, 7)


def test_wide_resnets_widen_only_inside_the_bottlenecks():
    with torch.device("meta"):
        plain = build_model("resnet50", 10, (3, 32, 32)).state_dict()
        wide = build_model("wide_resnet50_2", 10, (3, 32, 32)).state_dict()
    assert list(wide) == list(plain)
    assert wide["layer1.0.conv2.weight"].shape == (128, 128, 3, 3)
    assert wide["layer1.0.conv3.weight"].shape == (256, 128, 1, 1)
    assert wide["fc.weight"].shape == plain["fc.weight"].shape


def test_vgg_uses_the_names_of_the_published_weights():
    with torch.device("meta"):
        state = build_model("vgg16_bn:head=imagenet", 1000, (3, 224, 224)).state_dict()
    kernels = [key for key, tensor in state.items() if tensor.dim() == 4]
    assert kernels == [f"features.{at}.weight" for at in (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)]
    assert [key for key, tensor in state.items() if tensor.dim() == 2] == [
        f"classifier.{at}.weight" for at in (0, 3, 6)
    ]
    assert len(state) == 97


@pytest.mark.parametrize(("stem", "side"), [("cifar", 32), ("strided", 16), ("imagenet", 8)])
def test_stems_decide_the_resolution(stem, side):
    model = build_model(f"resnet18:width=4:stem={stem}", 10, (3, 32, 32))
    sides = []
    model.layer1.register_forward_pre_hook(lambda layer, inputs: sides.append(inputs[0].shape[-1]))
    model(torch.rand(2, 3, 32, 32))
    assert sides == [side]


@pytest.mark.parametrize("name", ["resnet18:width=16", "resnet50:width=16", "vgg16_bn:width=16", "resnet20s"])
def test_convolutions_are_kaiming_normal(name):
    with forked_rng(None):
        model = build_model(name, 10, (3, 32, 32))
    checked = 0
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            fan = layer.weight.shape[1 if name == "resnet20s" else 0] * layer.weight[0, 0].numel()
            weights = layer.weight.detach() * math.sqrt(fan / 2)
            assert abs(weights.mean()) < 0.1
            assert weights.std() == pytest.approx(1, abs=0.05)
            assert weights.abs().max() > 2.5  # a uniform draw of this spread ends at 1.73
            checked += 1
    assert checked > 3


@pytest.mark.parametrize("name", FAMILIES)
def test_norms_start_as_the_identity(name):
    for layer in build_model(narrow(name), 3, (3, 32, 32)).modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert bool((layer.weight == 1).all())
            assert bool((layer.bias == 0).all())


def test_the_thin_shortcut_takes_every_second_pixel_and_adds_empty_channels():
    block = ThinBlock(2, 6, 2)
    nn.init.zeros_(block.bn2.weight)
    images = torch.rand(1, 2, 4, 4)
    output = block(images).detach()
    torch.testing.assert_close(output[:, 2:4], images[:, :, ::2, ::2])
    assert float(output[:, [0, 1, 4, 5]].abs().sum()) == 0


def test_the_mlp_takes_tables_of_whole_numbers_and_any_depth():
    model = build_model("mlp:depth=0", 3, (4,))
    assert count(model) == 15
    assert model(torch.ones(2, 4, dtype=torch.int64)).dtype == torch.float32
    assert count(build_model("mlp:width=8:depth=3", 3, (4,))) == 40 + 72 + 72 + 27


@pytest.mark.parametrize(
    ("choice", "shape", "message"),
    [
        ("resnet18", (784,), "a ResNet takes images (channels, height, width), got inputs of shape (784,)"),
        ("vgg16_bn", (1, 28, 28), "vgg16_bn takes images of at least 32x32, got 28x28"),
        ("convnet:depth=6", (1, 28, 28), "convnet takes images of at least 64x64, got 28x28"),
        ("resnet18:width=0", (3, 32, 32), "width must be at least 1, got 0"),
        ("mlp:depth=-1", (3,), "depth must be at least 0, got -1"),
        ("cifar-resnet:depth=21", (3, 32, 32), "the depth of a CIFAR ResNet must be 6n + 2"),
        ("resnet18:stem=big", (3, 32, 32), "unknown value of resnet18:stem 'big'"),
        ("vgg16_bn:head=big", (3, 32, 32), "unknown value of vgg16_bn:head 'big'"),
        ("resnet18:widht=3", (3, 32, 32), "did you mean 'width'?"),
    ],
)
def test_bad_choices_are_refused(choice, shape, message):
    with pytest.raises(InputError) as caught:
        build_model(choice, 10, shape)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
