"""pgsaas accounts members: who acts for an account."""

from __future__ import annotations

import click

from pgsaas.call import call, read
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger

COLUMNS = ("user_id", "member_role", "created_at")
ROLES = click.Choice(["owner", "admin", "billing", "member"])


@click.group()
@shared_options
@click.argument("account")
@click.pass_context
def members(context: click.Context, account: str) -> None:
    """List, add and remove the members of ACCOUNT, and change their roles.

    USER is the id the application gives a user: what stands in the `sub` of their claims.
    """
    context.meta["account"] = account


@members.command(name="list")
@shared_options
@pass_output
@click.pass_context
def list_members(context: click.Context, output: Output) -> None:
    """List the members; the user of a user account needs no row."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, context.meta["account"])
        found = read(conn, "account_members", {"account_id": account_id}, order_by="user_id")
    output.table({"members": found}, found, COLUMNS, "it has no members")


@members.command()
@shared_options
@click.argument("user")
@click.option("--role", type=ROLES, default="member", show_default=True)
@pass_output
@click.pass_context
def add(context: click.Context, output: Output, user: str, role: str) -> None:
    """Make USER a member."""
    _set(context, output, "add_member", user, role)


@members.command(name="role")
@shared_options
@click.argument("user")
@click.argument("role", type=ROLES)
@pass_output
@click.pass_context
def set_role(context: click.Context, output: Output, user: str, role: str) -> None:
    """Give the member USER another ROLE."""
    _set(context, output, "set_member_role", user, role)


def _set(context: click.Context, output: Output, function: str, user: str, role: str) -> None:
    with open_ledger(output) as conn:
        account_id = find_account(conn, context.meta["account"])
        member = call(conn, function, account_id=account_id, user_id=user, role=role)[0]
    output.data(member, f"{user} is {member['member_role']}")


@members.command()
@shared_options
@click.argument("user")
@pass_output
@click.pass_context
def remove(context: click.Context, output: Output, user: str) -> None:
    """Remove the member USER."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, context.meta["account"])
        answer = call(conn, "remove_member", account_id=account_id, user_id=user)[0]
    removed = answer["remove_member"]
    output.data({"removed": removed}, "removed" if removed else f"{user} was no member")
