"""Every role, every object, every privilege: what the contract writes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Conn, Database
from tests.security import contract
from tests.security.conftest import account, credit, one

ROLES = ("app", "user", "admin", "webhook", "runner")
TABLE_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
Held = set[tuple[str, ...]]


def roles() -> list[str]:
    """Those of pgsaas, and one without any membership: what it has, PUBLIC has."""
    return [*(f"pgsaas_{role}" for role in ROLES), "host_stranger"]


def short(role: str) -> str:
    return role.removeprefix("pgsaas_")


def relations(conn: Conn, kinds: str) -> list[str]:
    return [
        row[0]
        for row in conn.execute(
            "select relname from pg_class where relnamespace = 'pgsaas'::regnamespace"
            " and relkind::text = any (string_to_array(%s, null)) order by 1",
            [kinds],
        ).fetchall()
    ]


def written(conn: Conn) -> Held:
    """The matrix as the contract has it."""
    matrix: Held = set()
    for signature, name in conn.execute(
        "select oid::regprocedure::text, proname from pg_proc"
        " where pronamespace = 'pgsaas'::regnamespace"
    ).fetchall():
        for caller in contract.callers_of(name):
            matrix.add((f"pgsaas_{caller}", "function", signature, "EXECUTE"))
    for relation, readers in contract.readers().items():
        hidden = contract.HIDDEN_COLUMNS.get(relation, set())
        for reader in readers:
            if not hidden:
                matrix.add((f"pgsaas_{reader}", "table", relation, "SELECT"))
            for (column,) in conn.execute(
                "select attname from pg_attribute where attrelid = ('pgsaas.' || %s)::regclass"
                " and attnum > 0 and not attisdropped",
                [relation],
            ).fetchall():
                if column not in hidden:
                    matrix.add((f"pgsaas_{reader}", "column", f"{relation}.{column}", "SELECT"))
    for column in contract.REFERENCED:
        matrix.add(("pgsaas_app", "column", column, "REFERENCES"))
    for role in ROLES:
        matrix.add((f"pgsaas_{role}", "schema", "pgsaas", "USAGE"))
    return matrix


def held(conn: Conn) -> Held:
    """The matrix as the server answers has_*_privilege for every role and object."""
    queries = {
        "function": (
            "select r.r, p.oid::regprocedure::text, v.v"
            " from pg_proc p, roles r, unnest(%(v)s::text[]) v (v)"
            " where p.pronamespace = 'pgsaas'::regnamespace"
            " and has_function_privilege(r.r, p.oid, v.v)",
            ["EXECUTE", "EXECUTE WITH GRANT OPTION"],
        ),
        "table": (
            "select r.r, c.relname, v.v from pg_class c, roles r, unnest(%(v)s::text[]) v (v)"
            " where c.relnamespace = 'pgsaas'::regnamespace"
            " and c.relkind in ('r', 'v', 'm', 'p', 'f')"
            " and has_table_privilege(r.r, c.oid, v.v)",
            [p + g for p in TABLE_PRIVILEGES for g in ("", " WITH GRANT OPTION")],
        ),
        "column": (
            "select r.r, c.relname || '.' || a.attname, v.v from pg_class c"
            " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped,"
            " roles r, unnest(%(v)s::text[]) v (v)"
            " where c.relnamespace = 'pgsaas'::regnamespace"
            " and c.relkind in ('r', 'v', 'm', 'p', 'f')"
            " and has_column_privilege(r.r, c.oid, a.attnum, v.v)",
            [
                p + g
                for p in ("SELECT", "INSERT", "UPDATE", "REFERENCES")
                for g in ("", " WITH GRANT OPTION")
            ],
        ),
        "sequence": (
            "select r.r, c.relname, v.v from pg_class c, roles r, unnest(%(v)s::text[]) v (v)"
            " where c.relnamespace = 'pgsaas'::regnamespace and c.relkind = 'S'"
            " and has_sequence_privilege(r.r, c.oid, v.v)",
            ["USAGE", "SELECT", "UPDATE"],
        ),
        "schema": (
            "select r.r, 'pgsaas', v.v from roles r, unnest(%(v)s::text[]) v (v)"
            " where has_schema_privilege(r.r, 'pgsaas', v.v)",
            ["USAGE", "CREATE", "USAGE WITH GRANT OPTION", "CREATE WITH GRANT OPTION"],
        ),
    }  # fmt: skip
    matrix: Held = set()
    for kind, (query, privileges) in queries.items():
        rows = conn.execute(
            f"with roles (r) as (select unnest(%(r)s::text[])) {query}".encode(),
            {"r": roles(), "v": privileges},
        ).fetchall()
        matrix |= {(row[0], kind, row[1], row[2]) for row in rows}
    return matrix


def listed(conn: Conn) -> list[tuple[object, ...]]:
    """Every entry of every access list in the schema that is not the owner's own."""
    return conn.execute(
        "select x.kind, x.name, case when x.grantee = 0 then 'public'"
        " else x.grantee::regrole::text end, x.privilege, x.is_grantable, x.grantor::regrole::text"
        " from (select 'function' as kind, p.oid::regprocedure::text as name, a.grantee,"
        "   a.privilege_type as privilege, a.is_grantable, a.grantor, p.proowner as owner"
        "   from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
        "   where p.pronamespace = 'pgsaas'::regnamespace"
        " union all select 'relation', c.oid::regclass::text, a.grantee, a.privilege_type,"
        "   a.is_grantable, a.grantor, c.relowner from pg_class c, aclexplode(c.relacl) a"
        "   where c.relnamespace = 'pgsaas'::regnamespace"
        " union all select 'column', c.oid::regclass::text || '.' || t.attname, a.grantee,"
        "   a.privilege_type, a.is_grantable, a.grantor, c.relowner from pg_class c"
        "   join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a"
        "   where c.relnamespace = 'pgsaas'::regnamespace"
        " union all select 'schema', n.nspname, a.grantee, a.privilege_type, a.is_grantable,"
        "   a.grantor, n.nspowner from pg_namespace n, aclexplode(n.nspacl) a"
        "   where n.nspname = 'pgsaas') x where x.grantee <> x.owner order by 1, 2, 3, 4, 5, 6"
    ).fetchall()


def test_the_contract_is_read_in_full(own: Database) -> None:
    assert len(contract.functions()) >= 45
    assert len(contract.readers()) >= 14
    with own.connect() as conn:
        query = "select proname from pg_proc where pronamespace = 'pgsaas'::regnamespace"
        names = {row[0] for row in conn.execute(query).fetchall()}
        assert set(contract.functions()) <= names
        assert names >= contract.READERS_CALL | contract.ADMINS_CALL
        assert set(contract.readers()) <= set(relations(conn, "rvmpf"))


def test_every_role_holds_what_the_contract_writes_and_nothing_else(own: Database) -> None:
    with own.connect() as conn:
        has, wants = held(conn), written(conn)
    assert has - wants == set()
    assert wants - has == set()


def test_nothing_is_granted_to_public_or_to_roles_of_the_host(own: Database) -> None:
    with own.connect() as conn:
        entries = listed(conn)
    assert {entry[2] for entry in entries} == {f"pgsaas_{role}" for role in ROLES}
    assert {entry[4] for entry in entries} == {False}
    assert {entry[5] for entry in entries} == {"pgsaas_owner"}


@pytest.fixture
def populated(own: Database) -> Iterator[Conn]:
    with own.connect() as conn:
        credit(conn, account(conn, "alice"), 5)
        yield conn


def test_what_is_not_written_is_refused_when_tried(populated: Conn) -> None:
    """The server's answers about privileges are one thing, a refused statement is another."""
    conn = populated
    readers = contract.readers()
    signatures = conn.execute(
        "select p.oid::regprocedure::text, p.proname, (select coalesce(string_agg("
        "   format('%snull::%s', case when n = cardinality(proargtypes) and provariadic <> 0"
        "   then 'variadic ' else '' end, format_type(t.oid, null)), ', ' order by n), '')"
        "   from unnest(p.proargtypes) with ordinality x (oid, n) join pg_type t on t.oid = x.oid)"
        " from pg_proc p"
        " where p.pronamespace = 'pgsaas'::regnamespace and p.prorettype <> 'trigger'::regtype"
    ).fetchall()
    assert len(signatures) > 100
    for role in roles():
        for relation in relations(conn, "rvmpfS"):
            for statement in (
                "select count(*) from pgsaas.{}",
                "insert into pgsaas.{} default values",
                "delete from pgsaas.{}",
                "truncate pgsaas.{}",
                "drop table pgsaas.{}",
                "create policy p on pgsaas.{} using (true)",
                "alter table pgsaas.{} disable row level security",
            ):
                allowed = statement.startswith("select") and short(role) in readers.get(
                    relation, frozenset()
                )
                if not allowed:
                    assert outcome(conn, role, statement.format(f'"{relation}"')) in REFUSALS
        for _, name, arguments in signatures:
            if short(role) not in contract.callers_of(name):
                verb = "call" if name in contract.PROCEDURES else "select"
                call = f"{verb} pgsaas.{name}({arguments})"
                assert outcome(conn, role, call) == "42501", (role, call)


REFUSALS = {"42501", "42809", "55000"}  # no privilege; no table; a view that takes no rows


def outcome(conn: Conn, role: str, statement: str) -> str:
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(f"set local role {role}".encode())
            conn.execute(statement.encode())
    except psycopg.Error as error:
        return str(error.sqlstate)
    return f"{role} did: {statement}"


@pytest.mark.parametrize("role", [f"pgsaas_{role}" for role in ROLES])
def test_no_role_may_act_as_another_or_log_in(own: Database, role: str) -> None:
    with own.connect() as conn:
        for other in (*ROLES, "owner"):
            if role != f"pgsaas_{other}":
                assert (
                    one(conn, "select pg_has_role(%s, %s, 'member')", role, f"pgsaas_{other}")
                    is False
                )
        attributes = (
            "select rolcanlogin or rolsuper or rolbypassrls from pg_roles where rolname = %s"
        )
        assert one(conn, attributes, role) is False
