"""skorch: unlearn before each fit of a net that has been fitted before."""

from typing import Any

from torch import Tensor, nn

from lure.adapters.callback import FirstBatches, check_choice, has_learnt, mark_fitted, unlearn_once
from lure.unlearn import UnlearnReport

try:
    from skorch.callbacks import Callback
except ImportError as error:
    raise ImportError("this adapter needs skorch: pip install 'skorch>=1.0'") from error


class UnlearnCallback(Callback):  # type: ignore[misc]
    """Run `unlearn_` on the net's module before it is fitted further; `report` says what it did.

    The data are those that the fit is given, without its validation split, at most 1,000 batches of a stream without
    length, and the loss is the net's own, unless `loader` and `loss` say otherwise. The first fit is left alone: a net
    without history, whose module has not been in a fit with the callback either.

    Parameters that were loaded (`load_params` without the history) look new: pass `trained=True`.

    Args:
        method: name of the method, as in `unlearn_`.
        trained: True if the net has learnt earlier data already, so that its first fit is prepared, too; False if it
            has not; None, the default, takes it that it has not and warns.
        **options: other arguments of `unlearn_`, except the optimiser, which is the net's. A seed goes up by 1 with
            each use of the callback. `dash:ema=chunk` and `auto` need `chunks`: a list of loaders, to which you append
            the new chunk's before each fit.

    Raises:
        InputError: for an unknown method or option, or if the method needs what the options do not hold.

    Example:
        >>> callback = UnlearnCallback("dash", alpha=0.1)  # NeuralNetClassifier(..., callbacks=[callback])
    """

    def __init__(self, method: str = "lure", *, trained: bool | None = None, **options: Any) -> None:
        self.method, self.trained, self.options, self.num_uses = method, trained, options, 0
        self.report: UnlearnReport | None = None
        check_choice(self)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the method and its options, so that a search over the net's settings can copy the callback."""
        return {"method": self.method, "trained": self.trained, **self.options}

    def set_params(self, **params: Any) -> "UnlearnCallback":
        """Change the method or options, such as `callbacks__unlearn__forget_fraction` in a search."""
        self.method = params.pop("method", self.method)
        self.trained = params.pop("trained", self.trained)
        self.options = {**self.options, **params}
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **unused: Any) -> None:
        """Unlearn, if the net has been trained before."""
        if not net.history and not has_learnt(self, net.module_):
            return

        def loss(model: nn.Module, batch: Any) -> Tensor:
            value: Tensor = net.get_loss(net.infer(batch[0]), batch[1], training=False)
            return value

        training_data, _ = net.get_split_datasets(X, y)
        loader = FirstBatches(net.get_iterator(training_data, training=True), None)
        unlearn_once(self, net.module_, {"loader": loader, "loss": loss}, optimizer=net.optimizer_)

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **unused: Any) -> None:
        """Remember that the module has been fitted."""
        mark_fitted(net.module_)
