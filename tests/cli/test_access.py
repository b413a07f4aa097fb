"""Who is at the other end: no database, a wrong password, a role that may too little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pgsaas.embedded import Server
from tests.cli.conftest import Shell
from tests.conftest import Conn, Database, temporary_database

COMMANDS = [
    ["verify"],
    ["accounts", "list"],
    ["accounts", "members", "list", "x"],
    ["attach", "t"],
    ["detach", "t"],
    ["expose"],
    ["credits", "balance", "x"],
    ["credits", "deduct", "x", "1"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_database_the_exit_code_is_4(shell: Shell, command: list[str]) -> None:
    shell.use(None)
    none = shell(*command)
    assert (none.code, none.out) == (4, "")
    assert none.err == (
        "pgsaas: No database is configured: give --database-url, or PGSAAS_DATABASE_URL or "
        "DATABASE_URL in the environment or in .env, or database_url in pgsaas.toml, or PGHOST or "
        "PGDATABASE.\n"
    )
    shell.use("postgresql:///x?host=/nonexistent")
    gone = shell(*command, "--json")
    assert gone.code == 4
    assert "no connection to /nonexistent" in gone.json["error"]
    assert gone.err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_pgsaas_the_exit_code_is_3(shell: Shell, bare: Server, command: list[str]) -> None:
    with temporary_database(bare) as database:
        shell.use(database.dsn)
        missing = shell(*command)
    assert missing.code == 3
    assert missing.err == (
        "pgsaas: pgsaas is not installed in this database: run `pgsaas migrate`.\n"
    )


def test_a_wrong_password_is_not_repeated(shell: Shell, db: Database, conn: Conn) -> None:
    conn.execute("create role walled login password 'right'")
    rules = db.server.data / "pg_hba.conf"
    before = rules.read_text()
    try:
        rules.write_text("local all walled scram-sha-256\n" + before)
        conn.execute("select pg_reload_conf()")
        shell.use(db.dsn_as("walled").replace("walled@", "walled:s3cret@"))
        wrong = shell("verify")
        while wrong.code == 1:  # the server needs a moment to read its file
            wrong = shell("verify")
        assert (wrong.code, wrong.out) == (4, "")
        assert "refused the password" in wrong.err
        assert "s3cret" not in wrong.err
        assert wrong.err.count("\n") == 1
    finally:
        rules.write_text(before)
        conn.execute("select pg_reload_conf()")
        conn.execute("drop role walled")


@pytest.fixture
def login(conn: Conn) -> str:
    """A login role without any rights."""
    name = f"clerk_{os.getpid()}"
    conn.execute(f"drop role if exists {name}")
    conn.execute(f"create role {name} login")
    return name


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (["attach", "public.users"], "pgsaas_owner"),
        (["attach"], "pgsaas_owner"),
        (["detach", "public.users"], "pgsaas_owner"),
        (["expose"], "pgsaas_owner"),
        (["admins", "add", "u"], "pgsaas_owner"),
        (["audit"], "pgsaas_admin or pgsaas_owner"),
        (["accounts", "list"], "pgsaas_app, of pgsaas_admin for acts of staff, or of pgsaas_owner"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_who_may_not_is_told_who_may(
    shell: Shell, db: Database, conn: Conn, login: str, command: list[str], needed: str
) -> None:
    conn.execute("create table public.users (id bigint primary key)")
    shell.use(db.dsn_as(login))
    refused = shell(*command)
    assert (refused.code, refused.out) == (1, "")
    assert f": log in as a member of {needed}" in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize("command", [["migrate"], ["status"], ["doctor"], ["accounts", "list"]])
def test_a_server_that_is_too_old_is_named(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr("pgsaas.install.session.OLDEST", 990000)
    refused = shell(*command)
    assert (refused.code, refused.out) == (4, "")
    assert ": pgsaas needs 99 or later" in refused.err
    assert refused.err.count("\n") == 1


def test_a_backend_moves_credits_and_staff_adjust(
    shell: Shell, db: Database, conn: Conn, ada: str, login: str
) -> None:
    shell.use(db.dsn_as(login))
    outside = shell("credits", "balance", ada)
    assert (outside.code, outside.out) == (1, "")
    assert "log in as a member of pgsaas_app" in outside.err
    assert outside.err.count("\n") == 1
    conn.execute(f"grant pgsaas_app to {login}")
    assert shell.json("credits", "deduct", ada, "1")["success"]
    assert shell.ok("verify") == "all is well: 1 account and 2 ledger rows checked\n"
    refused = shell("credits", "adjust", ada, "5", "--reason", "r")
    assert refused.code == 1
    assert "permission denied for function adjust_credits" in refused.err
    conn.execute(f"grant pgsaas_admin to {login}")
    assert shell.json("credits", "adjust", ada, "5", "--reason", "r")["success"]
    conn.execute(f"drop role {login}")


def test_an_end_user_sees_nobody(
    shell: Shell, db: Database, conn: Conn, ada: str, login: str
) -> None:
    conn.execute(f"grant pgsaas_user to {login}")
    shell.use(db.dsn_as(login))
    assert shell.json("accounts", "list")["accounts"] == []
    assert shell("credits", "balance", ada).code == 1
    assert shell("credits", "deduct", ada, "1").code == 1
    conn.execute(f"drop role {login}")


def _program(*arguments: str, url: str = "") -> subprocess.CompletedProcess[bytes]:
    program = Path(sys.executable).parent / "pgsaas"
    return subprocess.run(
        [str(program), *arguments],
        env={**os.environ, "PGSAAS_DATABASE_URL": url},
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_the_program_itself_ends_with_these_exit_codes(db: Database, ada: str) -> None:
    assert _program("verify", url=db.dsn).returncode == 0
    assert _program("credits", "deduct", ada, "501", url=db.dsn).returncode == 1
    assert _program("credits", "deduct", ada, url=db.dsn).returncode == 2
    assert _program("verify", url="postgresql:///x?host=/nonexistent").returncode == 4


def test_nobody_listening_to_the_output_is_no_traceback(db: Database, ada: str) -> None:
    program = Path(sys.executable).parent / "pgsaas"
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "{program}" accounts export {ada} | true'],
        env={**os.environ, "PGSAAS_DATABASE_URL": db.dsn},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"Traceback" not in done.stderr


def test_letters_a_terminal_does_not_know_are_no_traceback(db: Database, conn: Conn) -> None:
    conn.execute("select pgsaas.create_account(p_name => 'Zoë → ☃')")
    program = Path(sys.executable).parent / "pgsaas"
    done = subprocess.run(
        [str(program), "accounts", "list"],
        env={
            **os.environ,
            "PGSAAS_DATABASE_URL": db.dsn,
            "PYTHONIOENCODING": "ascii",
        },
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert rb"Zo\xeb \u2192 \u2603" in done.stdout
