"""Debts: what is owed, who pays it, and what becomes of a debt that is given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tests.sql.ledger import Ledger, Row, day, decimals


@pytest.fixture
def indebted(ledger: Ledger) -> tuple[Ledger, UUID]:
    """An account with a limit of 100 below zero."""
    account = ledger.account()
    ledger.done("set_overdraft_limit", account, 100, "a reason")
    return ledger, account


def debts(ledger: Ledger, account: UUID) -> list[tuple[Any, Any, Any]]:
    """Amount, what is unpaid and who paid, debt by debt."""
    query = "select * from pgsaas.credit_debts where account_id = %s order by debt_id"
    rows = ledger.query(query, account)
    return [
        (row["amount"], row["unpaid"], [payment[:2] for payment in row["paid_by"]]) for row in rows
    ]


@pytest.mark.parametrize("end", ["release", "capture"])
def test_a_late_refund_that_pays_an_overdraft_hold_is_not_lost(ledger: Ledger, end: str) -> None:
    account = ledger.account()
    ledger.done("set_overdraft_limit", account, 100, "a reason")
    ledger.done("add_credits", account, 100, p_source="purchase", p_expires_at=day("2026-04-01"))
    ledger.at(day("2026-03-20"))
    ledger.done("deduct_credits", account, 100)
    ledger.at(day("2026-04-02"))
    ledger.done("hold_credits", account, 100)
    ledger.done("refund_credits", account, 2)
    if end == "release":
        ledger.done("release_hold", account, 1)
        assert ledger.grants(account) == [("refund", 100)]
    else:
        ledger.done("capture_hold", account, 1, 1)
        assert ledger.grants(account) == [("refund", 99)]
    assert ledger.balance(account)["next_expiry_at"] == day("2026-04-14")
    assert ledger.violations() == []


def test_overdraft_returns_to_who_paid_it_not_to_who_paid_a_later_debt(
    indebted: tuple[Ledger, UUID],
) -> None:
    ledger, account = indebted
    ledger.done("hold_credits", account, 100, "24 hours")
    ledger.done("add_credits", account, 100, p_source="purchase")
    ledger.after(hours=1)
    ledger.done("deduct_credits", account, 100)
    ledger.after(hours=1)
    ledger.done("add_credits", account, 100, p_expires_at=day("2026-03-10 22:00"))
    ledger.at(day("2026-03-11"))
    ledger.done("release_hold", account, 1)
    assert ledger.grants(account) == [("purchase", 100)]
    assert ledger.violations() == []


def test_a_refund_of_overdraft_returns_to_who_paid_it(indebted: tuple[Ledger, UUID]) -> None:
    ledger, account = indebted
    ledger.done("deduct_credits", account, 100)
    ledger.done("add_credits", account, 100, p_source="purchase")
    ledger.after(hours=1)
    ledger.done("deduct_credits", account, 100)
    ledger.done("add_credits", account, 100, p_expires_at=day("2026-03-10 22:00"))
    ledger.at(day("2026-03-11"))
    ledger.done("refund_credits", account, 1)
    assert ledger.grants(account) == [("purchase", 100)]


def test_a_hold_makes_no_purchase_of_an_allowance(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 0)
    ledger.done("set_overdraft_limit", account, 100, "a reason")
    ledger.done("deduct_credits", account, 100)
    ledger.at(day("2026-04-10 00:00"))
    ledger.done("hold_credits", account, 100, "24 hours")
    for _ in range(38):  # the allowance of April pays for it, and ends
        ledger.after(hours=20)
        ledger.done("extend_hold", account, 1, "24 hours")
    ledger.done("deduct_credits", account, 100)  # the allowance of May
    ledger.done("deduct_credits", account, 100)
    ledger.done("add_credits", account, 100, p_source="purchase")
    ledger.done("release_hold", account, 1)
    assert ledger.grants(account) == []
    assert ledger.violations() == []


def refund(seq: int) -> Callable[[Ledger, UUID], Row]:
    return lambda ledger, account: ledger.done("refund_credits", account, seq)


def release(hold_id: int) -> Callable[[Ledger, UUID], Row]:
    return lambda ledger, account: ledger.done("release_hold", account, hold_id)


@pytest.mark.parametrize("order", [[refund(1), refund(3)], [refund(3), refund(1)]])
def test_two_refunds_of_overdraft_end_alike_in_any_order(
    indebted: tuple[Ledger, UUID], order: list[Callable[[Ledger, UUID], Row]]
) -> None:
    ledger, account = indebted
    ledger.done("deduct_credits", account, 10)
    ledger.at(day("2026-03-11"))
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-03-20"))
    ledger.at(day("2026-04-01"))
    ledger.done("deduct_credits", account, 10)
    for give_back in order:
        give_back(ledger, account)
    assert ledger.grants(account) == [("refund", 10)]
    assert ledger.balance(account)["next_expiry_at"] == day("2026-04-10")
    assert ledger.violations() == []


@pytest.mark.parametrize("order", [[refund(1), release(1)], [release(1), refund(1)]])
def test_a_refund_and_a_release_of_overdraft_end_alike_in_any_order(
    indebted: tuple[Ledger, UUID], order: list[Callable[[Ledger, UUID], Row]]
) -> None:
    ledger, account = indebted
    ledger.done("deduct_credits", account, 10)
    ledger.done("hold_credits", account, 10, "24 hours")
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-03-10 18:00"))
    ledger.at(day("2026-03-10 22:00"))
    for give_back in order:
        give_back(ledger, account)
    assert ledger.grants(account) == [("refund", 10)]
    assert ledger.violations() == []


def test_the_oldest_debt_is_paid_by_who_takes_effect_first(
    indebted: tuple[Ledger, UUID],
) -> None:
    ledger, account = indebted
    soon, end = day("2026-03-12"), day("2026-03-14")
    ledger.done("add_credits", account, 5, p_effective_at=soon, p_expires_at=end)
    ledger.done("deduct_credits", account, 10)
    ledger.at(day("2026-03-11"))
    ledger.done("add_credits", account, 5)
    ledger.at(day("2026-03-13"))
    ledger.done("deduct_credits", account, 1)
    assert debts(ledger, account) == [(10, 0, [[2, 5], [1, 5]]), (1, 1, [])]
    ledger.done("refund_credits", account, 2, 5)  # to who paid last, and the newer debt is paid
    assert debts(ledger, account) == [(10, 0, [[2, 5]]), (1, 0, [[1, 1]])]
    assert ledger.grants(account) == [("bonus", 4)]
    assert ledger.violations() == []


def test_a_debt_that_is_given_back_before_it_is_paid_is_owed_no_more(
    indebted: tuple[Ledger, UUID],
) -> None:
    ledger, account = indebted
    ledger.done("deduct_credits", account, 10)
    ledger.done("deduct_credits", account, 20)
    ledger.done("refund_credits", account, 2, 15)
    assert debts(ledger, account) == [(10, 10, []), (20, 5, [])]
    ledger.done("add_credits", account, 12)
    assert debts(ledger, account) == [(10, 0, [[1, 10]]), (20, 3, [[1, 2]])]
    ledger.done("refund_credits", account, 1)  # what it frees pays the other
    assert debts(ledger, account) == [(10, 0, []), (20, 0, [[1, 2], [1, 3]])]
    assert ledger.grants(account) == [("bonus", 7)]
    assert ledger.violations() == []


def test_each_item_of_a_batch_has_its_own_debt(indebted: tuple[Ledger, UUID]) -> None:
    ledger, account = indebted
    ledger.done("add_credits", account, 5)
    answers = ledger.call_all("deduct_credits_batch", [account] * 3, decimals([3, 4, 5]))
    assert [answer["success"] for answer in answers] == [True] * 3
    assert debts(ledger, account) == [(2, 2, []), (5, 5, [])]
    ledger.done("refund_credits", account, 3)
    assert debts(ledger, account) == [(2, 0, []), (5, 3, [[1, 2]])]
    assert ledger.violations() == []


def test_what_paid_a_debt_has_the_time_it_had_left_when_it_paid(
    indebted: tuple[Ledger, UUID],
) -> None:
    ledger, account = indebted
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-04-10"))
    ledger.done("deduct_credits", account, 10)
    ledger.done("deduct_credits", account, 10)
    ledger.at(day("2026-04-09 23:00"))
    ledger.done("refund_credits", account, 2)  # an hour before its end it pays the debt
    assert debts(ledger, account) == [(10, 0, [[1, 10]])]
    ledger.at(day("2026-04-20"))
    ledger.done("refund_credits", account, 3)
    assert ledger.grants(account) == [("refund", 10)]
    assert ledger.balance(account)["next_expiry_at"] == day("2026-04-20 01:00")


def test_a_debt_that_nobody_paid_is_named(indebted: tuple[Ledger, UUID]) -> None:
    ledger, account = indebted
    ledger.done("deduct_credits", account, 10)
    ledger.done("add_credits", account, 10)
    ledger.conn.execute("update pgsaas.credit_debts set paid_by = '[]'")
    with ledger.raises("P0001") as caught:
        ledger.call("refund_credits", account, 1)
    assert f"debt 1 of account {account} has been paid by nobody" in str(caught.value)
