"""pgsaas credits: what moves them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from pgsaas.call import call
from pgsaas.cli import arguments
from pgsaas.cli.arguments import NUMBERS, given, to_moment
from pgsaas.cli.history import balance, explain, history
from pgsaas.cli.holds import capture, extend, hold, release
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.table import plain


@click.group()
@shared_options
def credits() -> None:  # noqa: A001
    """Add, deduct, hold, refund and explain credits.

    ACCOUNT is an account id, the external id of a user, realm:external-id or an address. AMOUNT
    has at most 6 decimals. A call that is refused says why and exits 1.
    """


def move(output: Output, function: str, said: str, account: str, **options: Any) -> int:
    """Call a function that moves credits of one account and say what it answered."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        answer = call(conn, function, account_id=account_id, **given(**options))[0]
    grant = answer.get("grant_id")
    return output.answer(answer, f"{said} (grant {grant})" if grant else said)


@credits.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@arguments.amount
@click.option("--source", metavar="NAME", help="purchase, bonus, trial, … (default: bonus).")
@click.option(
    "--expires",
    "expires_at",
    callback=to_moment,
    metavar="TIME",
    help="When they expire (default: never).",
)
@click.option(
    "--effective",
    "effective_at",
    callback=to_moment,
    metavar="TIME",
    help="From when on (default: now).",
)
@click.option("--priority", type=int, help="Lower burns first (default: 0).")
@arguments.description
@arguments.repeatable
@pass_output
def add(
    output: Output, /, account: str, amount: Decimal, effective_at: datetime | None, **options: Any
) -> int:
    """Grant AMOUNT credits to ACCOUNT."""
    said = f"added {plain(amount)}"
    if effective_at:
        said += f" from {plain(effective_at)} on"
    options.update(amount=amount, effective_at=effective_at)
    return move(output, "add_credits", said, account, **options)


@credits.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@arguments.amount
@arguments.description
@arguments.job
@arguments.agent
@arguments.repeatable
@pass_output
def deduct(output: Output, /, account: str, amount: Decimal, **options: Any) -> int:
    """Charge ACCOUNT, all of AMOUNT or nothing."""
    return move(
        output, "deduct_credits", f"deducted {plain(amount)}", account, amount=amount, **options
    )


@credits.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@click.argument("seq", type=int, metavar="ROW")
@arguments.part
@click.option("--reason", metavar="TEXT", help="Why.")
@arguments.repeatable
@pass_output
def refund(output: Output, /, account: str, **options: Any) -> int:
    """Give back what the charge in ROW took.

    ROW is that of a deduction or capture; AMOUNT gives back a part of it.
    """
    return move(output, "refund_credits", f"refunded row {options['seq']}", account, **options)


@credits.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@click.argument("grant_id", type=int, metavar="GRANT")
@arguments.part
@click.option("--reason", metavar="TEXT", help="Why.")
@arguments.repeatable
@pass_output
def revoke(output: Output, /, account: str, **options: Any) -> int:
    """Take GRANT back, even where it is spent.

    Or AMOUNT of it. What is spent is taken from other credits, then owed.
    """
    return move(output, "revoke_grant", f"revoked grant {options['grant_id']}", account, **options)


@credits.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@arguments.amount
@arguments.reason
@arguments.repeatable
@pass_output
def adjust(output: Output, /, account: str, amount: Decimal, **options: Any) -> int:
    """Correct a balance by hand, as staff: AMOUNT may be negative."""
    return move(
        output, "adjust_credits", f"adjusted by {plain(amount)}", account, amount=amount, **options
    )


@credits.command(context_settings=NUMBERS)
@shared_options
@click.argument("giver", metavar="FROM")
@click.argument("taker", metavar="TO")
@arguments.amount
@arguments.description
@arguments.repeatable
@pass_output
def transfer(output: Output, /, giver: str, taker: str, amount: Decimal, **options: Any) -> int:
    """Move credits between accounts of one organization.

    Purchased and bonus credits only, and purchases not before 14 days.
    """
    with open_ledger(output) as conn:
        ends = {"from": find_account(conn, giver), "to": find_account(conn, taker)}
        answer = call(conn, "transfer_credits", **ends, amount=amount, **given(**options))[0]
    return output.answer(answer, f"transferred {plain(amount)}")


for command in (hold, capture, release, extend, balance, history, explain):
    credits.add_command(command)
