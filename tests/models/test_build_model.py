import pytest
import torch
from torch import nn

from lure.errors import InputError
from lure.models import build_model
from lure.models.normalize import Normalize

SOURCE = """
from torch import nn

def build(num_classes, input_shape, *, width: int = 4, scale=1.5):
    net = nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], width), nn.Linear(width, num_classes))
    net.scale = scale
    return net

def everything(**given):
    net = nn.Linear(1, 1)
    net.given = given
    return net

def needy(num_classes, vocabulary):
    return nn.Linear(1, 1)

def nothing():
    return 3

def failing(num_classes):
    raise RuntimeError("no such\\nblock")

def annotated(num_classes: int, *, width: "Known" = 4) -> "OnlyToTheTypeChecker":
    return nn.Linear(width, num_classes)

def scripted(num_classes):
    import torch
    return torch.jit.trace(nn.Linear(5, num_classes), torch.zeros(1, 5))

def lazy(num_classes):
    return nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Dropout(), nn.Linear(4, num_classes))

def lazy_and_unused(num_classes):
    net = nn.Linear(5, num_classes)
    net.spare = nn.LazyLinear(3)
    return net

def lazy_and_wrong(num_classes):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Linear(4, num_classes))

value = 7
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(SOURCE)
    (tmp_path / "broken_networks.py").write_text("raise ValueError('no such card')")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("own_module")
def test_a_builder_of_ones_own_gets_what_it_takes_by_name():
    model = build_model("my_networks:build:width=6:scale=2", 3, (5,), (0.0,) * 5, (1.0,) * 5)
    assert model[1].weight.shape == (6, 5)
    assert model[2].weight.shape == (3, 6)
    assert model.scale == 2.0
    assert build_model("my_networks:everything", 3, (5,), (0.0,), (1.0,)).given == {
        "num_classes": 3,
        "input_shape": (5,),
        "mean": (0.0,),
        "std": (1.0,),
    }


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("no_such_module:build", "cannot import model builder no_such_module:build: ModuleNotFoundError"),
        ("broken_networks:build", "cannot import model builder broken_networks:build: ValueError: no such card"),
        ("my_networks:absent", "module my_networks has no class or function 'absent'"),
        ("my_networks:value", "module my_networks has no class or function 'value'"),
        ("my_networks:nothing", "my_networks:nothing must return a torch.nn.Module, got int"),
        ("my_networks:failing", "model builder my_networks:failing failed: RuntimeError: no such block"),
        ("my_networks:needy", "my_networks:needy needs vocabulary"),
        ("my_networks:build:wide=3", "did you mean 'width'?"),
        ("my_networks:build:width=x", "must be a whole number, got 'x'"),
    ],
)
def test_an_unusable_builder_is_one_clear_line(choice, message):
    with pytest.raises(InputError) as caught:
        build_model(choice, 3, (5,))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("own_module")
def test_annotations_that_cannot_be_looked_up_do_no_harm():
    assert build_model("my_networks:annotated:width=6", 3, (5,)).weight.shape == (3, 6)


@pytest.mark.usefixtures("own_module")
def test_the_import_path_is_as_before_afterwards():
    import sys

    before = list(sys.path)
    build_model("my_networks:build", 3, (5,))
    assert sys.path == before


def test_unknown_names_and_class_counts_are_refused():
    with pytest.raises(InputError, match="unknown model 'resnet19': did you mean 'resnet18'"):
        build_model("resnet19", 10, (3, 32, 32))
    with pytest.raises(InputError, match="num_classes must be at least 1, got 0"):
        build_model("mlp", 0, (3,))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (0.2,), "one value for each of the 3 channels"),
        ((0.5,) * 3, None, "mean and std go together"),
        ((0.5,) * 3, (0.2, 0.0, 0.2), "every std above 0"),
        ((float("nan"),) * 3, (0.2,) * 3, "must be finite"),
    ],
)
def test_unusable_statistics_are_refused(mean, std, message):
    with pytest.raises(InputError, match=message):
        build_model("convnet", 10, (3, 32, 32), mean, std)


def test_normalisation_follows_the_device_and_type_of_its_model():
    net = nn.Sequential(Normalize([1.0], [2.0], (1,))).double()
    assert net(torch.tensor([[3.0]], dtype=torch.float64)).tolist() == [[1.0]]
    assert net.state_dict() == {}


@pytest.mark.usefixtures("own_module")
def test_lazy_layers_get_their_shapes():
    model = build_model("my_networks:lazy", 3, (5,))
    assert model[0].weight.shape == (4, 5)
    assert all(module.training for module in model.modules())
    assert model[1].num_batches_tracked == 0


@pytest.mark.usefixtures("own_module")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scripted", "returns a ScriptModule, which is not trained: return the module itself"),
        ("lazy_and_unused", "lazy layer that is never run: spare.weight has no shape"),
        ("lazy_and_wrong", r"lazy layers, and a run on inputs of shape \(5,\).*failed: RuntimeError"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        build_model(f"my_networks:{name}", 3, (5,))
