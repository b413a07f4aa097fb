"""pgsaas import-balances and compare-balances: moving in from a system of the application's own."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from pgsaas.call import call
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.progress import progress
from pgsaas.cli.session import OWNER, find_account, known_table, open_ledger
from pgsaas.cli.table import plain
from pgsaas.errors import AccountNotFound, Conflict, InvalidValue
from pgsaas.install.session import Session
from pgsaas.intake.lines import format_of, read_lines
from pgsaas.intake.mapping import Balance, balance_of

STEP = 10_000
KEY = "imported-balance"
DIFFERENCE = ("external_id", "theirs", "ours", "difference")


@click.command(name="import-balances")
@shared_options
@click.argument("source")
@click.argument("column", required=False)
@click.option("--account", metavar="COLUMN", default="account", help="Of a file: whose it is.")
@click.option("--balance", metavar="COLUMN", default="balance", help="Of a file: what they have.")
@click.option("--as", "kind", metavar="SOURCE", default="purchase", show_default=True)
@click.option(
    "--key",
    default=KEY,
    show_default=True,
    help="Once for each key: another column, or another file of the same accounts, needs its own.",
)
@pass_output
def import_balances(output: Output, /, source: str, column: str | None, **named: Any) -> None:
    """Grant what users have elsewhere, once: from a TABLE's COLUMN or a FILE.

    SOURCE is an attached table, such as public.users with its column credits, or a CSV or JSON
    lines file with an account and a balance in each line. Each balance becomes a grant with a key,
    so bringing it in again changes nothing.
    """
    if not column and not Path(source).exists():
        raise InvalidValue(
            f"there is no file {source}; of a table, say which COLUMN has the balances"
        )
    with open_ledger(output, OWNER) as conn, progress("granting") as advance:
        done = (
            _from_table(conn, source, column, named, advance)
            if column
            else _from_file(conn, Path(source), named, advance)
        )
    many = "1 balance" if done["imported"] == 1 else f"{done['imported']:,} balances"
    before = f"; {done['imported_before']:,} before" if done["imported_before"] else ""
    output.data(done, f"{many}, {plain(done['credits'])} credits{before}")


def _from_table(
    conn: Session, table: str, column: str, named: dict[str, Any], advance: Any
) -> dict[str, Any]:
    total: dict[str, Any] = {"imported": 0, "credits": Decimal(0)}
    asked = {"table": table, "column": column, "source": named["kind"], "limit": STEP}
    with known_table():
        while True:
            step = call(conn, "import_balances", **asked, idempotency_key=named["key"])[0]
            total.setdefault("imported_before", step["imported_before"])
            total["imported"] += step["imported"]
            total["credits"] += step["credits"]
            advance(total["imported"], total["imported"] + step["remaining"])
            if not step["remaining"]:
                return total


def _from_file(conn: Session, path: Path, named: dict[str, Any], advance: Any) -> dict[str, Any]:
    total: dict[str, Any] = {"imported": 0, "credits": Decimal(0), "imported_before": 0}
    found: list[Balance] = []
    lines: dict[UUID, int] = {}
    for line in read_lines(path, format_of(path)):  # all of them are looked at before the first
        try:
            each = balance_of(line, named["account"], named["balance"])
        except InvalidValue as error:
            raise InvalidValue(f"{path}, line {line.number}: {error}") from error
        found += [each] if each.balance else []
    with conn.transaction():
        for number, each in enumerate(found, start=1):
            try:
                account_id = find_account(conn, each.account)
                if (first := lines.setdefault(account_id, each.line)) != each.line:
                    raise InvalidValue(f"line {first} has a balance of this account already")
                granted = call(
                    conn,
                    "add_credits",
                    account_id=account_id,
                    amount=each.balance,
                    description=f"brought from {path.name}",
                    source=named["kind"],
                    idempotency_key=named["key"],
                )[0]
            except (AccountNotFound, Conflict, InvalidValue) as error:
                raise InvalidValue(
                    f"{path}, line {each.line}: {error}; nothing was granted"
                ) from error
            if granted["replayed"]:
                total["imported_before"] += 1
            else:
                total["imported"] += 1
                total["credits"] += each.balance
            advance(number, len(found))
    return total


@click.command(name="compare-balances")
@shared_options
@click.argument("table")
@click.argument("column")
@pass_output
def compare_balances(output: Output, table: str, column: str) -> int:
    """Say where COLUMN of an attached TABLE and pgsaas differ; exit 5 where they do.

    For the time that both are kept: with `pgsaas settings set shadow true` pgsaas records what the
    application charges without refusing anything, until nobody finds a difference any more.
    """
    with open_ledger(output, OWNER) as conn, known_table():
        found = call(conn, "host_balances", table=table, column=column)
    odd = next((each for each in found if not each["theirs"].is_finite()), None)
    if odd:
        raise InvalidValue(f"the balance of {odd['external_id']} is no number: {odd['theirs']}")
    differing = [
        {**each, "difference": each["ours"] - each["theirs"]}
        for each in found
        if each["ours"] != each["theirs"]
    ]
    differing.sort(key=lambda each: abs(each["difference"]), reverse=True)
    sums = {side: sum(each[side] for each in found) for side in ("theirs", "ours")}
    value = {"accounts": len(found), **sums, "differences": differing}
    said = f"all {len(found):,} accounts agree"
    output.table(value, differing, DIFFERENCE, said)
    if differing:
        output.talk(
            f"pgsaas: {len(differing):,} of {len(found):,} accounts differ; in all they have "
            f"{plain(sums['theirs'])}, here {plain(sums['ours'])}",
            "bold red",
        )
    return 5 if differing else 0
