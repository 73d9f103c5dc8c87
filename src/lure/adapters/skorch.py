"""skorch: unlearn before each `partial_fit` after the first."""

from typing import Any

from torch import Tensor, nn

from lure.adapters.callback import unlearn_once
from lure.unlearn import UnlearnReport

try:
    from skorch.callbacks import Callback
except ImportError as error:
    raise ImportError("this adapter needs skorch: pip install 'skorch>=1.0'") from error


class UnlearnCallback(Callback):  # type: ignore[misc]
    """Run `unlearn_` on the net's module before it is fitted further; `report` says what it did.

    The data are those that the fit is given, without its validation split, and the loss is the net's own, unless
    `loader` and `loss` say otherwise. A net that has not been trained yet (after `initialize`, or in `fit`) is not
    changed.

    Args:
        method: name of the method, as in `unlearn_`.
        **options: other arguments of `unlearn_`, except the optimiser, which is the net's. The seed goes up by 1 with
            each use of the callback.

    Example:
        >>> callback = UnlearnCallback("dash", alpha=0.1)  # NeuralNetClassifier(..., callbacks=[callback])
    """

    def __init__(self, method: str = "lure", **options: Any) -> None:
        self.method, self.options, self.num_uses = method, options, 0
        self.report: UnlearnReport | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the method and its options, so that a search over the net's settings can copy the callback."""
        return {"method": self.method, **self.options}

    def set_params(self, **params: Any) -> "UnlearnCallback":
        """Change the method or options, such as `callbacks__unlearn__forget_fraction` in a search."""
        self.method = params.pop("method", self.method)
        self.options = {**self.options, **params}
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **unused: Any) -> None:
        """Unlearn, if the net has been trained before."""
        if not net.history:
            return

        def loss(model: nn.Module, batch: Any) -> Tensor:
            value: Tensor = net.get_loss(net.infer(batch[0]), batch[1], training=False)
            return value

        training_data, _ = net.get_split_datasets(X, y)
        defaults = {"loader": net.get_iterator(training_data, training=True), "loss": loss}
        unlearn_once(self, net.module_, defaults, optimizer=net.optimizer_)
