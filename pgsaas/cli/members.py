"""pgsaas accounts members: who acts for an account."""

from __future__ import annotations

import click

from pgsaas.call import call, read
from pgsaas.cli import arguments
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger

COLUMNS = ("user_id", "member_role", "created_at")
ROLES = click.Choice(["owner", "admin", "billing", "member"])


@click.group()
@shared_options
def members() -> None:
    """List, add and remove the members of an account, and change their roles.

    USER is the id the application gives a user: what stands in the `sub` of their claims.
    """


@members.command(name="list")
@shared_options
@arguments.account
@pass_output
def list_members(output: Output, account: str) -> None:
    """List the members of ACCOUNT; the user of a user account needs no row."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        found = read(conn, "account_members", {"account_id": account_id}, order_by="user_id")
    output.table({"members": found}, found, COLUMNS, "it has no members")


@members.command()
@shared_options
@arguments.account
@click.argument("user")
@click.option("--role", type=ROLES, default="member", show_default=True)
@pass_output
def add(output: Output, account: str, user: str, role: str) -> None:
    """Make USER a member of ACCOUNT."""
    _set(output, "add_member", account, user, role)


@members.command(name="role")
@shared_options
@arguments.account
@click.argument("user")
@click.argument("role", type=ROLES)
@pass_output
def set_role(output: Output, account: str, user: str, role: str) -> None:
    """Give the member USER of ACCOUNT another ROLE."""
    _set(output, "set_member_role", account, user, role)


def _set(output: Output, function: str, account: str, user: str, role: str) -> None:
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        member = call(conn, function, account_id=account_id, user_id=user, role=role)[0]
    output.data(member, f"{user} is {member['member_role']}")


@members.command()
@shared_options
@arguments.account
@click.argument("user")
@pass_output
def remove(output: Output, account: str, user: str) -> None:
    """Remove the member USER from ACCOUNT."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        answer = call(conn, "remove_member", account_id=account_id, user_id=user)[0]
    removed = answer["remove_member"]
    output.data({"removed": removed}, "removed" if removed else f"{user} was no member")
