"""One direct connection to the database, with errors a person can act on, and its lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict

from pgsaas.errors import (
    LockBusy,
    MissingPrivilege,
    NoDatabase,
    PgsaasError,
    PoolerInTheWay,
    RaceLost,
    ServerTooOld,
)

Session: TypeAlias = psycopg.Connection[tuple[Any, ...]]
#: Takes one line of progress for a person.
Talk: TypeAlias = Callable[[str], None]

OLDEST = 150000
#: Who waits for a lock on a table makes others wait behind it: an install waits shortly, and often.
LOCK_TIMEOUT = "500ms"
ATTEMPTS = 20
PAUSE = 1.0
#: "pgsaas" in ASCII; the key of the advisory lock one installer at a time holds.
LOCK_KEY = 0x706773616173


def silent(line: str) -> None:
    """Say nothing."""


#: A host may have set any of these for the role or the database; an installer needs them so.
CALM = """
set statement_timeout = 0;
set idle_session_timeout = 0;
set idle_in_transaction_session_timeout = 0;
set default_transaction_isolation = 'read committed';
set search_path = '';
"""


def connect(dsn: str) -> Session:
    """A connection in autocommit mode, free of the timeouts of the role it belongs to."""
    conn = psycopg.connect(
        dsn,
        autocommit=True,
        prepare_threshold=None,
        client_encoding="UTF8",
        fallback_application_name="pgsaas",
        connect_timeout=conninfo_to_dict(dsn).get("connect_timeout") or 10,
    )
    conn.execute(CALM)
    return conn


@contextmanager
def open_session(dsn: str, *, needs: str = "pgsaas_owner") -> Iterator[Session]:
    """A direct connection in autocommit mode to a server that pgsaas supports.

    Raises NoDatabase, PoolerInTheWay or ServerTooOld; inside the block, a privilege the server
    misses becomes MissingPrivilege, which tells to log in as a member of the role `needs`.
    """
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # its text may quote a password
        raise NoDatabase(
            "the database address cannot be read: write it as postgresql://user@host:5432/name"
        ) from None
    where = _where(parts)
    try:
        conn = connect(dsn)
    except psycopg.OperationalError as error:
        raise explain_refusal(str(error), where) from error
    with conn:
        _refuse_poolers(conn, where)
        if conn.info.server_version < OLDEST:
            major = conn.info.server_version // 10000
            raise ServerTooOld(
                f"the server at {where} is PostgreSQL {major}: "
                f"pgsaas needs {OLDEST // 10000} or later"
            )
        try:
            yield conn
        except pg.InsufficientPrivilege as error:
            raise MissingPrivilege(
                f"role {conn.info.user} may not do that ({error.diag.message_primary}): "
                f"log in as a member of {needs}"
            ) from error
        except pg.LockNotAvailable as error:
            raise LockBusy(
                "a transaction of the application holds a lock for too long: try again"
            ) from error
        except pg.ReadOnlySqlTransaction as error:
            raise PgsaasError(
                f"the server at {where} is read-only, a standby perhaps: use the primary"
            ) from error
        except (pg.SerializationFailure, pg.DeadlockDetected) as error:
            raise RaceLost from error


def explain_refusal(text: str, where: str) -> PgsaasError:
    """The one line for a connection that failed; libpq gives a text only, no code."""
    reason = text.strip().splitlines()[-1].strip() if text.strip() else "no reason given"
    for line in text.splitlines():
        if "FATAL:" in line or "failed:" in line:
            reason = line.split("FATAL:")[-1].split("failed:")[-1].strip()
            break
    lowered = text.lower()
    if "unsupported startup parameter" in lowered:
        return PoolerInTheWay(
            f"a connection pooler answers at {where} ({reason}): "
            "give the address of the PostgreSQL server itself"
        )
    if "password" in lowered:
        return NoDatabase(f"the server at {where} refused the password: {reason}")
    if 'database "' in lowered and "does not exist" in lowered:
        return NoDatabase(f"there is no such database at {where}: {reason}; create it first")
    return NoDatabase(
        f"no connection to {where}: {reason}; check the address, and that the server runs"
    )


def _where(parts: dict[str, Any]) -> str:
    host = parts.get("host") or parts.get("hostaddr") or "the local socket"
    port = f":{parts['port']}" if parts.get("port") else ""
    database = f"/{parts['dbname']}" if parts.get("dbname") else ""
    return f"{host}{port}{database}"


def _refuse_poolers(conn: Session, where: str) -> None:
    row = conn.execute("select pg_catalog.pg_backend_pid()").fetchone()
    if row is None or row[0] != conn.info.backend_pid:
        raise PoolerInTheWay(
            f"a connection pooler answers at {where}: installing needs the address of the "
            "PostgreSQL server itself (the pooler is fine for the application)"
        )


@contextmanager
def installer_lock(conn: Session, talk: Talk, wait: float) -> Iterator[None]:
    """Hold this database's installer lock; others wait here, at most `wait` seconds.

    It is asked for again and again instead of waited for in the server: a waiting statement
    holds a snapshot, and `create index concurrently` waits for snapshots. Raises LockBusy.
    """
    deadline = time.monotonic() + wait
    told = False
    while not _one(conn, "select pg_catalog.pg_try_advisory_lock(%s)", LOCK_KEY):
        holder = _holder(conn)
        if time.monotonic() > deadline:
            raise LockBusy(f"{holder} still holds the installer lock after {wait:g} s")
        if not told:
            talk(f"{holder} is installing into this database: waiting up to {wait:g} s")
            told = True
        time.sleep(0.05)
    try:
        yield
    finally:
        if not conn.closed and not conn.broken:
            conn.execute("select pg_catalog.pg_advisory_unlock(%s)", [LOCK_KEY])


def _holder(conn: Session) -> str:
    pid = _one(
        conn,
        """
        select l.pid from pg_catalog.pg_locks l
        where l.locktype = 'advisory' and l.granted and l.objsubid = 1
            and l.classid::bigint << 32 | l.objid::bigint = %s
            and l.database = (
                select d.oid from pg_catalog.pg_database d
                where d.datname = pg_catalog.current_database())
        """,
        LOCK_KEY,
    )
    return f"the session with pid {pid}" if pid else "another session"


def _one(conn: Session, statement: str, *values: object) -> Any:
    row = conn.execute(statement.encode(), values).fetchone()
    return row[0] if row else None


@contextmanager
def as_owner(conn: Session) -> Iterator[None]:
    """Act as pgsaas_owner on this session until the block ends.

    Raises MissingPrivilege when the session's role may not.
    """
    try:
        conn.execute("set role pgsaas_owner")
    except (pg.InsufficientPrivilege, pg.InvalidParameterValue) as error:
        raise MissingPrivilege(
            f"role {conn.info.user} may not act as pgsaas_owner: "
            "have a DBA run what `pgsaas migrate --roles-sql` prints"
        ) from error
    try:
        yield
    finally:
        if not conn.closed and not conn.broken:
            conn.execute("reset role")
