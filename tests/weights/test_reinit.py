"""Fresh weights: their law, that nothing else moves, and that what cannot be redrawn is never passed over."""

import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from lure.errors import InputError
from lure.models import MODELS, build_model
from lure.weights.layers import forgettable, trainable
from lure.weights.reinit import fresh_parameters, redraw_all_, reinitialize_

LAYERS = [
    lambda: nn.Linear(40, 30),
    lambda: nn.Conv1d(8, 16, 5),
    lambda: nn.Conv2d(8, 16, 3),
    lambda: nn.Conv3d(4, 8, 3),
    lambda: nn.ConvTranspose2d(8, 16, 3),
    lambda: nn.Embedding(40, 20, padding_idx=3),
    lambda: nn.MultiheadAttention(16, 4),
    lambda: nn.MultiheadAttention(16, 4, kdim=8, vdim=12, add_bias_kv=True),
    lambda: nn.LSTM(10, 20),
    lambda: nn.LayerNorm(30),
    lambda: nn.BatchNorm2d(30),
    lambda: nn.GroupNorm(2, 30),
    lambda: nn.Linear(40, 30, dtype=torch.bfloat16),
    lambda: nn.Transformer(16, 2, 1, 1, 32, batch_first=True),
    lambda: parametrizations.weight_norm(nn.Linear(40, 30)),
    lambda: parametrizations.spectral_norm(nn.Linear(40, 30)),
]


def fill(model: nn.Module) -> nn.Module:
    """Give every parameter values that no initialisation would."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(5, 6, parameter.numel()).view(parameter.shape))
    return model


def assert_same_law(drawn: Tensor, other: Tensor, name: str) -> None:
    """Mean and spread of two samples of one law agree within six standard errors."""
    drawn, other = drawn.detach().double().flatten(), other.detach().double().flatten()
    if float(other.std(correction=0)) == 0:
        assert torch.equal(drawn, other), name  # zeros and ones of biases and norm scales
        return
    spread, count = float(other.std()), len(other)
    assert abs(float(drawn.mean() - other.mean())) < 6 * spread * math.sqrt(2 / count), name
    # The variance of a sample variance is (kurtosis - 1) / count of its square; no law here is heavier than normal.
    assert abs(float(drawn.var() / other.var()) - 1) < 6 * math.sqrt(2) * math.sqrt(2 / count), name


@pytest.mark.parametrize("build", LAYERS, ids=lambda build: type(build()).__name__)
def test_a_layer_is_redrawn_as_it_is_constructed(build: object) -> None:
    torch.manual_seed(0)
    model, other = fill(build()), build()
    parameters = trainable(model)
    fresh = fresh_parameters(model, parameters, torch.Generator().manual_seed(1))
    assert list(fresh) == list(parameters)
    for name, value in fresh.items():
        assert (value.shape, value.dtype) == (parameters[name].shape, parameters[name].dtype)
        assert_same_law(value, other.get_parameter(name), name)


def test_the_padding_row_of_an_embedding_stays_zero() -> None:
    fresh = fresh_parameters(fill(nn.Embedding(6, 4, padding_idx=2)), ["weight"])["weight"]
    assert (fresh == 0).all(1).tolist() == [False, False, True, False, False, False]


SMALL = {name: f"{name}:width=8" for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_a_registered_model_is_redrawn_as_it_is_built(name: str) -> None:
    torch.manual_seed(0)

    def build() -> nn.Module:
        return build_model(SMALL[name], 10, (3, 32, 32))

    model, other = fill(build()), build()
    for buffer in model.buffers():
        buffer.fill_(3)
    redraw_all_(model, torch.Generator().manual_seed(1), draw=build)
    for parameter_name, parameter in model.named_parameters():
        assert_same_law(parameter, other.get_parameter(parameter_name), parameter_name)
    for buffer, begun in zip(model.buffers(), other.buffers(), strict=True):
        assert torch.equal(buffer, begun)


def test_only_the_masked_entries_move() -> None:
    torch.manual_seed(0)
    model = fill(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mask = {"0.weight": torch.rand(5, 6) < 0.3, "2.bias": torch.ones(4, dtype=torch.bool)}
    reinitialize_(model, mask)
    for name, tensor in model.state_dict().items():
        moved = tensor != before[name]
        assert torch.equal(moved, mask.get(name, torch.zeros_like(moved))), name


def test_the_builder_has_precedence_over_the_layers() -> None:
    def build() -> nn.Module:
        net = nn.Linear(3, 2)
        nn.init.constant_(net.weight, 7.0)
        return net

    model = nn.Linear(3, 2)
    reinitialize_(model, {"weight": torch.tensor([[True, False, True]] * 2)}, draw=build)
    assert (model.weight == 7).tolist() == [[True, False, True]] * 2


def test_the_generator_alone_decides_the_draw() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    draws = [
        fresh_parameters(model, ["1.weight"], generator)["1.weight"]
        for generator in (None, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(draws[1], draws[2])
    assert torch.equal(draws[0], fresh_parameters(model, ["1.weight"])["1.weight"])
    generator = torch.Generator().manual_seed(1)
    assert not torch.equal(*[fresh_parameters(model, ["1.weight"], generator)["1.weight"] for _ in range(2)])


def test_tied_weights_stay_tied() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(50, 40), "decoder": nn.Linear(40, 50, bias=False)})
    model["decoder"].weight = model["embedding"].weight
    redraw_all_(fill(model))
    assert model["decoder"].weight is model["embedding"].weight
    assert 0.9 < float(model["embedding"].weight.detach().std()) < 1.1  # the law of its first holder, the embedding


class Silent(nn.Module):
    """Says that it resets itself and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))

    def reset_parameters(self) -> None:
        pass


class Parent(nn.Module):
    """Initialises its children, as attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(3, 3)

    def reset_parameters(self) -> None:
        nn.init.constant_(self.child.weight, 2.0)


class Free(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.position = nn.Parameter(torch.ones(2))


def test_a_layer_that_resets_its_children_has_the_last_word() -> None:
    assert fresh_parameters(nn.Sequential(Parent()), ["0.child.weight"])["0.child.weight"].unique().tolist() == [2.0]


def test_a_reset_that_resets_nothing_does_not_pass() -> None:
    model = nn.Sequential(Silent())
    with pytest.raises(
        InputError, match=r"cannot redraw '0.weight': layer '0' \(Silent\) does not reset it; pass draw="
    ):
        reinitialize_(model, {"0.weight": torch.ones(2, 3, dtype=torch.bool)})
    assert torch.equal(model[0].weight, torch.ones(2, 3))


class Demanding(nn.Module):
    """Resets itself only if it is told how wide."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))

    def reset_parameters(self, spread: float) -> None:
        nn.init.normal_(self.weight, std=spread)


def test_a_reset_that_needs_arguments_is_none() -> None:
    model = nn.Sequential(Demanding(), nn.Linear(3, 2))
    assert list(fresh_parameters(model, ["1.weight"])) == ["1.weight"]
    with pytest.raises(InputError, match=r"layer '0' \(Demanding\) does not reset it; pass draw="):
        fresh_parameters(model, ["0.weight"])


def test_a_free_parameter_needs_a_builder_only_where_it_is_asked_for() -> None:
    model = Free()
    assert list(fresh_parameters(model, forgettable(model))) == ["layer.weight"]
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(InputError, match=r"cannot redraw 'position': layer 'the model' \(Free\).*pass draw="):
        redraw_all_(model)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    redraw_all_(model, draw=Free)


def test_a_builder_of_something_else_is_refused() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(InputError, match=r"'weight' of shape \(2, 3\): .* has shape \(2, 4\) there"):
        fresh_parameters(model, ["weight"], draw=lambda: nn.Linear(4, 2))
    with pytest.raises(InputError, match="has no such parameter"):
        fresh_parameters(model, ["bias"], draw=lambda: nn.Linear(3, 2, bias=False))
    for draw, message in [
        (lambda: model, "draw must build a new model at each call"),
        (model, "draw must be a function that builds a new model, but it is a model"),
        (lambda: None, "draw must build a model, but it returned NoneType"),
        (lambda: nn.Linear(3, 2, device="meta"), "meta device"),
    ]:
        with pytest.raises(InputError, match=message):
            fresh_parameters(model, ["weight"], draw=draw)


def test_bad_masks_are_refused() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    for mask, message in [
        ({"wieght": torch.ones(2, 3, dtype=torch.bool)}, "no trainable parameter named 'wieght'"),
        ({"bias": torch.ones(2, dtype=torch.bool)}, "no trainable parameter named 'bias'"),
        ({"weight": torch.ones(3, 2, dtype=torch.bool)}, r"bool of shape \(2, 3\), got torch.bool of shape \(3, 2\)"),
        ({"weight": torch.ones(2, 3)}, "got torch.float32"),
    ]:
        with pytest.raises(InputError, match=message):
            reinitialize_(model, mask)


def test_parametrised_weights_compute_the_fresh_weight() -> None:
    for parametrise in (parametrizations.weight_norm, parametrizations.spectral_norm):
        model = nn.Sequential(parametrise(nn.Linear(30, 20)), nn.Linear(20, 2))
        other = parametrise(nn.Linear(30, 20))
        before = model[0].weight.detach().clone()
        redraw_all_(model)
        assert not bool((model[0].weight == before).any())
        assert parametrize.is_parametrized(model[0])
        assert model(torch.ones(1, 30)).shape == (1, 2)  # the user's class still computes its weight
        if parametrise is parametrizations.weight_norm:
            assert_same_law(model[0].weight, other.weight, "weight")


class Adapter(nn.Module):
    """A parametrisation with parameters of its own and no way back."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.ones(1, 3))
        self.up = nn.Parameter(torch.ones(2, 1))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def test_parametrisations_without_a_way_back_are_refused() -> None:
    model = nn.Linear(3, 2)
    parametrize.register_parametrization(model, "weight", Adapter())
    assert list(fresh_parameters(model, ["bias"])) == ["bias"]
    with pytest.raises(InputError, match="no right_inverse; pass draw="):
        fresh_parameters(model, ["parametrizations.weight.original"])
    with pytest.raises(InputError, match=r"partly kept in the buffer '0.parametrizations.weight.0.base'"):
        redraw_all_(nn.Sequential(parametrizations.orthogonal(nn.Linear(3, 3))))


def test_parameters_of_a_parametrisation_are_not_taken_for_redrawn() -> None:
    class Reversible(Adapter):
        def right_inverse(self, weight: Tensor) -> Tensor:
            return weight - self.up @ self.down

    model = nn.Linear(3, 2)
    parametrize.register_parametrization(model, "weight", Reversible())
    assert list(fresh_parameters(model, forgettable(model))) == ["parametrizations.weight.original"]
    with pytest.raises(InputError, match=r"cannot redraw 'parametrizations.weight.0.down'"):
        fresh_parameters(model, ["parametrizations.weight.0.down"])


def test_a_model_that_cannot_be_copied_needs_a_builder() -> None:
    model = nn.Linear(3, 2)
    model.product = model.weight * 2
    with pytest.raises(InputError, match=r"cannot be copied to redraw its layers .*pass draw="):
        fresh_parameters(model, ["weight"])
    assert list(fresh_parameters(model, ["weight"], draw=lambda: nn.Linear(3, 2))) == ["weight"]


def test_buffers_begin_again_from_what_is_known_best() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.register_buffer("counter", torch.tensor(4))
    model(torch.randn(8, 2))
    redraw_all_(model)
    assert model[1].num_batches_tracked == 0
    assert model.counter == 4  # nobody says how it began
    redraw_all_(model, initial={**model.state_dict(), "counter": torch.tensor(1)})
    assert model.counter == 1
    model(torch.randn(8, 2))
    redraw_all_(model, initial={"counter": torch.tensor(2)})  # of the rest, the layers say how it began
    assert (model.counter, model[1].num_batches_tracked) == (2, 0)
    with pytest.raises(InputError, match=r"'counter', of shape \(\), is of shape \(1,\)"):
        redraw_all_(model, initial={"counter": torch.ones(1)})


class OwnStart(nn.Module):
    """Initialises its layers itself, as the models of Hugging Face, timm and nanoGPT do."""

    def __init__(self, spread: float = 0.02) -> None:
        super().__init__()
        self.spread = spread
        self.table, self.linear, self.norm = nn.Embedding(300, 20), nn.Linear(20, 300), nn.LayerNorm(20)
        self.apply(self._init_weights)

    def _init_weights(self, layer: nn.Module) -> None:
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=self.spread)


def test_a_model_that_initialises_its_layers_itself_is_redrawn_as_it_does() -> None:
    torch.manual_seed(0)
    inner, outer = OwnStart(0.3), OwnStart()
    outer.inner = inner  # the innermost has the word over its own layers
    fresh = fresh_parameters(outer, trainable(outer))
    for name, spread in (("table", 0.02), ("linear", 0.02), ("inner.table", 0.3), ("inner.linear", 0.3)):
        assert fresh[f"{name}.weight"].std().item() == pytest.approx(spread, rel=0.1)
    assert fresh["norm.weight"].tolist() == [1.0] * 20
    again = fresh_parameters(nn.Sequential(outer), ["0.table.weight"])  # whatever is around it
    assert torch.equal(again["0.table.weight"], fresh["table.weight"])


def test_other_functions_of_that_name_are_left_alone() -> None:
    class Other(nn.Linear):
        def _init_weights(self, mean: float, spread: float) -> None:
            raise AssertionError

    class Another(nn.Linear):
        def _init_weights(self, spread: float = 1.0) -> None:
            raise AssertionError

    for kind in (Other, Another):
        assert fresh_parameters(kind(3, 2), ["weight"])["weight"].abs().max() <= 1


def test_an_initialisation_that_fails_asks_for_a_builder() -> None:
    class Broken(nn.Sequential):
        def _init_weights(self, layer: nn.Module) -> None:
            raise RuntimeError("no config")

    with pytest.raises(InputError, match=r"_init_weights fails .*no config.*pass draw="):
        fresh_parameters(Broken(nn.Linear(3, 2)), ["0.weight"])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("loaded", [False, True])
def test_a_bert_is_redrawn_with_the_spread_that_it_starts_with(loaded: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = transformers.BertForSequenceClassification(config)
    if loaded:
        model.save_pretrained(tmp_path)
        model = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    names = forgettable(model, "weights")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh = fresh_parameters(model, names)
    for name, value in fresh.items():
        assert value.std().item() == pytest.approx(0.02, rel=0.5), name
        assert not torch.equal(value, model.get_parameter(name))
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2))
    assert len(fresh_parameters(gpt, forgettable(gpt, "all"))) == len(trainable(gpt))


def test_a_spread_far_from_the_present_one_gives_one_warning() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Embedding(30, 20), nn.Linear(20, 5), nn.LayerNorm(5))
        nn.init.normal_(model[0].weight, std=0.02)
        return model

    model = build()
    with pytest.warns(UserWarning, match=r"1 tensor\(s\) .* '0.weight' the furthest .*: .* pass draw=") as caught:
        fresh_parameters(model, trainable(model))
    assert len(caught) == 1
    fresh_parameters(model, trainable(model), draw=build)  # where the builder says how, nothing is said
    fresh_parameters(nn.Sequential(nn.Linear(20, 5), nn.LayerNorm(5)), ["0.weight", "0.bias", "1.weight"])
