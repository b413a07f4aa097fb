"""What a charge costs, as far as it is the same on every machine: no test asserts on time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import Conn, Database

CHARGE = (
    "select * from pgsaas.deduct_credits(%s, 1, '0b0e7a52-6a0f-4a5e-9a35-0c1a0d4f8a11',"
    " 'music-studio', 'one generated track', %s)"
)
CHARGES = 200


def an_account(conn: Conn) -> UUID:
    account = value(conn, "select account_id from pgsaas.create_account()")
    assert isinstance(account, UUID)
    conn.execute("select pgsaas.add_credits(%s, 100000, p_source => 'purchase')", [account])
    return account


def value(conn: Conn, query: str, *arguments: object) -> Any:
    row = conn.execute(query.encode(), arguments).fetchone()
    return row[0] if row else None


@pytest.fixture
def warm(conn: Conn) -> UUID:
    """An account that this session has charged before, in a database at rest."""
    account = an_account(conn)
    for number in range(20):
        conn.execute(CHARGE, (account, f"warm {number}"))
    conn.execute("vacuum analyze pgsaas.account_balances")
    conn.execute("vacuum analyze pgsaas.credit_transactions")
    conn.execute("checkpoint")
    conn.execute(CHARGE, (account, "after the checkpoint"))
    return account


def flushed(conn: Conn) -> None:
    conn.execute("select pg_stat_force_next_flush()")
    conn.execute("select pg_stat_clear_snapshot()")


def test_a_warm_charge_is_a_hot_update(conn: Conn, warm: UUID) -> None:
    counters = (
        "select array[n_tup_upd, n_tup_hot_upd] from pg_stat_user_tables"
        " where relid = 'pgsaas.account_balances'::regclass"
    )
    flushed(conn)
    before = value(conn, counters)
    for number in range(CHARGES):
        conn.execute(CHARGE, (warm, f"key {number}"))
    flushed(conn)
    after = value(conn, counters)
    assert after[0] - before[0] == CHARGES, "one update a charge: the fast path"
    assert after[1] - before[1] == CHARGES, "each within its page, no index touched"


def test_warm_use_is_a_hot_update(conn: Conn, warm: UUID) -> None:
    conn.execute('select pgsaas.set_credit_event(\'call\', \'{"model": "unit", "unit": 2}\')')
    counters = (
        "select array[n_tup_upd, n_tup_hot_upd] from pg_stat_user_tables"
        " where relid = 'pgsaas.account_balances'::regclass"
    )
    flushed(conn)
    before = value(conn, counters)
    for number in range(CHARGES):
        conn.execute(
            "select pgsaas.record_usage(%s, 'call', p_idempotency_key => %s)", (warm, f"u {number}")
        )
    flushed(conn)
    after = value(conn, counters)
    assert after[0] - before[0] == CHARGES, "one update a record: the fast path"
    assert after[1] - before[1] == CHARGES, "each within its page, no index touched"


@pytest.mark.parametrize(
    "relation", ["credit_balances", "open_credit_grants", "open_credit_holds", "credit_debts"]
)
def test_what_one_account_has_is_read_without_the_others(
    conn: Conn, warm: UUID, relation: str
) -> None:
    conn.execute("select (pgsaas.create_account()).account_id from generate_series(1, 500)")
    for table in ("account_balances", "credit_holds", "credit_debts"):
        conn.execute(f"vacuum analyze pgsaas.{table}".encode())
    plan = conn.execute(
        f"explain select * from pgsaas.{relation} where account_id = '{warm}'".encode()
    ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "Seq Scan on account_balances" not in text
    if relation in ("credit_balances", "open_credit_grants"):
        assert "Index Scan using account_balances_pkey" in text


def test_a_warm_charge_writes_little_wal(conn: Conn, warm: UUID) -> None:
    before = value(conn, "select pg_current_wal_insert_lsn()")
    for number in range(CHARGES):
        conn.execute(CHARGE, (warm, f"key {number:06}"))
    written = value(conn, "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", before)
    # the new version of the balance, the row with its texts, two index entries, the commit
    assert written / CHARGES < 1100


def test_a_warm_charge_touches_few_buffers(conn: Conn, warm: UUID) -> None:
    touched = []
    for number in range(20):
        plan = value(conn, f"explain (analyze, buffers, format json) {CHARGE}", warm, f"b {number}")
        root = plan[0]["Plan"]
        touched.append(root["Shared Hit Blocks"] + root["Shared Read Blocks"])
    # the balance and its index, the row and its two indexes, the look for a conflict
    assert max(touched) <= 40, touched
    assert min(touched) <= 20, touched


def test_the_number_of_rows_behind_an_account_does_not_matter(conn: Conn, warm: UUID) -> None:
    plan = f"explain (analyze, buffers, format json) {CHARGE}"
    few = value(conn, plan, warm, "few")[0]["Plan"]["Shared Hit Blocks"]
    conn.execute(
        "select pgsaas.deduct_credits_batch(array_fill(%s::uuid, array[5000]),"
        " array_fill(1::numeric, array[5000]), p_idempotency_keys =>"
        " (select array_agg('many ' || g) from generate_series(1, 5000) g))",
        [warm],
    )
    many = [value(conn, plan, warm, f"x {n}")[0]["Plan"]["Shared Hit Blocks"] for n in range(9)]
    assert sorted(many)[4] <= few + 6  # a level more in two indexes, looked at twice


def nested_plans(database: Database, statements: list[tuple[str, list[object]]]) -> str:
    """Every plan that runs inside these statements, as auto_explain tells it."""
    said: list[str] = []
    with database.connect() as conn:
        conn.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        conn.execute("load 'auto_explain'")
        for name, setting in {
            "auto_explain.log_min_duration": "0",
            "auto_explain.log_nested_statements": "on",
            "auto_explain.log_analyze": "on",
            "client_min_messages": "log",
        }.items():
            conn.execute("select set_config(%s, %s, false)", (name, setting))
        for query, arguments in statements:
            conn.execute(query.encode(), arguments)
    return "\n".join(said)


def test_a_charge_finds_its_balance_by_the_index(db: Database) -> None:
    with db.connect() as conn:
        account = an_account(conn)
        conn.execute("select (pgsaas.create_account()).account_id from generate_series(1, 500)")
        conn.execute("vacuum analyze pgsaas.account_balances")
    charges: list[tuple[str, list[object]]] = [(CHARGE, [account, f"key {n}"]) for n in range(8)]
    plans = nested_plans(db, charges)
    assert plans.count("Update on account_balances") == 8
    assert plans.count("Index Scan using account_balances_pkey") == 8
    assert plans.count("Conflict Arbiter Indexes: credit_transactions_key_idx") == 8
    assert "Seq Scan" not in plans
    assert "deduct_slow" not in plans.replace("pgsaas.deduct_slow(p_account_id, array", "")


def test_a_batch_finds_keys_by_the_whole_key_whatever_the_statistics_say(db: Database) -> None:
    """An index that was empty when the table was analyzed looks like the cheapest thing to scan."""
    with db.connect() as conn:
        accounts = [an_account(conn) for _ in range(30)]
        conn.execute("vacuum analyze pgsaas.account_balances")
        conn.execute("vacuum analyze pgsaas.credit_transactions")
    batch = (
        "select count(*) filter (where success) from pgsaas.deduct_credits_batch(%s::uuid[],"
        " array_fill(1::numeric, array[30]), p_idempotency_keys =>"
        " (select array_agg(gen_random_uuid()::text) from generate_series(1, 30)))"
    )
    plans = nested_plans(db, [(batch, [accounts])] * 3)
    assert plans.count("Index Scan using credit_transactions_key_idx") == 3
    assert plans.count("(idempotency_key = u.key)") == 3
    assert plans.count("Index Cond: ((account_id = u.account_id) AND (idempotency_key = ") == 3


def test_a_batch_takes_arrays_that_do_not_count_from_one(conn: Conn) -> None:
    first, second = an_account(conn), an_account(conn)
    rows = conn.execute(
        "select item, success, new_balance from pgsaas.deduct_credits_batch("
        " %s::uuid[], '[0:1]={3,5}', p_agent_ids => '[7:8]={one,two}')",
        [[first, second]],
    ).fetchall()
    assert rows == [(1, True, 99997), (2, True, 99995)]
    agents = "select agent_id, amount from pgsaas.credit_transactions where amount < 0 order by 2"
    assert conn.execute(agents).fetchall() == [("two", -5), ("one", -3)]
    rows = conn.execute(
        "select item, success, new_balance from pgsaas.deduct_credits_batch("
        " %s::uuid[], '{{7,9}}')",
        [[first, second]],
    ).fetchall()
    assert rows == [(1, True, 99990), (2, True, 99986)]


def test_the_alert_of_a_low_balance_comes_with_the_charge_that_crosses(conn: Conn) -> None:
    account = an_account(conn)
    conn.execute("select pgsaas.add_credits(%s, 10, p_source => 'bonus')", [account])
    conn.execute("select pgsaas.set_low_balance_at(%s, 1000)", [account])
    low = "select count(*) from pgsaas.outbox_messages where topic = 'balance.low'"
    charge = "select new_balance from pgsaas.deduct_credits(%s, %s)"
    assert value(conn, charge, account, 99000) == 1010
    assert value(conn, charge, account, 10) == 1000
    assert value(conn, low) == 0
    assert value(conn, charge, account, Decimal("0.5")) == Decimal("999.5")
    assert value(conn, low) == 1
    assert value(conn, charge, account, 500) == Decimal("499.5")
    assert value(conn, low) == 1


@pytest.mark.parametrize(
    "metadata", ["[]", "1", '"text"', "true", "null", "[1, 2]", '["a"]'], ids=lambda text: text
)
def test_metadata_that_is_no_object_is_refused_on_the_fast_path(tx: Conn, metadata: str) -> None:
    account = an_account(tx)
    with pytest.raises(Exception, match="metadata must be a JSON object"):
        tx.execute("select pgsaas.deduct_credits(%s, 1, p_metadata => %s)", (account, metadata))
