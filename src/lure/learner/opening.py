"""The recipe that a run directory holds, and whether what is asked for agrees with it."""

import dataclasses
import re
from collections.abc import Callable

from torch import nn

from lure.errors import InputError
from lure.recipe import Experiment, Recipe, differing_fields, names_code
from lure.store.durable import checksum, parsing
from lure.store.ledger import LEDGER
from lure.store.run_directory import PRODUCTION, RunDirectory


def parse_recipe(text: str, where: str) -> Recipe:
    """Read a recipe that was written down by itself: an `Experiment` if it names a data set.

    Raises:
        InputError: if it is damaged; names `where`.
    """
    kind = Experiment if re.search("^dataset *=", text, re.MULTILINE) else Recipe
    return kind.from_toml(text, where)


def require_consent(where: str, stored: Recipe, model: Callable[[], nn.Module] | str | None) -> None:
    """Raise if a stored recipe names code of the user's own, and nobody said that it may be run.

    Args:
        where: what holds the recipe.
        stored: the recipe.
        model: a builder or its name, which stands for the consent.

    Raises:
        InputError: naming the code.
    """
    if names_code(stored.model) and not (callable(model) or model == stored.model):
        raise InputError(f"{where} holds a network of your own code: give it again (--model {stored.model}) to run it")


def read_recipe(directory: RunDirectory) -> Recipe:
    """Return the recipe of a run directory: an `Experiment` if it names a data set.

    Raises:
        InputError: if it is damaged, or was edited after the run was begun; names the fields.
    """
    text, where = directory.recipe_text(), str(directory.path / "recipe.toml")
    stored = parse_recipe(text, where)
    record = directory.production()
    if record is not None:
        with parsing(directory.path / PRODUCTION):
            agreed = Recipe(**record["recipe"])
        if differing := differing_fields(agreed, stored):
            raise InputError(f"{where} was edited after lure init ({'; '.join(differing)}): put the values back")
    stages = directory.stages()
    with parsing(directory.path / LEDGER):
        unchanged = not stages or checksum(text.encode()) == stages[0]["files"]["recipe.toml"]
    if not unchanged:
        raise InputError(f"{where} was edited after the first stage: restore it from a backup")
    return stored


def agree(directory: RunDirectory, asked: Recipe | None, model: Callable[[], nn.Module] | str | None = None) -> Recipe:
    """Return the recipe of a run directory, after comparing it with what is asked for.

    Args:
        directory: one that was begun.
        asked: a whole recipe; None takes the stored one.
        model: a builder or its name, which stands for the consent to run code that the recipe names.

    Raises:
        InputError: naming the fields that differ, or the code that was not consented to.
    """
    stored = read_recipe(directory)
    named = model if isinstance(model, str) else name_builder(model)
    if asked is None:
        require_consent(str(directory.path), stored, model)
        asked = dataclasses.replace(stored, model=named or stored.model)
    if type(asked) is not type(stored) and isinstance(asked, Experiment):
        raise InputError(f"{directory.path} was not begun by lure run: choose another directory (--out)")
    asked = dataclasses.replace(asked, threads=asked.threads or stored.threads)
    if differing := differing_fields(stored, asked):
        raise InputError(
            f"{directory.path} was begun with another recipe ({'; '.join(differing)}): "
            f"choose another directory (--out), or ask for the stored values"
        )
    return stored


def name_builder(builder: Callable[[], nn.Module] | None) -> str:
    """Return how a recipe names a builder that was given as an object; "" for none."""
    if builder is None:
        return ""
    return f"{builder.__module__}:{getattr(builder, '__qualname__', type(builder).__name__)}"
