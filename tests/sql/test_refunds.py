from __future__ import annotations

from decimal import Decimal

from tests.sql.ledger import Ledger, day


def test_what_a_capture_took_beyond_its_hold_was_taken_when_it_captured(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 100, p_expires_at=day("2026-03-10 20:00"))
    ledger.done("hold_credits", account, 60, "6 hours")  # at 12:00, when 8 hours were left
    ledger.at(day("2026-03-10 17:00"))
    ledger.done("capture_hold", account, 1, 80)  # 20 of them when 3 hours were left
    ledger.at(day("2026-03-10 21:00"))
    for amount in (10, 20, 50):
        ledger.done("refund_credits", account, 2, amount)
    found = ledger.query(
        "select source, remaining, expires_at from pgsaas.open_credit_grants"
        " where account_id = %s order by grant_id",
        account,
    )
    assert [tuple(row.values()) for row in found] == [
        ("refund", Decimal(10), day("2026-03-11 00:00")),
        ("refund", Decimal(10), day("2026-03-11 00:00")),
        ("refund", Decimal(10), day("2026-03-11 05:00")),
        ("refund", Decimal(50), day("2026-03-11 05:00")),
    ]
    assert ledger.violations() == []


def test_a_refund_of_half_a_hold_is_of_the_hold(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 100, p_expires_at=day("2026-03-10 20:00"))
    ledger.done("hold_credits", account, 60, "6 hours")
    ledger.at(day("2026-03-10 17:00"))
    ledger.done("capture_hold", account, 1, 30)
    ledger.at(day("2026-03-10 21:00"))
    ledger.done("refund_credits", account, 2)
    row = ledger.call("get_balance", account)
    assert (row["balance"], row["next_expiry_at"]) == (30, day("2026-03-11 05:00"))


def test_the_part_that_burned_last_comes_back_first(ledger: Ledger) -> None:
    account = ledger.account(10)
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-05-01"))
    ledger.done("deduct_credits", account, 15)
    ledger.done("refund_credits", account, 3, 5)
    assert ledger.grants(account) == [("bonus", 10)]
    ledger.done("refund_credits", account, 3, 4)
    assert ledger.grants(account) == [("purchase", 4), ("bonus", 10)]


def test_a_refusal_says_what_the_row_is(ledger: Ledger) -> None:
    account = ledger.account(10)
    ledger.done("deduct_credits", account, 1)

    def said(seq: int | None) -> str:
        answer = ledger.call("refund_credits", account, seq)
        assert answer["error_code"] == "NOT_REFUNDABLE"
        return str(answer["error_message"])

    assert said(1) == "only a deduction or a capture can be refunded"
    assert said(3) == "there is no row 3"
    assert said(0) == "there is no row 0"
    ledger.at(day("2026-05-01"))
    ledger.call_all("archive_ledger", account, day("2026-04-01"))
    assert said(2) == "row 2 is archived"
