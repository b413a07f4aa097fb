"""A server and its clients are killed: what was acknowledged happened once, the rest at most once.

Then every client sends again whatever it got no answer for, and everything has happened once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from pgsaas import install
from pgsaas.embedded import Server
from tests.concurrency.clients import (
    PATIENCE,
    Client,
    balance,
    call,
    call_all,
    connect,
    is_sound,
    open_account,
)
from tests.conftest import Database, temporary_database

START = 10**6
CLIENTS = 4


@pytest.fixture
def durable_db(durable: Server) -> Iterator[Database]:
    """An installed database on a server that keeps what it has acknowledged."""
    with temporary_database(durable) as database:
        install.migrate(database.dsn, test_mode=True, adopt_roles=True)
        yield database


@dataclass
class Log:
    """What one client wrote down."""

    path: Path

    def lines(self) -> list[list[str]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [line.split() for line in text.splitlines()]

    def tried(self) -> dict[str, UUID]:
        return {line[1]: UUID(line[2]) for line in self.lines() if line[0] == "try"}

    def acknowledged(self) -> dict[str, int]:
        return {line[1]: int(line[2]) for line in self.lines() if line[0] == "ok"}


@contextmanager
def chargers(
    database: Database, accounts: list[UUID], folder: Path, name: str
) -> Iterator[list[tuple[subprocess.Popen[bytes], Log]]]:
    running = []
    try:
        for number in range(CLIENTS):
            log = Log(folder / f"{name}-{number}.log")
            command = [sys.executable, "-m", "tests.concurrency.charger", database.dsn]
            command += [str(log.path), f"{name}-{number}", *map(str, accounts)]
            running.append((subprocess.Popen(command), log))
        yield running
    finally:
        for process, _ in running:
            process.kill()
            process.wait()


def wait_for(logs: list[Log], charges: int) -> None:
    """Until every client was told of so many charges."""
    until = time.monotonic() + PATIENCE
    while any(len(log.acknowledged()) < charges for log in logs):
        assert time.monotonic() < until, "the clients get no answers"
        time.sleep(0.01)


def charged(conn: Client) -> Counter[str]:
    found = conn.execute(
        "select idempotency_key as key from pgsaas.credit_transactions"
        " where transaction_type = 'deduction'"
    )
    return Counter(row["key"] for row in found)


def kill_and_count(durable: Server, database: Database, folder: Path, rounds: int) -> None:
    with connect(database) as conn:
        accounts = [open_account(conn, START) for _ in range(3)]
    tried: dict[str, UUID] = {}
    acknowledged: dict[str, int] = {}
    for number in range(rounds):
        with chargers(database, accounts, folder, f"round-{number}") as running:
            logs = [log for _, log in running]
            wait_for(logs, 40)
            running[0][0].kill()
            wait_for(logs[1:], 80)
            durable.kill()
            for process, _ in running:
                process.wait(PATIENCE)
        for log in logs:
            tried |= log.tried()
            acknowledged |= log.acknowledged()
        durable.restart()
        with connect(database) as conn:
            assert call_all(conn, "verify_ledger") == []
            done = charged(conn)
            assert set(done) <= set(tried)
            assert set(done.values()) == {1}
            assert set(acknowledged) <= set(done), "an acknowledged charge is lost"
    print(f"{rounds} kills, {len(tried)} sent, {len(acknowledged)} acknowledged, {len(done)} done")
    with connect(database) as conn:
        for key, account in tried.items():
            answer = call(conn, "deduct_credits", account_id=account, amount=1, idempotency_key=key)
            assert answer["replayed"] == (key in done)
            assert answer["seq"] == acknowledged.get(key, answer["seq"])
        assert charged(conn) == Counter(dict.fromkeys(tried, 1))
        left = sum(balance(conn, account) for account in accounts)
        assert left == START * len(accounts) - len(tried)
        assert is_sound(conn)


def test_what_was_acknowledged_survives_a_kill_and_happens_once(
    durable: Server, durable_db: Database, tmp_path: Path
) -> None:
    kill_and_count(durable, durable_db, tmp_path, rounds=2)


@pytest.mark.soak
def test_what_was_acknowledged_survives_many_kills(
    durable: Server, durable_db: Database, tmp_path: Path
) -> None:
    kill_and_count(durable, durable_db, tmp_path, rounds=40)
