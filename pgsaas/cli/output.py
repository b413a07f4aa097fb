"""How a command talks: data on stdout, talk on stderr, JSON when asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from pgsaas.cli.table import plain, print_table
from pgsaas.exact import as_json
from pgsaas.settings import Settings, read_settings

#: How an error looks on a terminal.
ERROR = "bold red"
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Output:
    """The streams of one run and the two options every command has."""

    as_json: bool = False
    database_url: str | None = None

    def settings(self) -> Settings:
        """The configuration, with this run's flag."""
        return read_settings(self.database_url)

    def talk(self, line: str, style: str = "dim") -> None:
        """One line for a person, in a style where there is a terminal and rich is installed."""
        sys.stdout.flush()
        if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
            try:
                from rich.console import Console
            except ImportError:
                pass
            else:
                Console(stderr=True, highlight=False).print(
                    line, style=style, markup=False, soft_wrap=True
                )
                return
        click.echo(line, err=True)

    def data(self, value: Any, *lines: str) -> None:
        """The result: `value` as JSON, or else the lines."""
        if self.as_json:
            click.echo(as_json(value))
        else:
            for line in lines:
                click.echo(line)

    def table(
        self, value: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str], none: str
    ) -> None:
        """The result: `value` as JSON, or else these columns; `none` is said where no row is."""
        if self.as_json or rows:
            self.data(value)
        else:
            self.talk(none)
        if rows and not self.as_json:
            print_table(rows, names)

    def fields(self, row: Mapping[str, Any], names: Sequence[str]) -> None:
        """One row for a person: a line for each of these columns that has a value."""
        for name in names:
            if (text := plain(row[name])) != "":
                click.echo(f"{name.replace('_', ' '):<18} {text}")

    def answer(self, answer: Mapping[str, Any], said: str) -> int:
        """What a function that moves credits answered, and the exit code for it."""
        if not answer["success"]:
            self.data(answer)
            self.talk(f"pgsaas: {answer['error_message']} ({answer['error_code']})", ERROR)
            return 1
        row = f", row {answer['seq']}" if answer["seq"] else ""
        if answer["replayed"]:
            said = "this was done before, nothing changed; then"
        balance, available = plain(answer["new_balance"]), plain(answer["available"])
        self.data(answer, f"{said}: balance {balance}{row}, available {available}")
        return 0

    def fail(self, message: str, code: str | None = None) -> None:
        """One line that says what happened and what to do."""
        if self.as_json:
            click.echo(as_json({"error": message, "code": code}))
        self.talk(f"pgsaas: {message}", ERROR)


pass_output = click.make_pass_decorator(Output)


def _keep_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Output).as_json = True


def _keep_url(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        context.ensure_object(Output).database_url = value


#: For a command that brings its own database.
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_keep_json,
    help="Print the result as JSON.",
)
_url_option = click.option(
    "--database-url",
    metavar="URL",
    expose_value=False,
    callback=_keep_url,
    help="The database (default: PGSAAS_DATABASE_URL, DATABASE_URL, PG*).",
)


def shared_options(command: Command) -> Command:
    """Add --json and --database-url; both may stand before or after the command's name."""
    return _url_option(json_option(command))
