"""pgsaas accounts set and pgsaas settings: what an account, or the whole installation, may do."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import click

from pgsaas.call import call, read
from pgsaas.cli import arguments
from pgsaas.cli.arguments import NONE, given
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.table import plain


@click.command(name="set", context_settings=arguments.NUMBERS)
@shared_options
@arguments.account
@click.option("--name", metavar="TEXT")
@click.option("--email", metavar="ADDRESS")
@click.option(
    "--profile",
    callback=arguments.to_object,
    metavar="JSON",
    help="An object; its keys are merged into those there are.",
)
@click.option(
    "--overdraft-limit",
    callback=arguments.to_amount,
    metavar="AMOUNT",
    help="How far below zero it may be spent; needs --reason.",
)
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@click.option("--burn-order", metavar="ORDER", help="purchased_first or expiring_first.")
@click.option(
    "--low-balance-at",
    callback=arguments.to_amount_or_none,
    metavar="AMOUNT",
    help="Below what an alert is due, or none.",
)
@pass_output
def set_terms(
    output: Output,
    /,
    account: str,
    overdraft_limit: Decimal | None,
    reason: str | None,
    burn_order: str | None,
    low_balance_at: Decimal | str | None,
    **described: Any,
) -> None:
    """Change what an account is called and how it may be spent; all of it or nothing."""
    changes: list[tuple[str, dict[str, Any]]] = []
    if described := given(**described):
        changes.append(("update_account", described))
    if overdraft_limit is not None:
        if not reason:
            raise click.UsageError("--overdraft-limit needs a --reason")
        changes.append(("set_overdraft_limit", {"limit": overdraft_limit, "reason": reason}))
    if burn_order is not None:
        changes.append(("set_burn_order", {"burn_order": burn_order}))
    if low_balance_at is not None:
        threshold = None if low_balance_at == NONE else low_balance_at
        changes.append(("set_low_balance_at", {"low_balance_at": threshold}))
    if not changes:
        raise click.UsageError("nothing to change: see --help")
    with open_ledger(output) as conn, conn.transaction():
        account_id = find_account(conn, account)
        for function, options in changes:
            call(conn, function, account_id=account_id, **options)
    functions = [function for function, _ in changes]
    output.data({"account_id": account_id, "called": functions}, f"changed {account_id}")


@click.group()
@shared_options
def settings() -> None:
    """List and change the settings of this installation."""


@settings.command(name="list")
@shared_options
@pass_output
def list_settings(output: Output) -> None:
    """Print each setting and its value."""
    with open_ledger(output) as conn:
        found = read(conn, "settings")[0]
    del found["is_only_row"]
    width = max(map(len, found))
    lines = [f"{name:<{width}}  {_shown(value)}" for name, value in found.items()]
    output.data(found, *lines)


def _shown(value: Any) -> str:
    return NONE if value is None else plain(value) or '""'


@settings.command(name="set", context_settings=arguments.NUMBERS)
@shared_options
@click.argument("name")
@click.argument("value")
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@pass_output
def set_setting(output: Output, name: str, value: str, reason: str | None) -> None:
    """Give a setting a value; none where it means no limit, or nothing."""
    with open_ledger(output) as conn:
        wanted = None if value == NONE else value
        stored = call(conn, "set_setting", name=name, value=wanted, reason=reason)
    now = stored[0]["set_setting"]
    output.data({"setting": name, "value": now}, f"{name} is now {_shown(now)}")
