from __future__ import annotations

from uuid import UUID

import pytest

from tests.sql.ledger import START, Ledger, code, day


@pytest.fixture
def free(ledger: Ledger) -> Ledger:
    """Anybody may transfer anything that may move at all."""
    ledger.call("set_setting", "transfer_scope", "any")
    ledger.call("set_setting", "transfer_min_age", "0")
    return ledger


def left(ledger: Ledger, *accounts: UUID) -> list[object]:
    return [ledger.balance(account)["balance"] for account in accounts]


def test_each_part_keeps_its_source_priority_end_and_origin(free: Ledger) -> None:
    one, two = free.account(), free.account()
    end = day("2026-06-01")
    free.done("add_credits", one, 10, p_source="purchase", p_expires_at=end, p_priority=3)
    free.done("add_credits", one, 10, p_source="bonus", p_priority=-1)
    free.after(days=1)
    answer = free.done("transfer_credits", one, two, 15, "a gift", "k", {"n": 1})
    assert (answer["new_balance"], answer["available"], answer["seq"]) == (5, 5, 3)
    assert free.query(
        "select source, amount, remaining, priority, expires_at = 'infinity' as lasts,"
        " acquired_at, effective_at, root_account_id, root_grant_id from pgsaas.credit_grants"
        " where account_id = %s order by grant_id", two
    ) == [
        {"source": source, "amount": amount, "remaining": amount, "priority": priority,
         "lasts": lasts, "acquired_at": START, "effective_at": START.replace(day=11),
         "root_account_id": one, "root_grant_id": root}
        for source, amount, priority, lasts, root in [("bonus", 10, -1, True, 2),
                                                      ("purchase", 5, 3, False, 1)]
    ]  # fmt: skip
    [out] = free.call_all("list_transactions", one, p_type="transfer_out")
    [arrived] = free.call_all("list_transactions", two)
    assert out["metadata"] == {"n": 1, "to_account_id": str(two)}
    assert arrived["metadata"] == {"n": 1, "from_account_id": str(one), "from_seq": 3}
    assert out["description"] == arrived["description"] == "a gift"
    assert (out["idempotency_key"], arrived["idempotency_key"]) == ("k", None)
    assert free.violations() == []


@pytest.mark.parametrize("source", ["allowance", "rollover", "trial", "referral", "refund"])
def test_only_purchased_and_bonus_credits_move(free: Ledger, source: str) -> None:
    one, two = free.account(), free.account()
    free.done("add_credits", one, 10, p_source=source)
    free.done("add_credits", one, 5)
    before = free.state()
    assert code(free.call("transfer_credits", one, two, 6)) == "NOT_TRANSFERABLE"
    assert free.state() == before
    assert free.done("transfer_credits", one, two, 5)["available"] == 10


def test_overdraft_and_held_credits_do_not_move(free: Ledger) -> None:
    one, two = free.account(10), free.account()
    free.done("set_overdraft_limit", one, 100, "a reason")
    free.done("hold_credits", one, 4)
    assert code(free.call("transfer_credits", one, two, 7)) == "NOT_TRANSFERABLE"
    assert code(free.call("transfer_credits", one, two, 107)) == "INSUFFICIENT_CREDITS"
    free.done("transfer_credits", one, two, 6)
    assert left(free, one, two) == [4, 6]
    assert free.violations() == []


@pytest.mark.parametrize(
    ("amount", "balances", "unrecovered"),
    [
        (20, [0, 30], 0),  # what is free in the grant itself
        (40, [0, 10], 0),  # then what is free where it was transferred
        (50, [0, 0], 0),
        (60, [-10, 0], 0),  # then what was spent, owed by who spent it
        (None, [-50, 0], 0),
    ],
)
def test_a_revocation_takes_free_credits_wherever_they_are_before_anybody_owes(
    free: Ledger, amount: int | None, balances: list[int], unrecovered: int
) -> None:
    one, two = free.account(100), free.account()
    free.done("deduct_credits", one, 50)
    free.done("transfer_credits", one, two, 30)
    answer = free.done("revoke_grant", one, 1, amount)
    assert answer["unrecovered"] == unrecovered
    assert left(free, one, two) == balances
    assert free.violations() == []


def test_credits_that_come_back_by_transfer_are_revoked_once(free: Ledger) -> None:
    one, two = free.account(100), free.account()
    free.done("transfer_credits", one, two, 60)
    free.done("transfer_credits", two, one, 40)
    assert left(free, one, two) == [80, 20]
    free.done("revoke_grant", one, 1)
    assert left(free, one, two) == [0, 0]
    assert code(free.call("revoke_grant", one, 1)) == "NOT_REFUNDABLE"
    assert free.violations() == []


def test_what_the_receiver_spent_is_unrecovered_there(free: Ledger) -> None:
    free.call("set_setting", "clawback", "unrecovered")
    one, two = free.account(100), free.account()
    free.done("transfer_credits", one, two, 60)
    seq = free.done("deduct_credits", two, 60)["seq"]
    assert free.done("revoke_grant", one, 1)["unrecovered"] == 60
    assert left(free, one, two) == [0, 0]
    assert free.done("refund_credits", two, seq)["available"] == 0
    assert left(free, one, two) == [0, 0]
    assert free.violations() == []


def test_a_receiver_who_owes_pays_with_what_arrives(free: Ledger) -> None:
    one, two = free.account(100), free.account()
    free.done("set_overdraft_limit", two, 50, "a reason")
    free.done("deduct_credits", two, 30)
    free.done("transfer_credits", one, two, 20)
    assert free.balance(two)["owed"] == 10
    free.done("transfer_credits", one, two, 20)
    assert free.grants(two) == [("purchase", 10)]
    free.done("revoke_grant", one, 1)
    assert left(free, one, two) == [0, -30]
    assert free.violations() == []


def test_metadata_at_its_limit_may_still_travel(free: Ledger) -> None:
    one, two = free.account(100), free.account()
    assert free.done("transfer_credits", one, two, 1, p_metadata={"k": "x" * (16384 - 9)})
    assert free.done("transfer_credits", one, two, 1, p_metadata=None)


def test_credits_expire_at_the_receivers_as_they_would_have(free: Ledger) -> None:
    one, two = free.account(), free.account()
    free.done("add_credits", one, 10, p_expires_at=day("2026-03-20"))
    free.done("transfer_credits", one, two, 10)
    free.at(day("2026-03-20"))
    assert left(free, one, two) == [0, 0]
    free.done("set_burn_order", two, "expiring_first")
    assert free.violations() == []


def test_what_has_expired_by_the_receivers_time_does_not_move(free: Ledger) -> None:
    one, two = free.account(), free.account()
    free.done("add_credits", one, 10, p_expires_at=day("2026-03-12"))
    free.at(day("2026-03-13"))
    free.done("add_credits", two, 1)
    free.at(START)
    assert code(free.call("transfer_credits", one, two, 10)) == "INSUFFICIENT_CREDITS"
    assert free.rows(one, 1) == [("expiry", -10, day("2026-03-12"))]
    assert free.violations() == []


def test_a_purchase_moves_when_it_is_fourteen_days_old(ledger: Ledger) -> None:
    ledger.call("set_setting", "transfer_scope", "any")
    one, two = ledger.account(10), ledger.account()
    ledger.done("add_credits", one, 5)
    for days in (0, 13.999):
        ledger.after(days=days)
        answer = ledger.call("transfer_credits", one, two, 6)
        assert code(answer) == "NOT_TRANSFERABLE"
        assert answer["error_message"] == "of purchased and bonus credits 5 may move now"
    ledger.at(START.replace(day=24))
    ledger.done("transfer_credits", one, two, 15)
    assert left(ledger, one, two) == [0, 15]
