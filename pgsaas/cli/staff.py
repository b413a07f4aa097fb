"""pgsaas admins and pgsaas audit: who staff are, and who did what."""

from __future__ import annotations

import click

from pgsaas.call import call, read
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import ADMIN, OWNER, find_account, open_ledger

LISTED = ("user_id", "added_at")
EVENT = ("audit_event_id", "created_at", "actor", "action", "account_id", "details")


@click.group()
@shared_options
def admins() -> None:
    """List, add and remove platform admins.

    USER is the id of a user: what stands in the `sub` of their claims. Under pgsaas_admin the
    claims of these users count, and nobody else's.
    """


@admins.command(name="list")
@shared_options
@pass_output
def list_admins(output: Output) -> None:
    """List the platform admins."""
    with open_ledger(output, OWNER) as conn:
        found = read(conn, "platform_admins", order_by="user_id")
    output.table({"admins": found}, found, LISTED, "there are no platform admins")


@admins.command()
@shared_options
@click.argument("user")
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@pass_output
def add(output: Output, user: str, reason: str | None) -> None:
    """Make USER a platform admin."""
    with open_ledger(output, OWNER) as conn:
        answer = call(conn, "add_platform_admin", user_id=user, reason=reason)[0]
    added = answer["add_platform_admin"]
    output.data({"added": added}, f"{user} is {'now' if added else 'already'} a platform admin")


@admins.command()
@shared_options
@click.argument("user")
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@pass_output
def remove(output: Output, user: str, reason: str | None) -> None:
    """Make USER a platform admin no more."""
    with open_ledger(output, OWNER) as conn:
        answer = call(conn, "remove_platform_admin", user_id=user, reason=reason)[0]
    removed = answer["remove_platform_admin"]
    output.data(
        {"removed": removed}, f"{user} {'is no longer' if removed else 'was no'} platform admin"
    )


@click.command()
@shared_options
@click.argument("account", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--before", type=int, metavar="EVENT", help="Only events before this one.")
@pass_output
def audit(output: Output, account: str | None, limit: int, before: int | None) -> None:
    """List who did what, newest first; with ACCOUNT, only to that account."""
    with open_ledger(output, ADMIN) as conn:
        only = {"account_id": find_account(conn, account)} if account else None
        found = read(
            conn,
            "audit_events",
            only,
            before={"audit_event_id": before} if before else None,
            order_by="audit_event_id",
            newest_first=True,
            limit=limit + 1,
        )
    listed = found[:limit]
    following = listed[-1]["audit_event_id"] if len(found) > limit else None
    output.table({"events": listed, "next": following}, listed, EVENT, "nothing is on record")
    if following and not output.as_json:
        output.talk(f"there are more: --before {following}")
