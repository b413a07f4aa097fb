"""pgsaas subscriptions migrate and backfill: many subscribers at once, in batches."""

from __future__ import annotations

from typing import Any

import click

from pgsaas.call import call, read
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.progress import Advance, progress
from pgsaas.cli.session import open_ledger
from pgsaas.cli.table import counted
from pgsaas.install.session import Session

#: Accounts in one transaction.
BATCH = 1000


def _in_batches(
    conn: Session,
    function: str,
    count: str,
    advance: Advance,
    limit: int | None = None,
    **options: Any,
) -> tuple[int, int]:
    """Call a function until nothing remains, or `limit` is reached: what it did, what remains."""
    done, remaining = 0, -1
    while True:
        size = BATCH if limit is None else min(BATCH, limit - done)
        step = call(conn, function, **options, limit=size)[0]
        done += step[count]
        is_stuck = not step[count] and step["remaining"] == remaining
        remaining = step["remaining"]
        advance(done, limit or done + remaining)
        if not remaining or is_stuck or done == limit:
            return done, remaining


@click.command()
@shared_options
@click.argument("plan", metavar="PLAN")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@pass_output
def migrate(output: Output, plan: str, limit: int | None, reason: str | None) -> None:
    """Give subscribers of older versions of PLAN its current terms and price.

    A higher allowance is granted at once, a lower one counts from the next month on; a contract
    keeps its own. In steps of 1,000, each a transaction of its own: interrupted, it goes on where
    it was.
    """
    with open_ledger(output) as conn, progress("migrating") as advance:
        named = {"plan_id": plan, "reason": reason}
        done, remaining = _in_batches(
            conn, "migrate_subscribers", "migrated", advance, limit, **named
        )
        version = read(conn, "plans", {"plan_id": plan})[0]["version"]
    said = f"{counted(done, 'subscriber')} of {plan} moved to version {version}"
    if remaining:
        said += f", {remaining:,} to go"
    elif not done:
        said = f"nobody has an older version of {plan} than {version}"
    value = {"plan_id": plan, "version": version, "migrated": done, "remaining": remaining}
    output.data(value, said)


@click.command()
@shared_options
@pass_output
def backfill(output: Output) -> None:
    """Put every account without a subscription on the default plan.

    Those that were there before the plan was; new accounts are on it from the start. In steps of
    1,000, each a transaction of its own: interrupted, it goes on where it was.
    """
    with open_ledger(output) as conn, progress("assigning") as advance:
        done, remaining = _in_batches(conn, "assign_default_plan", "assigned", advance)
    said = f"{counted(done, 'account')} put on the default plan"
    if remaining:
        said += f", {remaining:,} to go"
    elif not done:
        said = "every account has a subscription"
    output.data({"assigned": done, "remaining": remaining}, said)
