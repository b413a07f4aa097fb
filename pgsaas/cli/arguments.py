"""Arguments that many commands take."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import click

from pgsaas.cli.output import Command


def to_amount(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> Decimal | None:
    """Credits, exactly as written; the database knows which amounts it takes."""
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        raise click.BadParameter(f"{text!r} is no amount, such as 12.5") from None


#: How a command says that there is no value.
NONE = "none"


def to_amount_or_none(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> Decimal | str | None:
    """Credits, or the word none."""
    return NONE if text == NONE else to_amount(context, parameter, text)


def to_moment(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> datetime | None:
    """A time in ISO 8601; UTC where it names no zone."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time, such as 2026-01-31T23:59:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def to_object(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """A JSON object, as written: the database reads its numbers exactly."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter(f'{text!r} is no JSON object, such as {{"model": "large"}}')
    return text


def to_interval(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """An interval as PostgreSQL reads it; a bare number, which it takes for seconds, is refused."""
    if text is not None and text.strip().replace(".", "", 1).isdigit():
        raise click.BadParameter(f"{text!r} of what? Say '{text.strip()} minutes', for example")
    return text


account = click.argument("account")
amount = click.argument("amount", callback=to_amount)
part = click.argument("amount", callback=to_amount, required=False)
description = click.option("--description", metavar="TEXT", help="What it is for.")
agent = click.option("--agent", "agent_id", metavar="ID", help="The agent that did the work.")
job = click.option("--job", "job_id", type=UUID, metavar="UUID", help="The job it belongs to.")
reason = click.option("--reason", required=True, metavar="TEXT", help="Why; kept for ever.")
ttl = click.option(
    "--ttl",
    callback=to_interval,
    metavar="INTERVAL",
    help="How long, '15 minutes' unless given.",
)

#: Lets an amount start with a minus sign.
NUMBERS = {"ignore_unknown_options": True}


def repeatable(command: Command) -> Command:
    """Add --key and --metadata, which every call that moves credits takes."""
    for option in (
        click.option("--metadata", callback=to_object, metavar="JSON", help="An object to keep."),
        click.option(
            "--key",
            "idempotency_key",
            metavar="KEY",
            help="An idempotency key: the same call with it again has no further effect.",
        ),
    ):
        command = option(command)
    return command


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that were given; the others take the function's own default."""
    return {name: value for name, value in arguments.items() if value is not None}
