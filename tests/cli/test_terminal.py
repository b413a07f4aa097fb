"""On a terminal: tables are drawn, ids stay whole, NO_COLOR is respected."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Database

PROGRAM = str(Path(sys.executable).parent / "pgsaas")


def on_terminal(url: str, *arguments: str, **environment: str) -> str:
    """What the program writes to a terminal of 80 columns."""
    pytest.importorskip("rich")
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        env={**os.environ, "PGSAAS_DATABASE_URL": url, "TERM": "xterm", **environment},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    process.wait(60)
    return shown.decode()


def test_a_table_keeps_account_ids_whole(shell: Shell, db: Database) -> None:
    name, email = "a rather long name of an organization", "somebody@a-rather-long.example.com"
    made = shell.json("accounts", "create", "--name", name, "--email", email)
    shown = on_terminal(db.dsn, "accounts", "list")
    assert made["account_id"] in shown
    assert "\x1b[1m" in shown
    assert "\x1b[" not in on_terminal(db.dsn, "credits", "deduct", "x", "1", NO_COLOR="1")


def test_attaching_ends_with_its_result(users: object, db: Database) -> None:
    shown = on_terminal(db.dsn, "attach", "public.users")
    assert "public.users is attached: 3 new accounts" in shown.replace("\x1b[?25h", "")


def test_asking_before_erasing_can_be_answered_no(shell: Shell, db: Database, ada: str) -> None:
    leader, follower = pty.openpty()
    os.write(leader, b"n\n")
    done = subprocess.run(
        [PROGRAM, "accounts", "erase", ada, "--reason", "asked to"],
        env={**os.environ, "PGSAAS_DATABASE_URL": db.dsn},
        stdin=follower,
        capture_output=True,
        check=False,
        timeout=60,
    )
    os.close(follower)
    os.close(leader)
    assert done.returncode == 1
    assert done.stderr.endswith(b"pgsaas: aborted\n")
    assert shell.json("accounts", "show", ada)["account"]["state"] == "active"
