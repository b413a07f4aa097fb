"""pgsaas worker and pgsaas cron: what is due gets done, and who did it is known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgsaas import install
from pgsaas.embedded import Server
from tests.cli.conftest import Shell
from tests.conftest import Conn, Database, require

PATIENCE = 90  # seconds until a test gives up; none passes because time has passed
FREE = """select pgsaas.set_plan('free', '{"default": true, "allowance": 100}')"""
NOTHING_DUE = [
    {"task": "settle_subscriptions", "due": 0, "oldest_at": None},
    {"task": "reset_monthly_credits", "due": 0, "oldest_at": None},
    {"task": "pay_referrals", "due": 0, "oldest_at": None},
]


@pytest.fixture
def due(db: Database, conn: Conn) -> Conn:
    """Five accounts whose first month is over, one with a trial that has ended."""
    db.adopt()
    conn.execute("select pgsaas.set_clock('2026-01-31 12:00Z')")
    conn.execute(FREE)
    conn.execute("""select pgsaas.set_plan('pro', '{"allowance": 7, "trial_days": 14}')""")
    conn.execute("select pgsaas.create_account() from generate_series(1, 5)")
    conn.execute(
        "select pgsaas.start_subscription(account_id, 'pro', p_is_trial => true)"
        " from pgsaas.accounts limit 1"
    )
    conn.execute("select pgsaas.set_clock('2026-02-28 12:00Z')")
    return conn


def test_a_worker_does_what_is_due(shell: Shell, due: Conn) -> None:
    status = shell("cron", "status")
    assert status.code == 5
    assert "settle_subscriptions     1 due, since 2026-02-14 12:00:00Z\n" in status.out
    assert "reset_monthly_credits    5 due, since 2026-02-14 12:00:00Z\n" in status.out
    assert "nobody has ever run it: `pgsaas cron schedule` or `pgsaas worker`" in status.err
    assert "schedule: " in shell("doctor").out
    said = shell.ok("worker", "--once", "--name", "me")
    assert said == "reset_monthly_credits: 5\nsettle_subscriptions: 1\n"
    found = shell.json("cron", "status")
    assert (found["due"], found["late"], found["job"]) == (NOTHING_DUE, None, None)
    assert [(r["runner"], r["runs"], r["done"]) for r in found["runners"]] == [("me", 1, 6)]
    assert shell.ok("worker", "--once", "--name", "me") == ""
    assert "me                       last 2026-02-28 12:00:00Z, 2 runs, 6 done" in shell.ok(
        "cron", "status"
    )
    assert "schedule" not in shell("doctor").out


def test_a_task_that_fails_is_told_and_does_not_keep_the_others(shell: Shell, due: Conn) -> None:
    due.execute(
        "create function public.fail() returns trigger language plpgsql as"
        " $$ begin raise exception 'out of order'; end $$"
    )
    due.execute(
        "create trigger fail before update on pgsaas.subscriptions"
        " for each row execute function public.fail()"
    )
    told = shell("worker", "--once", "--name", "me")
    assert (told.code, told.out) == (0, "reset_monthly_credits: 5\n")
    assert told.err.startswith("settle_subscriptions: out of order (")
    status = shell("cron", "status")
    assert "failed 2026-02-28 12:00:00Z: settle_subscriptions: out of order (" in status.out
    assert "me was here last" in status.err
    assert "and failed: settle_subscriptions: out of order" in status.err


def test_a_copy_of_a_database_is_left_alone(shell: Shell) -> None:
    refused = shell("worker", "--once")
    assert (refused.code, refused.out) == (1, "")
    assert "this database is a copy: nothing runs until `pgsaas adopt`" in refused.err


@pytest.fixture
def worker(db: Database, due: Conn) -> Iterator[subprocess.Popen[str]]:
    """A worker of its own process."""
    command = [sys.executable, "-m", "pgsaas", "worker", "--pause", "0.1", "--limit", "1"]
    with subprocess.Popen(
        [*command, "--database-url", db.dsn],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        yield process
        process.kill()


def wait_for(conn: Conn, question: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if conn.execute(question.encode()).fetchone() == (True,):
            return
        time.sleep(0.05)
    raise AssertionError(question)


ALL_DONE = "select sum(due) = 0 from pgsaas.due_tasks()"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_worker_end(
    due: Conn, worker: subprocess.Popen[str], number: signal.Signals
) -> None:
    wait_for(due, ALL_DONE)
    worker.send_signal(number)
    out, err = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0
    assert out.count("reset_monthly_credits: 1\n") == 5
    assert err.endswith(" has ended\n")


def test_a_worker_comes_back_after_its_connection_is_lost(
    due: Conn, worker: subprocess.Popen[str]
) -> None:
    wait_for(due, ALL_DONE)
    due.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    due.execute("select pgsaas.set_clock('2026-03-31 12:00Z')")
    wait_for(due, ALL_DONE)
    worker.terminate()
    _, err = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0
    assert "connection: " in err


def test_two_workers_share_the_work(db: Database, due: Conn, worker: subprocess.Popen[str]) -> None:
    other = subprocess.run(
        [sys.executable, "-m", "pgsaas", "worker", "--once", "--limit", "1", "--json",
         "--database-url", db.dsn],
        check=True, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    wait_for(due, ALL_DONE)
    assert other.stderr == ""
    grants = due.execute(
        "select count(*) from pgsaas.credit_transactions where transaction_type = 'grant'"
    )
    assert grants.fetchone() == (5 + 1 + 5,)
    assert due.execute("select from pgsaas.verify_ledger()").fetchall() == []


def test_without_pg_cron_it_says_what_to_do(shell: Shell) -> None:
    refused = shell("cron", "schedule")
    assert refused.code == 1
    assert "`pgsaas worker`" in refused.err


@pytest.fixture(scope="module")
def cron_server(server: Server) -> Iterator[Server]:
    """A server that has loaded pg_cron, its extension in the database postgres."""
    with psycopg.connect(server.url()) as conn:
        known = conn.execute("select from pg_available_extensions where name = 'pg_cron'")
        require("pg_cron", known.fetchone() is not None)
    settings = {
        "shared_preload_libraries": "pg_cron",
        "cron.use_background_workers": "on",
        "cron.database_name": "postgres",
    }
    with Server(settings=settings) as running:
        with psycopg.connect(running.url(), autocommit=True) as conn:
            conn.execute("create extension pg_cron")
            conn.execute("create database shop")
        for name in ("postgres", "shop"):
            install.migrate(running.url(name), adopt_roles=True)
        yield running


JOBS = {"postgres": "reset-monthly-credits", "shop": "reset-monthly-credits in shop"}


@pytest.mark.timeout(300)
def test_pg_cron_really_runs_the_job(shell: Shell, cron_server: Server) -> None:
    for name, job in JOBS.items():
        shell.use(cron_server.url(name))
        assert shell.json("cron", "schedule")["job"] == job
        with psycopg.connect(cron_server.url(name), autocommit=True) as conn:
            conn.execute(FREE)
            conn.execute("select pgsaas.create_account()")
            conn.execute(
                "update pgsaas.account_balances set next_change_at = '-infinity',"
                " next_reset_at = next_reset_at - interval '2 months',"
                " period_anchor = period_anchor - interval '2 months'"
            )
            assert conn.execute("select sum(due) from pgsaas.due_tasks()").fetchone() == (1,)
    for name, job in JOBS.items():  # pg_cron looks once a minute
        with psycopg.connect(cron_server.url(name), autocommit=True) as conn:
            wait_for(conn, "select exists (select from pgsaas.runners where runner = 'pg_cron')")
            assert conn.execute("select sum(due) from pgsaas.due_tasks()").fetchone() == (0,)
        shell.use(cron_server.url(name))
        found = shell.json("cron", "status")["job"]
        assert (found["name"], found["schedule"], found["database"]) == (job, "* * * * *", name)
        assert f'pg_cron: "{job}" at * * * * *, last ' in shell.ok("cron", "status")
        assert "pg_cron refused" in shell("cron", "schedule", "--every", "sometimes").err
        assert shell.json("cron", "schedule", "--every", "*/5 * * * *")["schedule"] == "*/5 * * * *"
        assert shell.json("cron", "unschedule") == {"unscheduled": True}
        assert shell.json("cron", "unschedule") == {"unscheduled": False}
        assert shell.json("cron", "status")["job"] is None


def test_sql_schedules_where_pg_cron_is(cron_server: Server, tmp_path: Path) -> None:
    with psycopg.connect(cron_server.url("postgres"), autocommit=True) as conn:
        for every in ("* * * * *", "*/2 * * * *"):
            row = conn.execute("select pgsaas.schedule_jobs(%s)", [every]).fetchone()
            assert row == ("reset-monthly-credits",)
            jobs = conn.execute("select jobname, schedule, command from cron.job").fetchall()
            assert jobs == [("reset-monthly-credits", every, "call pgsaas.run_all_due()")]
        assert conn.execute("select pgsaas.unschedule_jobs()").fetchone() == (True,)
        assert conn.execute("select pgsaas.unschedule_jobs()").fetchone() == (False,)
    with psycopg.connect(cron_server.url("shop"), autocommit=True) as conn:
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("select pgsaas.schedule_jobs()")
        assert caught.value.sqlstate == "PT422"
        assert conn.execute("select pgsaas.unschedule_jobs()").fetchone() == (False,)
