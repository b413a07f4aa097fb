from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import Conn, Database
from tests.sql.ledger import Ledger
from tests.sql.ledger import day as moment

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def account(conn: Conn) -> Any:
    """Twenty days of use: a grant of 100 on the first day, a charge of 1 with a key on each."""
    conn.execute("select pgsaas.set_clock(%s)", (START,))
    row = conn.execute("select account_id from pgsaas.create_account()").fetchone()
    assert row is not None
    conn.execute(
        "select pgsaas.add_credits(%s, 100, p_idempotency_key => 'pack', p_source => 'purchase')",
        row,
    )
    for day in range(20):
        conn.execute("select pgsaas.set_clock(%s)", (START + timedelta(days=day),))
        conn.execute(
            "select pgsaas.deduct_credits(%s, 1, p_idempotency_key => %s)", (row[0], f"day-{day}")
        )
    return row[0]


def archive(conn: Conn, account: Any, day: int) -> list[int]:
    rows = conn.execute(
        "select seq from pgsaas.archive_ledger(%s, %s)", (account, START + timedelta(days=day))
    )
    return [row[0] for row in rows]


def test_a_prefix_leaves_and_everything_still_adds_up(conn: Conn, account: Any) -> None:
    before = conn.execute("select * from pgsaas.get_balance(%s)", (account,)).fetchone()
    assert archive(conn, account, 5) == [1, 2, 3, 4, 5, 6]
    assert archive(conn, account, 5) == []
    assert archive(conn, account, 10) == [7, 8, 9, 10, 11]
    assert conn.execute("select * from pgsaas.get_balance(%s)", (account,)).fetchone() == before
    assert conn.execute("select * from pgsaas.verify_ledger()").fetchall() == []
    assert conn.execute("select min(seq) from pgsaas.credit_transactions").fetchone() == (12,)


def test_an_archived_key_still_has_its_one_effect(conn: Conn, account: Any) -> None:
    archive(conn, account, 10)
    for key, seq, balance in (("day-3", 5, 96), ("day-15", 17, 84)):
        answer = conn.execute(
            "select success, seq, new_balance, replayed"
            "  from pgsaas.deduct_credits(%s, 1, p_idempotency_key => %s)",
            (account, key),
        ).fetchone()
        assert answer == (True, seq, Decimal(balance), True)
    batch = conn.execute(
        "select seq, replayed from pgsaas.deduct_credits_batch(array[%s, %s]::uuid[], '{1, 1}',"
        " p_idempotency_keys => '{day-3, new}')",
        (account, account),
    ).fetchall()
    assert batch == [(5, True), (22, False)]
    replay = conn.execute(
        "select seq, grant_id, replayed from pgsaas.add_credits(%s, 100,"
        " p_idempotency_key => 'pack', p_source => 'purchase')",
        (account,),
    ).fetchone()
    assert replay == (1, 1, True)
    with pytest.raises(psycopg.Error) as error:
        conn.execute(
            "select pgsaas.deduct_credits(%s, 2, p_idempotency_key => 'day-3')", (account,)
        )
    assert error.value.sqlstate == "PT409"
    assert conn.execute("select * from pgsaas.verify_ledger()").fetchall() == []


def test_a_replay_that_waits_for_the_archiver_is_still_a_replay(
    db: Database, conn: Conn, account: Any
) -> None:
    with db.connect(autocommit=False) as archiver, db.connect() as watcher:
        archive(archiver, account, 10)
        pid = conn.info.backend_pid
        conn.autocommit = True
        from threading import Thread

        answers: list[Any] = []
        charge = (
            "select seq, replayed from pgsaas.deduct_credits(%s, 1, p_idempotency_key => 'day-3')"
        )
        thread = Thread(target=lambda: answers.extend(conn.execute(charge, (account,)).fetchall()))
        thread.start()
        waiting = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
        while watcher.execute(waiting, (pid,)).fetchone() != (True,):
            pass
        archiver.commit()
        thread.join()
        assert answers == [(5, True)]
        assert watcher.execute("select * from pgsaas.verify_ledger()").fetchall() == []


def test_balances_before_the_archive_ends_are_unknown_and_later_ones_known(
    conn: Conn, account: Any
) -> None:
    archive(conn, account, 10)

    def at(day: int) -> Any:
        moment = START + timedelta(days=day)
        row = conn.execute("select pgsaas.balance_at(%s, %s)", (account, moment)).fetchone()
        assert row is not None
        return row[0]

    assert at(3) is None
    assert at(9) == Decimal(90)
    assert at(12) == Decimal(87)


def test_what_went_cannot_be_refunded(conn: Conn, account: Any) -> None:
    archive(conn, account, 10)
    row = conn.execute("select error_code from pgsaas.refund_credits(%s, 3)", (account,)).fetchone()
    assert row == ("NOT_REFUNDABLE",)


def test_only_the_owner_archives(db: Database, account: Any) -> None:
    for role in ("pgsaas_app", "pgsaas_admin", "pgsaas_user"):
        with db.connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            archive(connection, account, 10)


def test_what_is_due_is_archived_too(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 10, p_expires_at=moment("2026-03-20"))
    ledger.at(moment("2026-05-01"))
    rows = ledger.call_all("archive_ledger", account, moment("2026-04-01"))
    assert [(row["transaction_type"], row["amount"]) for row in rows] == [
        ("grant", 10),
        ("expiry", -10),
    ]
    assert ledger.violations() == []
