"""Workers and their server are killed while months end: every month ends once, for everybody."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pgsaas import install
from pgsaas.embedded import Server
from tests.concurrency.clients import PATIENCE, Client, call, connect, is_sound, open_account
from tests.conftest import Database, temporary_database

ACCOUNTS = 150
PLAN = {"default": True, "allowance": 100, "rollover": 50}
OVER = "select count(*) as n from pgsaas.account_balances where period_count >= %s"
WORKER = ["-m", "pgsaas", "worker", "--limit", "3", "--pause", "0.1", "--json"]


@pytest.fixture
def shop(durable: Server) -> Iterator[Database]:
    """Accounts with a monthly allowance on a server that keeps what it has acknowledged."""
    with temporary_database(durable) as database:
        install.migrate(database.dsn, test_mode=True, adopt_roles=True)
        with connect(database) as conn:
            conn.execute("select pgsaas.set_clock('2026-01-31 09:00Z')")
            call(conn, "set_plan", plan_id="free", terms=Jsonb(PLAN))
            for _ in range(ACCOUNTS):
                open_account(conn)
        yield database


def worker(database: Database, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PGSAAS_DATABASE_URL": database.dsn}
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, *WORKER], env=environment, stdout=out, stderr=out)


def over(conn: Client, month: int) -> int:
    row = conn.execute(OVER, [month]).fetchone()
    return int(row["n"]) if row else 0


def wait_until_over(database: Database, month: int, accounts: int) -> None:
    """Until so many accounts have seen the end of the month; the server may be starting."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            with connect(database) as conn:
                while over(conn, month) < accounts:
                    assert time.monotonic() < until, "nobody ends the month"
                    time.sleep(0.005)
                return
        except psycopg.OperationalError:
            time.sleep(0.05)


def kill_and_count(durable: Server, database: Database, log: Path, seed: int, months: int) -> None:
    dice = Random(seed)  # noqa: S311
    workers = [worker(database, log) for _ in range(2)]
    caught = 0
    try:
        for month in range(1, months + 1):
            with connect(database) as conn:
                conn.execute("select pgsaas.set_clock(pgsaas.period_end('2026-01-31 09:00Z', %s))",
                             [month])  # fmt: skip
            wait_until_over(database, month, dice.randrange(1, ACCOUNTS // 2))
            workers[0].kill()
            workers[0].wait()
            durable.kill()
            durable.restart()
            with connect(database) as conn:
                caught += over(conn, month) < ACCOUNTS
            workers[0] = worker(database, log)
            wait_until_over(database, month, ACCOUNTS)
            with connect(database) as conn:
                assert is_sound(conn)
                rows = conn.execute(
                    "select transaction_type as t, count(*) as n, sum(amount) as a"
                    " from pgsaas.credit_transactions group by 1 order by 1"
                ).fetchall()
                # 100 granted at the start and each month; 50 roll over, what is above expires
                granted = ACCOUNTS * (month + 1)
                expired = ACCOUNTS * (50 + 100 * (month - 1))
                assert {row["t"]: (row["n"], row["a"]) for row in rows} == {
                    "grant": (granted, 100 * granted),
                    "expiry": (ACCOUNTS * month, -expired),
                }
    finally:
        for process in workers:
            process.kill()
            process.wait()
    print(f"seed {seed}: {months} months, {caught} times killed before all had seen the end")
    assert caught


def test_a_month_ends_once_whoever_is_killed(
    durable: Server, shop: Database, tmp_path: Path
) -> None:
    kill_and_count(durable, shop, tmp_path / "log", seed=1, months=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_months_end_once_whoever_is_killed(
    durable: Server, shop: Database, tmp_path: Path
) -> None:
    seed = int(os.environ.get("PGSAAS_SEED") or time.time())
    kill_and_count(durable, shop, tmp_path / "log", seed=seed, months=40)
