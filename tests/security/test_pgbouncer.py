"""PgBouncer in transaction mode: what a client leaves in a shared session reaches no other."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgsaas.embedded import Server
from tests.conftest import TEMPLATE, Conn, Database, require, temporary_database
from tests.security.conftest import World, one, seed

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
CONFIGURATION = """
[databases]
app = host={host} port={port} dbname={name} user=host_backend pool_size=1
users = host={host} port={port} dbname={name} user=host_gateway pool_size=1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
query_wait_timeout = 5
server_login_retry = 1
pool_mode = transaction
logfile = {folder}/log
pidfile =
"""


def a_free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def pooled(hosted: Server) -> Iterator[tuple[World, int]]:
    """A seeded database behind one server session per pool, and the pooler's port."""
    require("pgbouncer", PROGRAM is not None)
    assert PROGRAM is not None
    with (
        temporary_database(hosted, TEMPLATE) as database,
        tempfile.TemporaryDirectory() as folder,
    ):
        with database.connect() as conn:
            world = World(database, seed(conn))
        with running(PROGRAM, database, Path(folder)) as port:
            yield world, port


class running:  # noqa: N801 - a context manager, used like a function
    """PgBouncer until the block ends; it refuses to run as root."""

    def __init__(self, program: str, database: Database, folder: Path) -> None:
        self.port = a_free_port()
        with database.connect() as conn:
            host = str(one(conn, "show unix_socket_directories"))
            port = one(conn, "show port")
        file = folder / "pgbouncer.ini"
        file.write_text(
            CONFIGURATION.format(
                host=host, port=port, name=database.name, listen=self.port, folder=folder
            )
        )
        owner = pwd.getpwuid(Path(host).stat().st_uid)  # whom the server runs as, and trusts
        shutil.chown(folder, owner.pw_uid)
        as_root = os.geteuid() == 0
        self.process = subprocess.Popen(
            [program, "-q", str(file)],
            user=owner.pw_uid if as_root else None,
            group=owner.pw_gid if as_root else None,
            extra_groups=[] if as_root else None,
        )

    def __enter__(self) -> int:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self.process.poll() is None, "pgbouncer ended"
                time.sleep(0.02)
            else:
                return self.port
        raise AssertionError("pgbouncer does not listen")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)


def client(port: int, pool: str = "app") -> Conn:
    return psycopg.connect(
        f"host=127.0.0.1 port={port} dbname={pool} user=anybody", prepare_threshold=None
    )


def leave(port: int, setting: str, value: str, pool: str = "app") -> int:
    """Another client sets this for the whole session and goes; which session it was."""
    with client(port, pool) as conn:
        conn.execute("select set_config(%s, %s, false)", [setting, value])
        return int(one(conn, "select pg_backend_pid()"))


@pytest.fixture(autouse=True)
def tidy(pooled: tuple[World, int]) -> Iterator[None]:
    yield
    for pool in ("app", "users"):
        with client(pooled[1], pool) as conn:
            conn.execute("reset all")


def test_an_earlier_clients_act_as_counts_for_nothing(pooled: tuple[World, int]) -> None:
    world, port = pooled
    with client(port) as conn:
        conn.execute("select pgsaas.act_as('alice')")
        pid = one(conn, "select pg_backend_pid()")
    with client(port) as conn:
        assert one(conn, "select pg_backend_pid()") == pid
        assert one(conn, "select pgsaas.current_user_id()") is None
        assert one(conn, "select count(*) from pgsaas.accounts") == len(world.ids)
        call = "select success from pgsaas.deduct_credits(%s, 1)"
        assert one(conn, call, world.ids["bob"]) is True
        conn.rollback()


def test_a_stamp_kept_in_the_session_counts_for_nothing(pooled: tuple[World, int]) -> None:
    world, port = pooled
    with client(port) as conn:
        conn.execute("select pgsaas.act_as('alice')")
        conn.execute("select set_config('pgsaas.actor', current_setting('pgsaas.actor'), false)")
        pid = one(conn, "select pg_backend_pid()")
    with client(port) as conn:
        assert one(conn, "select pg_backend_pid()") == pid
        assert "alice" in one(conn, "select current_setting('pgsaas.actor')")
        assert one(conn, "select pgsaas.current_user_id()") is None
        conn.execute("select pgsaas.act_as('bob')")
        assert one(conn, "select count(*) from pgsaas.accounts") == 2
        call = "select error_code from pgsaas.deduct_credits(%s, 1)"
        assert one(conn, call, world.ids["alice"]) == "ACCOUNT_NOT_FOUND"
        assert one(conn, call, world.ids["bob"]) is None
        conn.rollback()
    with client(port, "users") as conn:
        conn.execute("set local role host_anonymous")
        assert one(conn, "select count(*) from pgsaas.accounts") == 0


def test_claims_kept_in_the_session_never_widen_what_a_client_says_itself(
    pooled: tuple[World, int],
) -> None:
    """Claims for the session are the host's mistake; whoever says who they are is not mistaken."""
    world, port = pooled
    pid = leave(port, "request.jwt.claims", json.dumps({"sub": "alice"}))
    with client(port) as conn:
        assert one(conn, "select pg_backend_pid()") == pid
        conn.execute("select pgsaas.act_as('bob')")
        assert one(conn, "select pgsaas.current_user_id()") is None
        assert one(conn, "select count(*) from pgsaas.accounts") == 0
        for name in ("alice", "bob"):
            call = "select error_code from pgsaas.deduct_credits(%s, 1)"
            assert one(conn, call, world.ids[name]) == "ACCOUNT_NOT_FOUND"
        conn.rollback()
        conn.execute(
            "select set_config('request.jwt.claims', %s, true)", [json.dumps({"sub": "bob"})]
        )
        assert one(conn, "select pgsaas.current_user_id()") == "bob"
        assert one(conn, "select count(*) from pgsaas.accounts") == 2
        conn.rollback()
        # one who says nothing is narrowed to what was left, and never to the system
        assert one(conn, "select count(*) from pgsaas.accounts") == 2
        call = "select pgsaas.create_account()"
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(call)
        assert caught.value.sqlstate == "PT403"
        conn.rollback()


def test_a_key_of_the_backend_kept_in_the_session_makes_no_user_the_system(
    pooled: tuple[World, int],
) -> None:
    _, port = pooled
    leave(port, "request.jwt.claims", json.dumps({"role": "host_service"}), "users")
    with client(port, "users") as conn:
        conn.execute("set local role host_signed_in")
        assert one(conn, "select count(*) from pgsaas.accounts") == 0
        assert one(conn, "select pgsaas.acts_as_system()") is False


def test_two_requests_in_turn_on_one_session_stay_apart(pooled: tuple[World, int]) -> None:
    world, port = pooled
    with client(port, "users") as first, client(port, "users") as second:
        pids = set()
        for _ in range(5):
            for conn, name in ((first, "alice"), (second, "bob")):
                conn.execute("set local role host_signed_in")
                claims = json.dumps({"sub": name, "role": "host_signed_in"})
                conn.execute("select set_config('request.jwt.claims', %s, true)", [claims])
                assert one(conn, "select pgsaas.account_id_for(%s)", name) == world.ids[name]
                assert one(conn, "select count(*) from pgsaas.accounts") == 2
                pids.add(one(conn, "select pg_backend_pid()"))
                conn.commit()
        assert len(pids) == 1


def test_what_a_transaction_leaves_behind_reads_as_no_claims(pooled: tuple[World, int]) -> None:
    world, port = pooled
    with client(port) as conn:
        conn.execute("select set_config('request.jwt.claims', '{\"sub\": \"alice\"}', true)")
        conn.commit()
        assert one(conn, "select current_setting('request.jwt.claims', true)") == ""
        assert one(conn, "select pgsaas.acts_as_system()") is True
        assert one(conn, "select count(*) from pgsaas.accounts") == len(world.ids)
