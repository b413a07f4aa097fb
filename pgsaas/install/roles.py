"""The first step: roles, membership and schema, in one transaction."""

from __future__ import annotations

import time

import psycopg
from psycopg import errors as pg
from psycopg import sql

from pgsaas.errors import MissingPrivilege, RolesRefused
from pgsaas.install.session import Session, Talk
from pgsaas.resources import Resources

ATTEMPTS = 20
#: What two databases of one cluster do to each other in pg_authid.
COLLISIONS = (pg.UniqueViolation, pg.DuplicateObject, pg.InternalError_, pg.DeadlockDetected)


def is_bootstrapped(conn: Session) -> bool:
    """Whether the schema is there and belongs to pgsaas_owner."""
    row = conn.execute("""
        select pg_catalog.pg_get_userbyid(n.nspowner) = 'pgsaas_owner'
        from pg_catalog.pg_namespace n where n.nspname = 'pgsaas'
    """).fetchone()
    return bool(row and row[0])


def bootstrap(conn: Session, resources: Resources, *, adopt_roles: bool, talk: Talk) -> bool:
    """Create what is missing; False when nothing was.

    Raises RolesRefused when roles or schema are there but not ours to use, MissingPrivilege
    when this session's role may not create them.
    """
    if is_bootstrapped(conn):
        return False
    talk("creating the roles and the schema")
    text = resources.roles().text
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with conn.transaction():
                for name, value in _settings(conn.info.user, adopt_roles):
                    conn.execute("select pg_catalog.set_config(%s, %s, true)", [name, value])
                conn.execute(text.encode())
        except pg.InsufficientPrivilege as error:
            raise MissingPrivilege(
                f"role {conn.info.user} may not prepare this database "
                f"({error.diag.message_primary}): have a DBA run what "
                "`pgsaas migrate --roles-sql` prints, then migrate again"
            ) from error
        except COLLISIONS:
            if attempt == ATTEMPTS:
                raise
            time.sleep(0.05 * attempt)
        except psycopg.Error as error:
            if error.sqlstate not in ("PT403", "PT409"):
                raise
            raise RolesRefused(
                f"{error.diag.message_primary}. {error.diag.message_hint}"
            ) from error
        else:
            return True
    raise AssertionError("the last attempt returns or raises")


def roles_script(resources: Resources, installer: str, *, adopt_roles: bool) -> str:
    """The bootstrap as a script for a DBA, for the role that will migrate."""
    lines = [
        "-- Run this with psql in the database pgsaas shall live in, as a role that may create",
        f"-- roles and schemas there. {installer} may run `pgsaas migrate` afterwards.",
        "\\set ON_ERROR_STOP on",
        "begin;",
        *settings_script(installer, adopt_roles=adopt_roles),
        resources.roles().text.rstrip(),
        "commit;",
    ]
    return "\n".join(lines) + "\n"


def settings_script(installer: str, *, adopt_roles: bool) -> list[str]:
    """The statements that tell the bootstrap who installs and how."""
    return [
        f"set local {name} = {sql.Literal(value).as_string(None)};"
        for name, value in _settings(installer, adopt_roles)
    ]


def _settings(installer: str, adopt_roles: bool) -> list[tuple[str, str]]:
    return [
        ("pgsaas.installer", installer),
        ("pgsaas.adopt_roles", "on" if adopt_roles else "off"),
    ]
