"""Install, upgrade, inspect and remove pgsaas in a database.

Every function takes the address of the database and opens its own direct connection; `talk`
gets one line of progress at a time, `resources` is the folder with sql/ and migrations/.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgsaas.errors import RuleViolated
from pgsaas.install.load_texts import OWN_TABLES
from pgsaas.install.loader import load, load_after_yoyo, refuse_clock
from pgsaas.install.removal import Removal, uninstall, unload
from pgsaas.install.roles import bootstrap, is_bootstrapped, roles_script
from pgsaas.install.script import migrate_script
from pgsaas.install.session import (
    Session,
    Talk,
    as_owner,
    installer_lock,
    open_session,
    silent,
)
from pgsaas.install.state import Status, status
from pgsaas.install.yoyo_backend import apply_pending, roll_back
from pgsaas.resources import Resources, packaged

__all__ = [
    "Migration",
    "Removal",
    "Status",
    "as_owner",
    "is_bootstrapped",
    "load_after_yoyo",
    "migrate",
    "migrate_script",
    "open_session",
    "roles_script",
    "roll_back_all",
    "status",
    "uninstall",
]


@dataclass(frozen=True, slots=True)
class Migration:
    """What a migrate did."""

    bootstrapped: bool
    applied: list[str]
    loaded: bool


def migrate(
    dsn: str,
    *,
    resources: Resources | None = None,
    adopt_roles: bool = False,
    test_mode: bool = False,
    force: bool = False,
    talk: Talk = silent,
    wait: float = 60,
) -> Migration:
    """Bring a database to this version; safe to run again, by many, and after a crash.

    `test_mode` makes a new installation one that may have a test clock; `force` loads sql/
    even when it is loaded. Others who migrate this database are waited for `wait` seconds.
    Raises the errors of pgsaas.errors; each step is a transaction, so what was done stays done.
    """
    files = resources or packaged()
    with open_session(dsn) as conn, installer_lock(conn, talk, wait):
        created = bootstrap(conn, files, adopt_roles=adopt_roles, talk=talk)
        found = status(conn, files)
        if force or not found.current:
            refuse_clock(conn)
        for key in found.drifted:
            talk(f"warning: {key} was edited after it was applied; it is not applied again")
        for name in found.changed:
            talk(f"{name}: changed since it was loaded; what sql/ says is loaded again")
        conn.execute(OWN_TABLES.encode())
        applied = apply_pending(dsn, files, talk)
        with as_owner(conn):
            if test_mode:
                _become_test(conn)
            return Migration(created, applied, load(conn, files, force=force, talk=talk))


def _become_test(conn: Session) -> None:
    conn.execute("update pgsaas.installation set mode = 'test' where sql_sha256 is null")
    row = conn.execute("select mode from pgsaas.installation").fetchone()
    if row != ("test",):
        raise RuleViolated("this installation is live: a live one never becomes a test one")


def roll_back_all(dsn: str, *, resources: Resources | None = None, talk: Talk = silent) -> None:
    """Undo every migration, data included; roles and the empty schema stay."""
    with open_session(dsn) as conn, installer_lock(conn, talk, 60):
        with as_owner(conn):
            unload(conn)
        roll_back(dsn, resources or packaged(), talk)
