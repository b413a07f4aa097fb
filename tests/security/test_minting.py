"""Nobody makes credits out of nothing: refunds, revocations, transfers, holds, overdraft."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.conftest import Conn
from tests.security.conftest import World, account, credit, one, refusal


def answer(conn: Conn, call: str, *values: object) -> tuple[bool, str | None]:
    """Whether the call succeeded, and its error code."""
    row = conn.execute(f"select success, error_code from pgsaas.{call}".encode(), values).fetchone()
    assert row is not None
    return bool(row[0]), row[1]


def balance(conn: Conn, of: object) -> Decimal:
    return Decimal(one(conn, "select balance from pgsaas.get_balance(%s)", of))


def free(conn: Conn, of: object) -> Decimal:
    query = "select balance - held + owed from pgsaas.get_balance(%s)"
    return Decimal(one(conn, query, of))


def sound(conn: Conn) -> None:
    assert conn.execute("select * from pgsaas.verify_ledger()").fetchall() == []


def test_a_deduction_is_refunded_once(tx: Conn) -> None:
    payer = account(tx)
    credit(tx, payer, 100)
    tx.execute("select pgsaas.deduct_credits(%s, 60)", [payer])
    assert answer(tx, "refund_credits(%s, 2, 40)", payer) == (True, None)
    assert answer(tx, "refund_credits(%s, 2, 40)", payer) == (False, "REFUND_EXCEEDS")
    assert answer(tx, "refund_credits(%s, 2)", payer) == (True, None)
    assert answer(tx, "refund_credits(%s, 2)", payer) == (False, "REFUND_EXCEEDS")
    assert balance(tx, payer) == 100
    sound(tx)


def test_only_deductions_and_captures_are_refunded(tx: Conn) -> None:
    payer, other = account(tx), account(tx)
    club = account(tx, "club", p_kind="organization")
    for member in (payer, other):
        tx.execute("select pgsaas.add_member(%s, %s, 'member')", [club, str(member)])
    credit(tx, payer, 100)  # 1
    tx.execute("select pgsaas.deduct_credits(%s, 60)", [payer])  # 2
    tx.execute("select pgsaas.refund_credits(%s, 2)", [payer])  # 3
    assert answer(tx, "transfer_credits(%s, %s, 10)", payer, other) == (True, None)  # 4
    tx.execute("select pgsaas.revoke_grant(%s, 1, 10)", [payer])  # 5
    tx.execute("select pgsaas.adjust_credits(%s, -10, 'a slip')", [payer])  # 6
    for seq in (1, 3, 4, 5, 6, 7, 0, -1):
        assert answer(tx, "refund_credits(%s, %s)", payer, seq) == (False, "NOT_REFUNDABLE"), seq
    assert balance(tx, payer) == 70
    sound(tx)


@pytest.mark.parametrize("clawback", ["owed", "unrecovered"])
def test_what_was_revoked_is_not_spent_by_way_of_a_refund(tx: Conn, clawback: str) -> None:
    tx.execute("select pgsaas.set_setting('clawback', %s)", [clawback])
    payer = account(tx)
    grant = credit(tx, payer, 100, p_source="purchase")
    tx.execute("select pgsaas.deduct_credits(%s, 100)", [payer])
    assert answer(tx, "revoke_grant(%s, %s)", payer, grant) == (True, None)
    assert answer(tx, "refund_credits(%s, 2)", payer) == (True, None)
    assert balance(tx, payer) == free(tx, payer) == 0
    assert answer(tx, "revoke_grant(%s, %s)", payer, grant) == (False, "NOT_REFUNDABLE")
    sound(tx)


@pytest.mark.parametrize("clawback", ["owed", "unrecovered"])
def test_a_transfer_does_not_save_credits_from_being_revoked(tx: Conn, clawback: str) -> None:
    tx.execute("select pgsaas.set_setting('clawback', %s)", [clawback])
    tx.execute("select pgsaas.set_setting('transfer_min_age', '0')")
    one_, two, club = account(tx), account(tx), account(tx, "club", p_kind="organization")
    for member in (one_, two):
        tx.execute("select pgsaas.add_member(%s, %s, 'member')", [club, str(member)])
    grant = credit(tx, one_, 100, p_source="purchase")
    # there, back again, and on: the origin is not lost
    for source, target, amount in ((one_, two, 80), (two, one_, 50), (one_, club, 30)):
        call = "transfer_credits(%s, %s, %s)"
        assert answer(tx, call, source, target, amount) == (True, None)
    assert answer(tx, "revoke_grant(%s, %s)", one_, grant) == (True, None)
    assert [balance(tx, each) for each in (one_, two, club)] == [0, 0, 0]
    assert answer(tx, "revoke_grant(%s, %s)", one_, grant) == (False, "NOT_REFUNDABLE")
    sound(tx)


def test_transferring_what_came_back_into_a_revoked_grant_is_an_answer(tx: Conn) -> None:
    payer, club = account(tx), account(tx, "club", p_kind="organization")
    tx.execute("select pgsaas.add_member(%s, %s, 'member')", [club, str(payer)])
    grant = credit(tx, payer, 100)
    tx.execute("select pgsaas.deduct_credits(%s, 100)", [payer])
    credit(tx, payer, 100)
    assert answer(tx, "revoke_grant(%s, %s)", payer, grant) == (True, None)
    assert answer(tx, "refund_credits(%s, 2)", payer) == (True, None)
    assert free(tx, payer) == 100
    done, code = answer(tx, "transfer_credits(%s, %s, 100)", payer, club)
    assert done or code == "NOT_TRANSFERABLE"
    sound(tx)


def test_young_purchases_stay_whatever_they_are_passed_through(tx: Conn) -> None:
    payer, club = account(tx), account(tx, "club", p_kind="organization")
    tx.execute("select pgsaas.add_member(%s, %s, 'member')", [club, str(payer)])
    credit(tx, payer, 100, p_source="purchase")
    tx.execute("select pgsaas.deduct_credits(%s, 100)", [payer])
    tx.execute("select pgsaas.refund_credits(%s, 2)", [payer])
    tx.execute("select pgsaas.hold_credits(%s, 100)", [payer])
    tx.execute("select pgsaas.release_hold(%s, 1)", [payer])
    assert answer(tx, "transfer_credits(%s, %s, 1)", payer, club) == (False, "NOT_TRANSFERABLE")


def test_a_hold_is_captured_or_released_once(tx: Conn) -> None:
    payer = account(tx)
    credit(tx, payer, 100)
    for end in ("capture_hold(%s, %s, 1)", "release_hold(%s, %s)"):
        hold = one(tx, "select hold_id from pgsaas.hold_credits(%s, 50)", payer)
        assert answer(tx, end, payer, hold) == (True, None)
        for again in ("capture_hold(%s, %s)", "release_hold(%s, %s)", "extend_hold(%s, %s)"):
            assert answer(tx, again, payer, hold) == (False, "HOLD_CLOSED")
    assert balance(tx, payer) == free(tx, payer) == 99
    sound(tx)


def test_a_hold_that_is_kept_for_ever_frees_nothing_that_has_expired(conn: Conn) -> None:
    conn.execute("select pgsaas.set_clock('2030-01-01')")
    payer = account(conn)
    credit(conn, payer, 100, p_source="trial", p_expires_at="2030-01-10")
    conn.execute("select pgsaas.hold_credits(%s, 100, '24 hours')", [payer])
    for _ in range(30):
        conn.execute("select pgsaas.advance_clock('23 hours')")
        assert answer(conn, "extend_hold(%s, 1, '24 hours')", payer) == (True, None)
    assert answer(conn, "release_hold(%s, 1)", payer) == (True, None)
    assert balance(conn, payer) == free(conn, payer) == 0
    sound(conn)


def test_overdraft_that_is_held_and_released_makes_no_lasting_credits(conn: Conn) -> None:
    """A trial pays what the hold owes; releasing the hold must not outlive the trial."""
    conn.execute("select pgsaas.set_clock('2030-01-01')")
    payer = account(conn)
    conn.execute("select pgsaas.set_overdraft_limit(%s, 100, 'a good customer')", [payer])
    assert answer(conn, "hold_credits(%s, 100)", payer) == (True, None)
    credit(conn, payer, 100, p_source="trial", p_expires_at="2030-01-10")
    assert answer(conn, "release_hold(%s, 1)", payer) == (True, None)
    assert free(conn, payer) == 100
    conn.execute("select pgsaas.set_clock('2031-01-01')")
    assert free(conn, payer) == 0


def test_an_overdraft_cannot_turn_allowances_into_credits_for_ever(conn: Conn) -> None:
    conn.execute("select pgsaas.set_clock('2030-01-01')")
    conn.execute("select pgsaas.set_plan('free', '{\"default\": true, \"allowance\": 100}')")
    payer = account(conn)
    conn.execute("select pgsaas.set_overdraft_limit(%s, 100, 'a good customer')", [payer])
    conn.execute("select pgsaas.deduct_credits(%s, 100)", [payer])
    for month in range(2, 6):
        conn.execute(
            "select pgsaas.set_clock(%s::timestamptz - interval '1 hour')", [f"2030-{month:02}-01"]
        )
        everything = one(conn, "select available from pgsaas.get_balance(%s)", payer)
        call = "hold_credits(%s, %s, '24 hours')"
        assert answer(conn, call, payer, everything) == (True, None)
        conn.execute("select pgsaas.set_clock(%s)", [f"2030-{month:02}-01 01:00"])
        hold = one(conn, "select max(hold_id) from pgsaas.credit_holds")
        assert answer(conn, "release_hold(%s, %s)", payer, hold) == (True, None)
    assert free(conn, payer) <= 100


def test_a_users_capture_does_not_put_the_account_into_debt(world: World) -> None:
    acme = world.ids["acme"]
    with world.user("mia") as conn:
        hold = one(conn, "select hold_id from pgsaas.hold_credits(%s, 1)", acme)
        call = "select pgsaas.capture_hold(%s, %s, 1000000000, 'debt')"
        state, _ = refusal(conn, call, acme, hold)
        assert state == "PT403"


def test_one_key_is_one_effect_whoever_repeats_it(tx: Conn) -> None:
    payer = account(tx)
    for _ in range(3):
        credit(tx, payer, 100, p_idempotency_key="invoice 1")
    assert balance(tx, payer) == 100
    state, _ = refusal(tx, "select pgsaas.add_credits(%s, 101, p_idempotency_key => %s)", payer,
                       "invoice 1")  # fmt: skip
    assert state == "PT409"
    sound(tx)


@pytest.mark.parametrize(
    "amount", ["-1", "0", "'NaN'", "'Infinity'", "'-Infinity'", "1e13", "0.0000001", "null"]
)
def test_no_odd_amount_moves_credits(tx: Conn, amount: str) -> None:
    payer, other = account(tx), account(tx)
    credit(tx, payer, 100)
    tx.execute("select pgsaas.deduct_credits(%s, 50)", [payer])
    tx.execute("select pgsaas.hold_credits(%s, 10)", [payer])
    calls = [
        f"deduct_credits(%s, {amount})",
        f"add_credits(%s, {amount})",
        f"hold_credits(%s, {amount})",
        f"transfer_credits(%s, '{other}', {amount})",
        f"set_overdraft_limit(%s, {amount}, 'x')",
    ]
    if amount != "null":
        calls += [
            f"refund_credits(%s, 2, {amount})",
            f"revoke_grant(%s, 1, {amount})",
            f"capture_hold(%s, 1, {amount})",
        ]
    for call in calls:
        if amount == "0" and call.startswith("set_overdraft"):
            continue
        assert refusal(tx, f"select pgsaas.{call}", payer)[0] == "22023", call
    assert balance(tx, payer) == 50
