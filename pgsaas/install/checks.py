"""What `pgsaas doctor` looks at: a list of functions, each giving lines about what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from psycopg import sql

from pgsaas.install.session import Session
from pgsaas.install.state import status
from pgsaas.resources import Resources


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, and what to do about it; a note is merely worth knowing."""

    check: str
    message: str
    is_note: bool = False


Check: TypeAlias = Callable[[Session, Resources], list[str]]


def check_migrations(conn: Session, resources: Resources) -> list[str]:
    """Nothing is pending or drifted."""
    state = status(conn, resources)
    return [] if state.current else state.sentences()[1:] or state.sentences()


def check_adoption(conn: Session, resources: Resources) -> list[str]:
    """The database is not an unadopted copy."""
    row = conn.execute("select pgsaas.is_adopted()").fetchone()
    if row == (True,):
        return []
    return ["this database is a copy: workers, mail and webhooks stay quiet until `pgsaas adopt`"]


def check_clock(conn: Session, resources: Resources) -> list[str]:
    """The clock is the real one."""
    row = conn.execute("select exists (select from pgsaas.test_clock)").fetchone()
    return ["the test clock is set: `pgsaas clock reset`"] if row == (True,) else []


def check_public_functions(conn: Session, resources: Resources) -> list[str]:
    """PUBLIC executes nothing."""
    found = conn.execute("""
        select p.oid::pg_catalog.regprocedure::text
        from pg_catalog.pg_proc p
        cross join lateral pg_catalog.aclexplode(
            coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
        where p.pronamespace = 'pgsaas'::pg_catalog.regnamespace
            and a.grantee = 0 and a.privilege_type = 'EXECUTE'
        order by 1
    """).fetchall()
    if not found:
        return []
    names = ", ".join(row[0] for row in found[:3])
    return [
        f"PUBLIC may execute {len(found)} functions ({names}{', …' if len(found) > 3 else ''}): "
        "`pgsaas migrate --force`"
    ]


def check_roles(conn: Session, resources: Resources) -> list[str]:
    """No role of pgsaas has attributes or memberships it must not have."""
    found = conn.execute("""
        select r.rolname || ' has attributes it must not have: superuser, createrole, createdb, '
            || 'replication or bypassrls'
        from pg_catalog.pg_roles r
        where r.rolname like 'pgsaas\\_%' and (r.rolsuper or r.rolcreaterole or r.rolcreatedb
            or r.rolreplication or r.rolbypassrls)
        union all
        select 'pgsaas_user can log in' from pg_catalog.pg_roles r
        where r.rolname = 'pgsaas_user' and r.rolcanlogin
        union all
        select m.rolname || ' is a member of ' || g.rolname
        from pg_catalog.pg_roles m join pg_catalog.pg_roles g
            on g.rolname like 'pgsaas\\_%' and g.oid <> m.oid
        where m.rolname like 'pgsaas\\_%' and not m.rolsuper
            and (m.rolname = 'pgsaas_user' or g.rolname = 'pgsaas_owner')
            and pg_catalog.pg_has_role(m.oid, g.oid, 'MEMBER')
        order by 1
    """).fetchall()
    return [row[0] for row in found]


def check_attachments(conn: Session, resources: Resources) -> list[str]:
    """Every attached table still gives accounts to its new rows."""
    found = conn.execute("""
        select a.realm from pgsaas.attachments a
        where (select c.p_id from pgsaas.attached_columns(a.realm, a.relation::pg_catalog.oid) c)
                is null
            or not exists (select from pg_catalog.pg_trigger t
                where t.tgrelid = a.relation and t.tgname = 'pgsaas_attached_row'
                    and t.tgenabled in ('O', 'A'))
        order by 1
    """).fetchall()
    return [
        f"new rows of {realm} get no account: attach it again (`pgsaas attach`), or detach it"
        for (realm,) in found
    ]


def check_rows(conn: Session, resources: Resources) -> list[str]:
    """Every row of an attached table has, or had, an account, as far as this role may look."""
    found = []
    for realm, relation, column in conn.execute("""
        select a.realm, a.relation::text, c.p_id
        from pgsaas.attachments a
        join pg_catalog.pg_class r on r.oid = a.relation
        cross join lateral pgsaas.attached_columns(a.realm, a.relation::pg_catalog.oid) c
        where c.p_id is not null and pg_catalog.has_table_privilege(a.relation, 'select')
        order by 1
    """).fetchall():
        query = sql.SQL("""
            select exists (
                select from {table} t
                where pg_catalog.octet_length(pg_catalog.format('%%s', t.{column}))
                        between 1 and 255
                    and not exists (
                        select from pgsaas.account_external_ids x
                        where x.realm = %s
                            and x.external_id = pg_catalog.format('%%s', t.{column}))
                    and not exists (  -- the person was erased from their account
                        select from pgsaas.erased_subjects e
                        where e.subject_hash = any (pgsaas.subject_hashes(
                            %s, pg_catalog.format('%%s', t.{column}), null))))
        """).format(table=sql.SQL(relation), column=sql.Identifier(column))
        if conn.execute(query, [realm, realm]).fetchone() == (True,):
            found.append(f"rows of {realm} have no account: `pgsaas attach {relation}`")
    return found


def check_users(conn: Session, resources: Resources) -> list[str]:
    """The ids that claims are compared with are those of accounts."""
    found = conn.execute("""
        select s.identity_realm, (
            select x.realm from pgsaas.account_external_ids x
            where x.realm in (select a.realm from pgsaas.attachments a) limit 1)
        from pgsaas.settings s
        where not exists (
            select from pgsaas.account_external_ids x where x.realm = s.identity_realm)
    """).fetchone()
    if found is None or found[1] is None:
        return []
    realm, other = found
    return [
        f"user ids are those of {realm or 'no table'}, which no account has: "
        f"`pgsaas settings set identity_realm {other}`, if those are your users"
    ]


def note_backend(conn: Session, resources: Resources) -> list[str]:
    """Some login role can act as the backend without owning everything."""
    row = conn.execute("""
        select exists (
            select from pg_catalog.pg_roles r
            where r.rolcanlogin and not r.rolsuper
                and pg_catalog.pg_has_role(r.oid, 'pgsaas_app', 'MEMBER')
                and not pg_catalog.pg_has_role(r.oid, 'pgsaas_owner', 'MEMBER'))
    """).fetchone()
    if row == (True,):
        return []
    return ["no login role is a member of pgsaas_app: `grant pgsaas_app to` that of your backend"]


def note_shadow(conn: Session, resources: Resources) -> list[str]:
    """Charges are refused where credits are lacking."""
    row = conn.execute("select shadow from pgsaas.settings").fetchone()
    if row != (True,):
        return []
    return [
        "the setting shadow is on: no charge is refused for lack of credits; when both systems "
        "agree, `pgsaas settings set shadow false`"
    ]


def check_schedule(conn: Session, resources: Resources) -> list[str]:
    """Somebody does what is due."""
    row = conn.execute("select pgsaas.late_schedule()").fetchone()
    return [row[0]] if row and row[0] else []


def note_schedule(conn: Session, resources: Resources) -> list[str]:
    """Somebody would do what is due."""
    row = conn.execute("""
        select exists (select from pgsaas.account_balances where next_reset_at < 'infinity')
            and not exists (select from pgsaas.runners
                where last_at > pgsaas.now() - interval '1 day')
    """).fetchone()
    if row != (True,):
        return []
    return [
        "nobody does what is due (accounts settle themselves when they are used): "
        "`pgsaas cron schedule`, or run `pgsaas worker`"
    ]


#: In the order they are shown; a new check is a new line here.
CHECKS: list[tuple[str, Check]] = [
    ("migrations", check_migrations),
    ("adoption", check_adoption),
    ("clock", check_clock),
    ("public", check_public_functions),
    ("roles", check_roles),
    ("attachments", check_attachments),
    ("rows", check_rows),
    ("users", check_users),
    ("schedule", check_schedule),
]
#: What is not wrong, but worth knowing.
NOTES: list[tuple[str, Check]] = [
    ("backend", note_backend),
    ("shadow", note_shadow),
    ("schedule", note_schedule),
]


def examine(conn: Session, resources: Resources) -> list[Finding]:
    """Run every check and return what was found, notes last; no finding when all is well."""
    return [
        Finding(name, message, is_note)
        for checks, is_note in ((CHECKS, False), (NOTES, True))
        for name, check in checks
        for message in check(conn, resources)
    ]
