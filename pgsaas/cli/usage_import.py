"""pgsaas usage import: the use that a file tells."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from pgsaas.call import call
from pgsaas.call import read as read_rows
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.progress import progress
from pgsaas.cli.session import find_accounts, open_ledger
from pgsaas.cli.table import plain
from pgsaas.errors import Conflict, InvalidValue
from pgsaas.install.session import Session
from pgsaas.intake.importing import Find, Import, price, read_uses, record
from pgsaas.intake.lines import FORMATS, Line, format_of, look_through, read_lines
from pgsaas.intake.mapping import CLOUDEVENTS, Bad, Columns, Count

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
        fixed = {name: value for name, _, value in pairs}
        whole = column and mark and event and all(n and m and v for n, m, v in pairs)
        if not whole or len(fixed) < len(pairs):
            raise click.BadParameter("write COLUMN=EVENT or COLUMN=EVENT,NAME=VALUE")
        found.append(Count(None if column == "-" else column, event, fixed))
    if len({count.label for count in found}) < len(found) or len(found) > 100:
        raise click.BadParameter("give at most 100 counts, and each once")
    return tuple(found)


class BadLines:
    """Says what is wrong with a line, and stops unless bad lines may be skipped."""

    def __init__(self, output: Output, path: Path, done: Import, skip: bool, dry_run: bool) -> None:
        self.output, self.path, self.done = output, path, done
        self.skip, self.dry_run = skip, dry_run
        self.lines: list[dict[str, Any]] = []

    def __call__(self, bad: Bad) -> None:
        wrong = plain(bad.wrong)[:400]
        if not self.skip:
            raise InvalidValue(f"{self.path}, line {bad.line}: {wrong}; {self._so_far()}")
        self.lines.append({"line": bad.line, "wrong": wrong})
        if self.output.as_json:
            return
        if len(self.lines) <= TOLD:
            self.output.talk(f"{self.path}, line {bad.line}: {wrong}")
        elif len(self.lines) == TOLD + 1:
            self.output.talk("further lines are counted only; --json lists them")

    def _so_far(self) -> str:
        if self.dry_run:
            return "--skip goes on"
        there = self.done.recorded + self.done.replayed
        said = f"all before it is recorded ({records(there)})" if there else "nothing is recorded"
        return f"{said}; mend the line and run this again, or go on with --skip"


def records(number: int) -> str:
    """How many records."""
    return "1 record" if number == 1 else f"{number:,} records"


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
    help="What tells a record from all others: one column, or several together.",
)
@click.option(
    "--key-by-line",
    is_flag=True,
    help="Nothing in the file does: its content as a whole and the line's number are the key. "
    "Only for a file that never grows or changes.",
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
    key_by_line: bool,
    spread: int | None,
    skip: bool,
    dry_run: bool,
    **named: Any,
) -> int:
    """Record the use in FILE: CSV with a heading, or JSON lines, also gzipped.

    In batches of 1,000, each a transaction of its own. Each record has a key: run it again after
    a crash, or by mistake, and nothing is recorded twice.

    \b
    pgsaas usage import calls.csv --account user_id --time at --key request_id
    pgsaas usage import llm.csv.gz --time at --key id --count \\
        prompt=llm_tokens,kind=prompt --count answer=llm_tokens,kind=completion
    pgsaas usage import events.jsonl --cloudevents --dimension kind=data.kind
    """
    columns = _columns(cloudevents, spread, named)
    if not (columns.key or key_by_line or spread or dry_run):
        raise click.UsageError(
            "say what tells a record from all others, so that nothing is recorded twice: "
            "--key COLUMN, several together, or --key-by-line for a file that never changes"
        )
    if columns.key and key_by_line:
        raise click.UsageError("--key or --key-by-line, not both")
    form = form or format_of(file)
    content = look_through(file)
    done = Import()
    bad = BadLines(output, file, done, skip, dry_run)
    began = time.perf_counter()
    with open_ledger(output) as conn, progress("pricing" if dry_run else "recording") as advance:
        if spread and not dry_run and _mode(conn) != "test":
            raise Conflict(
                "--spread makes accounts with credits for a trial, and this database is not in "
                "test mode: try it in a copy made with pgsaas migrate --test-mode, or with "
                "--dry-run"
            )
        lines = _told_of(output, columns, read_lines(file, form))
        lines = _spread(lines, spread) if spread else lines
        read = read_uses(lines, columns, content.digest)

        def show(done: Import) -> None:
            advance(done.lines, max(done.lines, content.lines))

        find: Find = partial(find_accounts, conn)
        if dry_run:
            nobody = UUID(int=0)
            find = (lambda names: dict.fromkeys(names, nobody)) if spread else find
            price(conn, read, find, bad, done, show)
            by_period = sorted(done.events & read_prices_by_period(conn))
        else:
            find = partial(_trial_accounts, conn, content.digest) if spread else find
            record(conn, read, find, bad, skip, done, show)
            by_period = []
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
    said = f"{records(done.recorded)} would cost" if dry_run else f"{done.recorded:,} recorded"
    if not dry_run:
        said += f", {done.replayed:,} recorded before; together"
    rate = f"{content.lines / seconds:,.0f} lines a second" if seconds else ""
    output.data(value, f"{said} {plain(done.credits)} credits ({seconds:.1f} s, {rate})")
    if by_period:
        output.talk(
            f"{', '.join(by_period)}: tiers per period were counted from nothing for each record, "
            "so these will cost something else"
        )
    if bad.lines:
        many = len(bad.lines)
        skipped = "1 line was" if many == 1 else f"{many:,} lines were"
        output.talk(f"pgsaas: {skipped} skipped", "bold red")
    return 1 if bad.lines else 0


def read_prices_by_period(conn: Session) -> set[str]:
    """The events that have prices whose tiers count per period."""
    found = read_rows(conn, "credit_prices", {"tier_scope": "period"}, columns=["event_name"])
    return {each["event_name"] for each in found}


def _told_of(output: Output, columns: Columns, lines: Iterator[Line]) -> Iterator[Line]:
    """The lines; columns of a table that mean nothing are named once."""
    for line in lines:
        if line.has_columns:
            if unused := [name for name in line.values if name not in columns.names]:
                output.talk(f"columns that are not used: {', '.join(unused)}")
            yield line
            break
        yield line
    yield from lines


def _mode(conn: Session) -> Any:
    return read_rows(conn, "installation", columns=["mode"])[0]["mode"]


def _columns(cloudevents: bool, spread: int | None, named: dict[str, Any]) -> Columns:
    base = CLOUDEVENTS if cloudevents else Columns()
    given = {name: value for name, value in named.items() if value}
    if "counts" in given and ("event" in given or "quantity" in given):
        raise click.UsageError("--count says event and quantity: leave --event and --quantity out")
    if spread and "account" in given:
        raise click.UsageError("--spread makes its own accounts: leave --account out")
    own: dict[str, Any] = {"account": "#account"} if spread else {}
    return replace(base, **given, **own, given=frozenset(given))


def _spread(lines: Iterator[Line], accounts: int) -> Iterator[Line]:
    for line in lines:
        share = {"#account": f"trial-{line.number % accounts}"}
        yield replace(line, values={**line.values, **share})


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
