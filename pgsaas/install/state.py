"""What a database carries: migrations, drift, functions, clock, fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pgsaas
from pgsaas.install.loader import changed_objects, is_loaded
from pgsaas.install.roles import is_bootstrapped
from pgsaas.install.session import Session
from pgsaas.resources import Resources


@dataclass(frozen=True, slots=True)
class Status:
    """The state of an installation, compared with the files of this version."""

    installed: bool
    version: str | None
    mode: str | None
    applied: list[str]
    pending: list[str]
    drifted: list[str]
    unknown: list[str]
    loaded: bool
    changed: list[str]

    @property
    def current(self) -> bool:
        """Nothing pending, nothing drifted, the functions are those of this version."""
        return self.loaded and not (self.pending or self.drifted or self.unknown or self.changed)

    def sentences(self) -> list[str]:
        """What a person should know, one line each."""
        if not self.installed:
            return ["pgsaas is not installed here: run `pgsaas migrate`"]
        lines = [f"pgsaas {self.version or 'without functions'}, {self.mode} installation"]
        lines += [f"pending: {key}" for key in self.pending]
        lines += [f"drifted: {key} was edited after it was applied" for key in self.drifted]
        lines += [f"unknown: {key} was applied by another version" for key in self.unknown]
        if not self.loaded:
            lines.append(f"the functions are not those of pgsaas {pgsaas.__version__}")
        lines += [f"drifted: {name}: changed since it was loaded" for name in self.changed]
        if self.current:
            lines.append("everything is up to date")
        return lines


def _exists(conn: Session, table: str) -> bool:
    row = conn.execute("select pg_catalog.to_regclass(%s) is not null", [table]).fetchone()
    return bool(row and row[0])


def applied_migrations(conn: Session) -> list[str]:
    """The ids yoyo has marked, oldest first."""
    if not _exists(conn, "pgsaas._yoyo_migration"):
        return []
    found = conn.execute("""
        select m.migration_id from pgsaas._yoyo_migration m
        order by m.applied_at_utc, m.migration_id
    """)
    return [row[0] for row in found]


def status(conn: Session, resources: Resources) -> Status:
    """Compare the database with the files; changes nothing."""
    files = resources.migrations()
    if not is_bootstrapped(conn):
        return Status(False, None, None, [], list(files), [], [], False, [])
    applied = applied_migrations(conn)
    row: tuple[Any, ...] = (None, None)
    loaded = False
    drifted: list[str] = []
    changed: list[str] = []
    if _exists(conn, "pgsaas.installation"):
        found = conn.execute("select version, mode from pgsaas.installation").fetchone()
        row = found or row
        loaded = is_loaded(conn, resources)
        changed = changed_objects(conn) if loaded else []
        recorded = conn.execute(
            "select migration_id, sha256 from pgsaas.migration_files order by migration_id"
        )
        drifted = [
            key
            for key, sha256 in recorded
            if key in applied and key in files and files[key].sha256 != sha256
        ]
    return Status(
        installed=True,
        version=row[0],
        mode=row[1],
        applied=applied,
        pending=[key for key in files if key not in applied],
        drifted=drifted,
        unknown=[key for key in applied if key not in files],
        loaded=loaded,
        changed=changed,
    )
