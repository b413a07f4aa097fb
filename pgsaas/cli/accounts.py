"""pgsaas accounts: who is billed."""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

import click

from pgsaas.call import call, read, stream
from pgsaas.cli import arguments
from pgsaas.cli.arguments import given
from pgsaas.cli.members import members
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.terms import set_terms
from pgsaas.exact import as_json
from pgsaas.install.session import Session

LISTED = ("account_id", "external_id", "called", "state", "available")
SHOWN = ("account_id", "kind", "name", "email", "realm", "external_id", "state", "created_at")
GRANT = ("grant_id", "source", "amount", "remaining", "effective_at", "expires_at")
HOLD = ("hold_id", "amount", "created_at", "expires_at", "description")
BALANCE = (
    "balance",
    "held",
    "available",
    "owed",
    "overdraft_limit",
    "by_source",
    "next_expiry_at",
    "next_reset_at",
    "monthly_allowance",
    "lifetime_earned",
    "lifetime_spent",
)


@click.group()
@shared_options
def accounts() -> None:
    """List, show, create, change, freeze, export and erase accounts.

    ACCOUNT is an account id, the external id of a user, realm:external-id, where the realm is
    the attached table, such as public.users:42, or an address.
    """


@accounts.command(name="list")
@shared_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--after", type=UUID, metavar="ID", help="Only account ids after this one.")
@pass_output
def list_accounts(output: Output, limit: int, after: UUID | None) -> None:
    """List accounts in the order of their ids."""
    with open_ledger(output) as conn:
        beyond = {"account_id": after} if after else None
        found = read(conn, "accounts", after=beyond, order_by="account_id", limit=limit + 1)
        listed = _with_balances(conn, found[:limit])
    following = listed[-1]["account_id"] if len(found) > limit else None
    rows = [_brief(each) for each in listed]
    output.table({"accounts": listed, "next": following}, rows, LISTED, "there are no accounts")
    if following and not output.as_json:
        output.talk(f"there are more: --after {following}")


def _brief(account: dict[str, Any]) -> dict[str, Any]:
    """A line of the list: the id as other commands take it, and one name for the account."""
    named = account["external_id"]
    if account["realm"]:
        named = f"{account['realm']}:{named}"
    return {**account, "external_id": named, "called": account["name"] or account["email"]}


def _with_balances(conn: Session, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    these = {"account_id": [each["account_id"] for each in found]}
    balances = {each["account_id"]: each for each in read(conn, "credit_balances", these)}
    outside = {each["account_id"]: each for each in read(conn, "account_external_ids", these)}
    return [
        {
            **each,
            "realm": outside.get(each["account_id"], {}).get("realm"),
            "external_id": outside.get(each["account_id"], {}).get("external_id"),
            "state": _state(each, balances[each["account_id"]]),
            "balance": balances[each["account_id"]]["balance"],
            "available": balances[each["account_id"]]["available"],
        }
        for each in found
    ]


def _state(account: dict[str, Any], balance: dict[str, Any]) -> str:
    if account["erased_at"]:
        return "erased"
    return "frozen" if balance["is_frozen"] else "active"


@accounts.command()
@shared_options
@arguments.account
@pass_output
def show(output: Output, account: str) -> None:
    """Show an account: its balance, open grants, open holds and members."""
    with open_ledger(output) as conn:
        this = {"account_id": find_account(conn, account)}
        shown = _with_balances(conn, read(conn, "accounts", this))[0]
        balance = call(conn, "get_balance", **this)[0]
        grants = read(conn, "open_credit_grants", this, order_by="grant_id")
        holds = read(conn, "open_credit_holds", this, order_by="hold_id")
        people = read(conn, "account_members", this, order_by="user_id")
    if output.as_json:
        whole = {"account": shown, "balance": balance, "grants": grants, "holds": holds}
        output.data({**whole, "members": people})
        return
    output.fields(shown, SHOWN)
    output.fields(balance, BALANCE)
    for title, rows, names in (
        ("open grants", grants, GRANT),
        ("open holds", holds, HOLD),
        ("members", people, ("user_id", "member_role", "created_at")),
    ):
        if rows:
            output.data(None, "", f"{title}:")
            output.table(None, rows, names, "")


@accounts.command()
@shared_options
@click.option("--id", "account_id", type=UUID, metavar="UUID", help="Its id, one is made if not.")
@click.option("--kind", type=click.Choice(["user", "organization"]), help="user unless given.")
@click.option("--name", metavar="TEXT")
@click.option("--email", metavar="ADDRESS")
@click.option("--external-id", metavar="ID", help="The application's own id.")
@click.option("--realm", metavar="NAME", help="Where that id is from: the realm of users if not.")
@pass_output
def create(output: Output, /, **options: Any) -> None:
    """Create an account, or name the one that has this id or external id."""
    with open_ledger(output) as conn:
        made = call(conn, "create_account", **given(**options))[0]
    was = "created" if made["created"] else "it was there:"
    output.data(made, f"{was} {made['kind']} {made['account_id']}")


@accounts.command()
@shared_options
@arguments.account
@arguments.reason
@pass_output
def freeze(output: Output, account: str, reason: str) -> None:
    """Stop an account: no deduction, hold or transfer."""
    _change(output, "freeze_account", account, reason, "frozen", "it was frozen already")


@accounts.command()
@shared_options
@arguments.account
@arguments.reason
@pass_output
def unfreeze(output: Output, account: str, reason: str) -> None:
    """Let a frozen account go on."""
    _change(output, "unfreeze_account", account, reason, "active again", "it was not frozen")


@accounts.command()
@shared_options
@arguments.account
@arguments.reason
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_output
def erase(output: Output, account: str, reason: str, yes: bool) -> None:
    """Erase the person from an account, for ever; its figures stay.

    Name, address, profile, external id, members, descriptions and metadata go, and the account
    is frozen.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("this cannot be undone: add --yes")
        click.confirm(f"Erase the person from account {account}, for ever?", abort=True, err=True)
    _change(output, "erase_account", account, reason, "erased", "it was erased before")


def _change(
    output: Output, function: str, account: str, reason: str, done: str, before: str
) -> None:
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        changed = call(conn, function, account_id=account_id, reason=reason)[0][function]
    output.data({"account_id": account_id, "changed": changed}, done if changed else before)


@accounts.command()
@shared_options
@arguments.account
@pass_output
def export(output: Output, account: str) -> None:
    """Print all that is kept about an account, as JSON lines."""
    with open_ledger(output) as conn:
        for line in stream(conn, "export_account", account_id=find_account(conn, account)):
            click.echo(as_json(line))


accounts.add_command(set_terms)
accounts.add_command(members)
