"""Clients that call at the same moment, each on a connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import errors, rows

from tests.conftest import Database

Answer: TypeAlias = dict[str, Any]
Client: TypeAlias = psycopg.Connection[Answer]
T = TypeVar("T")

ISOLATION_LEVELS = ["read committed", "repeatable read", "serializable"]
PATIENCE = 60  # seconds until a test gives up; none passes because time has passed


def connect(db: Database, isolation: str = "read committed") -> Client:
    """A session in autocommit mode that returns rows as dictionaries."""
    conn = psycopg.connect(db.dsn, autocommit=True, row_factory=rows.dict_row)
    conn.execute(f"set default_transaction_isolation = '{isolation}'".encode())
    return conn


@contextmanager
def clients(db: Database, count: int, isolation: str = "read committed") -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connect(db, isolation)) for _ in range(count)]


def call_all(conn: Client, name: str, /, **arguments: Any) -> list[Answer]:
    """The rows of a function."""
    named = ", ".join(f"p_{argument} => %s" for argument in arguments)
    statement = f"select * from pgsaas.{name}({named})".encode()
    return conn.execute(statement, list(arguments.values())).fetchall()


def call(conn: Client, name: str, /, **arguments: Any) -> Answer:
    """The one row of a function."""
    (answer,) = call_all(conn, name, **arguments)
    return answer


@dataclass(frozen=True)
class Race(Generic[T]):
    """What each client got, and how many transactions were lost to others and run again."""

    results: list[T]
    lost: int


def at_once(conns: Sequence[Client], *tasks: Callable[[Client], T]) -> Race[T]:
    """Run one task on all connections, or one each, released by a barrier.

    Each runs in a transaction that has taken its snapshot before the barrier falls. One that
    loses a race (40001) runs again, as a host would do; every other error is raised.
    """
    barrier = threading.Barrier(len(conns))
    lost: list[Client] = []

    def run(conn: Client, task: Callable[[Client], T]) -> T:
        before = True
        while True:
            try:
                with conn.transaction():
                    if before:
                        conn.execute("select from pgsaas.account_balances limit 1")
                        before = False
                        barrier.wait(PATIENCE)
                    return task(conn)
            except errors.SerializationFailure:
                lost.append(conn)

    each = tasks if len(tasks) > 1 else tasks * len(conns)
    with ThreadPoolExecutor(len(conns)) as pool:
        results = list(pool.map(run, conns, each, timeout=PATIENCE))
    return Race(results, len(lost))


def in_background(conn: Client, task: Callable[[Client], T]) -> Callable[[], T]:
    """Start a task that has to wait; calling what is returned waits for its end."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(task, conn)
    pool.shutdown(wait=False)
    return lambda: future.result(PATIENCE)


def wait_until_locked(db: Database, conn: Client) -> None:
    """Return when the session waits for a lock; it is never a matter of time."""
    pid = conn.info.backend_pid
    until = time.monotonic() + PATIENCE
    with connect(db) as watcher:
        while time.monotonic() < until:
            row = watcher.execute(
                "select from pg_stat_activity where pid = %s and wait_event_type = 'Lock'", [pid]
            )
            if row.fetchone() is not None:
                return
    raise AssertionError(f"session {pid} does not wait for a lock")


def open_account(conn: Client, amount: int = 0, **arguments: Any) -> UUID:
    """A new account with that many credits, which never expire."""
    account_id: UUID = call(conn, "create_account", account_id=uuid4(), **arguments)["account_id"]
    if amount:
        call(conn, "add_credits", account_id=account_id, amount=amount, source="bonus")
    return account_id


def open_members(conn: Client, count: int, amount: int) -> list[UUID]:
    """Accounts of one organization, in the order in which they are locked."""
    organization = open_account(conn, kind="organization")
    members = sorted(open_account(conn, amount) for _ in range(count))
    for member in members:
        call(conn, "add_member", account_id=organization, user_id=str(member))
    return members


def balance(conn: Client, account_id: UUID) -> Decimal:
    amount: Decimal = call(conn, "get_balance", account_id=account_id)["balance"]
    return amount


def is_sound(conn: Client) -> bool:
    """No rule of the ledger is violated, and nobody was a deadlock's victim."""
    assert call_all(conn, "verify_ledger") == []
    conn.execute("select pg_stat_force_next_flush()")
    found = conn.execute(
        "select deadlocks from pg_stat_database where datname = current_database()"
    )
    return found.fetchone() == {"deadlocks": 0}
