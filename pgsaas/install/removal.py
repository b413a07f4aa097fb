"""Take pgsaas out of a database again, without harm to the application or to siblings."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import errors as pg

from pgsaas.errors import HostDepends
from pgsaas.install.session import Session, Talk, installer_lock, open_session, silent

ROLES = (
    "pgsaas_user",
    "pgsaas_app",
    "pgsaas_webhook",
    "pgsaas_admin",
    "pgsaas_runner",
    "pgsaas_owner",
)
PATIENCE = "set local lock_timeout = '10s'"


@dataclass(slots=True)
class Removal:
    """What an uninstall did."""

    schema_dropped: bool = False
    triggers_dropped: list[str] = field(default_factory=list)
    wrappers_dropped: list[str] = field(default_factory=list)
    roles_dropped: list[str] = field(default_factory=list)
    #: role -> why it stays
    roles_kept: dict[str, str] = field(default_factory=dict)


#: Objects of ours in other schemas: triggers that attach_users() made, wrappers of expose().
TRIGGERS = """
    select pg_catalog.format('%I on %s', t.tgname, t.tgrelid::pg_catalog.regclass)
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc p on p.oid = t.tgfoid
    join pg_catalog.pg_class c on c.oid = t.tgrelid
    where p.pronamespace = 'pgsaas'::pg_catalog.regnamespace and not t.tgisinternal
        and c.relnamespace <> 'pgsaas'::pg_catalog.regnamespace and t.tgparentid = 0
    order by 1
"""
WRAPPERS = """
    select pg_catalog.format('%I.%I(%s)', p.pronamespace::pg_catalog.regnamespace::text,
        p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid))
    from pg_catalog.pg_proc p
    where p.pronamespace <> all (array['pgsaas', 'pg_catalog']::pg_catalog.regnamespace[])
        and pg_catalog.obj_description(p.oid, 'pg_proc') like 'pgsaas wrapper%'
    order by 1
"""

#: What is not ours and would fall with the schema, or keep the owner role alive.
DEPENDENTS = """
    with ours as (
        select 'pg_catalog.pg_class'::pg_catalog.regclass as classid, c.oid as objid
        from pg_catalog.pg_class c where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace
        union all
        select 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid
        from pg_catalog.pg_proc p where p.pronamespace = 'pgsaas'::pg_catalog.regnamespace
        union all
        select 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid
        from pg_catalog.pg_type t where t.typnamespace = 'pgsaas'::pg_catalog.regnamespace
        union all
        select 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid
        from pg_catalog.pg_constraint k where k.connamespace = 'pgsaas'::pg_catalog.regnamespace
    ), dependents as (
        select distinct d.classid, d.objid, d.objsubid from pg_catalog.pg_depend d
        join ours o on o.classid = d.refclassid and o.objid = d.refobjid
        where d.deptype in ('n', 'a') and not exists (
            select from ours i where i.classid = d.classid and i.objid = d.objid)
    ), located as (
        select d.*, coalesce(
            (select c.relnamespace from pg_catalog.pg_class c
             where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and c.oid = d.objid),
            (select c.relnamespace
             from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class
             where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                 and r.oid = d.objid),
            (select c.relnamespace
             from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
             where d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
                 and t.oid = d.objid),
            (select c.relnamespace
             from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
             where d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass and p.oid = d.objid),
            (select c.relnamespace
             from pg_catalog.pg_attrdef a join pg_catalog.pg_class c on c.oid = a.adrelid
             where d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
                 and a.oid = d.objid)) as namespace
        from dependents d
    )
    select pg_catalog.pg_describe_object(l.classid, l.objid, l.objsubid) from located l
    where l.namespace is distinct from 'pgsaas'::pg_catalog.regnamespace
        and not (l.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass and exists (
            select from pg_catalog.pg_trigger t
            join pg_catalog.pg_proc p on p.oid = t.tgfoid
            where t.oid = l.objid and (t.tgisinternal
                or p.pronamespace = 'pgsaas'::pg_catalog.regnamespace)))
        and not (l.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and coalesce(
            pg_catalog.obj_description(l.objid, 'pg_proc') like 'pgsaas wrapper%', false))
    order by 1
"""

#: Why a role cannot go: other databases, or what it owns here.
IN_USE = """
    select case when s.dbid = (select d.oid from pg_catalog.pg_database d
                               where d.datname = pg_catalog.current_database())
        then 'owns ' || pg_catalog.pg_describe_object(s.classid, s.objid, s.objsubid)
        else 'is used by database ' || coalesce(
            (select d.datname from pg_catalog.pg_database d where d.oid = s.dbid),
            (select d.datname from pg_catalog.pg_database d
             where s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
                 and d.oid = s.objid), 'cluster') end
    from pg_catalog.pg_shdepend s
    where s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
        and s.refobjid = pg_catalog.to_regrole(%(role)s)
        and not (s.deptype <> 'o' and s.dbid = (
            select d.oid from pg_catalog.pg_database d
            where d.datname = pg_catalog.current_database()))
        and not (s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass and s.objid = (
            select d.oid from pg_catalog.pg_database d
            where d.datname = pg_catalog.current_database()))
    order by s.dbid, 1
    limit 1
"""


def _texts(conn: Session, query: str) -> list[str]:
    return [row[0] for row in conn.execute(query.encode())]


def uninstall(
    dsn: str,
    *,
    force: bool = False,
    keep_roles: bool = False,
    talk: Talk = silent,
    wait: float = 60,
) -> Removal:
    """Drop the schema with all its data, what pgsaas made elsewhere, and its roles.

    Raises HostDepends, listing them, when objects of the application depend on pgsaas; with
    `force` these are dropped too. Roles stay while another database of the cluster uses them, and
    where this session's role may not drop them.
    """
    done = Removal()
    with open_session(dsn) as conn, installer_lock(conn, talk, wait):
        with conn.transaction():
            conn.execute(PATIENCE)
            found = conn.execute("select pg_catalog.to_regnamespace('pgsaas')").fetchone()
            if found != (None,):
                _drop_schema(conn, done, force, talk)
        if not keep_roles:
            try:
                with conn.transaction():
                    _drop_roles(conn, done, talk)
            except pg.InsufficientPrivilege:
                done.roles_dropped.clear()
                why = "a DBA drops it: drop owned by {role}; drop role {role}"
                for (role,) in conn.execute(
                    "select rolname from pg_catalog.pg_roles where rolname = any (%s)",
                    [list(ROLES)],
                ):
                    done.roles_kept[role] = why.format(role=role)
    return done


def _drop_schema(conn: Session, done: Removal, force: bool, talk: Talk) -> None:
    dependents = _texts(conn, DEPENDENTS)
    if dependents and not force:
        raise HostDepends(
            "objects of the application depend on pgsaas: "
            + "; ".join(dependents)
            + ". Drop them first, or use --force to drop them too"
        )
    done.triggers_dropped = _texts(conn, TRIGGERS)
    done.wrappers_dropped = _texts(conn, WRAPPERS)
    for trigger in done.triggers_dropped:
        talk(f"dropping trigger {trigger}")
        conn.execute(f"drop trigger {trigger}".encode())
    for wrapper in done.wrappers_dropped:
        talk(f"dropping function {wrapper}")
        conn.execute(f"drop routine {wrapper}".encode())
    talk("dropping the schema")
    conn.execute("drop schema pgsaas cascade")
    done.schema_dropped = True


def _drop_roles(conn: Session, done: Removal, talk: Talk) -> None:
    present = [
        role
        for role in ROLES
        if conn.execute("select pg_catalog.to_regrole(%s)", [role]).fetchone() != (None,)
    ]
    for role in present:
        in_use = conn.execute(IN_USE.encode(), {"role": role}).fetchone()
        if in_use:
            done.roles_kept[role] = in_use[0]
    if done.roles_kept:  # one is used elsewhere: the others belong to it
        user, reason = next(iter(done.roles_kept.items()))
        for role in present:
            done.roles_kept.setdefault(role, f"belongs with {user}, which {reason}")
        talk(f"keeping the roles: {user} {reason}")
        return
    for role in present:
        talk(f"dropping role {role}")
        if conn.execute("select pg_catalog.pg_has_role(%s::name, 'USAGE')", [role]).fetchone() != (
            True,
        ):
            conn.execute(f"grant {role} to current_user".encode())
        conn.execute(f"drop owned by {role}".encode())
        conn.execute(f"drop role {role}".encode())
        done.roles_dropped.append(role)


def unload(conn: Session) -> None:
    """Drop what holds no data (policies, triggers, views, functions): a load makes it again."""
    with conn.transaction():
        conn.execute(PATIENCE)
        conn.execute(
            """
            do $unload$
            declare
                v_drop text;
            begin
                for v_drop in
                    select * from (
                        select pg_catalog.format('drop policy %I on pgsaas.%I',
                            p.polname, c.relname)
                        from pg_catalog.pg_policy p
                        join pg_catalog.pg_class c on c.oid = p.polrelid
                        where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace
                        union all
                        select pg_catalog.format('drop view if exists pgsaas.%I cascade',
                            c.relname)
                        from pg_catalog.pg_class c
                        where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace
                            and c.relkind = 'v'
                        union all
                        select pg_catalog.format('drop routine if exists %s cascade',
                            p.oid::pg_catalog.regprocedure)
                        from pg_catalog.pg_proc p
                        where p.pronamespace = 'pgsaas'::pg_catalog.regnamespace
                    ) d
                loop
                    execute v_drop;
                end loop;
            end
            $unload$
            """
        )
