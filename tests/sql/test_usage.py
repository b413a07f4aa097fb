"""Use is priced, charged and recorded once: record_usage and what stands around it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from tests.sql.ledger import NOBODY, Ledger, code, day

TOKENS = [
    {"model": "package", "unit": 1, "size": 1000, "dimensions": {"kind": "prompt"}},
    {"model": "package", "unit": 2, "size": 1000, "dimensions": {"kind": "completion"}},
]


@pytest.fixture
def priced(ledger: Ledger) -> Ledger:
    """Events: call (2 each), tokens (by kind), render (graduated, per period), free (0)."""
    event(ledger, "call", {"model": "unit", "unit": 2}, p_category="api")
    event(ledger, "tokens", TOKENS, p_dimensions=["kind", "model"], p_unit="token")
    tiers = [{"up_to": 10, "unit": 3}, {"unit": 1, "flat": 5}]
    event(ledger, "render", {"model": "graduated", "tiers": tiers, "per": "period"})
    event(ledger, "free", {"base": 0})
    return ledger


def event(ledger: Ledger, name: str, prices: Any, **more: Any) -> dict[str, Any]:
    return ledger.call("set_credit_event", name, Jsonb(prices), **more)


def records(ledger: Ledger, account: UUID) -> list[tuple[Any, ...]]:
    query = "select * from pgsaas.usage_records where account_id = %s order by usage_id"
    return [
        (r["usage_id"], r["event_name"], r["quantity"], r["cost"], r["seq"])
        for r in ledger.query(query, account)
    ]


def test_use_is_charged_and_recorded(priced: Ledger) -> None:
    account = priced.account(100)
    one = priced.done("record_usage", account, "call", 3)
    assert (one["cost"], one["new_balance"], one["seq"], one["usage_id"]) == (6, 94, 2, 1)
    two = priced.done("record_usage", account, "tokens", 1500, Jsonb({"kind": "completion"}))
    assert (two["cost"], two["new_balance"], two["available"]) == (3, 91, 91)
    assert records(priced, account) == [(1, "call", 3, 6, 2), (2, "tokens", 1500, 3, 3)]
    row = priced.call_all("list_transactions", account)[0]
    assert (row["amount"], row["description"]) == (-3, "tokens")
    assert priced.violations() == []


def test_use_that_costs_nothing_has_no_row_in_the_ledger(priced: Ledger) -> None:
    account = priced.account(10)
    answer = priced.done("record_usage", account, "free")
    assert (answer["seq"], answer["cost"], answer["new_balance"]) == (None, 0, 10)
    assert records(priced, account) == [(1, "free", 1, 0, None)]
    priced.call("freeze_account", account, "test")
    assert code(priced.call("record_usage", account, "free")) == "ACCOUNT_FROZEN"


def test_a_refusal_records_nothing(priced: Ledger) -> None:
    account = priced.account(5)
    before = priced.state()
    assert code(priced.call("record_usage", account, "call", 3)) == "INSUFFICIENT_CREDITS"
    assert code(priced.call("record_usage", NOBODY, "call")) == "ACCOUNT_NOT_FOUND"
    assert code(priced.call("record_usage", account, "nothing")) == "EVENT_NOT_FOUND"
    assert code(priced.call("record_usage", account, "tokens")) == "EVENT_NOT_FOUND"
    priced.call("set_credit_event", "call", p_is_active=False)
    answer = priced.call("record_usage", account, "call")
    assert (code(answer), answer["available"]) == ("EVENT_INACTIVE", 5)
    priced.call("set_credit_event", "call", p_is_active=True)
    after = priced.state()
    assert {**after, "audit_events": None} == {**before, "audit_events": None}


@pytest.mark.parametrize("function", ["record_usage", "consume_credits"])
def test_a_key_has_one_effect(priced: Ledger, function: str) -> None:
    account = priced.account(100)
    first = priced.done(function, account, "call", 3, p_idempotency_key="k")
    again = priced.done(function, account, "call", 3, p_idempotency_key="k")
    assert again == first | {"replayed": True}
    priced.done("record_usage", account, "call", 1)
    again = priced.done(function, account, "call", 3, p_idempotency_key="k")
    assert again == first | {"replayed": True, "available": 92}
    for event_name, quantity in (("call", 4), ("free", 3)):
        with priced.raises("PT409"):
            priced.call(function, account, event_name, quantity, p_idempotency_key="k")
    assert len(records(priced, account)) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"p_quantity": 2},
        {"p_dimensions": Jsonb({"kind": "completion"})},
        {"p_occurred_at": day("2026-03-01")},
        {"p_cost": 1},
        {"p_cost": 2},
    ],
)
def test_a_key_is_compared_on_every_argument(priced: Ledger, other: dict[str, Any]) -> None:
    account = priced.account(100)
    asked = {
        "p_quantity": 1000,
        "p_dimensions": Jsonb({"kind": "prompt"}),
        "p_idempotency_key": "k",
    }
    priced.done("record_usage", account, "tokens", **asked)
    with priced.raises("PT409"):
        priced.call("record_usage", account, "tokens", **asked | other)
    assert priced.done("record_usage", account, "tokens", **asked)["replayed"]


def test_the_system_may_state_a_cost(priced: Ledger) -> None:
    account = priced.account(100)
    asked = {"p_cost": Decimal("0.5"), "p_idempotency_key": "k"}
    assert priced.done("record_usage", account, "call", 7, **asked)["new_balance"] == Decimal(
        "99.5"
    )
    assert priced.done("record_usage", account, "call", 7, **asked)["replayed"]
    with priced.raises("PT409"):
        priced.call("record_usage", account, "call", 7, p_idempotency_key="k")
    for cost in (-1, "NaN", "1e13", "0.0000001"):
        with priced.raises("22023"):
            priced.call("record_usage", account, "call", p_cost=Decimal(cost))


def test_a_late_event_takes_the_price_of_its_day(priced: Ledger) -> None:
    account = priced.account(100)
    was = priced.scalar("select pgsaas.now()")
    priced.after(days=10)
    event(priced, "call", {"model": "unit", "unit": 5})
    event(priced, "call", {"model": "unit", "unit": 7}, p_effective_at=day("2026-06-01"))
    assert priced.done("record_usage", account, "call")["cost"] == 5
    assert priced.done("record_usage", account, "call", p_occurred_at=was)["cost"] == 2
    assert code(priced.call("record_usage", account, "call", p_occurred_at=day("1970-01-01"))) == (
        "EVENT_NOT_FOUND"
    )
    for future in ("2100-01-01", "infinity"):
        with priced.raises("22023"):
            priced.conn.execute(
                "select pgsaas.record_usage(%s, 'call', p_occurred_at => %s)", [account, future]
            )
    priced.at(day("2026-06-02"))
    assert priced.done("record_usage", account, "call")["cost"] == 7


def test_tiers_of_a_period_count_what_was_used_in_it(priced: Ledger) -> None:
    account = priced.account(1000)
    costs = [priced.done("record_usage", account, "render", q)["cost"] for q in (4, 6, 1, 2)]
    assert costs == [12, 18, 6, 2]  # ten at 3; then 5 for the next tier, and 1 each
    priced.at(day("2026-04-02"))
    assert priced.done("record_usage", account, "render", 1)["cost"] == 3
    late = priced.done("record_usage", account, "render", 1, p_occurred_at=day("2026-03-20"))
    assert late["cost"] == 1
    assert priced.scalar("select count(*) from pgsaas.usage_periods") == 2


def test_a_period_of_an_account_begins_at_its_anchor(priced: Ledger) -> None:
    account = priced.on_plan(1000)
    priced.done("record_usage", account, "render", 10)
    priced.at(day("2026-04-09"))
    assert priced.done("record_usage", account, "render", 1)["cost"] == 6
    priced.at(day("2026-04-11"))
    assert priced.done("record_usage", account, "render", 1)["cost"] == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"p_quantity": 0},
        {"p_quantity": -1},
        {"p_quantity": Decimal("NaN")},
        {"p_quantity": Decimal("Infinity")},
        {"p_quantity": Decimal("1e30")},
        {"p_quantity": None},
        {"p_dimensions": Jsonb({"colour": "red"})},
        {"p_dimensions": Jsonb({"kind": 1})},
        {"p_dimensions": Jsonb(["kind"])},
        {"p_dimensions": Jsonb({"kind": "x" * 1100})},
        {"p_idempotency_key": ""},
        {"p_idempotency_key": "k" * 256},
        {"p_metadata": Jsonb([])},
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(priced: Ledger, wrong: dict[str, Any]) -> None:
    account = priced.account(100)
    with priced.raises("22023"):
        priced.call("record_usage", account, "tokens", **wrong)


def test_a_query_costs_what_its_tools_say(ledger: Ledger) -> None:
    event(ledger, "query", {"base": 5})
    tools = [
        {"base": 3},
        {"base": 5, "dimensions": {"tool": "documentation"}},
        {"base": 10, "dimensions": {"tool": "github"}},
    ]
    event(ledger, "query_tool", tools, p_dimensions=["tool"])
    for used, cost in (
        ([], 5),
        (["documentation"], 10),
        (["github"], 15),
        (["search", "browser"], 11),
        (["documentation", "github", "search"], 23),
    ):
        assert ledger.scalar("select pgsaas.calculate_query_cost(%s)", used) == cost
    account = ledger.account(30)
    asked = {"p_tools": ["github"], "p_idempotency_key": "q1"}
    first = ledger.done("check_and_deduct_credits", account, **asked)
    assert (first["cost"], first["new_balance"], first["usage_id"]) == (15, 15, 1)
    assert ledger.done("check_and_deduct_credits", account, **asked) == first | {"replayed": True}
    with ledger.raises("PT409"):
        ledger.call("check_and_deduct_credits", account, ["search"], p_idempotency_key="q1")
    poor = ledger.call("check_and_deduct_credits", account, ["github", "search"])
    assert (code(poor), poor["cost"]) == ("INSUFFICIENT_CREDITS", 18)
    ledger.call("set_credit_event", "query", p_is_active=False)
    assert code(ledger.call("check_and_deduct_credits", account)) == "EVENT_INACTIVE"
    with ledger.raises("PT404"):
        ledger.call("calculate_query_cost")
    assert ledger.violations() == []


def test_an_action_costs_what_its_event_or_its_agent_costs(ledger: Ledger) -> None:
    event(ledger, "music-studio", {"base": 15})
    event(ledger, "music-studio.master", {"base": 40})
    for action, cost in (("music-studio.generate", 15), ("music-studio.master", 40)):
        assert ledger.scalar("select pgsaas.get_credit_cost(%s)", action) == cost
    with ledger.raises("PT404"):
        ledger.call("get_credit_cost", "video.generate")


def test_the_most_specific_price_wins(ledger: Ledger) -> None:
    prices = [
        {"base": 1},
        {"base": 2, "dimensions": {"kind": "prompt"}},
        {"base": 3, "dimensions": {"kind": "prompt", "model": "large"}},
        {"base": 4, "dimensions": {"model": "small"}},
        {"base": 5, "dimensions": {"kind": "prompt", "model": "small"}},
    ]
    event(ledger, "tokens", prices, p_dimensions=["kind", "model"])
    for used, cost in (
        ({}, 1),
        ({"kind": "answer"}, 1),
        ({"kind": "prompt"}, 2),
        ({"kind": "prompt", "model": "large"}, 3),
        ({"model": "small"}, 4),
        ({"kind": "answer", "model": "small"}, 4),
        ({"kind": "prompt", "model": "small"}, 5),
    ):
        [found] = ledger.call_all("price_usage", "tokens", 1, used)
        assert found["cost"] == cost, used


FROM_3 = {"up_to": 3, "unit": 1}


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ([{"base": 1}, {"base": 2}], "two prices of"),
        (
            [{"base": 1, "dimensions": {"kind": "a"}}, {"base": 1, "dimensions": {"model": "b"}}],
            "two prices of",
        ),
        ({"model": "graduated", "tiers": [{"up_to": 5, "unit": 1}]}, "nothing has a price above 5"),
        ({"model": "graduated", "tiers": []}, "tiers are a list"),
        ({"model": "volume", "tiers": [{"unit": 1}, {"up_to": 3, "unit": 1}]}, "they overlap"),
        ({"model": "volume", "tiers": [FROM_3, FROM_3, {"unit": 1}]}, "they overlap"),
        ({"model": "unit"}, 'needs "unit"'),
        ({"model": "unit", "unit": -1}, '"unit" of a price must be a number'),
        ({"model": "unit", "unit": "1"}, '"unit" of a price must be a number'),
        ({"model": "unit", "unit": 1, "size": 3}, 'a unit price has no "size"'),
        ({"model": "package", "unit": 1}, 'needs a "size"'),
        ({"model": "package", "unit": 1, "size": 0}, 'needs a "size"'),
        ({"model": "package", "unit": 1, "size": 9, "round": "off"}, "up, down or exact"),
        ({"model": "weekly"}, 'no price model "weekly"'),
        ({"cost": 1}, 'a price has no "cost"'),
        ({}, 'a price needs a "model"'),
        ({"unit": 1}, 'a price needs a "model"'),
        ({"model": "flat"}, 'a flat price needs a "base"'),
        ({"model": None, "base": 1}, '"model" of a price is a word'),
        ({"model": "volume", "tiers": [{}]}, "no object of up_to and unit or flat"),
        ({"base": 1, "dimensions": {"colour": "red"}}, 'has no dimension "colour"'),
        ([], "at least one price"),
        ("free", "a price is an object"),
    ],
)
def test_what_can_be_no_price_is_refused(ledger: Ledger, prices: Any, said: str) -> None:
    with ledger.raises("22023") as refused:
        event(ledger, "tokens", prices, p_dimensions=["kind", "model"])
    assert said in str(refused.value)


def test_prices_that_are_in_force_are_not_changed(ledger: Ledger) -> None:
    assert event(ledger, "call", {"base": 1})["changed"]
    assert not event(ledger, "call", {"base": 1})["changed"]
    with ledger.raises("PT409"):
        event(ledger, "call", {"base": 2})
    later = day("2026-06-01")
    assert event(ledger, "call", {"base": 2}, p_effective_at=later)["changed"]
    assert event(ledger, "call", {"base": 3}, p_effective_at=later)["changed"]
    now = ledger.after(days=2)
    for past in (timedelta(days=1), timedelta(microseconds=1)):
        with ledger.raises("PT409"):  # yesterday's use has been charged what it cost then
            event(ledger, "call", {"base": 5}, p_effective_at=now - past)
    assert event(ledger, "call", {"base": 4})["changed"]
    before = day("2020-01-01")  # no use had a price then
    assert event(ledger, "call", {"base": 6}, p_effective_at=before)["changed"]
    assert [r["action"] for r in ledger.query("select action from pgsaas.audit_events")].count(
        "credit_event.changed"
    ) == 5
