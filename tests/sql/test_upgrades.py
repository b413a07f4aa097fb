"""Upgrades within one month: whatever the way, a month grants each credit of an allowance once.

A month of thirty days, so that ten days are a third of it.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from tests.sql.ledger import Ledger
from tests.sql.plans import free, settled

DAY_0 = datetime.fromisoformat("2026-04-01T00:00+00:00")
NOW: dict[str, Any] = {"p_at_period_end": False}
#: What a unit gets a month, how dear it is, and what an upgrade to it does.
PLANS: dict[str, dict[str, Any]] = {
    "small": {"rank": 1, "allowance": 300},
    "large": {"rank": 2, "allowance": 3000},
    "huge": {"rank": 3, "allowance": 6000},
    "part": {"rank": 2, "allowance": 3000, "on_upgrade": "prorate"},
    "fresh": {"rank": 2, "allowance": 3000, "on_upgrade": "replace"},
    "clean": {"rank": 2, "allowance": 3000, "on_upgrade": "replace"},
    "try": {"rank": 1, "allowance": 300, "trial_days": 30},
}


@pytest.fixture
def shop(ledger: Ledger) -> Ledger:
    for name, terms in PLANS.items():
        ledger.call("set_plan", name, terms)
    ledger.at(DAY_0)
    return ledger


def customer(shop: Ledger, plan: str = "small", units: int = 1, **named: object) -> UUID:
    account = shop.account()
    shop.call("start_subscription", account, plan, p_quantity=units, **named)
    return account


def granted(shop: Ledger, account: UUID) -> Decimal:
    """All that was granted so far."""
    return sum(
        (amount for kind, amount, _ in shop.rows(account) if kind == "grant"), start=Decimal(0)
    )


def change(
    shop: Ledger, account: UUID, plan: str | None = None, units: int | None = None, **named: object
) -> int:
    """Change the plan, as previewed; what that granted."""
    settled(shop, account)
    before, had = granted(shop, account), free(shop, account)
    seen = shop.call("preview_change_plan", account, p_plan_id=plan, p_quantity=units, **named)
    shop.call("change_plan", account, p_plan_id=plan, p_quantity=units, **named)
    more = granted(shop, account) - before
    assert more == seen["credits_now"]
    assert free(shop, account) == had + more - seen["credits_expired"]
    return int(more)


#: Credits granted half through a month: on_upgrade of the dearer plan, units before and after.
UPGRADES = [
    ("keep", 1, 1, 2700), ("keep", 1, 3, 5700), ("keep", 3, 3, 8100), ("keep", 3, 1, 2100),
    ("replace", 1, 1, 3000), ("replace", 1, 3, 6000), ("replace", 3, 1, 3000),
    ("prorate", 1, 1, 1350), ("prorate", 1, 3, 4350), ("prorate", 3, 3, 4050),
]  # fmt: skip


@pytest.mark.parametrize(("on_upgrade", "before", "after", "expected"), UPGRADES)
def test_an_upgrade_grants_in_full_or_for_the_rest_of_the_month(
    shop: Ledger, on_upgrade: str, before: int, after: int, expected: int
) -> None:
    plan = {"keep": "large", "replace": "fresh", "prorate": "part"}[on_upgrade]
    account = customer(shop, units=before)
    shop.after(days=15)
    assert change(shop, account, plan, after) == expected
    shop.after(days=16)
    assert free(shop, account) == 3000 * after


#: Ways to ten units of the dearer plan on day 20, by steps of day, plan and units.
WAYS: dict[str, list[tuple[int, str | None, int | None]]] = {
    "in one call": [(20, "large", 10)],
    "units first": [(20, None, 10), (20, "large", None)],
    "the plan first": [(20, "large", None), (20, None, 10)],
    "unit by unit": [(20, None, 4), (20, "large", 7), (20, None, 10)],
    "up, down and up again": [(20, None, 30), (20, "small", 1), (20, "large", 10)],
    "there and back": [(20, "large", None), (20, "small", 10), (20, "large", 10)],
    "the plan ten days before": [(10, "large", None), (20, None, 10)],
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_to_a_plan_grants_more_than_the_direct_one(shop: Ledger, way: str) -> None:
    account, today = customer(shop), 0
    for day, plan, units in WAYS[way]:
        shop.after(days=day - today)
        today = day
        change(shop, account, plan, units, **NOW)
    # one unit has 3000 for the whole month, nine have 3000 for a third of it
    assert granted(shop, account) == 3000 + 9000
    shop.after(days=11)
    assert free(shop, account) == 30_000


def test_units_that_came_earlier_have_had_more(shop: Ledger) -> None:
    account = customer(shop)
    shop.after(days=10)
    assert change(shop, account, units=10) == 1800
    shop.after(days=10)
    # the first 3000 are one unit's now, in full; all above them come for a third of the month
    assert change(shop, account, "large") == 900 + 9000
    assert change(shop, account, "huge") == 3000 + (60_000 - 6000 - 24_000) // 3 - 1000


def test_more_units_of_a_small_plan_do_not_buy_a_large_one(shop: Ledger) -> None:
    account = customer(shop, "large")
    assert change(shop, account, "small", 5, **NOW) == 0
    shop.after(days=20)
    assert change(shop, account, "large", 5) == 4 * 1000


def test_fewer_units_for_a_while_lose_nothing(shop: Ledger) -> None:
    account = customer(shop, "large", 5)
    shop.after(days=10)
    assert change(shop, account, units=1, **NOW) == 0
    shop.after(days=10)
    assert change(shop, account, "huge", 5) == 15_000


def test_a_plan_that_came_for_a_part_of_the_month_is_completed_by_one_in_full(
    shop: Ledger,
) -> None:
    account = customer(shop)
    shop.after(days=20)
    assert change(shop, account, "part") == 900
    assert change(shop, account, "huge") == 6000 - 300 - 900


def test_a_plan_replaces_once_a_month(shop: Ledger) -> None:
    account = customer(shop)
    shop.done("deduct_credits", account, 300)
    shop.after(days=20)
    assert change(shop, account, "fresh", 2) == 3000 + 1000
    shop.done("deduct_credits", account, 4000)
    for plan, units in (("clean", 3), ("fresh", 4), ("clean", 5)):
        assert change(shop, account, plan, units) == 1000
        shop.done("deduct_credits", account, 1000)
    shop.after(days=10)
    assert free(shop, account) == 15_000
    assert change(shop, account, "fresh", 6) == 18_000  # another month
    assert free(shop, account) == 18_000


def test_a_plan_may_replace_after_units_were_added(shop: Ledger) -> None:
    account = customer(shop)
    shop.after(days=20)
    assert change(shop, account, units=4) == 300
    assert change(shop, account, "fresh") == 3000 + 3000
    assert free(shop, account) == 6000


@pytest.mark.parametrize("status", ["past_due", "unpaid", "paused"])
def test_what_came_for_a_part_of_the_month_stays_a_part(shop: Ledger, status: str) -> None:
    account = customer(shop)
    shop.after(days=20)
    change(shop, account, units=10)
    for news in (status, "active"):
        shop.call("set_subscription_status", account, news)
    shop.call("cancel_subscription", account)
    shop.call("resume_subscription", account)
    assert granted(shop, account) == 300 + 900


def test_what_is_paid_for_again_is_granted_in_full(shop: Ledger) -> None:
    account = customer(shop)
    shop.after(days=20)
    change(shop, account, units=10)
    shop.call("cancel_subscription", account, p_at_period_end=False)
    shop.call("start_subscription", account, "small", p_quantity=10)
    assert granted(shop, account) == 3000
    assert change(shop, account, "large") == 27_000


@pytest.mark.parametrize(("units", "more"), [(1, 300), (10, 100 + 1000)])
def test_migrated_subscribers_get_what_the_month_has_not_granted(
    shop: Ledger, units: int, more: int
) -> None:
    account = customer(shop)
    shop.after(days=10)
    if units > 1:
        assert change(shop, account, units=units) == 1800
    before = granted(shop, account)
    shop.after(days=10)
    shop.call("set_plan", "small", {**PLANS["small"], "allowance": 600})
    shop.call("migrate_subscribers", "small")
    assert granted(shop, account) - before == more


def test_a_default_plan_that_follows_comes_in_full(ledger: Ledger) -> None:
    ledger.at(DAY_0)
    ledger.call("set_plan", "try", PLANS["try"])
    account = customer(ledger, "try", p_is_trial=True)
    ledger.after(days=10)
    assert change(ledger, account, units=10) == 1800
    ledger.call("set_plan", "gift", {"default": True, "allowance": 6000})
    ledger.after(days=10)
    before = granted(ledger, account)
    ledger.call("cancel_subscription", account, p_at_period_end=False)
    assert granted(ledger, account) - before == 900 + 3000


@pytest.mark.parametrize("is_first", [True, False])
def test_more_units_and_a_migration_grant_the_same_in_either_order(
    shop: Ledger, is_first: bool
) -> None:
    account = customer(shop)
    shop.after(days=20)
    shop.call("set_plan", "small", {**PLANS["small"], "allowance": 600})
    if is_first:
        change(shop, account, units=2)
    shop.call("migrate_subscribers", "small")
    if not is_first:
        change(shop, account, units=2)
    assert granted(shop, account) == 600 + 600 // 3


@pytest.mark.parametrize("default", [True, False])
def test_who_cancels_and_starts_again_keeps_the_units_of_the_month(
    shop: Ledger, default: bool
) -> None:
    if default:
        shop.call("set_plan", "free", {"default": True, "allowance": 100})
    account = customer(shop, "large", 5)
    shop.after(days=20)
    shop.call("cancel_subscription", account, p_at_period_end=False)
    shop.call("start_subscription", account, "large", p_quantity=1)
    assert change(shop, account, "huge", 5) == 15_000


def test_units_that_nobody_had_paid_for_do_not_count(shop: Ledger) -> None:
    account = customer(shop, "large", 5)
    shop.after(days=10)
    shop.call("set_subscription_status", account, "unpaid")
    shop.after(days=20 + 31 + 20)
    settled(shop, account)
    shop.call("cancel_subscription", account, p_at_period_end=False)
    shop.call("start_subscription", account, "large", p_quantity=1)
    assert change(shop, account, "huge", 5) == 3000 + 24_000 // 3


def test_a_year_that_was_canceled_does_not_shorten_another_months_later(shop: Ledger) -> None:
    shop.call("set_plan", "free", {"default": True, "allowance": 100})
    account = customer(shop, p_interval="year")
    shop.call("cancel_subscription", account, p_at_period_end=False)
    shop.after(days=57)
    settled(shop, account)
    had = granted(shop, account)
    row = shop.call("start_subscription", account, "large")
    assert (row["current_period_end"] - row["current_period_start"]).days == 31
    assert granted(shop, account) == had + 3000
    shop.call("cancel_subscription", account, p_at_period_end=False)
    shop.call("start_subscription", account, "large")
    assert granted(shop, account) == had + 3000


def test_the_default_plan_that_is_assigned_goes_on_in_the_month_that_runs(shop: Ledger) -> None:
    account = customer(shop, "large")
    shop.after(days=10)
    shop.call("cancel_subscription", account, p_at_period_end=False)
    shop.call("set_plan", "free", {"default": True, "allowance": 100})
    assert shop.call("assign_default_plan")["assigned"] == 1
    assert granted(shop, account) == 3000
    assert change(shop, account, "large") == 0
    shop.after(days=20)
    assert free(shop, account) == 3000


def test_another_period_remembers_nothing(shop: Ledger) -> None:
    account = customer(shop)
    change(shop, account, "large", 4)
    shop.after(days=30)
    assert free(shop, account) == 12_000
    assert change(shop, account, "huge", 5) == 4 * 3000 + 6000


ORDERS = [*permutations(["small", "part", "large", "huge"])]


@pytest.mark.parametrize("order", ORDERS, ids=["-".join(order) for order in ORDERS])
def test_no_order_of_changes_grants_another_amount(shop: Ledger, order: tuple[str, ...]) -> None:
    """All of them at one moment, up and down, with units that differ."""
    account = customer(shop, "try")
    shop.after(days=20)
    for plan in order:
        change(shop, account, plan, {"small": 9, "part": 2, "large": 3, "huge": 1}[plan], **NOW)
    # one unit of the dearest in full; then up to three of another, for a third of the month
    assert granted(shop, account) == 6000 + 3000 // 3
