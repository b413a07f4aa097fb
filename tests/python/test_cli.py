"""The command line: streams, exit codes, one clear line for what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from pgsaas.embedded import Server
from tests.conftest import Database, temporary_database

Run: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def go(*arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PG", "DATABASE", "PGSAAS"))
        }
        if url:
            environment["PGSAAS_DATABASE_URL"] = url
        return subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                "-m",
                "pgsaas",
                *arguments,
            ],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return go


def test_a_life_from_install_to_uninstall(bare: Server, run: Run) -> None:
    with temporary_database(bare) as database:
        url = database.dsn
        assert run("status", url=url).returncode == 3
        assert run("doctor", url=url).returncode == 3
        assert run("adopt", url=url).returncode == 3
        assert run("clock", "reset", url=url).returncode == 3
        installed = run("migrate", "--test-mode", "--json", url=url)
        assert installed.returncode == 0
        assert json.loads(installed.stdout)["loaded"]
        assert "applying 0001-installation" in installed.stderr
        assert run("migrate", url=url).stdout == "nothing to do\n"
        assert json.loads(run("--json", "status", url=url).stdout)["current"]
        assert run("status", url=url).returncode == 0
        assert "already" in run("adopt", url=url).stdout
        at = "2026-01-31T12:00:00+00:00"
        assert json.loads(run("clock", "set", at, "--json", url=url).stdout) == {"now": at}
        assert run("clock", "advance", "1 day", url=url).stdout.startswith("2026-02-01T12")
        found = run("doctor", "--json", url=url)
        assert found.returncode == 5
        assert "clock" in [one["check"] for one in json.loads(found.stdout)["findings"]]
        refused = run("migrate", "--force", url=url)
        assert refused.returncode == 1
        assert "pgsaas clock reset" in refused.stderr
        assert run("clock", "reset", url=url).returncode == 0
        assert run("uninstall", url=url).returncode == 2
        removed = run("uninstall", "--yes", "--json", url=url)
        assert removed.returncode == 0
        assert len(json.loads(removed.stdout)["roles_dropped"]) == 6
        assert run("status", url=url).returncode == 3


def test_a_copied_database_is_something_for_the_doctor(db: Database, run: Run) -> None:
    assert "adoption: this database is a copy" in run("doctor", url=db.dsn).stdout
    assert run("adopt", url=db.dsn).stdout == "adopted\n"
    assert "adoption" not in run("doctor", url=db.dsn).stdout


def test_the_doctor_sees_a_role_that_became_strong(db: Database, run: Run) -> None:
    with db.connect() as conn:
        conn.execute("alter role pgsaas_webhook createdb; alter role pgsaas_user login")
        try:
            lines = run("doctor", url=db.dsn).stdout
        finally:
            conn.execute("alter role pgsaas_webhook nocreatedb; alter role pgsaas_user nologin")
    assert "roles: pgsaas_webhook has attributes" in lines
    assert "roles: pgsaas_user can log in" in lines


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "No database is configured"),
        ("postgresql://u:geheim@127.0.0.1:1/d", "no connection to 127.0.0.1:1/d: Connection re"),
        ("postgresql://u:geheim@no-such-host.invalid/d", "no connection to no-such-host.invalid"),
        ("host=h passwor=geheim", "cannot be read"),
    ],
)
def test_no_database_is_one_line_and_exit_4(run: Run, url: str, words: str) -> None:
    for arguments in (["status"], ["migrate"], ["doctor"], ["uninstall", "--yes"]):
        done = run(*arguments, url=url)
        assert done.returncode == 4
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert "geheim" not in done.stderr + done.stdout


def test_a_missing_database_is_said_to_be_missing(server: Server, run: Run) -> None:
    done = run("status", url=server.url("nowhere"))
    assert done.returncode == 4
    assert 'database "nowhere" does not exist; create it first' in done.stderr


def test_a_wrong_password_is_said_to_be_wrong(server: Server, run: Run, db: Database) -> None:
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    with db.connect() as conn:
        conn.execute("create role walled login password 'right'")
        hba.write_text("local all walled scram-sha-256\n" + before)
        conn.execute("select pg_reload_conf()")
        try:
            url = db.dsn_as("walled").replace("walled@", "walled:geheim@")
            done = run("status", url=url)
        finally:
            hba.write_text(before)
            conn.execute("select pg_reload_conf()")
            conn.execute("drop role walled")
    assert done.returncode == 4
    assert "refused the password" in done.stderr
    assert "geheim" not in done.stderr


def test_errors_are_json_too_when_asked_for(run: Run) -> None:
    done = run("status", "--json")
    assert "No database" in json.loads(done.stdout)["error"]


def test_the_scripts_can_be_printed(bare: Server, run: Run) -> None:
    with temporary_database(bare) as database:
        script = run("migrate", "--sql", url=database.dsn).stdout
        roles = run("migrate", "--roles-sql", "--adopt-roles", url=database.dsn).stdout
    assert script.startswith("-- pgsaas")
    assert "create table if not exists pgsaas.installation" in script
    assert "set local pgsaas.installer = 'postgres';" in roles
    assert "set local pgsaas.adopt_roles = 'on';" in roles
    away = run("migrate", "--roles-sql", url="postgresql://landlord@127.0.0.1:1/d")
    assert "set local pgsaas.installer = 'landlord';" in away.stdout
    named = run("migrate", "--roles-sql", "--installer", "shop", url="postgresql://127.0.0.1:1/d")
    assert "set local pgsaas.installer = 'shop';" in named.stdout
    assert "\\set ON_ERROR_STOP on" in named.stdout
    assert run("migrate", "--installer", "shop").returncode == 2


def test_a_mistake_in_usage_is_exit_2(run: Run) -> None:
    for arguments in (["nonsense"], ["migrate", "--nonsense"], ["clock", "set"]):
        assert run(*arguments).returncode == 2
    as_json = run("credits", "deduct", "a", "much", "--json")
    assert as_json.returncode == 2
    assert "'much' is no amount" in json.loads(as_json.stdout)["error"]


def test_every_command_has_help_and_json(run: Run) -> None:
    commands = ("migrate", "status", "adopt", "doctor", "uninstall", "clock", "admins", "audit")
    for command in commands:
        text = run(command, "--help").stdout
        assert "--json" in text
        assert "--database-url" in text


def test_the_doctor_names_an_attached_table_that_lost_its_trigger(db: Database, run: Run) -> None:
    with db.connect() as conn:
        conn.execute("create table public.users (id bigint primary key)")
        conn.execute("select pgsaas.attach_users('public.users')")
        assert "attachments" not in run("doctor", url=db.dsn).stdout
        conn.execute("alter table public.users rename id to user_id")
        assert "attachments" not in run("doctor", url=db.dsn).stdout
        conn.execute("alter table public.users drop column user_id")
        assert "attachments: new rows of public.users" in run("doctor", url=db.dsn).stdout
        conn.execute("drop table public.users")
        assert "attachments: new rows of public.users" in run("doctor", url=db.dsn).stdout
