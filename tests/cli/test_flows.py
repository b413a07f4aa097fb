"""The checklists that the presets' businesses were tried with by hand, walked from end to end.

What needs a payment provider, an HTTP route or a page is not here.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.cli.test_presets import available, fetch, new_account, now, one
from tests.conftest import Conn

__all__ = ["now"]


def at(conn: Conn, time: str) -> None:
    conn.execute("select pgsaas.set_clock(%s)", [f"{time} 12:00Z"])


def sql(conn: Conn, call: str, *values: object) -> dict[str, Any]:
    (row,) = fetch(conn, f"select * from pgsaas.{call}", *values)
    return row


def subscription(conn: Conn, account: object) -> tuple[str, str, bool]:
    row = sql(conn, "get_subscription(%s)", account)
    return row["plan_id"], row["status"], row["has_access"]


@pytest.fixture
def agents(shell: Shell, now: Conn) -> Conn:
    """The catalog of an agent platform."""
    shell.ok("catalog", "apply", "agents")
    return now


def test_agents_a_job_is_authorized_held_charged_and_on_record(agents: Conn) -> None:
    account = new_account(agents)
    assert one(agents, "select pgsaas.get_credit_cost('music-studio.generate')") == 15
    asked = sql(agents, "authorize_agent(%s, 'music-studio.generate')", account)
    assert (asked["success"], asked["cost"], asked["available"]) == (True, 15, 100)
    job = sql(agents, "start_job(%s, 'music-studio.generate', 'generate')", account)
    assert (job["success"], job["new_balance"], job["available"]) == (True, 100, 85)
    done = sql(agents, "complete_job(%s, %s)", account, job["job_id"])
    assert (done["success"], done["cost"], done["new_balance"]) == (True, 15, 85)
    listed = sql(agents, "list_jobs(%s)", account)
    assert (listed["job_status"], listed["agent_id"]) == ("completed", "music-studio")
    assert (listed["cost_credits"], listed["plan_required"]) == (15, "free")
    row = sql(agents, "list_transactions(%s) where seq = %s", account, done["seq"])
    assert (row["amount"], row["balance_after"], row["job_id"]) == (-15, 85, job["job_id"])
    assert row["agent_id"] == "music-studio"


def test_agents_a_premium_agent_is_refused_on_free_and_used_after_an_upgrade(agents: Conn) -> None:
    account = new_account(agents)
    for agent, plan in (("avatar-g-agent", "premium"), ("voice-lab", "pro")):
        for function in ("authorize_agent", "start_job"):
            refused = sql(agents, f"{function}(%s, %s)", account, agent)
            assert (refused["success"], refused["error_code"]) == (False, "PLAN_REQUIRED")
            assert f'"{plan}" is required' in refused["error_message"]
    assert fetch(agents, "select * from pgsaas.list_jobs(%s)", account) == []
    sql(agents, "start_subscription(%s, 'premium')", account)
    assert subscription(agents, account) == ("premium", "active", True)
    assert available(agents, account) == 5000
    job = sql(agents, "start_job(%s, 'avatar-g-agent', p_cost => 75)", account)
    assert (job["cost"], job["available"]) == (75, 4925)  # 50 or more


def test_agents_an_empty_balance_is_refused(agents: Conn) -> None:
    account = new_account(agents)
    sql(agents, "deduct_credits(%s, 100)", account)
    for function in ("authorize_agent", "start_job"):
        refused = sql(agents, f"{function}(%s, 'chat')", account)
        assert refused["error_code"] == "INSUFFICIENT_CREDITS"
    refused = sql(agents, "deduct_credits(%s, 1)", account)
    assert (refused["success"], refused["new_balance"]) == (False, 0)
    assert refused["error_message"] == "not enough credits: 1 needed, 0 available"


def test_agents_not_yet_and_no_longer_available(agents: Conn) -> None:
    account = new_account(agents)
    sql(agents, "start_subscription(%s, 'enterprise')", account)
    for agent in ("game-creator", "social-media", "online-shop", "prompt-builder"):
        refused = sql(agents, "authorize_agent(%s, %s)", account, agent)
        assert refused["error_code"] == "AGENT_NOT_ALLOWED"
        assert refused["error_message"] == f'the agent "{agent}" is not available yet'


def test_agents_what_is_canceled_works_until_the_end_of_its_period(agents: Conn) -> None:
    account = new_account(agents)
    sql(agents, "start_subscription(%s, 'pro')", account)
    sql(agents, "cancel_subscription(%s)", account)
    at(agents, "2026-04-09")
    assert subscription(agents, account) == ("pro", "active", True)
    assert sql(agents, "authorize_agent(%s, 'voice-lab')", account)["success"]
    at(agents, "2026-04-10")
    assert subscription(agents, account) == ("free", "active", True)
    assert available(agents, account) == 100
    assert sql(agents, "authorize_agent(%s, 'voice-lab')", account)["error_code"] == "PLAN_REQUIRED"


def test_agents_an_end_at_once_puts_the_account_on_free(agents: Conn) -> None:
    account = new_account(agents)
    sql(agents, "start_subscription(%s, 'pro')", account)
    sql(agents, "cancel_subscription(%s, p_at_period_end => false)", account)
    assert subscription(agents, account) == ("free", "active", True)


def test_agents_a_payment_that_failed_gives_time_and_then_ends_the_access(agents: Conn) -> None:
    account = new_account(agents)
    sql(agents, "start_subscription(%s, 'pro')", account)
    for _ in range(2):  # the provider says it twice
        sql(agents, "set_subscription_status(%s, 'past_due')", account)
    assert subscription(agents, account) == ("pro", "past_due", True)
    sql(agents, "set_subscription_status(%s, 'unpaid')", account)
    assert subscription(agents, account)[1:] == ("unpaid", False)
    refused = sql(agents, "start_job(%s, 'chat')", account)
    assert refused["error_code"] == "SUBSCRIPTION_INACTIVE"
    sql(agents, "set_subscription_status(%s, 'active')", account)
    assert sql(agents, "start_job(%s, 'chat')", account)["success"]


def test_agents_credits_are_reset_on_the_day_of_the_month_and_bought_ones_stay(
    agents: Conn,
) -> None:
    account = new_account(agents)
    sql(agents, "add_credits(%s, 50, 'a pack', 'purchase')", account)
    sql(agents, "deduct_credits(%s, 80)", account)
    at(agents, "2026-04-09")
    assert sql(agents, "reset_monthly_credits()")["accounts_reset"] == 0
    assert available(agents, account) == 70
    at(agents, "2026-04-10")
    assert sql(agents, "reset_monthly_credits()")["accounts_reset"] == 1
    assert sql(agents, "reset_monthly_credits()")["accounts_reset"] == 0
    assert sql(agents, "get_balance(%s)", account)["by_source"] == {"allowance": 100}


def test_agents_a_failed_job_gives_its_credits_back(agents: Conn) -> None:
    account = new_account(agents)
    job = sql(agents, "start_job(%s, 'video-studio')", account)
    assert available(agents, account) == 80
    failed = sql(agents, "fail_job(%s, %s, 'no frames')", account, job["job_id"])
    assert (failed["refunded"], failed["available"]) == (20, 100)
    job = sql(agents, "start_job(%s, 'video-studio')", account)
    sql(agents, "complete_job(%s, %s)", account, job["job_id"])
    failed = sql(agents, "fail_job(%s, %s, 'no sound')", account, job["job_id"])
    assert (failed["refunded"], failed["available"]) == (20, 100)
    stats = sql(agents, "job_stats(%s)", account)
    assert (stats["jobs"], stats["failed"], stats["success_rate"]) == (2, 2, 0)


def test_queries_a_service_charges_renews_and_refuses(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "queries")
    account = new_account(now)
    charge = "check_and_deduct_credits(%s, '{documentation,github}')"
    for left in (80, 60, 40, 20, 0):  # 5 + 5 + 10 each
        assert sql(now, charge, account)["available"] == left
    refused = sql(now, charge, account)
    assert (refused["success"], refused["error_code"]) == (False, "INSUFFICIENT_CREDITS")
    assert available(now, account) == 0
    pack = sql(now, "list_credit_products() where product_id = 'small'")
    sql(now, "add_credits(%s, %s, %s, 'purchase')", account, pack["credits"], pack["name"])
    assert sql(now, charge, account)["available"] == 480
    stats = sql(now, "get_usage_stats(%s)", account)
    assert (stats["records"], stats["cost"]) == (6, 120)
    at(now, "2026-04-10")
    by_source = sql(now, "get_balance(%s)", account)["by_source"]
    assert by_source == {"purchase": 480, "allowance": 100}
    sql(now, "start_subscription(%s, 'starter')", account)
    assert subscription(now, account) == ("starter", "active", True)
    assert sql(now, "get_balance(%s)", account)["by_source"]["purchase"] == 480


def test_platform_use_is_recorded_charged_and_counted_by_the_day(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "platform")
    account = new_account(now)
    used = "record_usage(%s, 'llm_tokens', 1500, %s, p_idempotency_key => %s)"
    for kind, cost in (("prompt", 1.5), ("completion", 3)):
        dimensions = f'{{"kind": "{kind}"}}'
        for replayed in (False, True):
            row = sql(now, used, account, dimensions, kind)
            assert (row["success"], float(row["cost"]), row["replayed"]) == (True, cost, replayed)
    at(now, "2026-03-11")
    sql(now, "record_usage(%s, 'deployment', 1)", account)
    days = fetch(
        now,
        "select * from pgsaas.get_usage_stats(%s, p_group_by => '{day}') order by period",
        account,
    )
    assert [float(row["cost"]) for row in days] == [4.5, 10]
    assert available(now, account) == 985.5
    shell.ok("accounts", "set", str(account), "--low-balance-at", "980")
    sql(now, "deduct_credits(%s, 10)", account)
    told = "select count(*) from pgsaas.outbox_messages where topic = 'balance.low'"
    assert one(now, told) == 1


def test_platform_a_plan_limits_projects_and_requests(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "platform")
    account = new_account(now)
    for _ in range(3):
        assert sql(now, "use_entitlement(%s, 'projects')", account)["success"]
    refused = sql(now, "use_entitlement(%s, 'projects')", account)
    assert (refused["error_code"], refused["limit_value"]) == ("LIMIT_EXCEEDED", 3)
    for _ in range(60):
        assert sql(now, "take_rate_limit(%s, 'api')", account)["allowed"]
    limited = sql(now, "take_rate_limit(%s, 'api')", account)
    assert (limited["allowed"], limited["remaining"], limited["retry_after"]) == (False, 0, 1)
    sql(now, "start_subscription(%s, 'starter', 'year')", account)
    assert sql(now, "use_entitlement(%s, 'projects')", account)["remaining"] == 6
    assert sql(now, "check_entitlement(%s, 'custom_domains')", account)["allowed"]
    assert sql(now, "check_entitlement(%s, 'rate:api')", account)["limit_value"] == 300


def test_organizations_a_subscription_goes_through_its_states(shell: Shell, now: Conn) -> None:
    shell.ok("catalog", "apply", "organizations")
    account = new_account(now)
    assert subscription_or_none(now, account) is None
    refused = sql(now, "consume_credits(%s, 'ai_inference', 1)", account)
    assert refused["error_code"] == "INSUFFICIENT_CREDITS"
    sql(now, "start_subscription(%s, 'starter', p_is_trial => true)", account)
    assert subscription(now, account) == ("starter", "trialing", True)
    at(now, "2026-03-20")
    sql(now, "set_subscription_status(%s, 'active')", account)  # paid for, once the trial is over
    assert subscription(now, account) == ("starter", "trialing", True)
    at(now, "2026-03-24")
    assert subscription(now, account) == ("starter", "active", True)
    sql(now, "add_credits(%s, 1000, 'a pack', 'purchase')", account)
    answer = sql(now, "consume_credits(%s, 'ai_inference', 2)", account)
    assert (answer["success"], answer["cost"]) == (True, 50)
    by_source = sql(now, "get_balance(%s)", account)["by_source"]
    assert by_source == {"purchase": 950, "allowance": 1000}
    for status in ("past_due", "active"):
        sql(now, "set_subscription_status(%s, %s)", account, status)
        assert subscription(now, account) == ("starter", status, True)
    sql(now, "cancel_subscription(%s)", account)
    at(now, "2026-04-23")
    assert subscription(now, account) == ("starter", "active", True)
    at(now, "2026-04-24")
    assert subscription(now, account) == ("starter", "canceled", False)
    assert sql(now, "get_balance(%s)", account)["by_source"] == {"purchase": 950}


def subscription_or_none(conn: Conn, account: object) -> str | None:
    found = fetch(conn, "select plan_id from pgsaas.get_subscription(%s)", account)
    return found[0]["plan_id"] if found else None
