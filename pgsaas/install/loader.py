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
from pgsaas.install.session import LOCK_KEY, Session, Talk
from pgsaas.resources import Resources

ATTEMPTS = 5
#: From this name on the files of sql/ create no functions and no views. Granting and revoking
#: rewrites a function's row, so what was rewritten is looked at before it.
PRIVILEGES = "82_"

#: Tables that plain yoyo made as the login role; before the role is set, or it could not.
OWN_TABLES = """
do $own$
declare
    v_table text;
begin
    for v_table in
        select pg_catalog.format('%I.%I', 'pgsaas', c.relname) from pg_catalog.pg_class c
        where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and c.relkind in ('r', 'p')
            and pg_catalog.pg_get_userbyid(c.relowner) <> 'pgsaas_owner'
    loop
        execute 'alter table ' || v_table || ' owner to pgsaas_owner';
    end loop;
end
$own$;
""".strip()

#: Loading would put the real clock back under a test's feet.
REFUSE_CLOCK = """
do $clock$
declare
    v_is_set boolean := false;
begin
    if pg_catalog.to_regclass('pgsaas.test_clock') is not null then
        execute 'select exists (select from pgsaas.test_clock)' into v_is_set;
    end if;
    if v_is_set then
        raise exception 'the test clock is set: run `pgsaas clock reset` first'
            using errcode = 'PGS02';
    end if;
end
$clock$;
""".strip()

#: What a load makes, each with a digest of all there is to it. A path of no schema makes every
#: name in it qualified.
OBJECTS = """
select o.object, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
    o.made::text, 'UTF8')), 'hex') as sha256
from (
    select 'function ' || p.oid::pg_catalog.regprocedure::text as object,
        pg_catalog.jsonb_build_array(p.prosrc, p.prosecdef, p.proconfig, p.provolatile) as made
    from pg_catalog.pg_proc p where p.pronamespace = 'pgsaas'::pg_catalog.regnamespace
    union all
    select 'view ' || c.oid::pg_catalog.regclass::text,
        pg_catalog.jsonb_build_array(pg_catalog.pg_get_viewdef(c.oid), c.reloptions)
    from pg_catalog.pg_class c
    where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and c.relkind = 'v'
    union all
    select 'row security of ' || c.oid::pg_catalog.regclass::text,
        pg_catalog.jsonb_build_array(c.relrowsecurity, c.relforcerowsecurity)
    from pg_catalog.pg_class c
    where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and c.relkind in ('r', 'p')
        and c.relname !~ 'yoyo'
    union all
    select 'policy ' || p.policyname || ' on pgsaas.' || p.tablename, pg_catalog.to_jsonb(p)
    from pg_catalog.pg_policies p where p.schemaname = 'pgsaas'
    union all
    select 'trigger ' || t.tgname || ' on ' || c.oid::pg_catalog.regclass::text,
        pg_catalog.jsonb_build_array(pg_catalog.pg_get_triggerdef(t.oid), t.tgenabled)
    from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
    where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and not t.tgisinternal
    union all
    select 'privileges on ' || x.object, pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
        case a.grantee when 0 then 'public' else pg_catalog.pg_get_userbyid(a.grantee) end,
        a.privilege_type, a.is_grantable)
        order by pg_catalog.pg_get_userbyid(a.grantee), a.privilege_type)
    from (
        select p.oid::pg_catalog.regprocedure::text,
            coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
        from pg_catalog.pg_proc p where p.pronamespace = 'pgsaas'::pg_catalog.regnamespace
        union all
        select c.oid::pg_catalog.regclass::text, c.relacl from pg_catalog.pg_class c
        where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and c.relname !~ 'yoyo'
        union all
        select c.oid::pg_catalog.regclass::text || '.' || n.attname, n.attacl
        from pg_catalog.pg_class c join pg_catalog.pg_attribute n on n.attrelid = c.oid
        where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and n.attacl is not null
        union all
        select 'the schema', n.nspacl from pg_catalog.pg_namespace n where n.nspname = 'pgsaas'
    ) x (object, acl) cross join lateral pg_catalog.aclexplode(x.acl) a
    group by x.object
) o
""".strip()

BEGIN = (
    """
set local role pgsaas_owner;
set local lock_timeout = '5s';
set local statement_timeout = 0;
set local check_function_bodies = on;
set local search_path = '';
do $lock$ begin perform pg_catalog.pg_advisory_xact_lock(@key@); end $lock$;
@clock@
-- what this load declares: triggers and policies, which it replaces only where they differ
create temporary table pgsaas_declared (kind text, name text, relation text) on commit drop;
-- what was there before it: a row whose xmin does not change was not rewritten
create temporary table pgsaas_before on commit drop as
    select 'function' as kind, p.oid, p.xmin::text as written_by
    from pg_catalog.pg_proc p where p.pronamespace = 'pgsaas'::pg_catalog.regnamespace
    union all
    select 'view', c.oid, r.xmin::text
    from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class
    where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace;
""".strip()
    .replace("@key@", str(LOCK_KEY))
    .replace("@clock@", REFUSE_CLOCK)
)

CHECK_REWRITTEN = """
do $stale$
declare
    v_stale text;
begin
    select pg_catalog.string_agg(s.kind || ' ' || s.name, ', ' order by s.kind, s.name)
    into v_stale
    from (
        select b.kind, p.oid::pg_catalog.regprocedure::text as name
        from pg_temp.pgsaas_before b
        join pg_catalog.pg_proc p on p.oid = b.oid and p.xmin::text = b.written_by
        where b.kind = 'function'
        union all
        select b.kind, c.oid::pg_catalog.regclass::text
        from pg_temp.pgsaas_before b
        join pg_catalog.pg_class c on c.oid = b.oid
        join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.xmin::text = b.written_by
        where b.kind = 'view'
    ) s;
    if v_stale is not null then
        raise exception 'no file of sql/ makes: %', v_stale
            using errcode = 'PGS01', hint = 'Drop it, or retire it in sql/00_retired.sql.';
    end if;
end
$stale$;
""".strip()

CHECK_DECLARED = """
do $stale$
declare
    v_stale text;
begin
    select pg_catalog.string_agg(
        s.kind || ' ' || s.name || ' on ' || s.relation, ', ' order by s.kind, s.name, s.relation)
    into v_stale
    from (
        select 'trigger' as kind, t.tgname::text as name, c.relname::text as relation
        from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
        where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and not t.tgisinternal
        union all
        select 'policy', p.polname::text, c.relname::text
        from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
        where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace
    ) s
    where not exists (
        select from pg_temp.pgsaas_declared d
        where d.kind = s.kind and d.name = s.name
            and d.relation in (s.relation, 'pgsaas.' || s.relation));
    if v_stale is not null then
        raise exception 'no file of sql/ declares: %', v_stale
            using errcode = 'PGS01', hint = 'Drop it, or declare it in 80_triggers, 81_policies.';
    end if;
end
$stale$;
""".strip()


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

    Waits for no lock longer than five seconds, and tries again a few times. Raises StaleObject
    or ClockReplaced, and PgsaasError naming the file that failed; then nothing has changed.
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
            time.sleep(attempt)
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
