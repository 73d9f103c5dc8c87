"""A mega-batch on its way in: whole, as it is fingerprinted and stored, and cut once into training and validation."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lure.data.examples import Examples, Split, split_rows
from lure.errors import InputError
from lure.randomness import derive_generator
from lure.recipe import Recipe


@dataclass(frozen=True, eq=False)
class MegaBatch:
    """New examples, and which of them are trained on.

    Attributes:
        stage: the stage that it is for, from 1.
        whole: all of them, in order.
        train_rows: numbers of the rows that are trained on, int64.
        validation_rows: numbers of the rows that are validated on; may be empty.
        num_validation: how many rows at the end the caller held out; None where the stage's generator chose them.
        name: of the file that it came from, where there is one and it is known.
        again: whether it was to be trained on whether or not it came before.
    """

    stage: int
    whole: Examples
    train_rows: Tensor
    validation_rows: Tensor
    num_validation: int | None
    name: str | None = None
    again: bool = False

    @classmethod
    def cut(
        cls,
        given: Examples | Split,
        recipe: Recipe,
        stage: int,
        num_validation: int | None = None,
        name: str | None = None,
        again: bool = False,
    ) -> "MegaBatch":
        """Cut examples as this stage always cuts them: where they came cut, or by the stage's generator.

        Args:
            given: the examples, or both parts.
            recipe: its seed and validation fraction count.
            stage: from 1.
            num_validation: how many rows at the end are held out, where whole examples once came cut.
            name: of the file that the examples came from.
            again: whether they are to be trained on whether or not they came before.

        Raises:
            InputError: if nothing would be left to train on.
        """
        whole = join(given)
        if isinstance(given, Split):
            num_validation = len(given.validation)
        elif not len(whole):
            raise InputError(f"mega-batch {stage} is empty")
        if num_validation is None:
            generator = derive_generator(recipe.seed, stage, "split")
            train, validation = split_rows(len(whole), recipe.validation_fraction, generator)
        else:
            train, validation = torch.arange(len(whole)).tensor_split([len(whole) - num_validation])
        if not len(train):
            raise InputError(f"mega-batch {stage} has no training examples")
        return cls(stage, whole, train, validation, num_validation, name, again)

    @cached_property
    def split(self) -> Split:
        """Both parts as examples."""
        return Split(train=self.whole[self.train_rows], validation=self.whole[self.validation_rows])

    def moved_to(self, stored: Examples) -> "MegaBatch":
        """Return the same mega-batch over the same examples in another place."""
        return dataclasses.replace(self, whole=stored)


def join(mega_batch: Examples | Split) -> Examples:
    """Return a mega-batch whole: training examples first, where it comes cut."""
    if isinstance(mega_batch, Examples):
        return mega_batch
    return Examples.concatenate([mega_batch.train, mega_batch.validation])
