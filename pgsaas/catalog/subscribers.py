"""Whom a change of a plan touches: its subscribers, by the version and the price that they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from pgsaas.call import counts
from pgsaas.catalog import Terms

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Subscribers:
    """How many live subscriptions a version of a plan has."""

    version: int
    subscribers: int


def live_subscribers(conn: Connection, plan: str) -> list[Subscribers]:
    """The live subscriptions of a plan, by version, as they were stored last."""
    live = {"plan_id": plan, "ended_at": None}
    found = counts(conn, "subscriptions", ["plan_version"], live)
    return [Subscribers(row["plan_version"], row["found"]) for row in found]


def lost_prices(conn: Connection, plan: str, before: Terms, after: Terms) -> Iterator[str]:
    """What subscribers of a plan pay that had a price before a change and has none after it."""
    lost = _prices(before) - _prices(after)
    live = {"plan_id": plan, "ended_at": None}
    for row in (
        counts(conn, "subscriptions", ["billing_interval", "currency"], live) if lost else []
    ):
        interval, currency = row["billing_interval"], row["currency"]
        if (interval, currency) in lost:
            pay = "pays one, and keeps it" if row["found"] == 1 else "pay one, and keep it"
            yield (
                f'plan "{plan}" has no price per {interval} in {currency} any more: '
                f"{row['found']:,} of its subscribers {pay}"
            )


def _prices(terms: Terms) -> set[tuple[str, str]]:
    prices: Iterable[Terms] = terms.get("prices", [])
    return {(price["interval"], price["currency"]) for price in prices}
