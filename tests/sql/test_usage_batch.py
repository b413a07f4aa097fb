"""record_usage for many at once, and statistics of what was used."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from tests.sql.ledger import NOBODY, Ledger, Row, code, day
from tests.sql.test_usage import event, priced, records

__all__ = ["priced"]


def batch(ledger: Ledger, items: list[dict[str, Any]]) -> list[Row]:
    """Items as record_usage takes them, without the `p_`."""
    columns = {
        "account_ids": "account_id",
        "events": "event",
        "quantities": "quantity",
        "dimensions": "dimensions",
        "occurred_at": "occurred_at",
        "costs": "cost",
        "idempotency_keys": "key",
        "metadata": "metadata",
    }
    named = {f"p_{name}": [item.get(one) for item in items] for name, one in columns.items()}
    named["p_quantities"] = [Decimal(item.get("quantity", 1)) for item in items]
    return ledger.call_all("record_usage_batch", **named)


def test_a_batch_answers_as_single_calls_would(priced: Ledger) -> None:
    ann, bob, cy, frozen = (priced.account(n) for n in (100, 5, 100, 10))
    priced.call("freeze_account", frozen, "test")
    items: list[dict[str, Any]] = [
        {"account_id": ann, "event": "call", "quantity": 3, "key": "a1"},
        {"account_id": ann, "event": "tokens", "quantity": 1500,
         "dimensions": Jsonb({"kind": "prompt"}), "metadata": Jsonb({"x": 1})},
        {"account_id": bob, "event": "call", "quantity": 2},
        {"account_id": bob, "event": "call", "quantity": 2},
        {"account_id": cy, "event": "call", "key": "c1"},
        {"account_id": cy, "event": "call", "key": "c1"},
        {"account_id": cy, "event": "call", "quantity": 2, "key": "c1"},
        {"account_id": cy, "event": "render", "quantity": 11},
        {"account_id": cy, "event": "free"},
        {"account_id": cy, "event": "call", "quantity": 0},
        {"account_id": cy, "event": "tokens", "dimensions": Jsonb({"colour": "red"})},
        {"account_id": cy, "event": "nothing"},
        {"account_id": NOBODY, "event": "call"},
        {"account_id": None, "event": "call"},
        {"account_id": frozen, "event": "call"},
        {"account_id": cy, "event": "call", "cost": Decimal("0.25")},
        {"account_id": cy, "event": "call", "occurred_at": day("2026-03-10") - timedelta(days=9)},
    ]  # fmt: skip
    answers = batch(priced, items)
    assert [a["item"] for a in answers] == list(range(1, len(items) + 1))
    assert [(code(a), a["cost"], a["usage_id"], a["new_balance"]) for a in answers] == [
        (None, 6, 1, 94),
        (None, Decimal("1.5"), 2, Decimal("92.5")),
        (None, 4, 1, 1),
        ("INSUFFICIENT_CREDITS", 4, None, 1),
        (None, 2, 1, 98),
        (None, 2, 1, 98),
        ("KEY_CONFLICT", None, None, None),
        (None, 36, 2, 62),
        (None, 0, 3, 62),
        ("INVALID_ARGUMENT", None, None, None),
        ("INVALID_ARGUMENT", None, None, None),
        ("EVENT_NOT_FOUND", None, None, 62),
        ("ACCOUNT_NOT_FOUND", None, None, None),
        ("ACCOUNT_NOT_FOUND", None, None, None),
        ("ACCOUNT_FROZEN", 2, None, 10),
        (None, Decimal("0.25"), 4, Decimal("61.75")),
        ("EVENT_NOT_FOUND", None, None, Decimal("61.75")),
    ]
    assert [a["replayed"] for a in answers].count(True) == 1
    assert records(priced, ann) == [(1, "call", 3, 6, 2), (2, "tokens", 1500, Decimal("1.5"), 3)]
    assert priced.violations() == []


def test_a_batch_again_has_no_further_effect(priced: Ledger) -> None:
    accounts = [priced.account(100) for _ in range(3)]
    items = [
        {"account_id": accounts[n % 3], "event": "call", "key": f"k{n}", "quantity": 1 + n % 4}
        for n in range(30)
    ]
    first = batch(priced, items)
    assert all(a["success"] and not a["replayed"] for a in first)
    again = batch(priced, items)
    assert all(a["success"] and a["replayed"] for a in again)
    for one, two in zip(first, again, strict=True):
        assert {**one, "replayed": True, "available": None} == {**two, "available": None}


def test_random_batches_are_random_calls(priced: Ledger) -> None:
    """The same items, together and one by one, on accounts with the same past."""
    dice = random.Random(4)  # noqa: S311
    for _ in range(12):
        left, right = ([priced.account(40) for _ in range(3)] for _ in range(2))
        items = []
        for _ in range(25):
            item: dict[str, Any] = {
                "event": dice.choice(["call", "free", "render", "call", "call"])
            }
            item["quantity"] = dice.choice([Decimal(q) for q in ("1", "2", "3", "0.5", "0")])
            item["key"] = dice.choice([None, f"k{dice.randrange(9)}"])
            items.append((dice.randrange(3), item))
        together = batch(priced, [{"account_id": left[who], **item} for who, item in items])
        apart = []
        for n, (who, item) in enumerate(items, 1):
            [answer] = batch(priced, [{"account_id": right[who], **item}])
            apart.append({**answer, "item": n})
        assert together == apart
        assert [records(priced, a) for a in left] == [records(priced, a) for a in right]
    assert priced.violations() == []


@pytest.mark.parametrize("n", [0, 1, 10_000])
def test_batches_of_many_sizes(priced: Ledger, n: int) -> None:
    account = priced.account(20_000)
    answers = batch(
        priced, [{"account_id": account, "event": "call", "key": str(i)} for i in range(n)]
    )
    assert [a["usage_id"] for a in answers] == list(range(1, n + 1))
    [stats] = priced.call_all("get_usage_stats", account) or [{"records": 0, "cost": 0}]
    assert (stats["records"], stats["cost"]) == (n, 2 * n)
    with priced.raises("22023"):
        batch(priced, [{"account_id": account, "event": "call"}] * 10_001)


def used(priced: Ledger, account: UUID, n: int) -> list[tuple[date, str, str, Decimal, Decimal]]:
    """So many records over sixty days, by single calls and batches; what they were."""
    dice = random.Random(n)  # noqa: S311
    done: list[tuple[date, str, str, Decimal, Decimal]] = []
    while len(done) < n:
        items = []
        for _ in range(dice.choice([1, 1, 7, 60])):
            late = timedelta(days=dice.randrange(60), hours=dice.randrange(24))
            kind = dice.choice(["prompt", "completion"])
            items.append({
                "account_id": account, "event": "tokens",
                "quantity": Decimal(dice.randrange(1, 5000)),
                "dimensions": Jsonb({"kind": kind, "model": dice.choice("ab")}),
                "occurred_at": priced.scalar("select pgsaas.now()") - late,
            })  # fmt: skip
        for item, answer in zip(items, batch(priced, items), strict=True):
            assert answer["success"], answer
            model = item["dimensions"].obj["model"]
            at = item["occurred_at"].date()
            done.append(
                (at, item["dimensions"].obj["kind"], model, item["quantity"], answer["cost"])
            )
    return done


@pytest.mark.parametrize("n", [3, 99, 100, 101, 350])
def test_statistics_count_every_record_by_day_and_dimension(ledger: Ledger, n: int) -> None:
    ledger.at(day("2026-01-01"))
    prices = [{"model": "package", "unit": 1, "size": 1000}]
    event(ledger, "tokens", prices, p_dimensions=["kind", "model"], p_category="ai")
    ledger.at(day("2026-03-10"))
    account, other = ledger.account(10**9), ledger.account(10)
    done = used(ledger, account, n)
    ledger.done("record_usage", other, "tokens")
    asked = {"p_from": date(2026, 1, 20), "p_to": date(2026, 2, 20)}
    inside = [d for d in done if asked["p_from"] <= d[0] <= asked["p_to"]]

    def summed(key: Any) -> dict[Any, Decimal]:
        found: dict[Any, Decimal] = defaultdict(Decimal)
        for d in inside:
            found[key(d)] += d[4]
        return found

    by_day = ledger.call_all("get_usage_stats", account, **asked, p_group_by=["day", "event"])
    assert {r["period"]: r["cost"] for r in by_day} == summed(lambda d: d[0])
    assert sum(r["records"] for r in by_day) == len(inside)
    assert sum(r["quantity"] for r in by_day) == sum(d[3] for d in inside)
    by_kind = ledger.call_all("get_usage_stats", account, **asked, p_group_by=["kind", "model"])
    assert {(r["dimensions"]["kind"], r["dimensions"]["model"]): r["cost"] for r in by_kind} == (
        summed(lambda d: d[1:3])
    )
    whole = ledger.call_all("get_usage_stats", account, **asked, p_group_by=["category"])
    assert [(r["category"], r["cost"]) for r in whole] == (
        [("ai", sum(d[4] for d in inside))] if inside else []
    )
    assert ledger.violations() == []


def test_statistics_refuse_days_out_of_order(ledger: Ledger) -> None:
    account = ledger.account()
    for wrong in (
        {"p_from": date(2026, 2, 2), "p_to": date(2026, 2, 1)},
        {"p_group_by": ["day", "week"]},
        {"p_group_by": None},
    ):
        with ledger.raises("22023"):
            ledger.call_all("get_usage_stats", account, **wrong)
