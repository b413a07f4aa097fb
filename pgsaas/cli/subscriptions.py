"""pgsaas subscriptions: who has which plan."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from pgsaas.call import call, read
from pgsaas.cli import arguments
from pgsaas.cli.arguments import given
from pgsaas.cli.money import price
from pgsaas.cli.output import Command, Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.subscribers import backfill, migrate
from pgsaas.cli.subscription_text import (
    line,
    preview_line,
    price_of,
    what_followed,
    what_is_to_come,
)
from pgsaas.cli.table import plain
from pgsaas.errors import NotFound

STATUSES = ("trialing", "active", "past_due", "unpaid", "paused", "canceled", "expired")
SHOWN = (
    "plan",
    "status",
    "access",
    "price",
    "quantity",
    "credits",
    "period",
    "trial_ends_at",
    "to_come",
    "started_at",
    "ended_at",
)
LISTED = (
    "account_id",
    "external_id",
    "plan",
    "status",
    "quantity",
    "price",
    "monthly_credits",
    "period_ends",
    "to_come",
)


@click.group()
@shared_options
def subscriptions() -> None:
    """Start, change, cancel, show and list subscriptions.

    ACCOUNT is an account id, the external id of a user, realm:external-id or an address. Money is
    given in a currency's smallest unit, such as cents.
    """


def _call(output: Output, function: str, account: str, **options: Any) -> dict[str, Any]:
    with open_ledger(output) as conn:
        return call(conn, function, account_id=find_account(conn, account), **given(**options))[0]


@subscriptions.command()
@shared_options
@arguments.account
@pass_output
def show(output: Output, account: str) -> None:
    """Show the subscription of ACCOUNT, or the last one it had; exit 1 if it never had one."""
    with open_ledger(output) as conn:
        found = call(conn, "get_subscription", account_id=find_account(conn, account))
    if not found:
        raise NotFound(f'"{account}" has no subscription: `pgsaas subscriptions start` makes one')
    if output.as_json:
        output.data(found[0])
        return
    row = found[0]
    begun, end = row["current_period_start"], row["current_period_end"]
    shown = {
        **row,
        "plan": f"{row['plan_id']} ({row['plan_name']}), version {row['plan_version']}",
        "access": row["has_access"],
        "price": price_of(row),
        "credits": f"{plain(row['monthly_allowance'])} a month",
        "period": "" if row["ended_at"] else f"{plain(begun)} to {plain(end)}",
        "to_come": what_is_to_come(row),
    }
    output.fields(shown, SHOWN)


@subscriptions.command(name="list")
@shared_options
@click.option("--plan", metavar="PLAN", help="Only subscriptions to this plan.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--after", type=UUID, metavar="ID", help="Only account ids after this one.")
@pass_output
def list_subscriptions(
    output: Output, plan: str | None, status: str | None, limit: int, after: UUID | None
) -> None:
    """List subscriptions in the order of their account ids.

    The one that an account has, or the last one it had.
    """
    beyond = {"account_id": after} if after else None
    wanted = given(plan_id=plan, status=status)
    with open_ledger(output) as conn:
        if plan and not read(conn, "plans", {"plan_id": plan}):
            raise NotFound(f'there is no plan "{plan}"')
        relation = "current_subscriptions"
        found = read(conn, relation, wanted, after=beyond, order_by="account_id", limit=limit + 1)
        these = {"account_id": [row["account_id"] for row in found[:limit]]}
        named = {row["account_id"]: row for row in read(conn, "account_external_ids", these)}
    listed = [
        {
            **row,
            "realm": named.get(row["account_id"], {}).get("realm"),
            "external_id": named.get(row["account_id"], {}).get("external_id"),
        }
        for row in found[:limit]
    ]
    following = listed[-1]["account_id"] if len(found) > limit else None
    value = {"subscriptions": listed, "next": following}
    output.table(value, [_brief(row) for row in listed], LISTED, "there are no subscriptions")
    if following and not output.as_json:
        output.talk(f"there are more: --after {following}")


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    name = f"{row['realm']}:{row['external_id']}" if row["realm"] else row["external_id"]
    total = row["unit_amount"] and row["unit_amount"] * row["quantity"]
    following = f"becomes {row['next_plan']['plan_id']}" if row["next_plan"] else ""
    return {
        "account_id": row["account_id"],
        "external_id": name,
        "plan": row["plan_id"],
        "status": row["status"],
        "quantity": row["quantity"],
        "price": price(total, row["currency"], 1, row["billing_interval"]),
        "monthly_credits": row["monthly_allowance"],
        "period_ends": row["ended_at"] or row["current_period_end"],
        "to_come": "ends" if row["cancel_at_period_end"] else following,
    }


def terms(command: Command) -> Command:
    """Add the terms that a subscription can be started with and changed to."""
    for option in (
        click.option(
            "--unit-amount",
            type=int,
            metavar="CENTS",
            help="A price of its own for each unit, in the currency's smallest unit.",
        ),
        click.option(
            "--allowance",
            callback=arguments.to_amount,
            metavar="CREDITS",
            help="An allowance of its own, per unit and month.",
        ),
        click.option("--quantity", type=int, metavar="N", help="Units, such as seats."),
        click.option(
            "--interval", type=click.Choice(["month", "year"]), help="What one payment covers."
        ),
    ):
        command = option(command)
    return command


when = click.option(
    "--at-period-end/--now",
    "at_period_end",
    default=None,
    help="When it happens (default: an upgrade now, anything else at the period's end).",
)


@subscriptions.command(context_settings=arguments.NUMBERS)
@shared_options
@arguments.account
@click.argument("plan_id", metavar="PLAN")
@terms
@click.option("--trial", "is_trial", is_flag=True, default=None, help="Begin with its trial.")
@click.option("--currency", metavar="CODE", help="Where the plan has prices in several: usd, …")
@click.option(
    "--anchor",
    callback=arguments.to_moment,
    metavar="TIME",
    help="A time in the past that periods are counted from (default: now).",
)
@pass_output
def start(output: Output, /, account: str, **options: Any) -> None:
    """Start a subscription of ACCOUNT to PLAN, and grant its first credits."""
    row = _call(output, "start_subscription", account, **options)
    output.data(row, f"started {line(row)}")


@subscriptions.command(context_settings=arguments.NUMBERS)
@shared_options
@arguments.account
@click.argument("plan_id", metavar="[PLAN]", required=False)
@terms
@when
@pass_output
def preview(output: Output, /, account: str, **options: Any) -> None:
    """Say what a change would cost and give; nothing is changed."""
    with open_ledger(output) as conn, conn.transaction():  # both see it at the same moment
        account_id = find_account(conn, account)
        seen = call(conn, "preview_change_plan", account_id=account_id, **given(**options))[0]
        row = call(conn, "get_subscription", account_id=account_id)[0]
    output.data(seen, preview_line(seen, row, options["interval"] or row["billing_interval"]))


@subscriptions.command(context_settings=arguments.NUMBERS)
@shared_options
@arguments.account
@click.argument("plan_id", metavar="[PLAN]", required=False)
@terms
@when
@pass_output
def change(output: Output, /, account: str, **options: Any) -> None:
    """Give the subscription of ACCOUNT another plan, interval, quantity or contract.

    What is not given stays. `pgsaas subscriptions preview` says what the same change would cost.
    """
    row = _call(output, "change_plan", account, **options)
    following = what_is_to_come(row)
    output.data(row, f"to come: {following}" if following else f"changed to {line(row)}")


@subscriptions.command()
@shared_options
@arguments.account
@click.option("--now", "is_now", is_flag=True, help="End it at once (default: with its period).")
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@pass_output
def cancel(output: Output, account: str, is_now: bool, reason: str | None) -> None:
    """End the subscription of ACCOUNT; the default plan follows where there is one."""
    options = {"at_period_end": not is_now, "reason": reason}
    row = _call(output, "cancel_subscription", account, **options)
    said = f"{row['plan_id']} {what_is_to_come(row)}; until then nothing changes"
    output.data(row, what_followed(row, "canceled") if is_now else said)


@subscriptions.command()
@shared_options
@arguments.account
@pass_output
def resume(output: Output, account: str) -> None:
    """Take back what is to come: the end of a subscription, or a change of plan."""
    with open_ledger(output) as conn, conn.transaction():
        account_id = find_account(conn, account)
        before = call(conn, "get_subscription", account_id=account_id)
        row = call(conn, "resume_subscription", account_id=account_id)[0]
    was = what_is_to_come(before[0]) if before else ""
    output.data(row, f"goes on as {line(row)}" if was else "nothing was to come")


@subscriptions.command(name="set-status")
@shared_options
@arguments.account
@click.argument("status")
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@pass_output
def set_status(output: Output, /, account: str, **options: Any) -> None:
    """Say what became of the payments of ACCOUNT.

    STATUS is active (paid), past_due (access goes on for a while), unpaid or paused (no access),
    canceled or expired (it ends now).
    """
    row = _call(output, "set_subscription_status", account, **options)
    access = "with" if row["has_access"] else "without"
    said = f"{row['plan_id']} is {row['status']}, {access} access"
    if row["status"] == "trialing":
        said = f"{row['plan_id']} goes on when its trial ends {plain(row['trial_ends_at'])}"
    elif options["status"] not in ("active", "past_due", "unpaid", "paused"):
        said = what_followed(row, "expired" if options["status"] == "expired" else "canceled")
    output.data(row, said)


subscriptions.add_command(migrate)
subscriptions.add_command(backfill)
