"""What `pgsaas migrate` would run, as one script for psql."""

from __future__ import annotations

from psycopg import sql

import pgsaas
from pgsaas.install.load_texts import OWN_TABLES
from pgsaas.install.loader import changed_objects, is_loaded, statements
from pgsaas.install.roles import is_bootstrapped, settings_script
from pgsaas.install.session import Session
from pgsaas.install.state import applied_migrations
from pgsaas.install.yoyo_backend import TABLES, in_order, mark_hash
from pgsaas.resources import Resources

HEADER = f"""
-- pgsaas {pgsaas.__version__}: what `pgsaas migrate` would run in this database.
-- Run it with psql over a direct connection; it is one transaction, all or nothing.
\\set ON_ERROR_STOP on
""".lstrip()


def migrate_script(
    conn: Session,
    resources: Resources,
    *,
    adopt_roles: bool = False,
    test_mode: bool = False,
    force: bool = False,
) -> str:
    """The script for the state this database is in; a comment when there is nothing to do."""
    parts = [HEADER, "begin;", "set local search_path = '';", "set local statement_timeout = 0;"]
    if not (ready := is_bootstrapped(conn)):
        parts += settings_script(conn.info.user, adopt_roles=adopt_roles)
        parts.append(resources.roles().text)
    parts += [OWN_TABLES, "set local role pgsaas_owner;"]
    files = resources.migrations()
    done = applied_migrations(conn) if ready else []
    pending = [key for key in in_order(resources) if key not in done]
    if pending:
        parts.append(TABLES)
    for key in pending:
        mark = sql.SQL(
            "insert into pgsaas._yoyo_migration values "
            "({}, {}, pg_catalog.timezone('UTC', pg_catalog.now()));\n"
            "insert into pgsaas.migration_files (migration_id, sha256) values ({}, {})\n"
            "on conflict (migration_id) do update set sha256 = excluded.sha256;"
        ).format(mark_hash(key), key, key, files[key].sha256)
        parts += [f"-- migrations/{key}.sql", files[key].text, mark.as_string(None)]
    if test_mode:
        parts.append("update pgsaas.installation set mode = 'test' where sql_sha256 is null;")
    if not done or force or not is_loaded(conn, resources) or changed_objects(conn):
        for title, text in statements(resources):
            parts += [f"-- {title}", text]
    elif not pending:
        return HEADER + "-- Nothing to do.\n"
    return "\n".join([*parts, "commit;"]) + "\n"
