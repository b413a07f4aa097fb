from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Conn, require

ROOT = Path(__file__).parents[2]
SQL = ROOT / "sql"
OWN = "p.pronamespace = 'pgsaas'::regnamespace"


def names(conn: Conn, query: str) -> list[str]:
    return sorted(str(row[0]) for row in conn.execute(query))


def test_every_function_says_what_it_promises(tx: Conn) -> None:
    silent = (
        f"select proname from pg_proc p where {OWN} and obj_description(oid, 'pg_proc') is null"
    )
    assert names(tx, silent) == []


def test_every_table_and_view_says_what_it_is(tx: Conn) -> None:
    silent = (
        "select relname from pg_class where relnamespace = 'pgsaas'::regnamespace"
        " and relkind in ('r', 'v') and obj_description(oid, 'pg_class') is null"
        " and relname !~ 'yoyo'"
    )
    assert names(tx, silent) == []


def test_one_name_has_one_signature(tx: Conn) -> None:
    twice = f"select proname from pg_proc p where {OWN} group by 1 having count(*) > 1"
    assert names(tx, twice) == []


def test_every_definer_has_an_empty_search_path(tx: Conn) -> None:
    loose = (
        f"select proname from pg_proc p where {OWN} and prosecdef"
        " and not coalesce('search_path=\"\"' = any (proconfig), false)"
    )
    assert names(tx, loose) == []


def test_the_clock_inlines(tx: Conn) -> None:
    plan = tx.execute("explain (verbose, costs off) select pgsaas.now()").fetchall()
    assert "now()" in str(plan)
    assert tx.execute(
        "select prosrc, proconfig, prosecdef from pg_proc where oid = 'pgsaas.now()'::regprocedure"
    ).fetchone() == ("select pg_catalog.now()", None, False)


def test_no_other_clock_is_read() -> None:
    clocks = re.compile(
        r"\b(?<!pgsaas\.)now\(\)|clock_timestamp|statement_timestamp|current_timestamp|localtime|current_date"
    )
    for path in SQL.glob("*.sql"):
        if path.name == "11_clock.sql":
            continue
        code = re.sub(r"--.*|'[^']*'", "", path.read_text())
        assert not clocks.search(code), path.name


def test_every_constraint_and_index_is_named_after_its_table(tx: Conn) -> None:
    odd = (
        "select conname from pg_constraint c join pg_class t on t.oid = c.conrelid"
        " where t.relnamespace = 'pgsaas'::regnamespace and relname !~ 'yoyo' and contype <> 'n'"
        " and not starts_with(conname, relname || '_')"
        " union all select i.relname from pg_index x join pg_class i on i.oid = x.indexrelid"
        " join pg_class t on t.oid = x.indrelid where t.relnamespace = 'pgsaas'::regnamespace"
        " and t.relname !~ 'yoyo' and not starts_with(i.relname, t.relname || '_')"
    )
    assert names(tx, odd) == []


def test_row_security_is_on_everywhere(tx: Conn) -> None:
    open_tables = (
        "select relname from pg_class where relnamespace = 'pgsaas'::regnamespace"
        " and relkind = 'r' and not relrowsecurity and relname !~ 'yoyo'"
    )
    assert names(tx, open_tables) == []


def test_views_look_with_the_readers_rights(tx: Conn) -> None:
    plain = (
        "select relname from pg_class where relnamespace = 'pgsaas'::regnamespace and relkind = 'v'"
        " and not coalesce('security_invoker=true' = any (reloptions), false)"
    )
    assert names(tx, plain) == []


def test_the_hot_tables_carry_no_check_and_no_foreign_key(tx: Conn) -> None:
    found = (
        "select conname from pg_constraint where contype in ('c', 'f') and conrelid in"
        " ('pgsaas.account_balances'::regclass, 'pgsaas.credit_transactions'::regclass)"
    )
    assert names(tx, found) == []


def test_a_deduction_changes_no_indexed_column(tx: Conn) -> None:
    changed = {"balance", "head_left", "seq", "last_at"}
    indexed = {
        row[0]
        for row in tx.execute(
            "select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid"
            " and (a.attnum = any (i.indkey)"
            "      or strpos(pg_get_expr(i.indpred, i.indrelid), a.attname) > 0)"
            " where i.indrelid = 'pgsaas.account_balances'::regclass and a.attnum > 0"
        )
    }
    assert not changed & indexed


# Citus, rules from the first day, held on plain PostgreSQL.

ACCOUNT_TABLES = (
    "select c.oid from pg_class c where c.relnamespace = 'pgsaas'::regnamespace and c.relkind = 'r'"
    " and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'account_id')"
    # local queues and tables keyed by an id that is unique across accounts
    " and c.relname not in ('audit_events', 'outbox_messages', 'account_external_ids',"
    " 'referral_codes')"
)


def test_every_key_of_an_account_table_starts_with_the_account(tx: Conn) -> None:
    odd = (
        "select i.indexrelid::regclass::text from pg_index i where i.indisunique"
        f" and i.indrelid in ({ACCOUNT_TABLES}) and (select attname from pg_attribute"
        " where attrelid = i.indrelid and attnum = i.indkey[0]) <> 'account_id'"
    )
    assert names(tx, odd) == []


def test_foreign_keys_stay_within_an_account(tx: Conn) -> None:
    """Those between tables of the catalog, which every node has whole, may be."""
    odd = (
        "select conname from pg_constraint c where contype = 'f'"
        " and connamespace = 'pgsaas'::regnamespace"
        " and conrelid <> all ('{pgsaas.credit_prices,pgsaas.plan_versions,pgsaas.plan_prices,"
        "pgsaas.agents}'::regclass[])"
        " and confrelid <> all ('{pgsaas.plan_versions,pgsaas.agents}'::regclass[])"
        " and (confdeltype <> 'a' or not exists (select from pg_attribute a"
        "      where a.attrelid = c.conrelid and a.attnum = any (c.conkey)"
        "        and a.attname = 'account_id'))"
    )
    assert names(tx, odd) == []


def test_no_account_table_has_an_identity_column(tx: Conn) -> None:
    odd = (
        "select attrelid::regclass || '.' || attname from pg_attribute"
        f" where attidentity <> '' and attrelid in ({ACCOUNT_TABLES})"
    )
    assert names(tx, odd) == []


def test_no_policy_has_a_subquery(tx: Conn) -> None:
    odd = "select policyname from pg_policies where schemaname = 'pgsaas' and qual ~* 'select'"
    assert names(tx, odd) == []


# The order of sql/ is the architecture.


def defined_functions() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(SQL.glob("*.sql")):
        for name in re.findall(
            r"create or replace (?:function|procedure|view) pgsaas\.(\w+)", path.read_text()
        ):
            assert name not in found or found[name] == path.name, f"{name} is written twice"
            found[name] = path.name
    return found


def test_a_file_calls_functions_of_its_own_or_lower_files_only() -> None:
    home = defined_functions()
    for path in sorted(SQL.glob("*.sql")):
        if path.name[:2] in {"81", "82"}:
            continue
        code = re.sub(r"--.*", "", path.read_text())
        for name in set(re.findall(r"pgsaas\.(\w+)\(", code)) & home.keys():
            assert home[name] <= path.name, f"{path.name} calls {name} of {home[name]}"


def test_only_the_rooms_that_charge_write_balances_and_transactions() -> None:
    writes = re.compile(
        r"(?:insert into|update|delete from)"
        r" pgsaas\.(account_balances|credit_transactions|credit_debts)\b"
    )
    writers = {
        path.name
        for path in SQL.glob("*.sql")
        if writes.search(re.sub(r"--.*", "", path.read_text()))
    }
    charging = {"31_deductions.sql", "50_usage.sql", "51_usage_batch.sql"}
    assert writers == charging | {"30_ledger.sql", "61_resets.sql"}


@pytest.mark.parametrize("path", sorted(SQL.glob("*.sql")), ids=lambda path: path.name)
def test_a_room_opens_with_prose_and_keeps_its_lines_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    prose = next((n for n, line in enumerate(lines) if not line.startswith("--")), len(lines))
    assert 5 <= prose <= 20, "a file says what it is, its invariants and its lock rule"
    assert [n for n, line in enumerate(lines, 1) if len(line) > 100] == []


def test_migrations_call_nothing_and_state_their_lock() -> None:
    functions = set(defined_functions())
    for path in sorted((ROOT / "migrations").glob("0*.sql")):
        code = re.sub(r"--.*|'[^']*'", "", path.read_text())
        assert not set(re.findall(r"pgsaas\.(\w+)\(", code)) & functions, path.name
        if not path.name.endswith(".rollback.sql"):
            assert "Longest lock:" in path.read_text(), path.name
            assert "-- depends:" in path.read_text(), path.name
            assert path.with_suffix(".rollback.sql").exists(), path.name


def test_plpgsql_check_finds_nothing(conn: Conn) -> None:
    present = conn.execute(
        "select from pg_available_extensions where name = 'plpgsql_check'"
    ).fetchone()
    require("plpgsql_check", present is not None)
    conn.execute("create extension plpgsql_check")
    findings = conn.execute(
        "select p.proname, c.lineno, c.level, c.message from pg_proc p"
        " cross join lateral plpgsql_check_function_tb(p.oid, relid => case"
        "   when p.proname = 'attached_row' then 'pgsaas.accounts'::regclass"
        "   when p.prorettype = 'trigger'::regtype then 'pgsaas.credit_transactions'::regclass"
        "   else 0 end, extra_warnings => false, performance_warnings => false) c"
        f" where {OWN} and p.prolang = (select oid from pg_language where lanname = 'plpgsql')"
    ).fetchall()
    assert findings == []
