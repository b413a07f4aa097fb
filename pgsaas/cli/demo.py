"""pgsaas demo: the story, the replay of a trace, and psql on what they left."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pgsaas.cli.demo_trace import replay_file
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.table import columns_of, plain, print_line
from pgsaas.demo.folder import MARK, default_folder, has_data, occupied
from pgsaas.demo.play import DATABASE, Played, install_into, play
from pgsaas.demo.trace import expected_charges, read_trace
from pgsaas.embedded import Server
from pgsaas.errors import PgsaasError


@click.command()
@shared_options
@click.option("--psql", "open_psql", is_flag=True, help="Open psql on what the last demo left.")
@click.option("--keep", is_flag=True, help="Let the server run afterwards, until Ctrl-C.")
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Charge the LLM requests of a CSV file instead, and check every credit.",
)
@click.option("--accounts", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--connections", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Only so many requests of the file.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="PATH",
    help="Where the data is kept (default: in the user's cache).",
)
@pass_output
def demo(
    output: Output,
    open_psql: bool,
    keep: bool,
    trace: Path | None,
    accounts: int,
    connections: int,
    limit: int | None,
    folder: Path | None,
) -> int:
    """Tell how pgsaas works, on a PostgreSQL of its own.

    With --trace it charges real requests, 1 credit per 1,000 prompt tokens and 2 per 1,000
    completion tokens, request i to account i modulo --accounts, and compares the ledger with
    the file. FILE has the columns TIMESTAMP,ContextTokens,GeneratedTokens, as the traces of the
    Azure Public Dataset have.
    """
    if open_psql and (keep or trace):
        raise click.UsageError("--psql stands alone")
    kept = (folder or default_folder()).absolute()
    if open_psql:
        return _psql(kept)
    told = trace is None
    asked = None if trace is None else read_trace(trace, limit)  # before anything is started
    with _ended_by_signal(), occupied(kept, fresh=told), Server(kept, durable=not told) as server:
        if trace is None or asked is None:
            address = install_into(server, DATABASE, fresh=True)
            failed = _tell(output, address)
        else:
            address = install_into(server, "trace", fresh=False)
            expected = expected_charges(trace, accounts, limit)
            failed = replay_file(output, address, asked, expected, connections)
        (kept / MARK).write_text(DATABASE if told else "trace")
        again = _command() + (f" --folder {folder}" if folder else "")
        output.talk(f"\nLook around in it with psql:  {again} --psql")
        if keep:
            _wait(output, address)
    return 1 if failed else 0


def _tell(output: Output, address: str) -> bool:
    """Play the story and print it; whether the ledger did not verify."""
    told, violations = [], 0
    for number, (step, played) in enumerate(play(address), start=1):
        if not output.as_json:
            _print_step(number, step.says, played)
        told.append(
            {
                "says": " ".join(step.says.split()),
                "statements": [
                    {"sql": each.sql, "rows": each.rows, "refusal": each.refusal} for each in played
                ],
            }
        )
        if "verify_ledger" in played[-1].sql:
            violations = len(played[-1].rows or [])
    output.data({"steps": told, "violations": violations})
    return violations > 0


def _print_step(number: int, says: str, played: list[Played]) -> None:
    arrow = "\u2192" if "utf" in (sys.stdout.encoding or "").lower() else "->"
    click.echo()
    print_line(f"{number:>2}. " + says.replace("\n", "\n    "), "bold")
    for each in played:
        print_line("    " + f"{each.sql};".replace("\n", "\n    "), "dim")
        if each.refusal:
            print_line(f"      {arrow} ERROR: {each.refusal}", "red")
        elif each.rows is not None:
            for index, line in enumerate(_lines(each.rows)):
                print_line(f"      {' ' * len(arrow) if index else arrow} {line}", "green")


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["no rows"]
    if len(rows) == 1:
        return [", ".join(f"{name} {plain(value) or 'null'}" for name, value in rows[0].items())]
    return columns_of(rows, list(rows[0]))


def _wait(output: Output, address: str) -> None:
    output.talk(f'The server runs until Ctrl-C:  psql "{address}"')
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        output.talk("stopped")


def _psql(folder: Path) -> int:
    if not has_data(folder):
        raise PgsaasError(f"no demo was played in {folder}: run `{_command()}` first")
    with _ended_by_signal(), occupied(folder, fresh=False), Server(folder, durable=True) as server:
        bundled = server.bindir / "psql"
        program = str(bundled) if bundled.exists() else shutil.which("psql")
        if program is None:
            raise PgsaasError("there is no psql: install the client of PostgreSQL")
        database = (folder / MARK).read_text().strip() or DATABASE
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for psql
        try:
            psql = subprocess.Popen([program, server.url(database)], preexec_fn=_listen)
            return psql.wait()
        finally:
            signal.signal(signal.SIGINT, before)


def _listen() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _command() -> str:
    """How to call this again, from where the user is."""
    program = Path(sys.argv[0]).absolute()
    if program.name == "pgsaas" and program.is_relative_to(Path.cwd()):
        return f"{program.relative_to(Path.cwd())} demo"
    return "pgsaas demo"


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Stop the server also when we are asked to end."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
