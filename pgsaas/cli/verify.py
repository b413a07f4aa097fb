"""pgsaas verify."""

from __future__ import annotations

import click
from psycopg import IsolationLevel

from pgsaas.call import call, count
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.table import plain


@click.command()
@shared_options
@click.argument("account", required=False)
@pass_output
def verify(output: Output, account: str | None) -> int:
    """Recompute every balance, or that of ACCOUNT.

    Prints a line per violation and exits 1 if anything does not add up.
    """
    with open_ledger(output) as conn:
        conn.isolation_level = IsolationLevel.REPEATABLE_READ  # one snapshot for all that is said
        conn.read_only = True
        with conn.transaction():
            only = {"account_id": find_account(conn, account)} if account else {}
            found = call(conn, "verify_ledger", **only)
            accounts = count(conn, "account_balances", only)
            rows = count(conn, "credit_transactions", only)
    lines = [f"{each['account_id']}: {each['rule']}: {plain(each['detail'])}" for each in found]
    looked_at = f"{_many(accounts, 'account')} and {_many(rows, 'ledger row')}"
    output.data(
        {"violations": found, "accounts": accounts, "rows": rows},
        *(lines or [f"all is well: {looked_at} checked"]),
    )
    if found:
        output.talk(f"pgsaas: {_many(len(found), 'violation')} in {looked_at}")
    return 1 if found else 0


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
