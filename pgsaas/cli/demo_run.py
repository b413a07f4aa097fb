"""Runs the demo: tells the story or replays a trace, and opens psql on what they left."""

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
from pgsaas.cli.output import Output
from pgsaas.cli.table import columns_of, plain, print_line
from pgsaas.demo.folder import MARK, default_folder, has_data, occupied
from pgsaas.demo.play import DATABASE, Played, install_into, play
from pgsaas.demo.trace import expected_charges, read_trace
from pgsaas.embedded import Server
from pgsaas.errors import PgsaasError


def tell(output: Output, folder: Path | None, *, keep: bool) -> bool:
    """Play the story on a fresh server; whether all was as it must be."""
    with _server(folder, fresh=True) as server:
        address = install_into(server, DATABASE, fresh=True)
        good = _tell(output, address)
        _leave(output, folder, DATABASE, address, keep)
    return good


def replay(
    output: Output,
    folder: Path | None,
    file: Path,
    *,
    accounts: int,
    connections: int,
    limit: int | None,
    keep: bool,
) -> bool:
    """Charge the requests of a file, on the server of an earlier run if there is one.

    Whether the ledger agrees with the file.
    """
    trace = read_trace(file, limit)  # before anything is started
    expected = expected_charges(file, accounts, limit)
    with _server(folder, fresh=False) as server:
        address = install_into(server, "trace", fresh=False)
        good = replay_file(output, address, trace, expected, connections)
        _leave(output, folder, "trace", address, keep)
    return good


def open_psql(folder: Path | None) -> int:
    """Start the server of the last demo, run psql on it, stop it; psql's exit code."""
    kept = _path(folder)
    if not has_data(kept):
        raise PgsaasError(f"no demo was played in {kept}: run `{_command()}` first")
    with _server(folder, fresh=False) as server:
        bundled = server.bindir / "psql"
        program = str(bundled) if bundled.exists() else shutil.which("psql")
        if program is None:
            raise PgsaasError("there is no psql: install the client of PostgreSQL")
        database = (kept / MARK).read_text().strip() or DATABASE
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for psql
        try:
            return subprocess.Popen([program, server.url(database)], preexec_fn=_listen).wait()
        finally:
            signal.signal(signal.SIGINT, before)


def _listen() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _path(folder: Path | None) -> Path:
    return (folder or default_folder()).absolute()


@contextmanager
def _server(folder: Path | None, *, fresh: bool) -> Iterator[Server]:
    """The demo's server; what is not told again from the start is kept safe from a crash."""
    kept = _path(folder)
    with _ended_by_signal(), occupied(kept, fresh=fresh), Server(kept, durable=not fresh) as server:
        yield server


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Stop the server also when we are asked to end."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(output: Output, folder: Path | None, database: str, address: str, keep: bool) -> None:
    (_path(folder) / MARK).write_text(database)
    again = _command() + (f" --folder {folder}" if folder else "")
    output.talk(f"\nLook around in it with psql:  {again} --psql")
    if not keep:
        return
    output.talk(f'The server runs until Ctrl-C:  psql "{address}"')
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        output.talk("stopped")


def _command() -> str:
    """How to call this again, from where the user is."""
    program = Path(sys.argv[0]).absolute()
    if program.name == "pgsaas" and program.is_relative_to(Path.cwd()):
        return f"{program.relative_to(Path.cwd())} demo"
    return "pgsaas demo"


def _tell(output: Output, address: str) -> bool:
    """Play the story and print it; whether the ledger verified."""
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
    return violations == 0


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
