"""The demo, end to end, as a newcomer meets it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgsaas.demo.folder import MARK, default_folder, occupied
from pgsaas.demo.story import STORY
from pgsaas.errors import PgsaasError
from tests.cli.conftest import Shell

PROGRAM = str(Path(sys.executable).parent / "pgsaas")


def start(*arguments: str, home: Path, **options: Any) -> subprocess.Popen[bytes]:
    """The demo in a process of its own whose home is empty."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    if "PGSAAS_PG_BINDIR" in os.environ:
        environment["PGSAAS_PG_BINDIR"] = os.environ["PGSAAS_PG_BINDIR"]
    return subprocess.Popen(
        [PROGRAM, "demo", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
        # a shell that runs us in the background may have it ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def finish(process: subprocess.Popen[bytes], text: bytes = b"") -> tuple[int, str, str]:
    out, err = process.communicate(text, timeout=120)
    return process.returncode, out.decode(), err.decode()


def test_the_demo_ends_by_itself_and_psql_opens_what_it_left(folder: Path, tmp_path: Path) -> None:
    code, out, err = finish(start("--folder", str(folder), home=tmp_path))
    assert code == 0, err
    assert "    rollback;\n" in out
    assert "→ videos 0, available 600\n" in out
    assert "→ success yes, new_balance 479.5, seq 3, replayed yes\n" in out
    assert "→ captured 42.25, new_balance 437.25, available 437.25, seq 4\n" in out
    assert "error_message not enough credits: 0.01 needed, 0 available\n" in out
    assert "→ external_id 2, balance 88, available 88\n" in out
    assert "→ ERROR: permission denied for function add_credits\n" in out
    assert "→ balance 0, lifetime_earned 100, lifetime_spent 12\n" in out
    assert "error_code PLAN_REQUIRED" in out
    assert '→ by_source {"rollover": 500, "allowance": 1000}, available 1500\n' in out
    assert "→ accounts_reset 0, credits_granted 0\n" in out
    assert out.endswith("select * from pgsaas.verify_ledger();\n      → no rows\n")
    assert err.endswith(f" --folder {folder} --psql\n")
    assert not (folder / "data" / "postmaster.pid").exists()

    asked = b"\\t\nselect sum(amount) from pgsaas.credit_transactions;\n"
    code, out, err = finish(
        start("--folder", str(folder), "--psql", home=tmp_path, stdin=subprocess.PIPE), asked
    )
    assert code == 0, err
    assert "1588.00" in out
    assert not (folder / "data" / "postmaster.pid").exists()


def test_the_demo_as_json_holds_every_statement(shell: Shell, folder: Path) -> None:
    told = shell.json("demo", "--folder", str(folder))
    assert told["violations"] == 0
    statements = [each["sql"] for step in told["steps"] for each in step["statements"]]
    assert statements == [sql for step in STORY for sql in step.sql]
    again = shell.json("demo", "--folder", str(folder))
    assert [step["says"] for step in again["steps"]] == [step["says"] for step in told["steps"]]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_kept_server_ends_with_its_demo(folder: Path, tmp_path: Path, how: int) -> None:
    process = start("--folder", str(folder), "--keep", home=tmp_path)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, b"")
    told = next(line for line in lines if b"until Ctrl-C" in line).decode()
    address = told.split('"')[1]
    busy = finish(start("--folder", str(folder), home=tmp_path))
    assert busy[0] == 1
    assert busy[2].startswith(f"pgsaas: a demo is running on {folder}: ")
    with psycopg.connect(address) as conn:
        assert conn.execute("select count(*) from app.users").fetchone() == (3,)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert not (folder / "data" / "postmaster.pid").exists()


def test_psql_without_a_demo_says_what_to_do(shell: Shell, folder: Path) -> None:
    nothing = shell("demo", "--psql", "--folder", str(folder / "none"))
    assert (nothing.code, nothing.out) == (1, "")
    assert nothing.err == (
        f"pgsaas: no demo was played in {folder / 'none'}: run `pgsaas demo` first\n"
    )
    assert shell("demo", "--psql", "--keep").code == 2


def test_a_folder_with_other_files_is_left_alone(shell: Shell, folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "letters").write_text("dear")
    refused = shell("demo", "--folder", str(folder))
    assert (refused.code, refused.err) == (
        1,
        f"pgsaas: {folder} holds other files: give another --folder\n",
    )
    assert (folder / "data" / "letters").read_text() == "dear"


def test_a_folder_that_is_a_link_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to(folder)
    with (
        pytest.raises(PgsaasError, match="belongs to somebody else"),
        occupied(folder / "link", fresh=True),
    ):
        pass


def test_one_process_at_a_time_uses_a_folder(folder: Path) -> None:
    with (folder / MARK).open("a") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        with pytest.raises(PgsaasError, match="a demo is running"), occupied(folder, fresh=True):
            pass


def test_a_server_left_behind_is_named(folder: Path) -> None:
    (folder / MARK).touch()
    (folder / "data").mkdir()
    waiting = subprocess.Popen(
        [sys.executable, "-c", "input()", str(folder)], stdin=subprocess.PIPE
    )
    try:
        (folder / "data" / "postmaster.pid").write_text(f"{waiting.pid}\n{folder}/data\n")
        time.sleep(0.1)
        with pytest.raises(PgsaasError, match=f"kill {waiting.pid}"), occupied(folder, fresh=True):
            pass
        assert (folder / "data").exists()
    finally:
        waiting.communicate(b"\n")


def test_the_data_is_kept_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert os.geteuid() != 0 or default_folder() == Path("/var/cache/pgsaas/demo")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "pgsaas" / "demo"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_folder() == tmp_path / "x" / "pgsaas" / "demo"
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert default_folder() == Path(tempfile.gettempdir()) / "pgsaas-demo-1000"
