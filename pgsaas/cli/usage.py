"""pgsaas usage: what was used, recorded and counted."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import click

from pgsaas.call import call, read
from pgsaas.cli import arguments
from pgsaas.cli.arguments import NUMBERS, given
from pgsaas.cli.events import dimensions
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.table import plain
from pgsaas.cli.usage_import import import_

RECORD = ("usage_id", "occurred_at", "event_name", "quantity", "dimensions", "cost", "seq")
STATS = ("period", "event_name", "category", "dimensions", "records", "quantity", "cost")


@click.group()
@shared_options
def usage() -> None:
    """Record what accounts use, and count it."""


@usage.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@click.argument("event")
@click.argument("quantity", callback=arguments.to_amount, required=False)
@dimensions
@click.option(
    "--at",
    "occurred_at",
    callback=arguments.to_moment,
    metavar="TIME",
    help="When it was used (default: now); the price is that of then.",
)
@click.option(
    "--cost",
    callback=arguments.to_amount,
    metavar="AMOUNT",
    help="What it costs, instead of the price list.",
)
@arguments.repeatable
@pass_output
def record(
    output: Output, /, account: str, event: str, quantity: Decimal | None, **options: Any
) -> int:
    """Charge ACCOUNT for QUANTITY (1 if not given) of EVENT and record it."""
    with open_ledger(output) as conn:
        asked = given(quantity=quantity, **options)
        account_id = find_account(conn, account)
        answer = call(conn, "record_usage", account_id=account_id, event=event, **asked)[0]
    said = f"record {answer['usage_id']} cost {plain(answer['cost'])}"
    return output.answer(answer, said)


@usage.command(name="list")
@shared_options
@arguments.account
@click.option("--before", type=int, metavar="RECORD", help="Only records before this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@pass_output
def list_records(output: Output, account: str, before: int | None, limit: int) -> None:
    """List what ACCOUNT used, newest first."""
    with open_ledger(output) as conn:
        found = read(
            conn,
            "usage_records",
            {"account_id": find_account(conn, account)},
            before={"usage_id": before} if before else None,
            order_by="usage_id",
            newest_first=True,
            limit=limit + 1,
        )
    for each in found:
        each.pop("request_hash")
    listed = found[:limit]
    following = listed[-1]["usage_id"] if len(found) > limit else None
    output.table({"records": listed, "next": following}, listed, RECORD, "nothing was used")
    if following and not output.as_json:
        output.talk(f"there are more: --before {following}")


@usage.command()
@shared_options
@arguments.account
@click.option("--from", "from_", type=click.DateTime(["%Y-%m-%d"]), metavar="DAY")
@click.option("--to", type=click.DateTime(["%Y-%m-%d"]), metavar="DAY", help="Default: today.")
@click.option(
    "--by",
    "group_by",
    multiple=True,
    metavar="WHAT",
    help="day, week, month, event, category or a dimension; several may be given (default: event).",
)
@pass_output
def stats(output: Output, /, account: str, from_: Any, to: Any, group_by: tuple[str, ...]) -> None:
    """Count what ACCOUNT used, by days of UTC (default: the last 30)."""
    days: dict[str, date | None] = {
        "from": from_.date() if from_ else None,
        "to": to.date() if to else None,
    }
    with open_ledger(output) as conn:
        asked = given(group_by=list(group_by) or None, **days)
        found = call(conn, "get_usage_stats", account_id=find_account(conn, account), **asked)
    names = [name for name in STATS if any(row[name] not in (None, {}) for row in found)]
    output.table({"usage": found}, found, names, "nothing was used")


usage.add_command(import_)
