"""pgsaas credits balance, history and explain: reading, where what is due is shown as done."""

from __future__ import annotations

from datetime import datetime

import click

from pgsaas.call import call
from pgsaas.cli import arguments
from pgsaas.cli.arguments import given, to_moment
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.table import plain
from pgsaas.errors import AccountNotFound

LEDGER = ("seq", "created_at", "transaction_type", "amount", "balance_after", "description")
PARTS = ("part", "grant_id", "source", "amount", "refunded", "expires_at")


@click.command()
@shared_options
@arguments.account
@click.option(
    "--at", callback=to_moment, metavar="TIME", help="The balance at a moment in the past."
)
@pass_output
def balance(output: Output, account: str, at: datetime | None) -> None:
    """Show what ACCOUNT has, now or at some moment."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        if at is not None:
            then = call(conn, "balance_at", account_id=account_id, at=at)[0]["balance_at"]
            output.data({"account_id": account_id, "at": at, "balance": then}, plain(then))
            return
        found = call(conn, "get_balance", account_id=account_id)
    if not found:
        raise AccountNotFound
    names = [name for name in found[0] if name not in ("account_id", "seq")]
    output.data(found[0])
    if not output.as_json:
        output.fields(found[0], names)


@click.command()
@shared_options
@arguments.account
@click.option("--before", "before_seq", type=int, metavar="ROW", help="Only rows before this one.")
@click.option("--limit", type=int, default=20, show_default=True, help="At most 1000.")
@click.option("--type", "type_", metavar="NAME", help="Only grant, deduction, capture, refund, …")
@pass_output
def history(
    output: Output, account: str, before_seq: int | None, limit: int, type_: str | None
) -> None:
    """List the ledger of ACCOUNT, newest first."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        only = given(before_seq=before_seq, limit=limit, type=type_)
        found = call(conn, "list_transactions", account_id=account_id, **only)
    following = found[-1]["seq"] if len(found) == limit and found[-1]["seq"] > 1 else None
    output.table({"transactions": found, "next": following}, found, LEDGER, "there are no rows")
    if following and not output.as_json:
        output.talk(f"there are more: --before {following}")


@click.command()
@shared_options
@arguments.account
@click.argument("seq", type=int, metavar="ROW")
@pass_output
def explain(output: Output, account: str, seq: int) -> None:
    """Show which credits the charge in ROW burned.

    And how much of each part was refunded since.
    """
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        parts = call(conn, "explain_deduction", account_id=account_id, seq=seq)
    output.table({"parts": parts}, parts, PARTS, "it burned nothing")
