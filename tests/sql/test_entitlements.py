"""Entitlements, rate limits and spend caps."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from tests.sql.ledger import NOBODY, START, Ledger, day
from tests.sql.plans import subscribed

FREE = {
    "default": True,
    "allowance": 100,
    "features": {"sso": False, "support": "community", "seats": 2, "export": True},
    "limits": {"videos": {"limit": 5, "per": "period"}, "slots": 3, "storage": "unlimited"},
    "rate_limits": {"api": {"limit": 60, "per": "minute"}},
}
PRO = {
    "rank": 1,
    "features": {"sso": True},
    "limits": {"videos": {"limit": 8, "per": "period"}, "slots": 1},
    "rate_limits": {"api": {"limit": 600, "per": "minute"}},
}


@pytest.fixture
def shop(ledger: Ledger) -> Ledger:
    ledger.call("set_plan", "free", FREE)
    ledger.call("set_plan", "pro", PRO)
    return ledger


def use(ledger: Ledger, account: UUID, feature: str, delta: float = 1) -> tuple[object, ...]:
    answer = ledger.call("use_entitlement", account, feature, Decimal(str(delta)))
    return answer["success"], answer["used"], answer["remaining"], answer["error_code"]


@pytest.mark.parametrize(
    ("feature", "allowed", "value", "source"),
    [
        ("sso", False, False, "plan"),
        ("support", True, "community", "plan"),
        ("seats", True, 2, "plan"),
        ("export", True, True, "plan"),
        ("flying", False, None, "none"),
        (None, False, None, "none"),
    ],
)
def test_a_feature_is_what_the_plan_says(
    shop: Ledger, feature: str | None, allowed: bool, value: object, source: str
) -> None:
    row = shop.call("check_entitlement", shop.account(), feature)
    assert (row["allowed"], row["value"], row["source"]) == (allowed, value, source)
    assert (row["limit_value"], row["used"], row["resets_at"]) == (None, None, None)


def test_a_standing_limit_is_used_up_and_given_back(shop: Ledger) -> None:
    account = shop.account()
    row = shop.call("check_entitlement", account, "slots")
    assert (row["allowed"], row["limit_value"], row["used"], row["remaining"]) == (True, 3, 0, 3)
    assert use(shop, account, "slots", 2) == (True, 2, 1, None)
    assert use(shop, account, "slots", 2) == (False, 2, 1, "LIMIT_EXCEEDED")
    assert use(shop, account, "slots") == (True, 3, 0, None)
    assert shop.call("check_entitlement", account, "slots")["allowed"] is False
    shop.after(days=100)
    assert use(shop, account, "slots")[0] is False
    assert use(shop, account, "slots", -5) == (True, 0, 3, None)
    assert use(shop, account, "slots", 4) == (False, 0, 3, "LIMIT_EXCEEDED")
    assert use(shop, account, "slots", -1) == (True, 0, 3, None)
    refused = shop.call("use_entitlement", account, "slots", 4)
    assert refused["error_message"] == "0 of 3 slots are used"


def test_a_limit_per_period_counts_anew_each_month(shop: Ledger) -> None:
    account = shop.account()
    for n in range(5):
        assert use(shop, account, "videos") == (True, n + 1, 4 - n, None)
    assert use(shop, account, "videos") == (False, 5, 0, "LIMIT_EXCEEDED")
    row = shop.call("check_entitlement", account, "videos")
    assert (row["allowed"], row["resets_at"]) == (False, day("2026-04-10 12:00"))
    shop.at(day("2026-04-10 12:00"))
    assert use(shop, account, "videos") == (True, 1, 4, None)
    assert use(shop, account, "videos", -3) == (True, 0, 5, None)


def test_no_limit_is_counted_all_the_same(shop: Ledger) -> None:
    account = shop.account()
    assert use(shop, account, "storage", 1000.5) == (True, Decimal("1000.5"), None, None)
    row = shop.call("check_entitlement", account, "storage")
    assert (row["allowed"], row["used"], row["limit_value"]) == (True, Decimal("1000.5"), None)


def test_another_plan_has_other_limits(shop: Ledger) -> None:
    account = shop.account()
    use(shop, account, "slots", 3)
    use(shop, account, "videos", 5)
    shop.after(days=1)
    shop.call("start_subscription", account, "pro")
    assert use(shop, account, "videos", 3) == (True, 3, 5, None)  # a month of its own begins
    row = shop.call("check_entitlement", account, "slots")
    assert (row["allowed"], row["used"], row["remaining"]) == (False, 3, 0)  # nothing is taken
    assert use(shop, account, "slots", -2) == (True, 1, 0, None)
    assert shop.call("check_entitlement", account, "sso")["allowed"] is True
    assert use(shop, account, "storage") == (False, None, None, "PLAN_REQUIRED")


def test_without_access_nothing_is_allowed(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.call("set_subscription_status", account, "paused")
    row = shop.call("check_entitlement", account, "sso")
    assert (row["allowed"], row["source"]) == (False, "inactive")
    assert use(shop, account, "slots") == (False, None, None, "SUBSCRIPTION_INACTIVE")
    shop.call("set_subscription_status", account, "active")
    shop.call("cancel_subscription", account)
    assert shop.call("check_entitlement", account, "sso")["allowed"] is True
    shop.after(days=31)
    assert shop.call("check_entitlement", account, "sso")["allowed"] is False


def test_an_override_counts_in_place_of_the_plan(shop: Ledger) -> None:
    account = shop.account()
    end = day("2026-03-12")
    assert shop.scalar(
        "select pgsaas.set_entitlement(%s, 'sso', 'true', 'a pilot', %s)", account, end
    )
    assert shop.call("check_entitlement", account, "sso") | {"value": 1} == {
        "allowed": True, "value": 1, "limit_value": None, "used": None, "remaining": None,
        "resets_at": None, "source": "override",
    }  # fmt: skip
    shop.call("set_entitlement", account, "slots", {"limit": 9}, "they asked")
    assert use(shop, account, "slots", 9)[0] is True
    again = shop.scalar(
        "select pgsaas.set_entitlement(%s, 'slots', %s, 'again')", account, Jsonb({"limit": 9})
    )
    assert again is False
    shop.at(end)
    assert shop.call("check_entitlement", account, "sso")["source"] == "plan"
    assert shop.scalar("select pgsaas.set_entitlement(%s, 'slots', null, 'over')", account) is True
    assert shop.scalar("select pgsaas.set_entitlement(%s, 'slots', null, 'over')", account) is False
    assert use(shop, account, "slots")[0] is False
    reasons = shop.query(
        "select details ->> 'reason' as r from pgsaas.audit_events where action ~ '^entitlement'"
        " order by audit_event_id"
    )
    assert [row["r"] for row in reasons] == ["a pilot", "they asked", "over"]


def test_the_policies_of_an_application_ask_has_feature(shop: Ledger) -> None:
    account = shop.account(p_external_id="ada")
    shop.conn.execute("create table public.reports (id int)")
    shop.conn.execute("insert into public.reports values (1)")
    shop.conn.execute("alter table public.reports enable row level security")
    shop.conn.execute("create role reader in role pgsaas_user")
    shop.conn.execute("grant select on public.reports to reader")
    shop.conn.execute(
        "create policy paid on public.reports to reader using ((select pgsaas.has_feature('sso')))"
    )
    shop.conn.execute("set local role reader")
    shop.conn.execute("select set_config('request.jwt.claims', '{\"sub\": \"ada\"}', true)")
    assert shop.query("select * from public.reports") == []
    shop.conn.execute("reset role")
    shop.conn.execute("select set_config('request.jwt.claims', '', true)")
    shop.call("start_subscription", account, "pro")
    shop.conn.execute("set local role reader")
    assert shop.query("select * from public.reports") == []  # nobody
    shop.conn.execute("select set_config('request.jwt.claims', '{\"sub\": \"ada\"}', true)")
    assert shop.query("select * from public.reports") == [{"id": 1}]


def test_sixty_a_minute_are_sixty_at_once_and_one_a_second(shop: Ledger) -> None:
    account = shop.account()
    for n in range(60):
        row = shop.call("take_rate_limit", account, "api")
        assert (row["allowed"], row["limit_value"], row["remaining"]) == (True, 60, 59 - n)
    assert row["reset_at"] == START.replace(minute=1)
    row = shop.call("take_rate_limit", account, "api")
    assert (row["allowed"], row["remaining"], row["retry_after"]) == (False, 0, 1)
    shop.after(seconds=0.5)
    assert shop.call("take_rate_limit", account, "api")["retry_after"] == Decimal("0.5")
    shop.after(seconds=1.5)
    assert shop.call("take_rate_limit", account, "api", 2)["allowed"] is True
    assert shop.call("take_rate_limit", account, "api")["allowed"] is False
    shop.after(hours=5)
    assert shop.call("take_rate_limit", account, "api")["remaining"] == 59


def test_a_look_into_a_bucket_takes_nothing(shop: Ledger) -> None:
    account = shop.account()
    for taken in (0, 59, 1):
        for _ in range(taken):
            shop.call("take_rate_limit", account, "api")
        shop.call("check_entitlement", account, "rate:api")
    seen = shop.call("check_entitlement", account, "rate:api")
    assert (seen["allowed"], seen["value"], seen["source"]) == (False, "minute", "plan")
    assert (seen["limit_value"], seen["used"], seen["remaining"]) == (60, 60, 0)
    assert seen["resets_at"] == START.replace(minute=1)
    shop.after(seconds=30)
    seen = shop.call("check_entitlement", account, "rate:api")
    assert (seen["allowed"], seen["remaining"]) == (True, 30)
    none = shop.call("check_entitlement", account, "rate:else")
    assert (none["allowed"], none["limit_value"], none["source"]) == (True, None, "none")
    used = shop.call("use_entitlement", account, "rate:api")
    assert used["error_code"] == "PLAN_REQUIRED"


def test_no_feature_and_no_limit_has_the_name_of_a_rate_limit(shop: Ledger) -> None:
    account = shop.account()
    for terms in ({"features": {"rate:api": True}}, {"limits": {"rate:api": 5}}):
        with shop.raises("22023"):
            shop.call("set_plan", "odd", terms)
    with shop.raises("22023"):
        shop.call("set_entitlement", account, "rate:api", Jsonb(True), "no")


def test_rate_limits_depend_on_plan_and_override(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    assert shop.call("take_rate_limit", account, "api")["limit_value"] == 600
    free = {"allowed": True, "limit_value": None, "remaining": None, "reset_at": None,
            "retry_after": None}  # fmt: skip
    assert shop.call("take_rate_limit", account, "else") == free
    shop.call("set_entitlement", account, "rate:api", {"limit": 1, "per": "day"}, "abuse")
    assert shop.call("take_rate_limit", account, "api")["allowed"] is True  # a full bucket of one
    assert shop.call("take_rate_limit", account, "api")["retry_after"] == 86400
    never = shop.call("take_rate_limit", account, "api", 2)
    assert (never["allowed"], never["retry_after"]) == (False, None)
    with shop.raises("PT404"):
        shop.call("take_rate_limit", NOBODY, "api")


@pytest.mark.parametrize("delta", [0, None, "0.0000001", "NaN", "1e13", "-1e13"])
def test_wrong_amounts_are_refused(shop: Ledger, delta: str | int | None) -> None:
    account = shop.account()
    with shop.raises("22023"):
        shop.call("use_entitlement", account, "slots", delta)
    with shop.raises("22023"):
        shop.call("take_rate_limit", account, "api", delta)


@pytest.mark.parametrize(
    ("feature", "value"),
    [("", "true"), ("x" * 101, "true"), ("a", "[]"), ("a", "null"), ("a", '{"limit": -1}'),
     ("a", '{"per": "period"}'), ("a", '{"limit": 1, "per": "moon"}'),
     ("a", '{"limit": 1, "per": "minute"}'), ("rate:a", '{"limit": 1}')],
)  # fmt: skip
def test_what_can_be_no_exception(shop: Ledger, feature: str, value: str) -> None:
    account = shop.account()
    with shop.raises("22023"):
        shop.scalar("select pgsaas.set_entitlement(%s, %s, %s, 'x')", account, feature, value)


def test_unknown_accounts_have_nothing(shop: Ledger) -> None:
    assert use(shop, NOBODY, "slots") == (False, None, None, "ACCOUNT_NOT_FOUND")
    assert shop.call("check_entitlement", NOBODY, "slots")["source"] == "none"
    with shop.raises("PT404"):
        shop.call("set_entitlement", NOBODY, "slots", {"limit": 1}, "x")


@pytest.mark.parametrize(
    "arguments",
    [
        ("team", "a", 1), (None, "a", 1), ("member", None, 1), ("member", "", 1),
        ("agent", "x" * 256, 1), ("account", "", -1), ("account", "", Decimal("1e13")),
        ("account", "", 1, "year"), ("account", "", 1, None),
    ],
)  # fmt: skip
def test_what_can_be_no_cap(shop: Ledger, arguments: tuple[object, ...]) -> None:
    account = shop.account()
    with shop.raises("22023"):
        shop.call("set_spend_cap", account, *arguments)
