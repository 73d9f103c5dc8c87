"""What all commands share: the parser, the record of a command, flags that several have, and flags made from fields."""

import argparse
import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from lure.errors import InputError, unknown_name
from lure.settings import format_value

if TYPE_CHECKING:
    from lure.data.sources.dataset import Hints


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and name the nearest flag.

    Args:
        add_flags: adds the flags; called when the parser is first used, so that only one command's flags are built.
        **options: as for `argparse.ArgumentParser`.
    """

    def __init__(self, *, add_flags: "Callable[[Parser], None] | None" = None, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self.commands: dict[str, Parser] = {}
        self._add_flags = add_flags

    def add_commands(self, commands: "Mapping[str, Command]") -> None:
        """Add a parser for each command; the name of the one that is given becomes `arguments.command`."""
        names = self.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
        for name, command in commands.items():
            self.commands[name] = names.add_parser(
                name,
                help=command.summary,
                description=command.summary,
                usage=command.usage,
                add_flags=command.add_flags,
            )

    def complete(self) -> "Parser":
        """Add the flags if that has not happened yet; return the parser."""
        add_flags, self._add_flags = self._add_flags, None
        if add_flags:
            add_flags(self)
        return self

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse as argparse does, after the flags have been added."""
        self.complete()
        return super().parse_known_args(args, namespace)

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words.

        Raises:
            InputError: for bad usage; an unknown command or flag is answered with the nearest known one.
        """
        if self.commands and words and not words[0].startswith("-") and words[0] not in self.commands:
            raise unknown_name("command", words[0], self.commands)
        parsed, unknown = self.parse_known_args(words)
        if unknown:
            command = self.commands.get(words[0], self)
            if unknown[0].startswith("-"):
                flags = [flag for flag in command._option_string_actions if flag.startswith("--")]
                message = str(unknown_name("flag", unknown[0].split("=")[0], flags)).split(" (valid")[0]
                raise InputError(f"{message} (see: {command.prog} --help)")
            raise InputError(f"unexpected argument {unknown[0]!r} (see: {command.prog} --help)")
        assert isinstance(parsed, argparse.Namespace)
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raise the error; argparse would print the usage and exit."""
        raise InputError(f"{message} (see: {self.prog} --help)")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of `lure`.

    Attributes:
        summary: what it does, in one sentence, for the help.
        add_flags: gives a parser its flags.
        run: does it; returns an exit code, or None for 0.
        usage: the usage line, where the one that argparse writes would be too long to read.
    """

    summary: str
    add_flags: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int | None]
    usage: str | None = None


class _IntoDictionary(argparse.Action):
    """Keeps a flag's text in a dictionary: `--lr 0.1` with dest "fields" becomes `arguments.fields["lr"] = "0.1"`."""

    def __init__(self, *, field: str, **options: Any) -> None:
        super().__init__(**options)
        self._field = field

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option_string: object = None
    ) -> None:
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), self._field: values})


def add_fields(
    parser: Parser,
    title: str,
    record: type[Any],
    names: Sequence[str],
    *,
    into: str,
    defaults: Mapping[str, str] | None,
) -> None:
    """Add a group with a flag for each of some fields of a record.

    The given texts are collected in a dictionary (field -> text). The record reads them: it knows the types.

    Args:
        parser: where to add them.
        title: the group's title in the help.
        record: a dataclass whose fields have a "meaning" in their metadata.
        names: the fields.
        into: the attribute of the parsed arguments that holds the dictionary.
        defaults: field -> default that the help shows instead of the field's own; None shows no defaults.
    """
    group, hints = parser.add_argument_group(title), typing.get_type_hints(record)
    fields = {field.name: field for field in dataclasses.fields(record)}
    for name in names:
        default = ""
        if defaults is not None:
            default = f" (default {defaults.get(name) or format_value(fields[name].default)})"
        group.add_argument(
            f"--{name.replace('_', '-')}",
            action=_IntoDictionary,
            field=name,
            dest=into,
            default={},
            metavar=_metavar(hints[name]),
            help=f"{fields[name].metadata['meaning']}{default}".replace("%", "%%"),
        )


def _metavar(kind: Any) -> str:
    """Return what stands for a value in help texts: the choices themselves where there are few."""
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    kinds = [option for option in typing.get_args(kind) or (kind,) if option not in (type(None), Ellipsis)]
    word = {int: "N", float: "X", bool: "true|false", str: "NAME"}.get(kinds[0], "VALUE")
    return f"{word},{word},..." if typing.get_origin(kind) is tuple else word


def add_directory(parser: Parser) -> None:
    """Add DIR, the run directory."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="the run directory")


def add_version_flag(parser: Parser, verb: str) -> None:
    """Add --version, for a command that takes the version in use unless told otherwise."""
    parser.add_argument(
        "--version",
        dest="number",
        metavar="VERSION",
        type=int,
        help=f"number of the version to {verb} (default: the one in use)",
    )


def overruling(verb: str, summary: str) -> Command:
    """Return a command by which somebody overrules the gate: DIR, VERSION, and a reason that the ledger keeps.

    Args:
        verb: name of the function of `lure.learner.production` that does it.
        summary: what it does, in one sentence, for the help.
    """

    def add_flags(parser: Parser) -> None:
        add_directory(parser)
        parser.add_argument("number", metavar="VERSION", type=int, help="its number (see: lure status DIR)")
        parser.add_argument("--reason", metavar="TEXT", default="", help="why; it is kept in the ledger")

    def run(arguments: argparse.Namespace) -> None:
        from lure.learner import production

        print(getattr(production, verb)(arguments.directory, arguments.number, arguments.reason))

    return Command(summary=summary, add_flags=add_flags, run=run)


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add --device."""
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")


def add_workers(parser: argparse._ActionsContainer) -> None:
    """Add --workers."""
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=0,
        help="processes that read data too large for memory (default 0: this one reads them)",
    )


def add_model(parser: Parser) -> None:
    """Add --model, which repeats the name of the user's own code: it is run only if the command line names it, too."""
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="package.module:function; needed only if the network is your own code",
    )


def add_methods(parser: Parser) -> None:
    """Add --unlearner and --regularizers, which repeat the names of the user's own code, as --model does."""
    parser.add_argument(
        "--unlearner",
        metavar="NAME",
        help="package.module:Class and its options; needed only if the unlearner is your own code",
    )
    parser.add_argument(
        "--regularizers",
        metavar="NAME,NAME,...",
        type=split_names,
        help="all of them, as the recipe names them; needed only if one of them is your own code",
    )


def add_hints(parser: argparse._ActionsContainer) -> None:
    """Add --label, --ignore, --id, --image and --layout, which say of files what they do not say themselves."""
    parser.add_argument("--label", metavar="COLUMN", help="the column of a table that holds the labels")
    parser.add_argument(
        "--ignore",
        metavar="COLUMN,COLUMN",
        type=split_names,
        default=(),
        help="columns of a table that are left out",
    )
    parser.add_argument(
        "--id",
        metavar="COLUMN",
        help="the column of a table that names its rows; no feature, predict carries it through",
    )
    parser.add_argument("--image", metavar="COLUMN", help="the column of a table that holds images")
    parser.add_argument(
        "--layout",
        choices=("channels-first", "channels-last"),
        help="where the channels of arrays are (default: where 1, 3 or 4 are, or where they fit the model)",
    )


def hints_of(arguments: argparse.Namespace) -> "Hints":
    """Return what the arguments say of files."""
    from lure.data.sources.dataset import Hints

    return Hints(
        label=arguments.label,
        image=arguments.image,
        id=arguments.id,
        ignore=arguments.ignore,
        layout=arguments.layout,
    )


def split_names(text: str) -> tuple[str, ...]:
    """Return the words of a flag's text, which have commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def add_json(parser: Parser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
