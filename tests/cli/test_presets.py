"""The catalogs that come along, figure by figure, as the database sells them after `apply`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from psycopg import rows

from tests.cli.conftest import Shell
from tests.conftest import Conn

UNLIMITED = None
NO_ROLLOVER = 0


@dataclass(frozen=True)
class Plan:
    """What is sold as a plan; prices in cents by interval."""

    allowance: int
    prices: dict[str, int] = field(default_factory=dict)
    rollover: int | None = NO_ROLLOVER
    features: dict[str, Any] = field(default_factory=dict)
    standing: Mapping[str, int | None] = field(default_factory=dict)
    by_period: Mapping[str, int | None] = field(default_factory=dict)
    api_per_minute: int | None = None
    trial_days: int = 0


def fetch(conn: Conn, statement: str, *values: object) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=rows.dict_row) as cursor:
        return cursor.execute(statement.encode(), values or None).fetchall()


def one(conn: Conn, statement: str, *values: object) -> Any:
    (row,) = fetch(conn, statement, *values)
    (value,) = row.values()
    return value


def plans_on_sale(conn: Conn) -> dict[str, Plan]:
    """The plans by rank."""
    found = {}
    for row in fetch(conn, "select * from pgsaas.list_plans()"):
        limits = row["limits"]
        assert all(limit.get("per") in (None, "period") for limit in limits.values())
        assert all(price["currency"] == "usd" for price in row["prices"])
        rate = row["rate_limits"].get("api")
        assert row["rate_limits"] == ({"api": {**rate, "per": "minute"}} if rate else {})
        found[row["plan_id"]] = Plan(
            row["allowance"],
            {price["interval"]: price["amount"] for price in row["prices"]},
            row["rollover_limit"],
            row["features"],
            {name: each["limit"] for name, each in limits.items() if "per" not in each},
            {name: each["limit"] for name, each in limits.items() if "per" in each},
            rate and rate["limit"],
            row["trial_days"],
        )
    return found


def default_plans(conn: Conn) -> list[str]:
    found = fetch(conn, "select plan_id from pgsaas.list_plans() where is_default")
    return [row["plan_id"] for row in found]


def packs_on_sale(conn: Conn) -> dict[str, tuple[int, dict[str, int]]]:
    found = fetch(conn, "select * from pgsaas.list_credit_products()")
    assert all(row["expires_after"] is None for row in found)
    return {row["product_id"]: (row["credits"], row["prices"]) for row in found}


def cost(conn: Conn, event: str, quantity: Decimal | int = 1, **dimensions: str) -> float:
    priced = "select * from pgsaas.price_usage(%s, %s, %s)"
    (row,) = fetch(conn, priced, event, quantity, json.dumps(dimensions))
    assert row["success"], row
    return float(row["cost"])


def events_by_category(conn: Conn) -> dict[str, str]:
    found = fetch(conn, "select event_name, category from pgsaas.credit_events where is_active")
    return {row["event_name"]: row["category"] for row in found}


def new_account(conn: Conn, *plan: str) -> Any:
    account = one(conn, "select account_id from pgsaas.create_account()")
    if plan:
        fetch(conn, "select * from pgsaas.start_subscription(%s, %s)", account, *plan)
    return account


def available(conn: Conn, account: Any) -> float:
    return float(one(conn, "select available from pgsaas.get_balance(%s)", account))


@pytest.fixture
def now(conn: Conn) -> Conn:
    conn.execute("select pgsaas.set_clock('2026-03-10 12:00Z')")
    return conn


def test_platform_sells_four_plans(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "platform")
    assert plans_on_sale(now) == {
        "free": Plan(
            allowance=1_000,
            features={"support": "community", "analytics": "basic"},
            standing={"projects": 3, "integrations": 2, "members": 1},
            api_per_minute=60,
        ),
        "starter": Plan(
            allowance=10_000,
            prices={"month": 29_00, "year": 290_00},
            rollover=5_000,
            features={"support": "email", "analytics": "advanced", "custom_domains": True},
            standing={"projects": 10, "integrations": 10, "members": 3},
            api_per_minute=300,
        ),
        "pro": Plan(
            allowance=50_000,
            prices={"month": 99_00, "year": 990_00},
            rollover=25_000,
            features={
                "support": "priority",
                "analytics": "reporting",
                "custom_domains": True,
                "white_label": True,
                "sso": True,
                "advanced_webhooks": True,
            },
            standing={"projects": 50, "integrations": 50, "members": 10},
            api_per_minute=1_000,
        ),
        "enterprise": Plan(
            allowance=250_000,
            prices={"month": 499_00},
            rollover=UNLIMITED,
            features={
                "support": "dedicated",
                "analytics": "custom",
                "custom_domains": True,
                "white_label": True,
                "sso": True,
                "advanced_webhooks": True,
                "sla": True,
                "custom_integrations": True,
                "on_premise": True,
                "account_manager": True,
            },
            standing={"projects": UNLIMITED, "integrations": UNLIMITED, "members": UNLIMITED},
            api_per_minute=5_000,
        ),
    }
    assert list(plans_on_sale(now)) == ["free", "starter", "pro", "enterprise"]
    assert default_plans(now) == ["free"]
    assert packs_on_sale(now) == {}
    assert fetch(now, "select * from pgsaas.list_agents(true)") == []


def test_a_year_on_the_platform_costs_ten_months(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "platform")
    saved = {
        name: 12 * plan.prices["month"] - plan.prices["year"]
        for name, plan in plans_on_sale(now).items()
        if "year" in plan.prices
    }
    assert saved == {"starter": 58_00, "pro": 198_00}


def test_platform_meters_five_kinds_of_use(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "platform")
    assert events_by_category(now) == {
        "llm_tokens": "ai",
        "api_call": "api",
        "data_query": "data",
        "storage": "storage",
        "deployment": "deployment",
    }
    assert cost(now, "llm_tokens", 1000, kind="prompt") == 1
    assert cost(now, "llm_tokens", 1000, kind="completion") == 2
    assert cost(now, "llm_tokens", 1000, kind="cached", model="any") == 0.5
    assert cost(now, "llm_tokens", 1, kind="prompt") == 0.001
    for event in ("api_call", "data_query"):  # 1, and the time it runs
        assert cost(now, event, 1) == 1.1
        assert cost(now, event, Decimal("2.5")) == 1.25
    assert cost(now, "storage", 1) == 0.1
    assert cost(now, "deployment") == 10
    odd = "select error_code from pgsaas.price_usage('llm_tokens', 1, '{}')"
    assert one(now, odd) == "EVENT_NOT_FOUND"  # a token is of one of the three kinds


@pytest.mark.parametrize(
    ("plan", "month_after"),
    [("free", 1_000), ("starter", 15_000), ("pro", 75_000), ("enterprise", 501_000)],
)
def test_platform_credits_come_by_the_month_and_roll_over(
    shell: Shell, now: Conn, plan: str, month_after: int
) -> None:
    """The 1,000 of the free plan that came before are carried on, too, where there is no limit."""
    shell.ok("catalog", "apply", "platform")
    account = new_account(now, *([] if plan == "free" else [plan]))
    now.execute("select pgsaas.set_clock('2026-04-10 12:00Z')")
    assert available(now, account) == month_after


def test_agents_sells_four_plans(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "agents")
    everything = {"avatars": UNLIMITED, "voice_slots": 3}
    each_period = {"videos": UNLIMITED, "tracks": UNLIMITED}
    assert plans_on_sale(now) == {
        "free": Plan(
            allowance=100,
            features={"agents": "basic"},
            standing={"avatars": 1, "voice_slots": 0},
            by_period={"videos": 5, "tracks": 5},
        ),
        "pro": Plan(
            allowance=1_000,
            prices={"month": 29_00},
            features={"agents": "advanced"},
            standing=everything,
            by_period=each_period,
        ),
        "premium": Plan(
            allowance=5_000,
            prices={"month": 99_00},
            features={
                "agents": "advanced",
                "avatar_g_agent": True,
                "orchestration": True,
                "api_access": True,
            },
            standing=everything,
            by_period=each_period,
        ),
        "enterprise": Plan(
            allowance=50_000,
            prices={"month": 499_00},
            features={
                "agents": "advanced",
                "avatar_g_agent": True,
                "orchestration": True,
                "api_access": True,
                "dedicated_infrastructure": True,
                "sso": True,
                "custom_integrations": True,
            },
            standing=everything,
            by_period=each_period,
        ),
    }
    assert list(plans_on_sale(now)) == ["free", "pro", "premium", "enterprise"]
    assert default_plans(now) == ["free"]
    assert packs_on_sale(now) == {}


def test_agents_registers_thirteen(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "agents")
    found = fetch(now, "select * from pgsaas.list_agents(true)")
    assert {a["agent_id"]: (a["plan_id"], a["credits"], a["availability"]) for a in found} == {
        "avatar-builder": ("free", 10, "available"),
        "video-studio": ("free", 20, "available"),
        "music-studio": ("free", 15, "available"),
        "voice-lab": ("pro", 50, "available"),
        "media-production": ("pro", 25, "available"),
        "business-agent": ("pro", 15, "available"),
        "chat": ("free", 1, "available"),
        "game-creator": ("pro", 30, "soon"),
        "image-creator": ("free", 8, "available"),
        "social-media": ("pro", 5, "soon"),
        "online-shop": ("pro", 10, "soon"),
        "prompt-builder": ("free", 2, "soon"),
        "avatar-g-agent": ("premium", 50, "available"),
    }
    assert len(found) == 13
    assert all(agent["excluded_plans"] == [] for agent in found)
    assert one(now, "select pgsaas.get_credit_cost('music-studio.generate')") == 15
    assert one(now, "select pgsaas.get_credit_cost('avatar-g-agent.run')") == 50


def test_a_new_user_of_agents_is_on_free_with_its_credits_and_a_profile(
    shell: Shell, now: Conn
) -> None:
    shell.ok("catalog", "apply", "agents")
    now.execute("create table public.users (id uuid primary key, email text)")
    shell.ok("attach", "public.users", "--email", "email")
    now.execute("insert into public.users values (gen_random_uuid(), 'ada@example.com')")
    row = shell.json("subscriptions", "show", "ada@example.com")
    assert (row["plan_id"], row["status"], row["has_access"]) == ("free", "active", True)
    assert shell.json("accounts", "show", "ada@example.com")["account"]["profile"] == {}
    assert available(now, row["account_id"]) == 100


@pytest.mark.parametrize(("plan", "granted"), [("pro", 1_000), ("premium", 5_000)])
def test_an_upgrade_of_agents_makes_the_balance_the_new_allowance(
    shell: Shell, now: Conn, plan: str, granted: int
) -> None:
    shell.ok("catalog", "apply", "agents")
    account = new_account(now)
    now.execute("select pgsaas.deduct_credits(%s, 30)", [account])
    fetch(now, "select * from pgsaas.start_subscription(%s, %s)", account, plan)
    assert available(now, account) == granted
    now.execute("select pgsaas.deduct_credits(%s, 30)", [account])
    now.execute("select pgsaas.set_clock('2026-04-10 12:00Z')")  # nothing rolls over
    assert available(now, account) == granted


def test_queries_sells_four_plans_and_three_packs(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "queries")
    assert plans_on_sale(now) == {
        "free": Plan(allowance=100),
        "starter": Plan(allowance=1_000, prices={"month": 9_00}),
        "pro": Plan(allowance=5_000, prices={"month": 29_00}),
        "enterprise": Plan(allowance=0),
    }
    assert list(plans_on_sale(now)) == ["free", "starter", "pro", "enterprise"]
    assert default_plans(now) == ["free"]
    assert packs_on_sale(now) == {
        "small": (500, {"usd": 5_00}),
        "medium": (2_000, {"usd": 15_00}),
        "large": (5_000, {"usd": 35_00}),
    }
    for plan, granted in {"FREE": 100, "Starter": 1_000, "pro": 5_000}.items():
        assert one(now, "select pgsaas.get_monthly_credits(%s)", plan) == granted


@pytest.mark.parametrize(
    ("tools", "price"),
    [
        ([], 5),
        (["documentation"], 10),
        (["github"], 15),
        (["calculator"], 8),
        (["documentation", "github"], 20),
        (["documentation", "github", "calculator", "search"], 26),
    ],
)
def test_a_query_costs_its_base_and_its_tools(
    shell: Shell, now: Conn, tools: Sequence[str], price: int
) -> None:
    shell.ok("catalog", "apply", "queries")
    assert events_by_category(now) == {"query": "query", "query_tool": "query"}
    assert one(now, "select pgsaas.calculate_query_cost(%s)", tools) == price
    account = new_account(now)
    charge = "select * from pgsaas.check_and_deduct_credits(%s, %s)"
    answer = fetch(now, charge, account, tools)[0]
    assert (answer["success"], answer["cost"], answer["available"]) == (
        True,
        price,
        100 - price,
    )


def test_the_free_credits_of_queries_are_renewed(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "queries")
    account = new_account(now)
    now.execute("select pgsaas.deduct_credits(%s, 90)", [account])
    refused = "select error_code from pgsaas.check_and_deduct_credits(%s, '{github}')"
    assert one(now, refused, account) == "INSUFFICIENT_CREDITS"
    now.execute("select pgsaas.set_clock('2026-04-10 12:00Z')")
    assert available(now, account) == 100


def test_organizations_sells_by_the_month_and_the_year(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "organizations")
    assert plans_on_sale(now) == {
        "starter": Plan(
            allowance=1_000,
            prices={"month": 19_00, "year": 190_00},
            features={"support": "email"},
            trial_days=14,
        ),
        "professional": Plan(
            allowance=10_000,
            prices={"month": 49_00, "year": 490_00},
            features={"support": "priority"},
            trial_days=14,
        ),
    }
    assert default_plans(now) == []
    assert packs_on_sale(now) == {"credits-1000": (1_000, {"usd": 10_00})}


def test_organizations_prices_four_events(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "organizations")
    assert events_by_category(now) == {
        "api_call_basic": "api_call",
        "api_call_premium": "api_call",
        "storage_gb_month": "storage",
        "ai_inference": "ai",
    }
    prices = {event: cost(now, event) for event in events_by_category(now)}
    assert prices == {
        "api_call_basic": 1,
        "api_call_premium": 5,
        "storage_gb_month": 10,
        "ai_inference": 25,
    }
    account = new_account(now, "starter")
    consume = "select * from pgsaas.consume_credits(%s, 'api_call_basic', 10)"
    answer = fetch(now, consume, account)[0]
    assert (answer["success"], answer["available"]) == (True, 990)
    shell.ok("events", "set", "api_call_basic", "--inactive")
    assert fetch(now, consume, account)[0]["error_code"] == "EVENT_INACTIVE"


def test_credits_of_a_plan_end_with_the_period_and_those_of_a_pack_do_not(
    shell: Shell, now: Conn
) -> None:
    shell.ok("catalog", "apply", "organizations")
    account = new_account(now, "starter")
    shell.ok("credits", "add", str(account), "1000", "--source", "purchase")
    now.execute("select pgsaas.deduct_credits(%s, 300)", [account])  # purchased credits first
    spent = "select by_source from pgsaas.get_balance(%s)"
    assert one(now, spent, account) == {"purchase": 700, "allowance": 1000}
    now.execute("select pgsaas.set_clock('2026-04-10 12:00Z')")
    assert one(now, spent, account) == {"purchase": 700, "allowance": 1000}
    fetch(now, "select * from pgsaas.cancel_subscription(%s)", account)
    now.execute("select pgsaas.set_clock('2026-05-10 12:00Z')")
    assert one(now, spent, account) == {"purchase": 700}
