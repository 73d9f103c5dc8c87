"""In a real net: weights change, and the optimiser's state is cleared exactly where they did."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_network import COUNT, Record, assert_unlearnt, data, network
from torch import nn

# The trainer gives many warnings of its own.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_skorch() -> None:
    pytest.importorskip("skorch")
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Callback

    from lure.adapters.skorch import UnlearnCallback

    class Recorder(Callback):
        def on_train_begin(self, net: Any, **unused: Any) -> None:
            records.append(Record(net.module_, net.optimizer_))

    records: list[Record] = []
    unlearn = UnlearnCallback("lure", forget_fraction=0.2)
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(dim=-1)),
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=0.1,
        max_epochs=1,
        verbose=0,
        callbacks=[("before", Recorder()), ("unlearn", unlearn), ("after", Recorder())],
    )
    inputs, labels = (np.asarray(part) for part in data())
    net.fit(inputs, labels)
    assert unlearn.report is None  # it had not been trained before
    for name, weight in records[0].weights.items():
        assert torch.equal(weight, records[1].weights[name])
    net.partial_fit(inputs, labels)
    assert_unlearnt(records[2], records[3], COUNT)
    net.partial_fit(inputs, labels)
    assert_unlearnt(records[4], records[5], COUNT)
    assert unlearn.num_uses == 2  # with another seed the second time: the same seed would draw the same weights


def test_a_skorch_net_can_be_copied_and_searched_over() -> None:
    pytest.importorskip("skorch")
    from sklearn.base import clone
    from skorch import NeuralNetClassifier

    from lure.adapters.skorch import UnlearnCallback

    net = NeuralNetClassifier(network(), callbacks=[("unlearn", UnlearnCallback("lure", forget_fraction=0.3))])
    copied = clone(net).set_params(callbacks__unlearn__scope="all").initialize()
    callback = dict(copied.callbacks_)["unlearn"]
    assert (callback.method, callback.options) == ("lure", {"forget_fraction": 0.3, "scope": "all"})
    assert callback.trained is None
    assert dict(clone(net.set_params(callbacks__unlearn__trained=True)).callbacks)["unlearn"].trained is True
    assert dict(net.callbacks)["unlearn"].options == {"forget_fraction": 0.3}


@pytest.mark.parametrize("trained", [None, True])
def test_parameters_loaded_into_a_new_net_count_as_learnt_only_if_that_is_said(
    trained: bool | None, tmp_path: Path
) -> None:
    pytest.importorskip("skorch")
    from skorch import NeuralNetClassifier

    from lure.adapters.skorch import UnlearnCallback

    def net_of(*callbacks: Any) -> Any:
        module = nn.Sequential(network(), nn.Softmax(dim=-1))
        return NeuralNetClassifier(module, max_epochs=1, verbose=0, callbacks=list(callbacks)).initialize()

    inputs, labels = (np.asarray(part) for part in data())
    net_of().partial_fit(inputs, labels).save_params(f_params=tmp_path / "weights.pt")
    unlearn = UnlearnCallback("lure", trained=trained)
    net = net_of(unlearn)
    net.load_params(f_params=tmp_path / "weights.pt")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.partial_fit(inputs, labels)
    assert (unlearn.report is not None) == bool(trained)
    assert any("nothing was unlearnt" in str(warning.message) for warning in caught) == (not trained)


def test_a_second_fit_of_the_same_skorch_module_is_not_its_first() -> None:
    pytest.importorskip("skorch")
    from skorch import NeuralNetClassifier

    from lure.adapters.skorch import UnlearnCallback

    unlearn = UnlearnCallback("lure", trained=False)
    module = nn.Sequential(network(), nn.Softmax(dim=-1))
    net = NeuralNetClassifier(module, max_epochs=1, verbose=0, callbacks=[unlearn])
    inputs, labels = (np.asarray(part) for part in data())
    net.fit(inputs, labels)
    assert unlearn.report is None
    net.fit(inputs, labels)  # skorch goes on with a module that was given already built
    assert unlearn.report is not None
