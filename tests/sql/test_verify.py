from __future__ import annotations

import re
from collections.abc import Callable
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from tests.sql.ledger import START, Ledger, day

SUM = "balance is the sum of the ledger"
EQUATION = "balance is free + held - owed"
GRANTS = "grants are open, pending or spent"
SIGNS = "nothing is negative, and free and owed never coexist"
EXACT = "amounts have at most 6 decimals"
NAMED = "parts come from grants and debts of the account"
OWED = "owed is what of the debts is unpaid"
DEBT = "a debt is what was taken, less what was given back"
OLDEST = "the oldest debt is paid first"
WHOLE = "a grant is free, spent, moved, expired or has paid a debt"
CAPTURED = "a hold is captured when a row says so"
RECORD = "use has an event, a quantity and a cost"
TIERS = "tiers of periods count their records"
LOST = "every record has an account"
USED = "use that cost something has its row"
NUMBERED = "records are numbered without gaps, each with a row of its own"
DAILY = "daily statistics are the sum of their records"
MOVED = "what was transferred is where it went"
REVOKED = "what was revoked is on the grant"
UNRECOVERED = "free credits pay what is unrecovered"
HELD = "held is the sum of open holds"
ROWS = "row follows row"
PARTS = "a charge is the sum of its parts"
REFUNDS = "a charge is refunded at most once over"
TIME = "account time is not behind the ledger"
CHANGE = "next_change_at is not late"
FLOOR = "the head stops where a low balance is told"
HEAD = "the head is the first to burn"
SOURCES = "free credits by source are what is free"
ARCHIVE = "the archive ends where the checkpoint says"
ORPHAN = "every row has an account"
ACCOUNT = "every account has a balance"
PERIOD = "the period ends when its anchor says"

BALANCES, TRANSACTIONS = "update account_balances set ", "update credit_transactions set "
HOLDS, OPEN = "update credit_holds set ", "update credit_grants set "
DEBTS = "update credit_debts set "

# what is changed behind the ledger's back, and every rule that it breaks
CORRUPTIONS = [
    (BALANCES + "balance = balance + 1", {SUM, EQUATION}),
    (BALANCES + "seq = seq + 1", {SUM}),
    (BALANCES + "not_spent = not_spent - 1", {SUM}),
    (BALANCES + "lifetime_earned = lifetime_earned + 1", {SUM}),
    (BALANCES + "owed = 1", {EQUATION, SIGNS, OWED}),
    (BALANCES + "held = held + 1", {EQUATION, HELD}),
    (BALANCES + "head_left = head_left - 1", {EQUATION, WHOLE}),
    (OPEN + "remaining = remaining - 1 where grant_id = 1", {EQUATION, SOURCES, WHOLE}),
    (OPEN + "revoked = 1, unrecovered = 1 where grant_id = 1", {UNRECOVERED}),
    (BALANCES + "grant_count = grant_count + 1", {GRANTS}),
    (BALANCES + "overdraft_limit = -1", {SIGNS}),
    (BALANCES + "overdraft_limit = 'NaN'", {SIGNS}),
    (TRANSACTIONS + "amount = amount + 0.0000000 where seq = 7", {EXACT}),
    (TRANSACTIONS + "grant_id = 9 where seq = 3", {NAMED}),
    (TRANSACTIONS + "allocations = '[[1, 66], [2, -1]]' where seq = 7", {NAMED, WHOLE}),
    (HOLDS + "allocations = '[[9, 30]]'", {NAMED, WHOLE}),
    (OPEN + "moved = 1 where grant_id = 4", {MOVED, WHOLE}),
    (OPEN + "expired = 1 where grant_id = 4", {WHOLE}),
    (OPEN + "amount = amount + 100 where grant_id = 4", {WHOLE}),
    (OPEN + "revoked = 0 where grant_id = 5", {REVOKED, WHOLE}),
    (BALANCES + "held = -5, balance = balance - 35, not_spent = not_spent - 35", {SUM, HELD,
                                                                                 SIGNS}),
    (BALANCES + "hold_count = hold_count + 1", {HELD}),
    (HOLDS + "amount = 29", {HELD}),
    (HOLDS + "allocations = '[[1, 29]]'", {HELD, WHOLE}),
    (HOLDS + "state = 'released', closed_at = created_at", {HELD, WHOLE}),
    (TRANSACTIONS + "seq = 70 where seq = 7", {ROWS, SUM}),
    (TRANSACTIONS + "balance_after = balance_after + 1 where seq = 5", {ROWS}),
    (TRANSACTIONS + "created_at = created_at - interval '1 day' where seq = 7", {ROWS}),
    ("delete from credit_transactions where seq = 4", {ROWS, SUM, WHOLE}),
    (TRANSACTIONS + "amount = amount - 1, balance_after = balance_after - 1 where seq = 7",
     {SUM, ROWS, PARTS}),
    (TRANSACTIONS + "allocations = '[[1, 60], [2, 4]]' where seq = 7", {PARTS, WHOLE}),
    (TRANSACTIONS + "amount = 200 where transaction_type = 'refund'", {SUM, ROWS, REFUNDS, PARTS}),
    (TRANSACTIONS + "allocations = '[[1, 20]]' where transaction_type = 'refund'", {WHOLE}),
    (TRANSACTIONS + "ref_seq = 4 where transaction_type = 'refund'", {REFUNDS}),
    (BALANCES + "last_at = last_at - interval '1 day'", {TIME}),
    (BALANCES + "next_change_at = 'infinity'", {CHANGE}),
    (BALANCES + "is_frozen = true", {CHANGE}),
    (BALANCES + "next_reset_at = next_change_at - interval '1 second'", {CHANGE, PERIOD}),
    (BALANCES + "period_count = period_count + 1", {PERIOD}),
    (BALANCES + "archived_seq = 3", {ARCHIVE}),
    ("delete from account_balances", {ORPHAN, ACCOUNT}),
    (HOLDS + "expires_at = created_at", {CHANGE}),
    (BALANCES + "burn_order = 'expiring_first'", {HEAD}),
    (OPEN + "priority = -1 where grant_id = 1", {HEAD}),
    (BALANCES + "low_balance_at = balance - held", {FLOOR}),
    (BALANCES + "head_source = 'bonus'", {SOURCES}),
    (BALANCES + "other_free = '{}'", {SOURCES}),
    (BALANCES + "next_expiry_at = 'infinity'", {SOURCES}),
]  # fmt: skip


OF_DEBTS = [
    (DEBTS + "unpaid = unpaid - 1 where debt_id = 2", {OWED, DEBT}),
    (DEBTS + "paid_by = '[[1, 9]]' where debt_id = 1", {DEBT, WHOLE}),
    (DEBTS + "paid_by = '[[9, 10]]' where debt_id = 1", {NAMED, WHOLE}),
    (DEBTS + "amount = 9 where debt_id = 1", {DEBT}),
    (DEBTS + "unpaid = 1, paid_by = '[[1, 9]]' where debt_id = 1", {OWED, WHOLE, OLDEST}),
    ("delete from credit_debts where debt_id = 3", {OWED}),
    (BALANCES + "debt_count = 4", {OWED}),
    (TRANSACTIONS + "allocations = '[[-9, 10]]' where seq = 1", {NAMED, DEBT}),
    (HOLDS + "state = 'released' where hold_id = 2", {CAPTURED}),
    (TRANSACTIONS + "hold_id = 1 where seq = 3", {CAPTURED}),
]


OF_USAGE = [
    ("update usage_records set cost = cost + 1 where usage_id = 3", {USED, DAILY}),
    ("update usage_records set seq = null where usage_id = 101", {USED}),
    ("update usage_records set seq = 1 where usage_id = 101", {USED}),
    ("update usage_records set seq = 3 where usage_id = 101", {USED, NUMBERED}),
    ("update usage_records set balance_after = 7 where usage_id = 101", {USED}),
    (BALANCES + "usage_count = usage_count + 1", {NUMBERED}),
    ("delete from usage_records where usage_id = 50", {NUMBERED, DAILY}),
    ("update usage_records set seq = 1, cost = -1000 where usage_id = 101", {USED, RECORD}),
    ("update usage_records set quantity = 'NaN' where usage_id = 101", {RECORD}),
    ("update usage_records set priced_at = now() where usage_id = 101", {RECORD}),
    ("update usage_records set quantity = 4 where usage_id = 102", {TIERS}),
    ("update usage_periods set quantity = quantity + 1", {TIERS}),
    ("delete from usage_periods", {TIERS}),
    ("delete from account_balances", {ORPHAN, ACCOUNT, LOST}),
    ("update daily_usage_stats set quantity = quantity + 1", {DAILY}),
    ("delete from daily_usage_stats", {DAILY}),
]


def rich(ledger: Ledger) -> UUID:
    """An account with grants of three kinds, a hold, a charge of two parts and a refund."""
    account = ledger.on_plan(100, 10)
    ledger.done("add_credits", account, 50, p_source="trial", p_expires_at=day("2026-04-01"))
    ledger.done("add_credits", account, 5, p_effective_at=day("2026-04-05"))
    ledger.done("deduct_credits", account, 1)
    ledger.done("deduct_credits", account, 49)
    ledger.done("refund_credits", account, 5, 20)
    ledger.done("deduct_credits", account, 65)
    ledger.done("add_credits", account, 300, p_source="purchase")
    ledger.done("add_credits", account, 7)
    ledger.done("revoke_grant", account, 5)
    ledger.done("hold_credits", account, 30)
    return account


def test_an_account_with_every_kind_of_row_is_in_order(ledger: Ledger) -> None:
    account = rich(ledger)
    assert ledger.violations() == []
    assert ledger.call_all("verify_ledger", account) == []
    ledger.at(day("2026-07-01"))
    assert ledger.violations() == []
    ledger.done("deduct_credits", account, 1)
    assert ledger.violations() == []


def indebted(ledger: Ledger) -> UUID:
    """An account with a debt that is paid, one that is half paid and one that is unpaid."""
    account = ledger.account()
    ledger.call("set_overdraft_limit", account, 100, "test")
    ledger.done("deduct_credits", account, 10)
    ledger.done("hold_credits", account, 10)
    ledger.done("add_credits", account, 15)
    ledger.done("hold_credits", account, 3)
    ledger.done("capture_hold", account, 2)
    return account


def used(ledger: Ledger) -> UUID:
    """An account with 102 records of use, 100 of them counted, the last by tiers of a period."""
    account = ledger.account(1000)
    ledger.call("set_credit_event", "call", Jsonb({"model": "unit", "unit": 2}))
    ledger.call_all("record_usage_batch", [account] * 100, ["call"] * 100)
    ledger.done("record_usage", account, "call")
    tiers = {"model": "graduated", "tiers": [{"unit": 1}], "per": "period"}
    ledger.call("set_credit_event", "tiered", Jsonb(tiers))
    ledger.done("record_usage", account, "tiered", 3)
    return account


@pytest.mark.parametrize(
    ("make", "change", "rules"),
    [
        *((rich, *each) for each in CORRUPTIONS),
        *((indebted, *each) for each in OF_DEBTS),
        *((used, *each) for each in OF_USAGE),
    ],
    ids=[change for change, _ in CORRUPTIONS + OF_DEBTS + OF_USAGE],
)
def test_a_change_behind_the_ledgers_back_is_found_and_named(
    ledger: Ledger, make: Callable[[Ledger], UUID], change: str, rules: set[str]
) -> None:
    account = make(ledger)
    sane = ledger.account(10)
    ledger.conn.execute("set local session_replication_role = replica")
    ledger.conn.execute("set local search_path = pgsaas")
    text = change.replace(" where ", f" where account_id = '{account}' and ")
    if " where " not in change:
        text += f" where account_id = '{account}'"
    assert ledger.conn.execute(text.encode()).rowcount == 1
    found = ledger.call_all("verify_ledger")
    assert {row["rule"] for row in found} == rules
    assert {row["account_id"] for row in found} == {account}
    assert all(row["detail"] for row in found)
    assert ledger.call_all("verify_ledger", account) == found
    assert ledger.call_all("verify_ledger", sane) == []


def test_every_rule_is_broken_by_some_corruption(ledger: Ledger) -> None:
    source = ledger.scalar("select prosrc from pg_proc where proname = 'verify_ledger'")
    tried = set().union(*(rules for _, rules in CORRUPTIONS + OF_DEBTS + OF_USAGE))
    assert {rule for rule in tried if f"'{rule}'" in source} == tried
    assert len(re.findall(r"union all\n(?:    --.*\n)?    select ", source)) == len(tried) - 1


def test_a_charge_that_names_no_grant_is_found(ledger: Ledger) -> None:
    account = rich(ledger)
    ledger.conn.execute("set local session_replication_role = replica")
    ledger.conn.execute(
        "update pgsaas.credit_transactions set grant_id = null, allocations = null"
        " where account_id = %s and seq = 7",
        [account],
    )
    assert ledger.violations() == [PARTS, WHOLE]


def test_a_pending_grant_that_lost_credits_is_found(ledger: Ledger) -> None:
    account = rich(ledger)
    ledger.conn.execute("set local session_replication_role = replica")
    ledger.conn.execute(
        "update pgsaas.credit_grants set remaining = 1 where account_id = %s and is_pending",
        [account],
    )
    assert ledger.violations() == [WHOLE, GRANTS]


def test_no_such_account_has_no_violations(ledger: Ledger) -> None:
    rich(ledger)
    nobody = UUID(int=START.year)
    assert ledger.call_all("verify_ledger", nobody) == []
