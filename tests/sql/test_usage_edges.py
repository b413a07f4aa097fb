"""Where use and its prices were found to break: each of these was a fault once, or nearly one."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.sql.ledger import Ledger, code, day
from tests.sql.test_usage import event, priced
from tests.sql.test_usage_batch import batch

__all__ = ["priced"]

LATER = day("2026-09-01")


def test_a_minimum_is_rounded_like_any_cost(priced: Ledger) -> None:
    event(priced, "least", {"model": "unit", "unit": 0, "minimum": 0.0000001})
    account = priced.account(100)
    answers = [
        priced.done("record_usage", account, "least"),
        *batch(priced, [{"account_id": account, "event": "least"}]),
    ]
    assert {answer["cost"] for answer in answers} == {Decimal("0.000001")}
    assert priced.violations() == []


@pytest.mark.parametrize("name", ["flat", "call", "render", "volume", "free"])
def test_a_quantity_of_null_is_refused_whatever_the_price(priced: Ledger, name: str) -> None:
    event(priced, "flat", {"base": 3})
    event(priced, "volume", {"model": "volume", "tiers": [{"unit": 1}], "base": 1})
    account = priced.account(100)
    with priced.raises("22023"):
        priced.call("record_usage", account, name, None)
    answers = priced.call_all(
        "record_usage_batch", [account] * 2, [name, "call"], p_quantities=[None, Decimal(1)]
    )
    assert [code(answer) for answer in answers] == ["INVALID_ARGUMENT", None]


@pytest.mark.parametrize("name", ["free", "call"])
def test_a_repeat_is_answered_as_the_first_was(priced: Ledger, name: str) -> None:
    account = priced.account(100)
    first = priced.done("record_usage", account, name, p_idempotency_key="k")
    priced.after(days=1)
    priced.done("deduct_credits", account, 10)
    priced.after(days=1)
    priced.call_all("archive_ledger", account, priced.scalar("select pgsaas.now()"))
    wanted = {**first, "replayed": True, "available": first["available"] - 10}
    assert priced.done("record_usage", account, name, p_idempotency_key="k") == wanted
    [again] = batch(priced, [{"account_id": account, "event": name, "key": "k"}])
    assert again == {"item": 1, **wanted}


def test_a_null_event_is_another_request(priced: Ledger) -> None:
    account = priced.account(100)
    priced.done("record_usage", account, "call", p_idempotency_key="k")
    with priced.raises("PT409"):
        priced.call("record_usage", account, None, p_idempotency_key="k")
    items = [{"account_id": account, "event": None, "key": key} for key in ("k", "new")]
    assert [code(each) for each in batch(priced, items)] == ["KEY_CONFLICT", "EVENT_NOT_FOUND"]


@pytest.mark.parametrize("at", ["-infinity", "1969-12-31 23:59Z", "4713-01-01 BC", "infinity"])
def test_use_before_1970_is_refused_also_with_a_stated_cost(priced: Ledger, at: str) -> None:
    account = priced.account(100)
    with priced.raises("22023"):
        priced.call("record_usage", account, "call", p_occurred_at=at, p_cost=1)
    [answer] = priced.call_all(
        "record_usage_batch", [account], ["call"], p_occurred_at=[at], p_costs=[Decimal(1)]
    )
    assert code(answer) == "INVALID_ARGUMENT"


def test_a_stated_cost_is_stored_without_trailing_zeros(priced: Ledger) -> None:
    account = priced.account(100)
    [answer] = batch(
        priced, [{"account_id": account, "event": "call", "cost": Decimal("1.500000")}]
    )
    assert (str(answer["cost"]), str(answer["new_balance"])) == ("1.5", "98.5")


def test_tools_are_kept_and_are_bounded(ledger: Ledger) -> None:
    event(ledger, "query", {"base": 5})
    event(ledger, "query_tool", {"base": 1}, p_dimensions=["tool"])
    account = ledger.account(10_000)
    ledger.done("check_and_deduct_credits", account, ["a"], p_metadata=None)
    kept = ledger.scalar("select metadata from pgsaas.usage_records")
    assert kept == {"tools": ["a"]}
    with ledger.raises("22023"):
        ledger.call("check_and_deduct_credits", account, [f"{n:0100}" for n in range(1000)])


def test_the_code_and_the_message_of_a_query_belong_together(ledger: Ledger) -> None:
    event(ledger, "query", {"base": 5}, p_effective_at=LATER)
    event(ledger, "query_tool", {"base": 1}, p_dimensions=["tool"], p_is_active=False)
    answer = ledger.call("check_and_deduct_credits", ledger.account(10), ["a"])
    assert code(answer) == "EVENT_NOT_FOUND"
    assert answer["error_message"].startswith('credit event "query" has no price')


@pytest.mark.parametrize("name", ["free", "nothing"])
def test_a_shortfall_that_there_is_not_is_refused_at_any_cost(priced: Ledger, name: str) -> None:
    account = priced.account(100)
    hold = priced.done("hold_credits", account, 10)["hold_id"]
    with priced.raises("22023"):
        priced.call("capture_usage", account, hold, name, 1, p_shortfall="some")


def test_a_refusal_shows_what_is_due_as_done(priced: Ledger) -> None:
    account = priced.account(50)
    priced.done("add_credits", account, 30, p_expires_at=LATER)
    priced.at(LATER + timedelta(days=1))
    for answer in (
        priced.call("record_usage", account, "nothing"),
        priced.call("check_and_deduct_credits", account),
    ):
        assert code(answer) == "EVENT_NOT_FOUND"
        assert (answer["new_balance"], answer["available"]) == (50, 50)


def test_a_dimension_that_a_price_names_stays(priced: Ledger) -> None:
    with priced.raises("22023") as refused:
        priced.call("set_credit_event", "tokens", p_dimensions=["region"])
    assert 'names the dimensions {"kind": ' in str(refused.value)
    priced.call("set_credit_event", "tokens", p_dimensions=["kind", "region"])


@pytest.mark.parametrize("names", [["day"], ["event"], [""], ["a", "a"], ["x" * 101], [None]])
def test_what_can_be_no_name_of_a_dimension_is_refused(
    ledger: Ledger, names: list[str | None]
) -> None:
    with ledger.raises("22023"):
        event(ledger, "call", {"base": 1}, p_dimensions=names)


def test_a_missing_dimension_is_told_with_those_there_are(priced: Ledger) -> None:
    [answer] = priced.call_all("price_usage", "tokens", 10)
    assert code(answer) == "EVENT_NOT_FOUND"
    assert answer["error_message"].endswith(
        'there are some for {"kind": "completion"}, {"kind": "prompt"}'
    )


@pytest.mark.parametrize("at", ["0001-01-01", "infinity", "9999-06-01"])
def test_prices_begin_in_years_that_every_client_can_read(ledger: Ledger, at: str) -> None:
    with ledger.raises("22023"):
        event(ledger, "call", {"base": 1}, p_effective_at=at)


def test_volume_per_period_is_what_all_units_cost_and_gives_nothing_back(ledger: Ledger) -> None:
    tiers = [{"up_to": 10, "unit": 3, "flat": 5}, {"unit": 1, "flat": 2}]
    event(ledger, "units", {"model": "volume", "tiers": tiers, "per": "period"})
    apart, whole = ledger.account(1000), ledger.account(1000)
    parts: list[Any] = [ledger.done("record_usage", apart, "units", 5)["cost"] for _ in range(10)]
    assert parts == [20, 15, 0, 0, 0, 0, 2, 5, 5, 5]
    assert ledger.done("record_usage", whole, "units", 50)["cost"] == sum(parts) == 52
    assert ledger.violations() == []


def test_statistics_by_a_name_that_no_event_has_are_refused(priced: Ledger) -> None:
    account = priced.account(10)
    assert priced.call_all("get_usage_stats", account, p_group_by=["kind", "day"]) == []
    with priced.raises("22023"):
        priced.call_all("get_usage_stats", account, p_group_by=["modle"])


def test_capture_takes_no_dimensions_as_null_or_as_an_empty_object(priced: Ledger) -> None:
    account = priced.account(100)
    hold = priced.done("hold_credits", account, 10)["hold_id"]
    same = [account, hold, "call", 1]
    first = priced.done("capture_usage", *same, Jsonb({}), p_idempotency_key="k")
    again = priced.done("capture_usage", *same, None, p_idempotency_key="k")
    assert (again["replayed"], again["seq"]) == (True, first["seq"])


def both(ledger: Ledger, account: Any, **item: Any) -> list[dict[str, Any]]:
    """The same use by a call and, on an account of its own, by a batch."""
    twin = ledger.account(100)
    named = {"p_idempotency_key" if n == "key" else f"p_{n}": v for n, v in item.items()}
    [answer] = batch(ledger, [{"account_id": twin, **item}])
    del answer["item"]
    return [ledger.call("record_usage", account, **named), answer]


def test_late_use_of_several_at_once_takes_the_price_of_its_day(priced: Ledger) -> None:
    then = priced.scalar("select pgsaas.now()")
    priced.after(days=3)
    event(priced, "call", {"model": "unit", "unit": 50})
    one, many = both(priced, priced.account(100), event="call", occurred_at=then)
    assert (one["cost"], many["cost"]) == (2, 2)


def test_an_event_that_is_switched_off_is_charged_to_nobody(priced: Ledger) -> None:
    priced.call("set_credit_event", "call", p_is_active=False)
    answers = both(priced, priced.account(100), event="call")
    assert [code(answer) for answer in answers] == ["EVENT_INACTIVE"] * 2


def test_a_dimension_that_the_event_does_not_have_is_refused_where_any_price_fits(
    priced: Ledger,
) -> None:
    account = priced.account(100)
    with priced.raises("22023"):
        priced.call("record_usage", account, "call", 1, Jsonb({"colour": "red"}))
    [answer] = batch(
        priced, [{"account_id": account, "event": "call", "dimensions": Jsonb({"colour": "red"})}]
    )
    assert code(answer) == "INVALID_ARGUMENT"


def test_use_does_not_spend_what_has_expired(priced: Ledger) -> None:
    account = priced.account()
    priced.done("add_credits", account, 100, p_expires_at=LATER)
    priced.at(LATER)
    assert code(priced.call("record_usage", account, "call")) == "INSUFFICIENT_CREDITS"
    [answer] = batch(priced, [{"account_id": account, "event": "call"}])
    assert code(answer) == "INSUFFICIENT_CREDITS"
    assert priced.violations() == []


def test_a_key_twice_in_a_batch_has_one_effect(priced: Ledger) -> None:
    account = priced.account(100)
    same = {"account_id": account, "event": "call", "key": "k"}
    first, again, other = batch(priced, [same, same, {**same, "quantity": 2}])
    assert (again["replayed"], again["usage_id"]) == (True, first["usage_id"])
    assert code(other) == "KEY_CONFLICT"
    assert priced.call("get_balance", account)["balance"] == 98


def test_a_version_that_use_was_charged_by_is_not_replaced(priced: Ledger) -> None:
    """Also where whoever replaces it began before it came into force."""
    now = priced.scalar("select pgsaas.now()")
    soon = now + timedelta(hours=1)
    event(priced, "call", {"model": "unit", "unit": 5}, p_effective_at=soon)
    priced.at(soon)
    assert priced.done("record_usage", priced.account(100), "call")["cost"] == 5
    priced.at(now)
    with priced.raises("PT409"):
        event(priced, "call", {"model": "unit", "unit": 9}, p_effective_at=soon)


def test_an_event_whose_prices_begin_later_can_be_switched_off(ledger: Ledger) -> None:
    event(ledger, "later", {"base": 5}, p_effective_at=LATER)
    assert ledger.call("set_credit_event", "later", p_is_active=False)["changed"]


def test_use_is_counted_by_a_dimension_that_was_taken_away(priced: Ledger) -> None:
    priced.call("set_credit_event", "call", p_dimensions=["zone"])
    account = priced.account(1000)
    item = {"account_id": account, "event": "call", "dimensions": Jsonb({"zone": "eu"})}
    batch(priced, [item] * 100)
    priced.conn.execute("update pgsaas.credit_events set dimensions = '{}' where true")
    [row] = priced.call_all("get_usage_stats", account, p_group_by=["zone"])
    assert (row["records"], row["dimensions"]) == (100, {"zone": "eu"})


def test_a_batch_is_priced_as_it_would_be_charged(priced: Ledger) -> None:
    now = priced.scalar("select pgsaas.now()")
    answers = priced.call_all(
        "price_usage_batch",
        ["call", "call", "call", "nothing", "call", "tokens"],
        p_costs=[None, Decimal("1.5"), Decimal(-1), Decimal(1), None, Decimal(4)],
        p_occurred_at=[None, None, None, None, now + timedelta(days=1), None],
    )
    assert [(code(a), a["cost"]) for a in answers] == [
        (None, 2),
        (None, Decimal("1.5")),
        ("INVALID_ARGUMENT", None),
        ("EVENT_NOT_FOUND", None),
        ("INVALID_ARGUMENT", None),
        (None, 4),
    ]
