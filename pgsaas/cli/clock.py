"""pgsaas clock: the time of a test installation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from pgsaas import install
from pgsaas.call import call
from pgsaas.cli.arguments import to_interval, to_moment
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.errors import NotInstalled


@click.group()
@shared_options
def clock() -> None:
    """Set, advance or reset the clock of a test installation."""


@clock.command(name="set")
@shared_options
@click.argument("at", callback=to_moment)
@pass_output
def set_clock(output: Output, at: datetime) -> None:
    """Stop the clock AT a time, such as 2026-01-31T23:59:00Z."""
    _turn(output, "set_clock", at=at)


@clock.command()
@shared_options
@click.argument("by", callback=to_interval)
@pass_output
def advance(output: Output, by: str) -> None:
    """Move the clock forward BY an interval, such as '3 days'."""
    _turn(output, "advance_clock", by=by)


@clock.command()
@shared_options
@pass_output
def reset(output: Output) -> None:
    """Give the real time back."""
    _turn(output, "reset_clock")


def _turn(output: Output, function: str, **arguments: Any) -> None:
    with install.open_session(output.settings().database_url) as conn:
        if not install.is_bootstrapped(conn):
            raise NotInstalled
        with install.as_owner(conn):
            now = call(conn, function, **arguments)[0][function]
    output.data({"now": now.isoformat()}, now.isoformat())
