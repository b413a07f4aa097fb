"""pgsaas credits hold, capture, release and extend: credits for work that still runs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import click

from pgsaas.call import call
from pgsaas.cli import arguments
from pgsaas.cli.arguments import NUMBERS, given
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.table import plain

hold_id = click.argument("hold_id", type=int, metavar="HOLD")


def _call(output: Output, function: str, account: str, options: dict[str, Any]) -> dict[str, Any]:
    with open_ledger(output) as conn:
        return call(conn, function, account_id=find_account(conn, account), **given(**options))[0]


@click.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@arguments.amount
@arguments.ttl
@arguments.description
@arguments.job
@arguments.agent
@arguments.repeatable
@pass_output
def hold(output: Output, /, account: str, amount: Decimal, **options: Any) -> int:
    """Reserve AMOUNT for running work.

    It comes back by itself when its time is over.
    """
    answer = _call(output, "hold_credits", account, {"amount": amount, **options})
    until = plain(answer["expires_at"])
    said = f"hold {answer['hold_id']} keeps {plain(amount)} until {until}"
    return output.answer(answer, said)


@click.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@hold_id
@arguments.part
@click.option(
    "--shortfall",
    type=click.Choice(["refuse", "partial", "debt"]),
    help="What to do when AMOUNT is more than is there (default: refuse).",
)
@arguments.repeatable
@pass_output
def capture(output: Output, /, account: str, **options: Any) -> int:
    """Charge HOLD, all of it or AMOUNT, and close it."""
    answer = _call(output, "capture_hold", account, options)
    return output.answer(answer, f"captured {plain(answer['captured'])}")


@click.command()
@shared_options
@arguments.account
@hold_id
@pass_output
def release(output: Output, /, account: str, **options: Any) -> int:
    """Close HOLD without a charge."""
    return output.answer(_call(output, "release_hold", account, options), "released")


@click.command()
@shared_options
@arguments.account
@hold_id
@arguments.ttl
@pass_output
def extend(output: Output, /, account: str, **options: Any) -> int:
    """Let HOLD last longer, counted from now."""
    answer = _call(output, "extend_hold", account, options)
    return output.answer(answer, f"extended until {plain(answer['expires_at'])}")
