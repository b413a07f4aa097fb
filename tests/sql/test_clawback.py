from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from tests.sql.ledger import Ledger, Row, code, day


@pytest.fixture
def unrecovered(ledger: Ledger) -> Ledger:
    ledger.call("set_setting", "clawback", "unrecovered")
    return ledger


def owing(ledger: Ledger, debt: int = 40) -> UUID:
    """An account that spent a pack which was then revoked."""
    account = ledger.account(debt)
    ledger.done("deduct_credits", account, debt)
    answer = ledger.done("revoke_grant", account, 1)
    assert (answer["new_balance"], answer["available"]) == (-debt, 0)
    return account


def by_add(ledger: Ledger, account: UUID) -> None:
    ledger.done("add_credits", account, 100)


def by_adjustment(ledger: Ledger, account: UUID) -> None:
    ledger.done("adjust_credits", account, 100, "a reason")


def by_transfer(ledger: Ledger, account: UUID) -> None:
    ledger.call("set_setting", "transfer_scope", "any")
    other = ledger.account()
    ledger.done("add_credits", other, 100)
    ledger.done("transfer_credits", other, account, 100)


def by_admission(ledger: Ledger, account: UUID) -> None:
    ledger.done("add_credits", account, 100, p_effective_at=day("2026-03-11"))
    ledger.at(day("2026-03-11"))


def by_period(ledger: Ledger, account: UUID) -> None:
    ledger.conn.execute("select pgsaas.start_period(%s, 100)", [account])


def by_reset(ledger: Ledger, account: UUID) -> None:
    ledger.conn.execute("select pgsaas.start_period(%s, 0)", [account])
    ledger.conn.execute("update pgsaas.account_balances set allowance = 100")
    ledger.at(day("2026-04-11"))


PAYMENTS = [by_add, by_adjustment, by_transfer, by_admission, by_period, by_reset]


@pytest.mark.parametrize("pay", PAYMENTS)
def test_every_credit_pays_what_is_owed_first(
    ledger: Ledger, pay: Callable[[Ledger, UUID], None]
) -> None:
    account = owing(ledger)
    pay(ledger, account)
    shown = ledger.balance(account)
    assert (shown["balance"], shown["owed"], shown["available"]) == (60, 0, 60)
    seq = ledger.done("deduct_credits", account, 60)["seq"]
    assert [part[2] for part in ledger.parts(account, seq)] == [60]
    assert ledger.violations() == []


def test_a_refund_pays_what_is_owed_first(ledger: Ledger) -> None:
    account = ledger.account(40)
    ledger.done("add_credits", account, 100, p_source="bonus")
    seq = ledger.done("deduct_credits", account, 140)["seq"]
    ledger.done("revoke_grant", account, 1)
    ledger.done("refund_credits", account, seq, 100)
    shown = ledger.balance(account)
    assert (shown["balance"], shown["owed"], shown["available"]) == (60, 0, 60)
    assert ledger.violations() == []


def test_a_released_and_a_lapsed_hold_pay_what_is_owed_first(ledger: Ledger) -> None:
    account = ledger.account(40)
    ledger.done("add_credits", account, 100, p_source="bonus")
    ledger.done("deduct_credits", account, 40)
    ledger.done("hold_credits", account, 70)
    ledger.done("hold_credits", account, 30)
    revoked = ledger.done("revoke_grant", account, 1)
    assert (revoked["new_balance"], revoked["available"]) == (60, 0)
    assert ledger.balance(account)["owed"] == 40
    assert ledger.done("release_hold", account, 2)["available"] == 0
    assert ledger.balance(account)["owed"] == 10
    ledger.after(hours=1)
    assert ledger.available(account) == 60
    assert ledger.done("deduct_credits", account, 60)["available"] == 0
    assert ledger.violations() == []


def test_overdraft_is_owed_and_paid_by_the_next_credits(ledger: Ledger) -> None:
    account = ledger.account(10)
    ledger.done("set_overdraft_limit", account, 50, "a reason")
    answer = ledger.done("deduct_credits", account, 35)
    assert (answer["new_balance"], answer["available"]) == (-25, 25)
    assert ledger.balance(account)["owed"] == 25
    refused = ledger.call("deduct_credits", account, 26)
    assert refused["error_code"] == "INSUFFICIENT_CREDITS"
    ledger.done("add_credits", account, 30)
    assert ledger.available(account) == 55
    ledger.done("refund_credits", account, 2)
    assert ledger.balance(account)["balance"] == 40
    assert ledger.violations() == []


def test_a_lower_overdraft_limit_leaves_what_is_owed(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("set_overdraft_limit", account, 50, "a reason")
    ledger.done("deduct_credits", account, 50)
    answer = ledger.done("set_overdraft_limit", account, 0, "a reason")
    assert (answer["new_balance"], answer["available"]) == (-50, 0)
    assert ledger.violations() == []


def revoked(ledger: Ledger, account: UUID, amount: int | None = None) -> Row:
    return ledger.done("revoke_grant", account, 1, amount)


def test_what_is_gone_is_recorded_and_not_owed(unrecovered: Ledger) -> None:
    account = unrecovered.account(100)
    unrecovered.done("add_credits", account, 20)
    unrecovered.done("deduct_credits", account, 90)
    answer = revoked(unrecovered, account)
    assert (answer["unrecovered"], answer["new_balance"], answer["available"]) == (70, 0, 0)
    assert unrecovered.balance(account)["owed"] == 0
    assert unrecovered.moves(account, 3) == [("revoke", -30)]
    assert unrecovered.violations() == []


def test_a_later_refund_first_makes_good_what_was_unrecovered(unrecovered: Ledger) -> None:
    account = unrecovered.account(100)
    seq = unrecovered.done("deduct_credits", account, 100)["seq"]
    assert revoked(unrecovered, account, 60)["unrecovered"] == 60
    first = unrecovered.done("refund_credits", account, seq, 50)
    assert (first["new_balance"], first["available"]) == (50, 0)
    second = unrecovered.done("refund_credits", account, seq)
    assert second["available"] == 40
    assert unrecovered.moves(account, 2) == [
        ("revoke", 0),
        ("refund", 50),
        ("revoke", -50),
        ("refund", 50),
        ("revoke", -10),
    ]
    assert unrecovered.violations() == []


@pytest.mark.parametrize("how", ["release_hold", "lapse"])
def test_a_returning_hold_first_makes_good_what_was_unrecovered(
    unrecovered: Ledger, how: str
) -> None:
    account = unrecovered.account(100)
    unrecovered.done("hold_credits", account, 80, "10 minutes")
    answer = revoked(unrecovered, account)
    assert (answer["unrecovered"], answer["new_balance"], answer["available"]) == (80, 80, 0)
    if how == "lapse":
        unrecovered.after(hours=1)
    else:
        unrecovered.done(how, account, 1)
    shown = unrecovered.balance(account)
    assert (shown["balance"], shown["available"], shown["held"]) == (0, 0, 0)
    unrecovered.done("add_credits", account, 5)
    assert unrecovered.available(account) == 5
    assert unrecovered.violations() == []


def test_capturing_what_was_held_of_a_revoked_grant_charges_it(unrecovered: Ledger) -> None:
    account = unrecovered.account(100)
    unrecovered.done("hold_credits", account, 80)
    revoked(unrecovered, account)
    answer = unrecovered.done("capture_hold", account, 1, 30)
    assert (answer["captured"], answer["new_balance"], answer["available"]) == (30, 50, 0)
    assert unrecovered.balance(account)["balance"] == 0
    assert unrecovered.violations() == []


def test_a_refund_after_expiry_lives_as_long_as_the_credits_had_left(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 100, p_expires_at=day("2026-03-20 12:00"))
    seq = ledger.done("deduct_credits", account, 100)["seq"]  # ten days before
    ledger.at(day("2026-05-01"))
    ledger.done("refund_credits", account, seq)
    assert ledger.balance(account)["next_expiry_at"] == day("2026-05-11")
    assert ledger.grants(account) == [("refund", 100)]
    ledger.at(day("2026-05-11"))
    assert ledger.available(account) == 0


def test_a_refund_after_expiry_ends_at_the_next_reset_at_the_latest(ledger: Ledger) -> None:
    account = ledger.on_plan(100, None)
    seq = ledger.done("deduct_credits", account, 100)["seq"]
    ledger.at(day("2026-05-01"))
    ledger.done("refund_credits", account, seq)
    assert ledger.grants(account) == [("allowance", 100), ("refund", 100)]
    ledger.at(day("2026-05-10 12:00"))
    assert ledger.grants(account) == [("rollover", 100), ("allowance", 100)]
    assert ledger.violations() == []


def test_a_refund_gives_back_the_part_that_burned_last_first(ledger: Ledger) -> None:
    account = ledger.account(10)
    ledger.done("add_credits", account, 20, p_source="bonus")
    ledger.done("add_credits", account, 30, p_source="trial")
    seq = ledger.done("deduct_credits", account, 60)["seq"]
    ledger.done("refund_credits", account, seq, 35)
    assert ledger.grants(account) == [("bonus", 5), ("trial", 30)]
    ledger.done("refund_credits", account, seq, 20)
    assert ledger.grants(account) == [("purchase", 5), ("bonus", 20), ("trial", 30)]
    assert ledger.violations() == []


def test_a_revocation_follows_credits_that_were_transferred(ledger: Ledger) -> None:
    ledger.call("set_setting", "transfer_scope", "any")
    ledger.call("set_setting", "transfer_min_age", "0")
    one, two, three = ledger.account(100), ledger.account(), ledger.account(7)
    ledger.done("transfer_credits", one, two, 60)
    ledger.done("transfer_credits", two, three, 50)
    ledger.done("deduct_credits", three, 20)
    answer = revoked(ledger, one)
    assert answer["new_balance"] == 0
    left = {account: ledger.balance(account) for account in (one, two, three)}
    assert [left[a]["balance"] for a in (one, two, three)] == [0, 0, -13]
    assert left[three]["owed"] == 13
    assert ledger.violations() == []


def test_who_spent_pays_and_not_whose_part_expired(ledger: Ledger) -> None:
    ledger.call("set_setting", "transfer_scope", "any")
    ledger.call("set_setting", "transfer_min_age", "0")
    one, two = ledger.account(), ledger.account()
    ledger.done("add_credits", one, 10, p_source="purchase", p_expires_at=day("2026-03-12"))
    ledger.done("transfer_credits", one, two, 5)
    ledger.done("deduct_credits", two, 5)
    ledger.at(day("2026-03-13"))
    ledger.done("revoke_grant", one, 1)
    assert [ledger.balance(account)["owed"] for account in (one, two)] == [0, 5]
    assert ledger.violations() == []


def test_what_rolled_over_is_taken_back(ledger: Ledger) -> None:
    account = ledger.on_plan(100, None)
    ledger.at(day("2026-04-11"))
    ledger.done("deduct_credits", account, 30)  # of the rollover, which burns first
    answer = ledger.done("revoke_grant", account, 1, p_idempotency_key="k")
    assert answer["new_balance"] == answer["available"] == 70
    again = ledger.done("revoke_grant", account, 1, p_idempotency_key="k")
    assert (again["replayed"], again["seq"], again["new_balance"]) == (True, answer["seq"], 70)
    assert ledger.moves(account)[-2:] == [("revoke", 0), ("revoke", -100)]
    assert ledger.grants(account) == [("allowance", 70)]
    assert ledger.call("revoke_grant", account, 1)["error_code"] == "NOT_REFUNDABLE"
    assert ledger.violations() == []


def test_a_part_of_a_grant_is_not_revoked_but_the_grant_is(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 50)
    ledger.at(day("2026-04-11"))
    ledger.done("deduct_credits", account, 1)
    answer = ledger.call("revoke_grant", account, 2)
    assert code(answer) == "NOT_REFUNDABLE"
    assert answer["error_message"] == "the grant is part of grant 1: revoke that one"
    assert ledger.done("revoke_grant", account, 1)["success"]
    ledger.call("set_setting", "transfer_scope", "any")
    one, two = ledger.account(), ledger.account()
    ledger.done("add_credits", one, 10)
    ledger.done("transfer_credits", one, two, 10)
    answer = ledger.call("revoke_grant", two, 1)
    wanted = f"the grant is part of grant 1 of account {one}: revoke that one"
    assert (code(answer), answer["error_message"]) == ("NOT_REFUNDABLE", wanted)


def test_what_rolled_over_and_expired_is_not_charged_again(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 100)
    for month in ("2026-04-11", "2026-05-11", "2026-06-11"):
        ledger.at(day(month))
        ledger.done("deduct_credits", account, 10)
    before = ledger.balance(account)["balance"]
    assert ledger.done("revoke_grant", account, 1)["new_balance"] == before - 10
    assert ledger.violations() == []


def test_a_late_refund_that_expired_is_not_charged_again(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 100, p_source="purchase", p_expires_at=day("2026-04-01"))
    ledger.at(day("2026-03-20"))
    ledger.done("deduct_credits", account, 100)
    ledger.at(day("2026-04-02"))
    ledger.done("refund_credits", account, 2)
    assert ledger.grants(account) == [("refund", 100)]
    ledger.at(day("2026-06-01"))
    answer = ledger.done("revoke_grant", account, 1)
    assert (answer["new_balance"], ledger.balance(account)["owed"]) == (0, 0)
    assert ledger.violations() == []


def test_a_revocation_reaches_what_a_late_refund_gave_back(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 100, p_source="purchase", p_expires_at=day("2026-04-01"))
    ledger.at(day("2026-03-20"))
    ledger.done("deduct_credits", account, 100)
    ledger.at(day("2026-04-02"))
    ledger.done("refund_credits", account, 2, 60)
    ledger.done("add_credits", account, 500)
    ledger.done("revoke_grant", account, 1, 60)
    assert ledger.grants(account) == [("bonus", 500)]
    ledger.done("revoke_grant", account, 1)
    assert ledger.grants(account) == [("bonus", 460)]
    assert ledger.violations() == []


@pytest.mark.parametrize("revoked_on", ["2026-03-31 23:55", "2026-04-01 00:02"])
@pytest.mark.parametrize("release", [True, False])
def test_what_was_held_when_it_was_revoked_is_not_taken_twice(
    ledger: Ledger, revoked_on: str, release: bool
) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 100, p_source="purchase", p_expires_at=day("2026-04-01"))
    ledger.at(day("2026-03-31 23:50"))
    ledger.done("hold_credits", account, 100)
    ledger.at(day(revoked_on))
    assert ledger.done("revoke_grant", account, 1)["new_balance"] == 0
    ledger.at(day("2026-04-01 00:03"))
    if release:
        ledger.done("release_hold", account, 1)
    ledger.at(day("2026-04-02"))
    after = ledger.balance(account)
    assert (after["balance"], after["owed"], after["held"]) == (0, 0, 0)
    assert ledger.violations() == []


def test_what_a_bonus_paid_for_a_held_grant_comes_back_for_the_time_it_had(
    unrecovered: Ledger,
) -> None:
    account = unrecovered.account()
    unrecovered.done("add_credits", account, 100, p_source="purchase",
                     p_expires_at=day("2026-04-01"))  # fmt: skip
    unrecovered.done("add_credits", account, 100)
    unrecovered.at(day("2026-03-31 23:50"))
    unrecovered.done("hold_credits", account, 100)
    unrecovered.done("revoke_grant", account, 1)
    assert unrecovered.available(account) == 0
    unrecovered.at(day("2026-04-01 00:14"))
    assert unrecovered.available(account) == 100
    unrecovered.at(day("2026-04-01 00:16"))  # as long as they would have lived when held
    assert unrecovered.available(account) == 0
    assert unrecovered.violations() == []


def test_a_hold_makes_no_credits_that_last_for_ever(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 100, p_source="purchase", p_expires_at=day("2026-04-01"))
    ledger.done("deduct_credits", account, 100)
    ledger.done("add_credits", account, 60, p_expires_at=day("2026-03-15"))
    ledger.done("revoke_grant", account, 1, 60)
    ledger.done("refund_credits", account, 2)
    ledger.at(day("2026-03-31 23:59"))
    ledger.done("hold_credits", account, 100, "2 minutes")
    ledger.at(day("2026-04-02"))
    assert ledger.balance(account)["balance"] == 0
    assert ledger.violations() == []
