"""The migrations, run by yoyo as pgsaas_owner; the only module that imports yoyo."""

from __future__ import annotations

import getpass
import platform
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import errors as pg
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.migrations import default_migration_table, get_migration_hash, topological_sort

from pgsaas.errors import MissingPrivilege, PgsaasError
from pgsaas.install.session import ATTEMPTS, LOCK_TIMEOUT, PAUSE, Talk, connect
from pgsaas.resources import Resources, SqlFile


class OwnerBackend(PostgresqlPsycopgBackend):
    """yoyo's backend on our own connections: every object belongs to pgsaas_owner.

    The address never becomes a yoyo URL, so no password can show up in a yoyo message.
    """

    create_lock_table_sql = PostgresqlPsycopgBackend.create_lock_table_sql.replace(
        "CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1
    )

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        super().__init__(parse_uri("postgresql+psycopg:///"), default_migration_table)

    def connect(self, dburi: object) -> psycopg.Connection[Any]:
        """Connect as yoyo expects it: in autocommit mode."""
        return connect(self.dsn)

    def init_connection(self, connection: psycopg.Connection[Any]) -> None:
        """Act as the owner, in the schema; wait for no lock so long that others queue behind."""
        connection.execute("set role pgsaas_owner")
        connection.execute("set search_path to pgsaas")
        connection.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")

    def init_database(self) -> None:
        """Create yoyo's lock table; PostgreSQL's DDL is known to be transactional."""
        self.create_lock_table()

    def copy(self) -> OwnerBackend:
        """Another connection, for one migration."""
        return OwnerBackend(self.dsn)

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        """A row of yoyo's log, without a DNS lookup and for users without a name too."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = "unknown"
        return {
            "id": str(uuid.uuid1()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": user,
            "hostname": platform.node(),
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }


def _backend(dsn: str) -> OwnerBackend:
    try:
        backend = OwnerBackend(dsn)
        backend.init_database()
        backend.break_lock()  # we hold the installer lock: a row here is a crash's leftover
    except (pg.InsufficientPrivilege, pg.InvalidParameterValue) as error:
        raise MissingPrivilege(
            "this role may not act as pgsaas_owner: "
            "have a DBA run what `pgsaas migrate --roles-sql` prints"
        ) from error
    return backend


def apply_pending(dsn: str, resources: Resources, talk: Talk) -> list[str]:
    """Apply what is pending, in order, each in one transaction; returns the ids.

    The caller holds the installer lock. A migration that cannot get a lock at once
    is tried again for about half a minute. Raises PgsaasError naming the migration that failed.
    """
    files = resources.migrations()
    applied = []
    with _backend(dsn) as backend:
        for migration in backend.to_apply(read_migrations(str(resources.migrations_folder))):
            talk(f"applying {migration.id}")
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    backend.apply_one(migration)
                    break
                except pg.LockNotAvailable:
                    if attempt == ATTEMPTS:
                        raise
                    talk(f"{migration.id} waits for a lock: attempt {attempt + 1}")
                    time.sleep(PAUSE)
                except psycopg.Error as error:
                    raise PgsaasError(
                        f"migration {migration.id} failed and was rolled back: {error}"
                    ) from error
            _record(backend, files[migration.id], migration.id)
            applied.append(migration.id)
    return applied


def _record(backend: OwnerBackend, file: SqlFile, migration_id: str) -> None:
    backend.connection.execute(
        """
        insert into pgsaas.migration_files as f (migration_id, sha256) values (%s, %s)
        on conflict (migration_id) do update
        set sha256 = excluded.sha256, applied_at = excluded.applied_at
        """,
        [migration_id, file.sha256],
    )


def roll_back(dsn: str, resources: Resources, talk: Talk) -> list[str]:
    """Roll every applied migration back, newest first; returns the ids."""
    undone = []
    with _backend(dsn) as backend:
        for migration in backend.to_rollback(read_migrations(str(resources.migrations_folder))):
            talk(f"rolling back {migration.id}")
            backend.rollback_one(migration)
            undone.append(migration.id)
    return undone


def in_order(resources: Resources) -> list[str]:
    """The ids of all migrations in the order yoyo applies them."""
    migrations = read_migrations(str(resources.migrations_folder))
    return [migration.id for migration in topological_sort(migrations)]


def mark_hash(migration_id: str) -> str:
    """The key under which yoyo remembers a migration."""
    return str(get_migration_hash(migration_id))


#: yoyo's own tables as it creates them (its internal schema 2), for the printed script.
TABLES = """
create table if not exists pgsaas.yoyo_lock (
    locked int default 1, ctime timestamp, pid int not null, primary key (locked));
create table if not exists pgsaas._yoyo_migration (
    migration_hash varchar(64), migration_id varchar(255), applied_at_utc timestamp,
    primary key (migration_hash));
create table if not exists pgsaas._yoyo_log (
    id varchar(36), migration_hash varchar(64), migration_id varchar(255),
    operation varchar(10), username varchar(255), hostname varchar(255),
    comment varchar(255), created_at_utc timestamp, primary key (id));
create table if not exists pgsaas._yoyo_version (
    version int not null primary key, installed_at_utc timestamp);
insert into pgsaas._yoyo_version values
    (2, pg_catalog.timezone('UTC', pg_catalog.now())) on conflict (version) do nothing;
""".strip()
