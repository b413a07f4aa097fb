"""pgsaas usage import: the use that a file tells."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from pgsaas.call import call, read
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.progress import progress
from pgsaas.cli.session import find_accounts, open_ledger
from pgsaas.cli.table import plain
from pgsaas.errors import Conflict, InvalidValue
from pgsaas.install.session import Session
from pgsaas.intake.importing import Import, price, read_uses, record
from pgsaas.intake.lines import FORMATS, Line, digest, format_of, read_lines
from pgsaas.intake.mapping import CLOUDEVENTS, Columns, Count

TOLD = 20


def to_pairs(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    """NAME=COLUMN, several of them."""
    pairs = [text.partition("=") for text in texts]
    if not all(name and mark and column for name, mark, column in pairs):
        raise click.BadParameter("write NAME=COLUMN")
    return {name: column for name, _, column in pairs}


def to_counts(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> tuple[Count, ...]:
    """COLUMN=EVENT[,NAME=VALUE…], several of them."""
    found = []
    for text in texts:
        column, mark, rest = text.partition("=")
        event, *dimensions = rest.split(",")
        pairs = [each.partition("=") for each in dimensions]
        if not (column and mark and event) or not all(n and m and v for n, m, v in pairs):
            raise click.BadParameter("write COLUMN=EVENT or COLUMN=EVENT,NAME=VALUE")
        fixed = {name: value for name, _, value in pairs}
        found.append(Count(None if column == "-" else column, event, fixed))
    return tuple(found)


class BadLines:
    """Says what is wrong with a line, and stops unless bad lines may be skipped."""

    def __init__(self, output: Output, path: Path, skip: bool, dry_run: bool) -> None:
        self.output, self.path, self.skip, self.dry_run = output, path, skip, dry_run
        self.lines: list[dict[str, Any]] = []

    def __call__(self, number: int, wrong: str) -> None:
        if not self.skip:
            recorded = (
                ""
                if self.dry_run
                else (
                    "; what was recorded before it stays, and running this again records it no "
                    "second time"
                )
            )
            raise InvalidValue(f"{self.path}, line {number}: {wrong}{recorded} (--skip goes on)")
        self.lines.append({"line": number, "wrong": wrong})
        if len(self.lines) <= TOLD and not self.output.as_json:
            self.output.talk(f"{self.path}, line {number}: {wrong}")
        elif len(self.lines) == TOLD + 1:
            self.output.talk("further lines are counted only")


@click.command(name="import")
@shared_options
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "form", type=click.Choice(FORMATS), help="Default: by the file's name.")
@click.option("--cloudevents", is_flag=True, help="Lines are CloudEvents: their names are known.")
@click.option("--account", metavar="COLUMN", help="Whose use it was (default: account).")
@click.option("--event", metavar="COLUMN", help="Of which event (default: event).")
@click.option("--quantity", metavar="COLUMN", help="How much (default: quantity).")
@click.option(
    "--count",
    "counts",
    multiple=True,
    callback=to_counts,
    metavar="COLUMN=EVENT[,NAME=VALUE]",
    help="A column that counts an event, for files with several; - for one each line.",
)
@click.option(
    "--dimension",
    "dimensions",
    multiple=True,
    callback=to_pairs,
    metavar="NAME=COLUMN",
    help="A column with a dimension.",
)
@click.option("--time", metavar="COLUMN", help="When it was used (default: it is used now).")
@click.option("--cost", metavar="COLUMN", help="What it costs, instead of the price list.")
@click.option(
    "--key",
    multiple=True,
    metavar="COLUMN",
    help="What tells a record from others, one column or several together (default: the file's "
    "content and the line's number).",
)
@click.option(
    "--spread",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="For trials, in a database in test mode: spread the lines over N accounts made for it, "
    "with credits enough.",
)
@click.option("--skip", is_flag=True, help="Skip lines that cannot be recorded, and go on.")
@click.option("--dry-run", is_flag=True, help="Say what it would cost, and record nothing.")
@pass_output
def import_(
    output: Output,
    /,
    file: Path,
    form: str | None,
    cloudevents: bool,
    spread: int | None,
    skip: bool,
    dry_run: bool,
    **named: Any,
) -> int:
    """Record the use in FILE: CSV with a heading, or JSON lines, also gzipped.

    In batches of 1,000, each a transaction of its own. Each record has a key: run it again after
    a crash, or by mistake, and nothing is recorded twice.
    """
    columns = _columns(cloudevents, spread, named)
    form = form or format_of(file)
    stem = digest(file)
    bad = BadLines(output, file, skip, dry_run)
    began = time.perf_counter()
    with open_ledger(output) as conn, progress("pricing" if dry_run else "recording") as advance:
        lines = read_lines(file, form)
        if spread:
            if not dry_run and _mode(conn) != "test":
                raise Conflict(
                    "--spread makes accounts with credits for a trial, and this database is not "
                    "in test mode: try it in a copy made with pgsaas migrate --test-mode, or with "
                    "--dry-run"
                )
            lines = _spread(lines, spread)
        size = file.stat().st_size

        def show(done: Import) -> None:
            advance(done.records, max(done.records, size // 40))

        uses = read_uses(lines, columns, stem, bad)
        if dry_run:
            done = price(conn, uses, bad, show)
        else:
            find = partial(_trial_accounts, conn, stem) if spread else partial(find_accounts, conn)
            done = record(conn, uses, find, bad, show)
    seconds = time.perf_counter() - began
    value = {
        "recorded": done.recorded,
        "replayed": done.replayed,
        "refused": dict(done.refused),
        "bad_lines": bad.lines,
        "credits": done.credits,
        "seconds": round(seconds, 3),
        "dry_run": dry_run,
    }
    said = f"{done.recorded:,} records would cost" if dry_run else f"{done.recorded:,} recorded"
    if not dry_run:
        said += f", {done.replayed:,} recorded before; together"
    rate = f"{done.records / seconds:,.0f} a second" if seconds else ""
    output.data(value, f"{said} {plain(done.credits)} credits ({seconds:.1f} s, {rate})")
    if bad.lines:
        many = len(bad.lines)
        skipped = "1 line was" if many == 1 else f"{many:,} lines were"
        output.talk(f"pgsaas: {skipped} skipped", "bold red")
    return 1 if bad.lines else 0


def _mode(conn: Session) -> Any:
    return read(conn, "installation", columns=["mode"])[0]["mode"]


def _columns(cloudevents: bool, spread: int | None, named: dict[str, Any]) -> Columns:
    base = CLOUDEVENTS if cloudevents else Columns()
    given = {name: value for name, value in named.items() if value}
    if "counts" in given and ("event" in given or "quantity" in given):
        raise click.UsageError("--count says event and quantity: leave --event and --quantity out")
    if spread and "account" in given:
        raise click.UsageError("--spread makes its own accounts: leave --account out")
    fields = {name: getattr(base, name) for name in base.__slots__}
    return Columns(**{**fields, **given, **({"account": "#account"} if spread else {})})


def _spread(lines: Iterator[Line], accounts: int) -> Iterator[Line]:
    for line in lines:
        share = {"#account": f"trial-{line.number % accounts}"}
        yield Line(line.number, {**line.values, **share}, line.wrong)


def _trial_accounts(conn: Session, stem: str, names: Collection[str]) -> dict[str, UUID]:
    found = {}
    for name in names:
        made = call(conn, "create_account", external_id=f"{name}-{stem}", name=name)[0]
        found[name] = made["account_id"]
        call(
            conn,
            "add_credits",
            account_id=made["account_id"],
            amount=Decimal(10**12),
            source="trial",
            description="for a trial",
            idempotency_key=f"trial-{stem}",
        )
    return found
