"""Brings a catalog into a database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import psycopg

from pgsaas.call import call
from pgsaas.catalog import Event
from pgsaas.exact import as_json


def set_events(
    conn: psycopg.Connection[Any],
    events: Iterable[Event],
    effective_at: datetime | None = None,
    reason: str | None = None,
) -> list[str]:
    """Set credit events, all or none, with prices from `effective_at` on (default: now).

    Returns the names of those that changed. Raises InvalidValue for what can be no price.
    """
    changed = []
    with conn.transaction():
        for event in events:
            [done] = call(
                conn,
                "set_credit_event",
                event=event.name,
                prices=as_json(event.prices),
                description=event.description,
                category=event.category,
                unit=event.unit,
                dimensions=event.dimensions,
                effective_at=effective_at,
                reason=reason,
            )
            changed += [event.name] if done["changed"] else []
    return changed
