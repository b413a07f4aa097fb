"""What a load says to the database around the files of sql/: its begin and its checks."""

from __future__ import annotations

from pgsaas.install.session import LOCK_KEY, LOCK_TIMEOUT

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
set local lock_timeout = '@wait@';
set local statement_timeout = 0;
set local check_function_bodies = on;
set local search_path = '';
do $lock$ begin perform pg_catalog.pg_advisory_xact_lock(@key@); end $lock$;
@clock@
-- what this load declares: views, triggers and policies, which it replaces only where they differ
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
    .replace("@wait@", LOCK_TIMEOUT)
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
        where b.kind = 'view' and not exists (
            select from pg_temp.pgsaas_declared d where d.kind = 'view' and d.name = c.relname)
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
