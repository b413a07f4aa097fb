"""Subscriptions: started, changed, canceled, resumed, and what each gives in credits."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from tests.sql.ledger import NOBODY, START, Ledger, day
from tests.sql.plans import (
    PLANS,
    USD,
    free,
    period,
    set_plans,
    settled,
    state,
    subscribed,
    subscription,
)


@pytest.fixture
def shop(ledger: Ledger) -> Ledger:
    set_plans(ledger)
    return ledger


def test_a_new_account_is_on_the_default_plan(shop: Ledger) -> None:
    account = shop.account()
    row = subscription(shop, account)
    assert (row["plan_id"], row["status"], row["has_access"]) == ("free", "active", True)
    assert (row["provider"], row["subscription_id"], row["unit_amount"]) == ("default", 1, None)
    assert (row["current_period_start"], row["current_period_end"]) == (
        START,
        day("2026-04-10 12:00"),
    )
    assert free(shop, account) == 100
    shop.after(days=31)
    assert shop.moves(account) == [("grant", 100)]
    assert free(shop, account) == 100
    assert period(shop, account)[0] == day("2026-04-10 12:00")


def test_without_a_default_plan_an_account_has_none(ledger: Ledger) -> None:
    account = ledger.account()
    assert ledger.call_all("get_subscription", account) == []
    set_plans(ledger)
    assert ledger.call_all("get_subscription", account) == []
    assert ledger.call("start_subscription", account, "pro")["subscription_id"] == 1


def test_a_subscription_begins_a_period_with_all_its_credits(shop: Ledger) -> None:
    account = shop.account(20)
    shop.after(days=10)
    shop.done("deduct_credits", account, 60)  # 20 bought, 40 of 100
    row = shop.call("start_subscription", account, "pro")
    assert (row["plan_id"], row["status"], row["provider"]) == ("pro", "active", "manual")
    assert (row["unit_amount"], row["currency"], row["monthly_allowance"]) == (2900, "usd", 1000)
    assert (row["current_period_start"], row["current_period_end"]) == (
        day("2026-03-20 12:00"), day("2026-04-20 12:00"))  # fmt: skip
    assert free(shop, account) == 1060
    shop.after(days=25)  # the old plan's credits end when they would have
    assert free(shop, account) == 1000
    shop.after(days=10)
    assert free(shop, account) == 1500
    former = shop.query("select status, ended_at from pgsaas.subscriptions order by 1 desc limit 1")
    assert former == [{"status": "canceled", "ended_at": day("2026-03-20 12:00")}]


def test_a_plan_that_replaces_takes_what_the_old_one_gave(shop: Ledger) -> None:
    account = shop.account(20)
    shop.call("start_subscription", account, "swap")
    assert shop.moves(account) == [("grant", 100), ("grant", 20), ("expiry", -100), ("grant", 5000)]
    assert free(shop, account) == 5020


def test_an_upgrade_grants_the_difference_now(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.done("deduct_credits", account, 700)
    shop.after(days=3)
    seen = shop.call("preview_change_plan", account, "max")
    assert (seen["is_upgrade"], seen["credits_now"], seen["monthly_allowance"]) == (
        True, 4000, 5000)  # fmt: skip
    assert seen["amount_now"] == round(7000 * Decimal(28) / 31)
    assert (seen["amount_next"], seen["currency"]) == (9900, "usd")
    before = free(shop, account)
    row = shop.call("change_plan", account, "max")
    assert (row["plan_id"], row["subscription_id"], row["unit_amount"]) == ("max", 2, 9900)
    assert free(shop, account) == before + 4000
    shop.after(days=29)
    assert free(shop, account) == before + 4000 + 5000


def test_an_upgrade_to_a_plan_that_replaces(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.done("deduct_credits", account, 700)
    seen = shop.call("preview_change_plan", account, "swap")
    assert (seen["credits_now"], seen["credits_expired"]) == (5000, 400)
    shop.call("change_plan", account, "swap")
    assert free(shop, account) == 5000


def test_a_downgrade_comes_at_the_end_of_what_was_paid_for(shop: Ledger) -> None:
    account = subscribed(shop, "max")
    shop.done("deduct_credits", account, 100 + 4300)
    seen = shop.call("preview_change_plan", account, "pro")
    end = day("2026-04-10 12:00")
    assert (seen["is_upgrade"], seen["change_at"], seen["credits_now"], seen["amount_now"]) == (
        False, end, 0, 0)  # fmt: skip
    row = shop.call("change_plan", account, "pro")
    assert (row["plan_id"], row["change_at"], row["next_plan"]["plan_id"]) == ("max", end, "pro")
    shop.at(end)
    assert state(shop, account) == ("pro", "active", True)
    assert free(shop, account) == 500 + 1000  # 700 were left, the new plan carries 500
    assert shop.call("get_subscription", account)["change_at"] is None
    settled(shop, account)
    assert free(shop, account) == 1500
    shop.at(day("2026-05-10 12:00"))
    assert free(shop, account) == 500 + 1000


def test_what_is_to_come_can_be_taken_back(shop: Ledger) -> None:
    account = subscribed(shop, "max")
    shop.call("change_plan", account, "pro")
    row = shop.call("resume_subscription", account)
    assert (row["change_at"], row["next_plan"]) == (None, None)
    shop.call("cancel_subscription", account)
    row = shop.call("resume_subscription", account)
    assert (row["cancel_at_period_end"], row["canceled_at"]) == (False, None)
    before = shop.state()
    shop.call("resume_subscription", account)  # nothing to take back
    assert shop.state() == before
    shop.after(days=31)
    assert state(shop, account)[:2] == ("max", "active")
    assert free(shop, account) == 10100


def test_canceled_it_works_until_the_end(shop: Ledger) -> None:
    account = subscribed(shop, "max")
    shop.done("add_credits", account, 7, p_source="purchase")
    row = shop.call("cancel_subscription", account, p_reason="too dear")
    assert (row["status"], row["cancel_at_period_end"], row["has_access"]) == ("active", True, True)
    assert row["canceled_at"] == START
    before = shop.state()
    shop.after(days=1)
    assert shop.call("cancel_subscription", account)["canceled_at"] == START  # said again
    assert {**shop.state(), "test_clock": None} == {**before, "test_clock": None}
    shop.at(day("2026-04-10 12:00"))
    assert state(shop, account) == ("free", "active", True)
    assert free(shop, account) == 107  # packs stay, the plan's go: free carries nothing on
    settled(shop, account)
    assert free(shop, account) == 107
    ended = shop.query("select status, ended_at from pgsaas.subscriptions where plan_id = 'max'")
    assert ended == [{"status": "canceled", "ended_at": day("2026-04-10 12:00")}]
    shop.at(day("2026-05-10 12:00"))
    assert free(shop, account) == 107


def test_canceled_at_once_its_credits_last_to_their_end(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.after(days=5)
    row = shop.call("cancel_subscription", account, p_at_period_end=False)
    assert (row["plan_id"], row["status"]) == ("free", "active")
    assert free(shop, account) == 1100
    shop.at(day("2026-04-10 12:00"))
    assert free(shop, account) == 100


def test_nothing_follows_where_there_is_no_default_plan(ledger: Ledger) -> None:
    set_plans(ledger, "pro")
    account = subscribed(ledger)
    ledger.call("cancel_subscription", account)
    ledger.after(days=100)
    assert state(ledger, account) == ("pro", "canceled", False)
    assert free(ledger, account) == 0
    settled(ledger, account)
    assert state(ledger, account) == ("pro", "canceled", False)
    assert ledger.rows(account) == [
        ("grant", 1000, START), ("expiry", -1000, day("2026-04-10 12:00"))]  # fmt: skip
    set_plans(ledger, "free")
    assert state(ledger, account) == ("pro", "canceled", False)
    assert ledger.call("start_subscription", account, "pro")["subscription_id"] == 2
    assert free(ledger, account) == 1000


def test_a_yearly_plan_grants_by_the_month(shop: Ledger) -> None:
    account = subscribed(shop, p_interval="year")
    assert period(shop, account) == (START, day("2027-03-10 12:00"))
    shop.call("cancel_subscription", account)
    for month in (4, 5, 6):
        shop.at(START.replace(month=month))
        assert free(shop, account) == 1500
    shop.at(day("2027-03-10 12:00"))  # nobody was there for nine months
    assert state(shop, account)[:2] == ("free", "active")
    assert free(shop, account) == 100
    settled(shop, account)
    granted = [move for move in shop.moves(account) if move[0] == "grant"]
    assert granted == [("grant", 100), *[("grant", 1000)] * 12, ("grant", 100)]


def test_monthly_becomes_yearly_now_and_yearly_monthly_later(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.at(day("2026-04-20 12:00"))
    seen = shop.call("preview_change_plan", account, p_interval="year")
    assert (seen["is_upgrade"], seen["credits_now"]) == (True, 0)
    assert seen["amount_now"] == round(29000 - 2900 * Decimal(20) / 30)
    shop.call("change_plan", account, p_interval="year")
    assert period(shop, account) == (day("2026-04-10 12:00"), day("2027-04-10 12:00"))
    row = shop.call("change_plan", account, p_interval="month")
    assert row["change_at"] == day("2027-04-10 12:00")
    shop.at(day("2027-04-11 12:00"))
    assert period(shop, account) == (day("2027-04-10 12:00"), day("2027-05-10 12:00"))


def test_seats_are_prorated(shop: Ledger) -> None:
    account = subscribed(shop, p_quantity=2)
    assert free(shop, account) == 2100
    shop.at(day("2026-03-26 00:00"))  # 15.5 of 31 days are left
    seen = shop.call("preview_change_plan", account, p_quantity=5)
    assert (seen["credits_now"], seen["amount_now"]) == (1500, 4350)
    shop.call("change_plan", account, p_quantity=5)
    assert free(shop, account) == 3600
    row = shop.call("change_plan", account, p_quantity=3)  # fewer later
    assert (row["quantity"], row["next_plan"]["quantity"]) == (5, 3)
    shop.at(day("2026-04-10 12:00"))
    assert free(shop, account) == 1500 + 3000


def test_a_contract_has_terms_of_its_own(shop: Ledger) -> None:
    account = subscribed(shop, "max", p_allowance=250_000, p_currency="eur", p_unit_amount=120_000)
    row = subscription(shop, account)
    assert (row["monthly_allowance"], row["currency"], row["unit_amount"]) == (
        250_000, "eur", 120_000)  # fmt: skip
    shop.call("change_plan", account, p_allowance=300_000)
    row = subscription(shop, account)
    assert (row["monthly_allowance"], row["currency"], row["unit_amount"]) == (
        300_000, "eur", 120_000)  # fmt: skip
    shop.call("set_plan", "max", PLANS["max"] | {"allowance": 9})
    shop.after(days=31)
    assert free(shop, account) == 100 + 600_000


def test_a_subscriber_keeps_what_they_bought(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.call("set_plan", "pro", PLANS["pro"] | {"allowance": 1, "prices": []})
    shop.after(days=31)
    assert free(shop, account) == 1500
    shop.call("change_plan", account, p_quantity=2)
    row = subscription(shop, account)
    assert (row["plan_version"], row["unit_amount"], row["monthly_allowance"]) == (1, 2900, 2000)
    other = subscribed(shop)
    assert (free(shop, other), subscription(shop, other)["plan_version"]) == (101, 2)


def test_subscribers_are_moved_to_new_terms(shop: Ledger) -> None:
    accounts = [subscribed(shop, p_quantity=n) for n in (1, 2)]
    contract = subscribed(shop, p_allowance=7, p_currency="usd", p_unit_amount=50)
    shop.call(
        "set_plan", "pro", PLANS["pro"] | {"allowance": 1500, "prices": [USD | {"amount": 1}]}
    )
    assert shop.call("migrate_subscribers", "pro", 1) == {"migrated": 1, "remaining": 2}
    assert shop.call("migrate_subscribers", "pro") == {"migrated": 2, "remaining": 0}
    assert shop.call("migrate_subscribers", "pro") == {"migrated": 0, "remaining": 0}
    assert [free(shop, account) for account in accounts] == [1600, 3100]
    assert free(shop, contract) == 107
    assert subscription(shop, accounts[0])["unit_amount"] == 1
    assert subscription(shop, contract)["unit_amount"] == 50
    shop.call("change_plan", accounts[1], p_quantity=1)
    shop.call("set_plan", "pro", PLANS["pro"] | {"allowance": 10})
    shop.call("migrate_subscribers", "pro")
    assert subscription(shop, accounts[1])["next_plan"]["plan_version"] == 3
    assert free(shop, accounts[0]) == 1600
    shop.after(days=31)
    assert free(shop, accounts[0]) == 500 + 10
    with shop.raises("PT404"):
        shop.call("migrate_subscribers", "gold")


def test_accounts_that_were_there_before_get_the_default_plan(ledger: Ledger) -> None:
    accounts = [ledger.account() for _ in range(3)]
    gone = ledger.account(p_email="gone@example.com")
    ledger.call("erase_account", gone, "asked for")
    back = ledger.account(p_email="gone@example.com")
    with ledger.raises("PT422"):
        ledger.call("assign_default_plan")
    set_plans(ledger)
    ledger.call("start_subscription", accounts[0], "pro")
    assert ledger.call("assign_default_plan", 1) == {"assigned": 1, "remaining": 2}
    assert ledger.call("assign_default_plan") == {"assigned": 2, "remaining": 0}
    assert (state(ledger, back)[0], free(ledger, back)) == ("free", 0)
    assert sorted(free(ledger, account) for account in accounts) == [100, 100, 1000]
    assert ledger.call("assign_default_plan") == {"assigned": 0, "remaining": 0}


def test_a_trial_expires_unless_it_was_paid_for(shop: Ledger) -> None:
    tries, pays = (subscribed(shop, p_is_trial=True) for _ in range(2))
    row = subscription(shop, tries)
    assert (row["status"], row["trial_ends_at"]) == ("trialing", START + timedelta(days=14))
    assert (row["current_period_end"], row["has_access"]) == (START + timedelta(days=14), True)
    assert shop.call("get_balance", tries)["by_source"] == {"trial": 1000, "allowance": 100}
    assert shop.call("set_subscription_status", pays, "active")["status"] == "trialing"
    shop.after(days=14)
    assert state(shop, tries) == ("free", "active", True)
    assert state(shop, pays) == ("pro", "active", True)
    assert (free(shop, tries), free(shop, pays)) == (100 + 100, 100 + 1000)
    for account in (tries, pays):
        settled(shop, account)
    assert (free(shop, tries), free(shop, pays)) == (100 + 100, 100 + 1000)
    expired = shop.query("select ended_at from pgsaas.subscriptions where status = 'expired'")
    assert expired == [{"ended_at": START + timedelta(days=14)}]
    assert period(shop, pays) == (day("2026-03-24 12:00"), day("2026-04-24 12:00"))
    with shop.raises("PT422") as caught:
        shop.call("start_subscription", tries, "pro", p_is_trial=True)
    assert "a trial is for accounts that have had no subscription" in str(caught.value)


def test_past_due_keeps_credits_and_gets_none(shop: Ledger) -> None:
    pays, leaves = (subscribed(shop) for _ in range(2))
    shop.after(days=28)
    for account in (pays, leaves):
        assert shop.call("set_subscription_status", account, "past_due")["has_access"]
    shop.after(days=5)  # the reset came meanwhile, and granted nothing
    assert state(shop, pays) == ("pro", "past_due", True)
    assert free(shop, pays) == 500
    shop.call("set_subscription_status", pays, "active")
    assert free(shop, pays) == 1500
    shop.call("set_subscription_status", pays, "past_due")
    shop.call("set_subscription_status", pays, "active")
    assert free(shop, pays) == 1500  # once a month
    shop.after(days=2)  # seven days of grace
    assert state(shop, leaves) == ("pro", "unpaid", False)
    assert free(shop, leaves) == 500
    settled(shop, leaves)
    assert (state(shop, leaves), free(shop, leaves)) == (("pro", "unpaid", False), 500)
    shop.at(day("2026-05-10 12:00"))
    assert (free(shop, leaves), free(shop, pays)) == (500, 1500)  # what rolled over stays
    shop.call("set_subscription_status", leaves, "canceled")
    assert (state(shop, leaves), free(shop, leaves)) == (("free", "active", True), 600)


def test_who_pays_after_the_grace_has_all_again(shop: Ledger) -> None:
    late, early = (
        subscribed(shop, p_allowance=700, p_unit_amount=5, p_currency="usd") for _ in range(2)
    )
    for account in (late, early):
        shop.call("set_subscription_status", account, "past_due")
    shop.after(days=7)
    settled(shop, early)
    shop.at(day("2026-06-20"))
    assert free(shop, late) == free(shop, early) == 500
    for account in (late, early):
        row = shop.call("set_subscription_status", account, "active")
        assert (row["monthly_allowance"], row["unit_amount"], row["has_access"]) == (700, 5, True)
        assert free(shop, account) == 1200
    assert shop.rows(late) == shop.rows(early)


@pytest.mark.parametrize("status", ["unpaid", "paused"])
def test_who_does_not_pay_has_no_access_and_gets_nothing(shop: Ledger, status: str) -> None:
    account = subscribed(shop)
    shop.call("set_subscription_status", account, status)
    assert state(shop, account) == ("pro", status, False)
    assert free(shop, account) == 1100
    shop.at(day("2026-06-20"))
    assert (state(shop, account)[1], free(shop, account)) == (status, 500)
    shop.call("set_subscription_status", account, "active")
    assert (state(shop, account)[1], free(shop, account)) == ("active", 1500)


#: What somebody may say of a subscription, by its state.
ALLOWED = {
    "trialing": {"active", "canceled", "expired"},
    "active": {"active", "past_due", "unpaid", "paused", "canceled", "expired"},
    "past_due": {"active", "past_due", "unpaid", "paused", "canceled", "expired"},
    "unpaid": {"active", "past_due", "unpaid", "canceled", "expired"},
    "paused": {"active", "paused", "canceled", "expired"},
}


@pytest.mark.parametrize(
    "said", ["active", "past_due", "unpaid", "paused", "canceled", "cancelled", "expired"]
)
@pytest.mark.parametrize("status", ALLOWED)
def test_every_transition(shop: Ledger, status: str, said: str) -> None:
    account = subscribed(shop, p_is_trial=status == "trialing")
    if status not in ("trialing", "active"):
        shop.call("set_subscription_status", account, status)
    wanted = "canceled" if said == "cancelled" else said
    if wanted not in ALLOWED[status]:
        with shop.raises("PT422"):
            shop.call("set_subscription_status", account, said)
        return
    row = shop.call("set_subscription_status", account, said, p_reason="so it is")
    stored = shop.query("select status from pgsaas.subscriptions where plan_id = 'pro'")[0]
    if wanted in ("canceled", "expired"):
        assert (stored["status"], row["plan_id"]) == (wanted, "free")
    else:
        stays = status == "trialing" or (status, said) == ("unpaid", "past_due")
        assert row["status"] == (status if stays else wanted)
        again = shop.state()
        shop.call("set_subscription_status", account, said)
        assert shop.state() == again


def test_circles_between_plans_grant_nothing(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.call("change_plan", account, "max")
    best = free(shop, account)
    for _ in range(3):
        shop.call("change_plan", account, "pro", p_at_period_end=False)
        shop.call("change_plan", account, "max")
        shop.call("cancel_subscription", account, p_at_period_end=False)
        shop.call("start_subscription", account, "max")
        shop.call("change_plan", account, "swap")
        shop.call("change_plan", account, "max", p_at_period_end=False)
        shop.call("change_plan", account, p_interval="year")
        shop.call("change_plan", account, p_interval="month", p_at_period_end=False)
        assert free(shop, account) == best
    assert period(shop, account)[1] == day("2026-04-10 12:00")
    shop.after(days=31)
    assert free(shop, account) == best + 5000


def test_one_that_was_canceled_early_counts_until_its_end(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.after(days=29)
    shop.call("cancel_subscription", account, p_at_period_end=False)
    shop.call("start_subscription", account, "max")
    assert free(shop, account) == 100 + 1000 + 4000
    assert period(shop, account) == (START, day("2026-04-10 12:00"))
    shop.at(day("2026-04-12"))
    shop.call("cancel_subscription", account, p_at_period_end=False)
    shop.at(day("2026-05-12"))
    shop.call("start_subscription", account, "pro")
    assert period(shop, account) == (day("2026-05-12"), day("2026-06-12"))


def test_one_that_ended_in_time_has_been_used_up(shop: Ledger) -> None:
    left, tried = subscribed(shop), subscribed(shop, p_is_trial=True)
    shop.call("cancel_subscription", left)
    shop.at(day("2026-04-12"))
    for account in (left, tried):
        before = free(shop, account)
        shop.call("start_subscription", account, "pro")
        assert period(shop, account) == (day("2026-04-12"), day("2026-05-12"))
        assert free(shop, account) == before + 1000


def test_a_trial_that_was_left_early_was_not_paid_for(shop: Ledger) -> None:
    account = subscribed(shop, p_is_trial=True)
    shop.after(days=2)
    shop.call("cancel_subscription", account, p_at_period_end=False)
    shop.call("start_subscription", account, "pro")
    assert period(shop, account) == (day("2026-03-12 12:00"), day("2026-04-12 12:00"))
    assert free(shop, account) == 100 + 1000 + 1000


def test_who_ends_it_as_an_interval_begins_has_had_that_one(shop: Ledger) -> None:
    canceled, expired = subscribed(shop, "max"), subscribed(shop, "max")
    shop.at(day("2026-04-10 12:00"))
    shop.call("cancel_subscription", canceled, p_at_period_end=False)
    shop.call("set_subscription_status", expired, "expired")
    for account in (canceled, expired):
        before = free(shop, account)
        shop.call("start_subscription", account, "max")
        assert free(shop, account) == before


def test_it_starts_again_where_no_month_runs_any_more(ledger: Ledger) -> None:
    set_plans(ledger, "pro")
    late, early = (subscribed(ledger, p_interval="year") for _ in range(2))
    for account in (late, early):
        ledger.call("cancel_subscription", account, p_at_period_end=False)
    ledger.at(day("2026-06-20"))
    settled(ledger, early)
    for account in (late, early):
        ledger.call("start_subscription", account, "pro")
        assert period(ledger, account) == (day("2026-06-20"), day("2026-07-20"))
        assert free(ledger, account) == 1000
    assert ledger.rows(late) == ledger.rows(early)


def test_what_ended_as_it_began_shows_the_interval_it_began_in(ledger: Ledger) -> None:
    set_plans(ledger, "pro")
    account = subscribed(ledger)
    ledger.call("cancel_subscription", account, p_at_period_end=False)
    assert period(ledger, account) == (START, day("2026-04-10 12:00"))


def test_a_lower_plan_comes_to_who_is_past_due_and_the_grace_goes_on(shop: Ledger) -> None:
    account = subscribed(shop, "max")
    shop.call("change_plan", account, "pro")
    shop.at(day("2026-04-08 12:00"))
    shop.call("set_subscription_status", account, "past_due")
    shop.at(day("2026-04-10 12:00"))
    assert (state(shop, account), free(shop, account)) == (("pro", "past_due", True), 500)
    shop.at(day("2026-04-11 12:00"))  # max has given three days
    assert (state(shop, account), free(shop, account)) == (("pro", "unpaid", False), 500)
    shop.at(day("2026-06-20"))
    settled(shop, account)
    assert shop.rows(account, 2) == [("expiry", -4600, day("2026-04-10 12:00"))]


def test_a_default_plan_that_comes_after_an_end_was_decided_does_not_follow(
    ledger: Ledger,
) -> None:
    set_plans(ledger, "pro")
    account = subscribed(ledger)
    ledger.call("cancel_subscription", account)
    ledger.at(day("2026-05-20"))
    set_plans(ledger, "free")
    for _ in range(2):
        assert state(ledger, account) == ("pro", "canceled", False)
        assert free(ledger, account) == 0
        settled(ledger, account)
    assert ledger.call("assign_default_plan") == {"assigned": 1, "remaining": 0}
    assert free(ledger, account) == 100
    ledger.at(day("2026-06-11"))
    assert ledger.call("start_subscription", account, "pro")["plan_id"] == "pro"
    assert free(ledger, account) == 1100


def test_what_follows_is_what_was_the_default_plan_when_the_end_was_decided(shop: Ledger) -> None:
    late, early = (subscribed(shop) for _ in range(2))
    for account in (late, early):
        shop.call("cancel_subscription", account)
    shop.call("set_plan", "free", {"allowance": 200})
    shop.at(day("2026-04-10 12:00"))
    settled(shop, early)
    shop.at(day("2026-08-20"))
    for account in (late, early):
        assert state(shop, account) == ("free", "active", True)
        assert subscription(shop, account)["plan_version"] == 1
        assert free(shop, account) == 100
        settled(shop, account)
    assert shop.rows(late) == shop.rows(early)


def test_seats_of_a_trial_are_prorated_by_what_is_left_of_it(shop: Ledger) -> None:
    account = subscribed(shop, p_is_trial=True)
    shop.call("change_plan", account, p_quantity=2)
    assert free(shop, account) == 100 + 2000
    shop.after(days=7)
    assert shop.call("preview_change_plan", account, p_quantity=3)["credits_now"] == 500
    shop.call("change_plan", account, p_quantity=3)
    assert free(shop, account) == 100 + 2500


def test_what_is_prorated_is_exact(shop: Ledger) -> None:
    shop.at(day("2028-02-29 23:59:59.499999"))
    shop.call("set_plan", "max", PLANS["max"] | {"trial_days": 30})
    account = subscribed(shop, "max", p_is_trial=True)
    shop.at(day("2028-03-15 17:59:59.499999"))  # 61 of 120 quarters of a day are left
    seen = shop.call("preview_change_plan", account, p_quantity=7)
    assert seen["credits_now"] == 15250
    shop.call("change_plan", account, p_quantity=7)
    assert free(shop, account) == 5000 + 15250 + 100


@pytest.mark.parametrize(
    ("began", "ends"),
    [
        ("2028-01-31", ["2028-02-29", "2028-03-31", "2028-04-30"]),
        ("2027-01-30", ["2027-02-28", "2027-03-30", "2027-04-30"]),
        ("2028-02-29", ["2028-03-29", "2028-04-29", "2028-05-29"]),
        ("2027-12-31 23:59", ["2028-01-31 23:59", "2028-02-29 23:59", "2028-03-31 23:59"]),
    ],
)
def test_months_end_where_their_anchor_says(shop: Ledger, began: str, ends: list[str]) -> None:
    shop.at(day(began))
    account = subscribed(shop)
    for end in ends:
        assert period(shop, account)[1] == day(end)
        moment = shop.at(day(end))
        found = shop.scalar("select pgsaas.next_period(%s, %s)", day(began), moment)
        assert found == period(shop, account)[1]
        assert shop.call("get_balance", account)["next_reset_at"] == found


def test_a_leap_day_has_its_years(shop: Ledger) -> None:
    shop.at(day("2028-02-29"))
    account = subscribed(shop, p_interval="year")
    for start, end in (("2028-02-29", "2029-02-28"), ("2029-02-28", "2030-02-28"),
                       ("2031-02-28", "2032-02-29")):  # fmt: skip
        shop.at(day(start))
        assert period(shop, account) == (day(start), day(end))
        assert shop.scalar("select pgsaas.next_period(%s, %s, 'year')", day("2028-02-29"),
                           day(start)) == day(end)  # fmt: skip


def test_a_period_may_be_counted_from_the_first_of_the_month(shop: Ledger) -> None:
    account = subscribed(shop, p_anchor=day("2026-03-01"))
    assert period(shop, account) == (day("2026-03-01"), day("2026-04-01"))
    assert free(shop, account) == 1100


WRONG = [
    ("22023", {"p_interval": "week"}),
    ("22023", {"p_quantity": 0}),
    ("22023", {"p_quantity": 1_000_001}),
    ("22023", {"p_quantity": 1_000_000, "p_allowance": 10**12}),
    ("22023", {"p_allowance": -1}),
    ("22023", {"p_allowance": Decimal("0.0000001")}),
    ("22023", {"p_allowance": Decimal("NaN")}),
    ("22023", {"p_unit_amount": -1, "p_currency": "usd"}),
    ("22023", {"p_unit_amount": 10**8, "p_currency": "usd"}),
    ("22023", {"p_unit_amount": 1, "p_currency": "dollar"}),
    ("22023", {"p_anchor": day("2027-01-01")}),
    ("PT422", {"p_currency": "eur"}),
    ("PT404", {"p_plan_id": "gold"}),
    ("PT404", {"p_plan_id": None}),
    ("PT404", {"p_account_id": NOBODY}),
]


@pytest.mark.parametrize(("sqlstate", "named"), WRONG)
def test_what_cannot_be_started(shop: Ledger, sqlstate: str, named: dict[str, object]) -> None:
    asked: dict[str, object] = {"p_account_id": shop.account(), "p_plan_id": "pro"}
    with shop.raises(sqlstate):
        shop.call("start_subscription", **(asked | named))


def test_what_cannot_be(shop: Ledger) -> None:
    account = subscribed(shop)
    other = shop.account()
    for sqlstate, function, *arguments in [
        ("PT409", "start_subscription", account, "max"),
        ("PT409", "change_plan", account, "pro"),
        ("PT404", "change_plan", account, "gold"),
        ("PT422", "change_plan", other),
        ("PT422", "change_plan", other, None, None, 2),
        ("PT422", "change_plan", other, "pro", None, None, None, None, True),
        ("PT409", "change_plan", other, "free"),
        ("PT409", "preview_change_plan", other, "free"),
        ("PT422", "cancel_subscription", other),
        ("PT422", "resume_subscription", other),
        ("PT422", "set_subscription_status", other, "past_due"),
        ("22023", "set_subscription_status", account, "trialing"),
        ("22023", "set_subscription_status", account, None),
        ("PT422", "start_subscription", other, "max", "month", 1, True),
    ]:
        with shop.raises(str(sqlstate)):
            shop.call(str(function), *arguments)
    shop.call("retire_plan", "max")
    with shop.raises("PT422"):
        shop.call("change_plan", account, "max")
    shop.call("set_plan", "max", PLANS["max"] | {"prices": [USD | {"currency": "eur"}]})
    with shop.raises("PT422") as caught:
        shop.call("change_plan", account, "max")
    assert 'the plan "max" has no price per month in usd' in str(caught.value)
    shop.call("set_subscription_status", account, "past_due")
    with shop.raises("PT422"):
        shop.call("change_plan", account, "swap")


def test_a_clock_that_was_moved_back_changes_nothing(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.call("cancel_subscription", account)
    shop.at(day("2026-04-10 12:00"))
    settled(shop, account)
    shop.done("deduct_credits", account, 1)
    shop.at(START)
    assert state(shop, account) == ("free", "active", True)
    row = shop.call("start_subscription", account, "pro")
    assert row["started_at"] == day("2026-04-10 12:00")


def test_an_erased_person_is_on_no_plan(shop: Ledger) -> None:
    account = subscribed(shop, p_is_trial=True)
    shop.call("erase_account", account, "asked for")
    assert state(shop, account) == ("pro", "canceled", False)
    with shop.raises("PT422"):
        shop.call("start_subscription", account, "pro")
    shop.after(days=100)
    assert free(shop, account) == 1000 + 100 - 1100


def test_changes_are_facts_and_are_audited(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.call("change_plan", account, "max")
    shop.call("cancel_subscription", account, True, "too dear")
    shop.after(days=31)
    settled(shop, account)
    facts = shop.query(
        "select payload ->> 'plan' as plan, payload ->> 'status' as status"
        " from pgsaas.outbox_messages where topic = 'subscription.changed'"
        " order by outbox_message_id"
    )
    assert [(fact["plan"], fact["status"]) for fact in facts] == [
        ("free", "active"), ("free", "canceled"), ("pro", "active"), ("max", "active"),
        ("max", "active"), ("max", "canceled"), ("free", "active"),
    ]  # fmt: skip
    acts = shop.query(
        "select action, details ->> 'reason' as reason from pgsaas.audit_events"
        " where action ~ '^subscription' order by audit_event_id"
    )
    assert [(act["action"], act["reason"]) for act in acts] == [
        ("subscription.started", None), ("subscription.changed", None),
        ("subscription.canceled", "too dear"),
    ]  # fmt: skip


def test_verify_finds_nothing_wrong(shop: Ledger) -> None:
    accounts: list[UUID] = [subscribed(shop, "pro", p_is_trial=n % 2 == 0) for n in range(4)]
    shop.call("change_plan", accounts[1], "max")
    shop.call("cancel_subscription", accounts[3])
    for _ in range(5):
        shop.after(days=13)
        for account in accounts:
            settled(shop, account)
            shop.call("deduct_credits", account, 333)
        assert shop.call_all("verify_ledger") == []


def test_steps_have_a_limit_of_at_least_one(ledger: Ledger) -> None:
    set_plans(ledger)
    for function, arguments in (
        ("assign_default_plan", [0]),
        ("migrate_subscribers", ["pro", -1]),
        ("reset_monthly_credits", [0]),
        ("run_due", [0]),
    ):
        with ledger.raises("22023"):
            ledger.call(function, *arguments)


def test_the_default_plan_is_not_granted_again_by_name(ledger: Ledger) -> None:
    set_plans(ledger)
    account = ledger.account()
    before = free(ledger, account)
    with ledger.raises("PT409"):
        ledger.call("start_subscription", account, "free")
    ledger.call("start_subscription", account, "pro")
    ledger.call("cancel_subscription", account, p_at_period_end=False)
    with ledger.raises("PT409"):
        ledger.call("start_subscription", account, "free")
    contract = ledger.call("start_subscription", account, "free", p_allowance=500)
    assert contract["monthly_allowance"] == 500
    assert before > 0


def test_a_price_of_its_own_is_in_the_currency_of_the_plan(ledger: Ledger) -> None:
    dollars = {"interval": "month", "currency": "usd", "amount": 900}
    ledger.call("set_plan", "one", {"prices": [dollars]})
    ledger.call("set_plan", "two", {"prices": [dollars, {**dollars, "currency": "eur"}]})
    ledger.call("set_plan", "none", {})
    row = ledger.call("start_subscription", ledger.account(), "one", p_unit_amount=100)
    assert (row["currency"], row["unit_amount"]) == ("usd", 100)
    for plan in ("two", "none"):
        with ledger.raises("22023"):
            ledger.call("start_subscription", ledger.account(), plan, p_unit_amount=100)


@pytest.mark.parametrize(("plan", "gone"), [("pro", 0), ("swap", 60)])
def test_from_the_default_plan_a_change_is_a_start(shop: Ledger, plan: str, gone: int) -> None:
    changes, starts = (shop.account() for _ in range(2))
    for account in (changes, starts):
        shop.done("deduct_credits", account, 40)
        shop.after(days=3)
    seen = shop.call("preview_change_plan", changes, plan, p_quantity=2)
    assert (seen["is_upgrade"], seen["change_at"]) == (True, shop.scalar("select pgsaas.now()"))
    assert (seen["credits_now"], seen["credits_expired"]) == (seen["monthly_allowance"], gone)
    assert seen["amount_now"] == seen["amount_next"]
    changed = shop.call("change_plan", changes, plan, p_quantity=2)
    started = shop.call("start_subscription", starts, plan, p_quantity=2)
    assert changed | {"account_id": None} == started | {"account_id": None}
    assert free(shop, changes) == free(shop, starts) == 60 - gone + seen["credits_now"]


@pytest.mark.parametrize("in_time", [True, False])
def test_what_follows_an_end_is_decided_with_it_and_not_by_time(
    shop: Ledger, in_time: bool
) -> None:
    account = subscribed(shop, "max")
    shop.after(days=5)
    shop.call("set_subscription_status", account, "past_due")
    shop.call("cancel_subscription", account)
    shop.after(days=1)
    shop.call("set_plan", "free", PLANS["free"] | {"default": False})
    shop.call("set_plan", "other", {"default": True, "allowance": 7})
    shop.after(days=2)  # three days of grace
    if in_time:
        settled(shop, account)
    assert state(shop, account) == ("max", "unpaid", False)
    shop.after(days=40)
    assert state(shop, account) == ("free", "active", True)
    settled(shop, account)
    assert shop.call("get_balance", account)["by_source"]["allowance"] == 100


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_migration_reaches_whom_the_plan_has_come_to_meanwhile(
    shop: Ledger, is_settled: bool
) -> None:
    account = subscribed(shop, "max")
    shop.call("change_plan", account, "pro")
    shop.after(days=40)
    if is_settled:
        settled(shop, account)
    shop.call("set_plan", "pro", PLANS["pro"] | {"allowance": 1500})
    assert shop.call("migrate_subscribers", "pro") == {"migrated": 1, "remaining": 0}
    settled(shop, account)
    assert subscription(shop, account)["monthly_allowance"] == 1500


def test_a_migration_reaches_who_has_fallen_to_the_default_plan_meanwhile(shop: Ledger) -> None:
    account = subscribed(shop)
    shop.call("cancel_subscription", account)
    shop.after(days=40)
    shop.call("set_plan", "free", PLANS["free"] | {"allowance": 150})
    assert shop.call("migrate_subscribers", "free") == {"migrated": 1, "remaining": 0}
    assert subscription(shop, account)["monthly_allowance"] == 150


def test_a_migration_reaches_whom_the_plan_is_to_come_to(shop: Ledger) -> None:
    account = subscribed(shop, "max")
    shop.call("change_plan", account, "pro")
    terms = PLANS["pro"] | {"allowance": 1500, "prices": [USD | {"amount": 3900}]}
    shop.call("set_plan", "pro", terms)
    assert shop.call("migrate_subscribers", "pro") == {"migrated": 1, "remaining": 0}
    shop.after(days=40)
    settled(shop, account)
    row = subscription(shop, account)
    assert (row["plan_id"], row["monthly_allowance"], row["unit_amount"]) == ("pro", 1500, 3900)


@pytest.mark.parametrize("is_settled", [True, False])
def test_the_default_plan_reaches_whose_subscription_has_ended_meanwhile(
    ledger: Ledger, is_settled: bool
) -> None:
    ledger.call("set_plan", "pro", PLANS["pro"])
    account = subscribed(ledger)
    ledger.call("cancel_subscription", account)
    ledger.call("set_plan", "free", PLANS["free"])
    ledger.after(days=40)
    if is_settled:
        settled(ledger, account)
    assert ledger.call("assign_default_plan") == {"assigned": 1, "remaining": 0}
    assert state(ledger, account) == ("free", "active", True)
    assert free(ledger, account) == 100


def test_one_who_cannot_be_migrated_keeps_nobody_else_from_it(shop: Ledger) -> None:
    shop.call("set_plan", "pro", PLANS["pro"] | {"prices": []})
    accounts = [subscribed(shop, p_quantity=1_000_000), subscribed(shop), subscribed(shop)]
    shop.call("set_plan", "pro", PLANS["pro"] | {"prices": [], "allowance": 1_000_001})
    moved = [shop.call("migrate_subscribers", "pro", 1)["migrated"] for _ in range(3)]
    assert moved == [1, 1, 0]
    versions = [subscription(shop, account)["plan_version"] for account in accounts]
    assert versions == [2, 3, 3]


@pytest.mark.parametrize("anchor", ["-infinity", "0044-03-15 BC", "infinity"])
def test_periods_are_counted_from_a_time_of_ours(shop: Ledger, anchor: str) -> None:
    with shop.raises("22023"):
        shop.call("start_subscription", shop.account(), "pro", p_anchor=anchor)


def test_who_is_to_get_the_plan_is_counted_among_those_who_remain(shop: Ledger) -> None:
    for account in (subscribed(shop, "max") for _ in range(3)):
        shop.call("change_plan", account, "pro")
    shop.call("set_plan", "pro", PLANS["pro"] | {"allowance": 1500})
    left = [shop.call("migrate_subscribers", "pro", 1)["remaining"] for _ in range(4)]
    assert left == [2, 1, 0, 0]
