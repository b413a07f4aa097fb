"""The examples do what they say."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Conn

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def account(conn: Conn) -> UUID:
    price = {"model": "package", "unit": 2, "size": 1000, "dimensions": {"kind": "completion"}}
    conn.execute(
        "select pgsaas.set_credit_event('llm_tokens', %s, p_dimensions => '{kind}')", [Jsonb(price)]
    )
    row = conn.execute("select account_id from pgsaas.create_account()").fetchone()
    assert row is not None
    conn.execute("select pgsaas.add_credits(%s, 10)", row)
    return UUID(str(row[0]))


def state(conn: Conn, account: UUID) -> tuple[object, ...]:
    found = conn.execute(
        "select b.balance, b.held, (select sum(u.quantity) from pgsaas.usage_records u"
        " where u.account_id = b.account_id) from pgsaas.get_balance(%s) b",
        [account],
    ).fetchone()
    assert found is not None
    return found


def words(n: int) -> Iterator[str]:
    for number in range(n):
        yield str(number)
    if n == 700:
        raise RuntimeError("the model broke")


def test_a_stream_is_charged_for_what_was_read(conn: Conn, account: UUID) -> None:
    streaming = example("streaming")
    charged = streaming.charged
    assert len(list(charged(conn, account, words(2500), 6))) == 2500
    assert state(conn, account) == (5, 0, 2500)
    reader = charged(conn, account, words(2500), 4)
    for _ in range(500):
        next(reader)
    assert state(conn, account)[1] == 4
    reader.close()  # the client goes away
    assert state(conn, account) == (4, 0, 3000)
    with pytest.raises(RuntimeError):
        list(charged(conn, account, words(700), 4))
    assert state(conn, account) == (Decimal("2.6"), 0, 3700)
    assert list(charged(conn, account, words(0), 2)) == []
    with pytest.raises(ValueError, match="not enough credits"):
        next(charged(conn, account, words(1), 3))
    assert state(conn, account) == (Decimal("2.6"), 0, 3700)
    # an answer that takes longer than its hold lasts is charged all the same
    reader = charged(conn, account, words(400), 2)
    next(reader)
    conn.execute("select pgsaas.advance_clock('6 minutes')")
    assert len(list(reader)) == 399
    assert state(conn, account) == (Decimal("1.8"), 0, 4100)
    # and one that cannot be charged is not kept quiet about
    reader = charged(conn, account, words(2), 1)
    next(reader)
    conn.execute("select pgsaas.set_credit_event('llm_tokens', p_is_active => false)")
    with pytest.raises(streaming.NotCharged, match="EVENT_INACTIVE"):
        reader.close()
    conn.execute("select pgsaas.set_credit_event('llm_tokens', p_is_active => true)")
    assert state(conn, account) == (Decimal("1.8"), 0, 4100)
    # an answer much longer than thought takes what there is
    assert len(list(charged(conn, account, words(5000), 1))) == 5000
    assert state(conn, account) == (0, 0, 9100)
    assert conn.execute("select * from pgsaas.verify_ledger()").fetchall() == []


def test_a_row_of_the_application_names_its_use(conn: Conn, account: UUID) -> None:
    conn.execute(
        "create table videos (id bigint primary key, account_id uuid, usage_id bigint,"
        " foreign key (account_id, usage_id) references pgsaas.usage_records)"
    )
    with conn.transaction(force_rollback=True):
        use = "select account_id, usage_id from pgsaas.usage_records"
        conn.execute("select pgsaas.record_usage(%s, 'llm_tokens', 1000, %s)",
                     [account, Jsonb({"kind": "completion"})])  # fmt: skip
        conn.execute(f"insert into videos select 1, u.* from ({use}) u")
        row = conn.execute("select cost from videos join pgsaas.usage_records using (usage_id)")
        assert row.fetchone() == (2,)
    assert state(conn, account) == (10, 0, None)
