from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from tests.sql.ledger import START, Ledger, Row, day


def by_expiry(ledger: Ledger) -> UUID:
    account = ledger.account(5)
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-03-11"))
    ledger.done("deduct_credits", account, 1)
    return account


def by_admission(ledger: Ledger) -> UUID:
    account = ledger.account(5)
    ledger.done("add_credits", account, 10, p_source="trial", p_effective_at=day("2026-03-11"))
    return account


def by_lapse(ledger: Ledger) -> UUID:
    account = ledger.account(5)
    ledger.done("add_credits", account, 3, p_expires_at=day("2026-03-10 12:05"), p_priority=-1)
    ledger.done("hold_credits", account, 5)
    return account


def by_reset(ledger: Ledger) -> UUID:
    account = ledger.on_plan(100, 30)
    ledger.done("add_credits", account, 7, p_source="purchase")
    return account


def by_freezing(ledger: Ledger) -> UUID:
    account = by_expiry(ledger)
    ledger.call("freeze_account", account, "a reason")
    return account


def by_admission_to_a_debtor(ledger: Ledger) -> UUID:
    account = by_admission(ledger)
    ledger.done("set_overdraft_limit", account, 50, "a reason")
    ledger.done("deduct_credits", account, 20)
    return account


def by_nothing(ledger: Ledger) -> UUID:
    return ledger.account(5)


SCENES = [by_expiry, by_admission, by_lapse, by_reset, by_freezing, by_admission_to_a_debtor,
          by_nothing]  # fmt: skip


def shown(ledger: Ledger, account: UUID) -> dict[str, object]:
    """Everything that readers say about an account now."""
    return {
        "balance": ledger.call("get_balance", account),
        "row": ledger.query(
            "select account_id, balance, held, available, owed, monthly_allowance, next_expiry_at,"
            " next_reset_at, lifetime_earned, lifetime_spent, is_frozen, seq"
            " from pgsaas.credit_balances where account_id = %s",
            account,
        ),
        "at": ledger.call("balance_at", account, ledger.scalar("select pgsaas.now()")),
        "grants": ledger.query(
            "select grant_id, source, remaining, is_pending, expires_at::text"
            " from pgsaas.open_credit_grants where account_id = %s order by grant_id",
            account,
        ),
    }


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("days", [1, 33, 100])
def test_what_is_due_is_shown_as_the_next_writer_stores_it_and_nothing_is_written(
    ledger: Ledger, scene: Callable[[Ledger], UUID], days: int
) -> None:
    account = scene(ledger)
    ledger.after(days=days)
    before = ledger.state()
    said = shown(ledger, account)
    for role, user in (("pgsaas_app", None), ("pgsaas_user", str(account))):
        ledger.become(role, user)
        assert shown(ledger, account) == said
        ledger.be_superuser()
    assert ledger.state() == before
    ledger.done("set_burn_order", account, "purchased_first")
    assert shown(ledger, account) == said
    balance = said["balance"]
    assert isinstance(balance, dict)
    assert (
        balance["balance"]
        == sum(balance["by_source"].values()) + balance["held"] - (balance["owed"])
    )
    assert ledger.violations() == []


@pytest.mark.parametrize("scene", SCENES)
def test_reads_run_in_a_read_only_transaction(own: Ledger, scene: Callable[[Ledger], UUID]) -> None:
    account = scene(own)
    own.after(days=40)
    with own.conn.transaction():
        own.conn.execute("set transaction read only")
        said = shown(own, account)
        own.call_all("list_transactions", account)
        assert own.violations() == []
        own.call_all("export_account", account)
    own.done("set_burn_order", account, "purchased_first")
    assert shown(own, account) == said


def test_the_balance_at_every_moment_is_that_of_the_last_row_before_it(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 20)
    ledger.at(day("2026-03-15"))
    ledger.done("deduct_credits", account, 10)
    ledger.done("deduct_credits", account, 5)  # two rows at one time
    ledger.done("add_credits", account, 50, p_expires_at=day("2026-03-18"))
    ledger.at(day("2026-06-20"))
    ledger.done("deduct_credits", account, 1)
    ledger.at(day("2026-06-21"))
    rows: list[Row] = ledger.query(
        "select distinct on (created_at) created_at, balance_after"
        " from pgsaas.credit_transactions where account_id = %s order by created_at, seq desc",
        account,
    )
    assert len(rows) == 7
    tick = timedelta(microseconds=1)
    before = 0
    for row in rows:
        assert ledger.scalar("select pgsaas.balance_at(%s, %s)", account, row["created_at"] - tick
                             ) == before  # fmt: skip
        before = row["balance_after"]
        for later in (timedelta(0), tick):
            at = row["created_at"] + later
            assert ledger.scalar("select pgsaas.balance_at(%s, %s)", account, at) == before
    assert ledger.scalar("select pgsaas.balance_at(%s, '-infinity')", account) == 0
    assert ledger.scalar("select pgsaas.balance_at(%s, pgsaas.now())", account) == before


def test_the_balance_at_a_past_moment_shows_what_was_due_then(ledger: Ledger) -> None:
    account = ledger.account(5)
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-03-20"))
    ledger.at(day("2026-04-01"))
    for at, balance in [("2026-03-19", 15), ("2026-03-20", 5), ("2026-04-01", 5)]:
        assert ledger.scalar("select pgsaas.balance_at(%s, %s)", account, day(at)) == balance
    ledger.call("freeze_account", account, "a reason")
    for at, balance in [("2026-03-19", 15), ("2026-03-20", 5), ("2026-04-01", 5)]:
        assert ledger.scalar("select pgsaas.balance_at(%s, %s)", account, day(at)) == balance


def test_history_is_paged_newest_first_without_gap_or_overlap(ledger: Ledger) -> None:
    account = ledger.account(1000)
    for _ in range(24):
        ledger.done("deduct_credits", account, 1)
    seen: list[int] = []
    before: int | None = None
    while page := ledger.call_all("list_transactions", account, before, 7):
        assert len(page) <= 7
        seen += [row["seq"] for row in page]
        before = seen[-1]
    assert seen == list(range(25, 0, -1))
    assert len(ledger.call_all("list_transactions", account)) == 25
    assert ledger.call_all("list_transactions", account, 1) == []
    assert ledger.call_all("list_transactions", account, -5) == []
    assert len(ledger.call_all("list_transactions", account, 2**63 - 1, 1000)) == 25


def test_history_of_one_type(ledger: Ledger) -> None:
    account = ledger.account(100)
    for _ in range(3):
        seq = ledger.done("deduct_credits", account, 1)["seq"]
        ledger.done("refund_credits", account, seq)
    refunds = ledger.call_all("list_transactions", account, None, 2, "refund")
    assert [(row["seq"], row["ref_seq"]) for row in refunds] == [(7, 6), (5, 4)]
    assert {row["transaction_type"] for row in refunds} == {"refund"}
    assert ledger.call_all("list_transactions", account, p_type="restore") == []


def test_a_row_of_history_says_all_there_is(ledger: Ledger) -> None:
    account = ledger.account(100)
    job = UUID("11111111-2222-4333-8444-555555555555")
    ledger.done("hold_credits", account, 5, p_job_id=job, p_agent_id="agent",
                p_description="what for")  # fmt: skip
    ledger.done("capture_hold", account, 1, p_idempotency_key="k", p_metadata={"a": [1]})
    assert ledger.call_all("list_transactions", account, p_type="capture") == [
        {
            "account_id": account, "seq": 2, "created_at": START, "transaction_type": "capture",
            "amount": -5, "balance_after": 95, "description": "what for", "job_id": job,
            "agent_id": "agent", "hold_id": 1, "grant_id": 1, "ref_seq": None,
            "idempotency_key": "k", "metadata": {"a": [1]},
        }
    ]  # fmt: skip


def test_a_charge_is_explained_with_its_refunds_and_its_overdraft(ledger: Ledger) -> None:
    account = ledger.account(10)
    ledger.done("add_credits", account, 20, p_expires_at=day("2026-04-01"))
    ledger.done("set_overdraft_limit", account, 100, "a reason")
    seq = ledger.done("deduct_credits", account, 50)["seq"]
    assert ledger.parts(account, seq) == [
        (1, "purchase", 10, 0), (2, "bonus", 20, 0), (None, "overdraft", 20, 0),
    ]  # fmt: skip
    ledger.done("refund_credits", account, seq, 5)
    ledger.done("refund_credits", account, seq, 18)
    assert ledger.parts(account, seq) == [
        (1, "purchase", 10, 0), (2, "bonus", 20, 3), (None, "overdraft", 20, 20),
    ]  # fmt: skip
    ledger.done("refund_credits", account, seq)
    assert [part[3] for part in ledger.parts(account, seq)] == [10, 20, 20]
    with ledger.raises("PT404"):
        ledger.parts(account, 1)
    assert ledger.violations() == []


def test_a_grant_without_an_end_is_shown_without_one(ledger: Ledger) -> None:
    """Null, as add_credits takes it and get_balance shows it; drivers cannot read infinity."""
    account = ledger.account(10)
    seq = ledger.done("deduct_credits", account, 1)["seq"]
    assert ledger.call("get_balance", account)["next_expiry_at"] is None
    explained = ledger.scalar(
        "select expires_at::text from pgsaas.explain_deduction(%s, %s)", account, seq
    )
    assert explained is None


def test_an_open_grant_without_an_end_is_shown_without_one(ledger: Ledger) -> None:
    account = ledger.account(10)
    shown_end = ledger.scalar(
        "select expires_at::text from pgsaas.open_credit_grants where account_id = %s", account
    )
    assert shown_end is None


def test_lifetime_figures_count_grants_and_net_charges(ledger: Ledger) -> None:
    account = ledger.account(100)
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-03-11"))
    seq = ledger.done("deduct_credits", account, 40)["seq"]
    ledger.done("refund_credits", account, seq, 15)
    ledger.done("hold_credits", account, 20)
    ledger.done("capture_hold", account, 1, 12)
    ledger.done("adjust_credits", account, 5, "a reason")
    ledger.done("revoke_grant", account, 1, 3)
    ledger.at(day("2026-03-12"))
    shown_now = ledger.balance(account)
    assert (shown_now["lifetime_earned"], shown_now["lifetime_spent"]) == (110, 37)
    assert shown_now["balance"] == 110 - 37 + 5 - 3 - 10
