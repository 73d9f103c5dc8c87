"""Settings: what a field accepts, what a choice is read as, and how options are described; none of it needs torch."""

import dataclasses
import math
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from lure import InputError
from lure.data.sources import SOURCES
from lure.models import MODELS
from lure.settings import (
    Option,
    build_choice,
    check_settings,
    describe_options,
    format_choice,
    parse_value,
    read_choice,
    setting,
)
from lure.unlearners import UNLEARNERS

SOURCE = Path(__file__).parent.parent / "src" / "lure"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A record with a field of every kind."""

    share: float = setting(0.2, "a share", 0, 1)
    scale: float = setting(1.0, "any finite number")
    count: int | None = setting(None, "a count", 1)
    sizes: tuple[int, ...] = setting((1, 2), "sizes", 1, 9)
    side: Literal["left", "right"] = setting("left", "a side")
    exact: bool = setting(True, "whether it is exact")
    name: str | None = setting(None, "a name")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class Typed(Sample):
    """The same, with values that a command line gives as text."""

    def __post_init__(self) -> None:
        check_settings(self, accept_text=True)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"share": 1}, 1.0),
        ({"share": np.float32(0.5)}, 0.5),
        ({"share": Fraction(1, 4)}, 0.25),
        ({"count": np.int64(3)}, 3),
        ({"count": None}, None),
        ({"sizes": [3, 4]}, (3, 4)),
        ({"side": "right"}, "right"),
        ({"exact": False}, False),
        ({"name": "true"}, "true"),
    ],
)
@pytest.mark.parametrize("kind", [Sample, Typed])
def test_a_value_is_stored_in_the_type_of_its_field(kind: type, given: dict[str, Any], kept: Any) -> None:
    (name,) = given
    value = getattr(kind(**given), name)
    assert (value, type(value)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 1.3}, "share must lie in [0, 1], got 1.3"),
        ({"share": -0.5}, "share must lie in [0, 1], got -0.5"),
        ({"share": math.nan}, "share must lie in [0, 1], got nan"),
        ({"share": math.inf}, "share must lie in [0, 1], got inf"),
        ({"share": "half"}, "share must be a number, got 'half'"),
        ({"share": True}, "share must be a number, got True"),
        ({"share": None}, "share must be a number, got None"),
        ({"scale": math.nan}, "scale must be a finite number, got nan"),
        ({"scale": -math.inf}, "scale must be a finite number, got -inf"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 2.5}, "count must be a whole number, got 2.5"),
        ({"count": True}, "count must be a whole number, got True"),
        ({"sizes": (3, 0)}, "sizes must lie in [1, 9], got 0"),
        ({"sizes": (3, 2.5)}, "sizes must be a whole number, got 2.5"),
        ({"sizes": 3}, "sizes must be a list of whole numbers, got 3"),
        ({"side": "lift"}, "unknown value of side 'lift': did you mean 'left'? (valid: left, right)"),
        ({"side": 3}, "side cannot be 3 (int)"),
        ({"exact": 1}, "exact must be true or false, got 1"),
        ({"name": 3}, "name must be text, got 3"),
    ],
)
@pytest.mark.parametrize("kind", [Sample, Typed])
def test_another_value_is_refused_with_field_and_value(kind: type, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        kind(**given)
    assert str(refused.value) == message


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(InputError, match="scale must be a finite number, got 1000"):
        Sample(scale=10**400)


@pytest.mark.parametrize("text", [{"share": "0.3"}, {"count": "3"}, {"sizes": "3,4"}, {"exact": "false"}])
def test_text_is_read_only_where_it_is_accepted(text: dict[str, Any]) -> None:
    (name,) = text
    value = getattr(Typed(**text), name)
    assert value == {"share": 0.3, "count": 3, "sizes": (3, 4), "exact": False}[name]
    with pytest.raises(InputError, match=f"{name} (must be|cannot be)"):
        Sample(**text)


def test_the_ends_of_a_range_belong_to_it() -> None:
    for share in (0.0, 1.0):
        assert Sample(share=share).share == share
    assert Sample(sizes=(1, 9)).sizes == (1, 9)


TABLE = {"sample": Sample}


def test_a_choice_is_read_by_the_types_of_its_options() -> None:
    maker, options = read_choice("thing", "sample:share=1:count=3:sizes=4,5:exact=false:name=none", TABLE)
    assert maker is Sample
    assert options == {"share": 1.0, "count": 3, "sizes": (4, 5), "exact": False, "name": None}
    built = build_choice("thing", "sample:share=0.5:side=right", TABLE, count=3, side="left")
    assert built == Sample(share=0.5, count=3)  # values win over text
    assert build_choice("thing", format_choice(built, TABLE), TABLE) == built


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("simple", {}, "unknown thing 'simple': did you mean 'sample'"),
        ("sample:shares=1", {}, "unknown option of sample 'shares': did you mean 'share'"),
        ("sample", {"shares": 1}, "unknown option of sample 'shares': did you mean 'share'"),
        ("sample:share=x", {}, "sample:share must be a number, got 'x'"),
        ("sample:side=lift", {}, "unknown value of sample:side 'lift'"),
        ("sample:share=2", {}, r"share must lie in \[0, 1\], got 2.0"),
        ("sample", {"share": 2}, r"share must lie in \[0, 1\], got 2.0"),
    ],
)
def test_a_choice_that_cannot_be_built_is_refused(text: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_choice("thing", text, TABLE, **values)


def test_the_options_of_a_record_are_described_from_its_fields() -> None:
    assert describe_options(Sample) == [
        Option(name="share", default="0.2", meaning="a share", allowed="[0, 1]"),
        Option(name="scale", default="1.0", meaning="any finite number", allowed=""),
        Option(name="count", default="none", meaning="a count", allowed="at least 1"),
        Option(name="sizes", default="1,2", meaning="sizes", allowed="[1, 9]"),
        Option(name="side", default="left", meaning="a side", allowed="left|right"),
        Option(name="exact", default="true", meaning="whether it is exact", allowed="true|false"),
        Option(name="name", default="none", meaning="a name", allowed=""),
    ]


@pytest.mark.parametrize("table", [UNLEARNERS, MODELS, SOURCES], ids=["unlearners", "models", "data"])
def test_every_option_that_can_be_chosen_is_described(table: dict[str, Any]) -> None:
    for name, maker in table.items():
        described = describe_options(maker)
        text = ":".join([name, *(f"{option.name}={option.default}" for option in described)])
        _, options = read_choice("thing", text, table)
        assert list(options) == [option.name for option in described]
        for option in described:
            assert option.meaning or not dataclasses.is_dataclass(maker)
            if "|" in option.allowed:
                assert option.allowed.split("|")[0] == option.default


def test_parsed_text_of_every_kind() -> None:
    assert parse_value("1e3", float, "x") == 1000.0
    assert parse_value("None", int | None, "x") is None
    assert parse_value(" 1, 2 ,", tuple[int, ...], "x") == (1, 2)
    assert parse_value("TRUE", bool, "x") is True


def test_recipes_are_described_without_torch() -> None:
    """Help texts and reports need the fields of a recipe, their defaults and their meanings."""
    program = f"""
        import dataclasses, importlib.util, sys
        # The package without its __init__, which may import more.
        spec = importlib.util.spec_from_file_location("lure", {str(SOURCE / "__init__.py")!r})
        sys.modules["lure"] = importlib.util.module_from_spec(spec)
        from lure.recipe import Experiment, Recipe, policy_name, shipped_recipes
        from lure.settings import split_choice
        fields = {{field.name: field for field in dataclasses.fields(Experiment)}}
        assert fields["epochs"].default == 50 and fields["epochs"].metadata["meaning"]
        assert "demo" in shipped_recipes() and policy_name("lure:ties=all") == "lure+ties=all"
        assert "torch" not in sys.modules
        Recipe()
        assert "torch" in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
