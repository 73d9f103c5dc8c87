"""What all adapters share: the options, the seed and the report; a missing package is named."""

import copy
import importlib
import sys

import pytest
import torch
from small_network import data, network

from lure import InputError
from lure.adapters.callback import check_choice, has_learnt, mark_fitted, unlearn_once
from lure.unlearn import UnlearnReport, unlearn_


class Callback:
    """What a trainer's callback keeps."""

    def __init__(self, method: str = "random-reset", **options: object) -> None:
        self.method, self.trained, self.options, self.num_uses = method, None, options, 0
        self.report: UnlearnReport | None = None


def weights_after(callback: Callback, **defaults: object) -> torch.Tensor:
    model = network()
    unlearn_once(callback, model, {"loader": [data()], **defaults})
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_seed_goes_up_with_each_use() -> None:
    callback = Callback(seed=5)
    first, second = weights_after(callback), weights_after(callback)
    assert callback.num_uses == 2
    assert not torch.equal(first, second)
    assert torch.equal(second, weights_after(Callback(seed=6)))


def test_the_options_of_the_user_win() -> None:
    callback = Callback(forget_fraction=1.0)
    weights_after(callback, forget_fraction=0.0)
    assert callback.report is not None
    assert callback.report.changed_count == 40 + 24


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("auto", {}, r"give chunks=\[...\]"),
        ("dash:ema=chunk", {}, r"chunks=\[...\] of unlearn_, of a trainer's callback"),
        ("dash", {"shuffled": 256, "chunks": []}, "give a loader that shuffles"),
        ("scratch:reload=true", {}, "needs initial="),
        ("lurre", {}, "unknown unlearner 'lurre'"),
        ("lure", {"forget_fraction": 2}, "forget_fraction must"),
    ],
)
def test_a_mistake_is_found_before_the_first_fit(method: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_choice(Callback(method, **options))


@pytest.mark.parametrize("method", ["auto", "dash:ema=chunk"])
def test_the_list_of_chunks_may_grow_from_fit_to_fit(method: str) -> None:
    chunks: list[object] = []
    callback = Callback(method, chunks=chunks, seed=0)
    check_choice(callback)
    chunks += [[data()], [data()]]
    model, expected = network(), network()
    unlearn_once(callback, model, {"loader": [data()]})
    unlearn_(expected, [data()], method, seed=0, chunks=[[data()], [data()]])
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize("trainer", ["lightning", "transformers", "skorch"])
def test_every_callback_finds_it_when_it_is_made(trainer: str) -> None:
    pytest.importorskip(trainer)
    adapter = importlib.import_module(f"lure.adapters.{trainer}")
    with pytest.raises(InputError, match="give chunks="):
        adapter.UnlearnCallback("auto")
    assert adapter.UnlearnCallback("auto", chunks=[]).report is None


def test_a_model_nobody_knows_is_left_alone_with_a_warning() -> None:
    callback = Callback()
    with pytest.warns(UserWarning, match="sees this model's first fit; pass trained=True"):
        assert not has_learnt(callback, network())
    callback.trained = False
    assert not has_learnt(callback, network())
    callback.trained = True
    assert has_learnt(callback, network())


def test_a_fitted_model_is_known_again_with_another_callback_and_as_a_copy() -> None:
    model = network()
    before = model.state_dict()
    mark_fitted(model)
    assert has_learnt(Callback(), model)
    assert has_learnt(Callback(), copy.deepcopy(model))
    assert has_learnt(Callback(), torch.nn.DataParallel(model))
    assert model.state_dict().keys() == before.keys()


@pytest.mark.parametrize(
    ("package", "advice"),
    [
        ("lightning", "lightning>=2.4,!=2.6.2,!=2.6.3"),
        ("transformers", "transformers>=4.46"),
        ("skorch", "skorch>=1.0"),
    ],
)
def test_a_missing_package_is_named(package: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"lure.adapters.{package}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install '{advice}'"):
        importlib.import_module(f"lure.adapters.{package}")
