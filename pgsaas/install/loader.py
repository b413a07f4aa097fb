"""The load: all of sql/ in one transaction, and proof that nothing else is in the schema.

What Python runs here is what `pgsaas migrate --sql` prints: one list of statements.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg import sql

import pgsaas
from pgsaas.errors import ClockReplaced, PgsaasError, StaleObject
from pgsaas.install.load_texts import (
    BEGIN,
    CHECK_DECLARED,
    CHECK_REWRITTEN,
    OBJECTS,
    OWN_TABLES,
    REFUSE_CLOCK,
)
from pgsaas.install.session import ATTEMPTS, PAUSE, Session, Talk
from pgsaas.resources import Resources

#: From this name on the files of sql/ create no functions and no views. Granting and revoking
#: rewrites a function's row, so what was rewritten is looked at before it.
PRIVILEGES = "82_"


def statements(resources: Resources) -> Iterator[tuple[str, str]]:
    """The load as (title, text) pairs; they run in one transaction, in this order."""
    yield "begin of the load", BEGIN
    checked = False
    for room in resources.rooms():
        if room.name >= PRIVILEGES and not checked:
            yield "functions and views were all rewritten", CHECK_REWRITTEN
            checked = True
        yield f"sql/{room.name}", room.text
    if not checked:
        yield "functions and views were all rewritten", CHECK_REWRITTEN
    yield "triggers and policies are all declared", CHECK_DECLARED
    yield "the stamp", _stamp(resources)


def _stamp(resources: Resources) -> str:
    files = ",\n    ".join(
        sql.SQL("({}, {})").format(key, file.sha256).as_string(None)
        for key, file in resources.migrations().items()
    )
    stamp = sql.SQL("""
update pgsaas.installation
set version = {}, sql_sha256 = {},
    fingerprint = coalesce(fingerprint, pgsaas.current_fingerprint());
insert into pgsaas.migration_files (migration_id, sha256)
select v.id, v.sha256
from (values
    {}
) as v (id, sha256)
join pgsaas._yoyo_migration m on m.migration_id = v.id
on conflict (migration_id) do nothing;
with made as ({}),
gone as (
    delete from pgsaas.loaded_objects l
    where not exists (select from made m where m.object = l.object)
)
insert into pgsaas.loaded_objects as l (object, sha256)
select m.object, m.sha256 from made m order by m.object
on conflict (object) do update set sha256 = excluded.sha256
where l.sha256 <> excluded.sha256;
""")
    values = pgsaas.__version__, resources.sql_sha256(), sql.SQL(files), sql.SQL(OBJECTS)
    return stamp.format(*values).as_string(None).strip()


def is_loaded(conn: Session, resources: Resources) -> bool:
    """Whether this database carries exactly these files, loaded by this version."""
    row = conn.execute("select sql_sha256, version from pgsaas.installation").fetchone()
    return row == (resources.sql_sha256(), pgsaas.__version__)


def changed_objects(conn: Session) -> list[str]:
    """What was changed, dropped or added since the last load, but for the clock of a test."""
    found = conn.execute(f"""
        select coalesce(o.object, l.object)
        from pgsaas.loaded_objects l
        full join ({OBJECTS}) o on o.object = l.object
        where o.sha256 is distinct from l.sha256
            and not (coalesce(o.object, l.object) = 'function pgsaas.now()'
                and exists (select from pgsaas.test_clock))
        order by 1
    """)  # noqa: S608
    return [row[0] for row in found]


def refuse_clock(conn: Session) -> None:
    """Raise ClockReplaced while a test clock is set."""
    try:
        conn.execute(REFUSE_CLOCK.encode())
    except psycopg.Error as error:
        raise _explain(error, "the clock") from error


def load(conn: Session, resources: Resources, *, force: bool = False, talk: Talk) -> bool:
    """Load sql/ in one transaction; False when it is loaded already.

    Waits for no lock longer than half a second, and tries again for about half a minute. Raises
    StaleObject or ClockReplaced, and PgsaasError naming the file that failed; then nothing has
    changed.
    """
    if not force and is_loaded(conn, resources) and not changed_objects(conn):
        return False
    talk("loading the functions")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with conn.transaction():
                _run(conn, resources)
        except (pg.LockNotAvailable, pg.DeadlockDetected, pg.InternalError_):
            if attempt == ATTEMPTS:
                raise
            talk(f"the load waits for a lock: attempt {attempt + 1}")
            time.sleep(PAUSE)
        else:
            return True
    raise AssertionError("the last attempt returns or raises")


def load_after_yoyo(conn: psycopg.Connection[Any], root: Path) -> None:
    """Load inside the transaction of yoyo's post-apply step; always, its hash is not asked."""
    conn.execute(OWN_TABLES.encode())
    _run(conn, Resources(root))


def _run(conn: psycopg.Connection[Any], resources: Resources) -> None:
    for title, text in statements(resources):
        try:
            conn.execute(text.encode())
        except psycopg.Error as error:
            raise _explain(error, title) from error


def _explain(error: psycopg.Error, title: str) -> Exception:
    message = error.diag.message_primary or str(error)
    if error.sqlstate == "PGS01":
        return StaleObject(f"{message}. {error.diag.message_hint}")
    if error.sqlstate == "PGS02":
        return ClockReplaced(message)
    if isinstance(error, pg.LockNotAvailable | pg.DeadlockDetected | pg.InternalError_):
        return error
    return PgsaasError(f"{title} failed and the load was rolled back: {error}")
