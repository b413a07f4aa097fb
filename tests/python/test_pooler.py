"""A transaction pooler in the way of an installer is found out and named."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgsaas import install
from pgsaas.call import call
from pgsaas.embedded import Server, _unprivileged
from pgsaas.errors import PoolerInTheWay
from pgsaas.install.session import explain_refusal
from tests.conftest import Database, require


def wait_for(path: Path) -> None:
    """Until somebody listens there: the file is made before."""
    deadline = time.monotonic() + 30
    while True:
        with socket.socket(socket.AF_UNIX) as door:
            try:
                door.connect(str(path))
            except OSError:
                assert time.monotonic() < deadline, "pgbouncer does not listen"
                time.sleep(0.02)
            else:
                return


@pytest.fixture
def pooler(server: Server, db: Database) -> Iterator[str]:
    """The address of `db` through pgbouncer in transaction mode."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    require("pgbouncer", Path(program).exists())
    home = server._folder(Path("/tmp"))  # noqa: S108
    configuration = home / "pgbouncer.ini"
    configuration.write_text(f"""
[databases]
{db.name} = host={server.socket_dir} port=5432 dbname={db.name} user=postgres
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {home}
auth_type = any
pool_mode = transaction
""")
    process = subprocess.Popen(
        [program, "-q", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **_unprivileged(),
    )
    try:
        wait_for(home / ".s.PGSQL.6432")
        yield f"postgresql://postgres@/{db.name}?host={home}&port=6432"
    finally:
        process.terminate()
        process.wait()


def test_an_installer_refuses_to_work_through_a_pooler(pooler: str) -> None:
    with pytest.raises(PoolerInTheWay, match="needs the address of the PostgreSQL server"):
        install.migrate(pooler)


def test_an_application_works_through_a_pooler(pooler: str) -> None:
    with psycopg.connect(pooler, prepare_threshold=None) as conn:
        assert call(conn, "is_adopted") == [{"is_adopted": False}]


def test_a_refused_startup_parameter_means_a_pooler(pooler: str) -> None:
    with pytest.raises(PoolerInTheWay, match="unsupported startup parameter"):
        install.migrate(pooler + "&options=-cwork_mem%3D1MB")


def test_the_texts_of_libpq_are_told_apart() -> None:
    text = "connection failed: FATAL:  unsupported startup parameter: options"
    assert isinstance(explain_refusal(text, "h"), PoolerInTheWay)
    assert "no reason given" in str(explain_refusal("", "h"))
