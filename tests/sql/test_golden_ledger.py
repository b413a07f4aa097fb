from __future__ import annotations

from decimal import Decimal

from tests.conftest import Conn
from tests.sql.golden import Row, read_steps


def test_the_ledger_worked_out_by_hand_is_the_ledger_kept(conn: Conn) -> None:
    steps = read_steps()
    assert len(steps) == 18
    conn.execute("select pgsaas.set_clock(%s)", (steps[0].at,))
    created = conn.execute("select account_id from pgsaas.create_account()").fetchone()
    assert created is not None
    (account,) = created
    expected: list[Row] = []
    for step in steps:
        conn.execute("select pgsaas.set_clock(%s)", (step.at,))
        call = step.call.replace(":a", f"'{account}'")
        if step.answer is None:
            conn.execute(f"select {call}")
        else:
            answer = conn.execute(f"select success, new_balance, available, seq from {call}")
            assert answer.fetchone() == (True, *step.answer), step.number
        expected += step.rows
        rows = conn.execute(
            "select seq, transaction_type, amount, balance_after, created_at"
            "  from pgsaas.credit_transactions where account_id = %s order by seq",
            (account,),
        ).fetchall()
        assert [Row(*row) for row in rows] == expected, step.number
        assert conn.execute("select * from pgsaas.verify_ledger()").fetchall() == [], step.number
    totals = conn.execute(
        "select balance, lifetime_earned, lifetime_spent from pgsaas.get_balance(%s)", (account,)
    ).fetchone()
    assert totals == (Decimal(199), Decimal(9000), Decimal("5911.5"))
