"""Brings a catalog into a database, and what is there into the form of a catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from pgsaas.call import call
from pgsaas.catalog import SECTIONS, Catalog, Entry, Terms
from pgsaas.catalog.subscribers import Subscribers, live_subscribers
from pgsaas.errors import InvalidValue, PgsaasError
from pgsaas.exact import as_json

EVENT_TERMS = ("description", "category", "unit", "dimensions", "prices")
Connection = psycopg.Connection[Any]
Exported = dict[tuple[str, str], Terms]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to an entry: added, changed (with its new version) or retired."""

    section: str
    name: str
    what: str
    version: int | None
    before: Terms
    after: Terms
    #: Live subscriptions to other versions of a plan, and how many of them got the new one.
    subscribers: list[Subscribers] = field(default_factory=list)
    migrated: int = 0


def load(
    conn: Connection,
    catalog: Catalog,
    reason: str | None = None,
    prices_from: datetime | None = None,
    migrate: bool = False,
) -> list[Change]:
    """Set everything that a catalog says; what it leaves out of plans, packs and agents is retired.

    A section that the catalog does not have is left as it is; events are never taken away, and
    their prices begin at `prices_from` (default: now). Subscribers keep the version they have
    unless `migrate` says that those of changed plans get the new one; those of retired plans keep
    theirs. The caller owns the transaction. Raises the error of the first entry that cannot be,
    with its line.
    """
    before = export(conn)
    retired = list(_retire(conn, catalog, before, reason))
    versions: dict[tuple[str, str], int | None] = {}
    changed = set()
    for entry in sorted(catalog.entries, key=_place):
        try:
            with conn.transaction():
                done = _set(conn, entry, reason, prices_from)
        except PgsaasError as error:
            raise type(error)(f"{catalog.source}, line {entry.line}: {error}") from error
        versions[entry.section, entry.name] = done.get("version")
        if done["changed"]:
            changed.add((entry.section, entry.name))
    after = export(conn)
    made = [
        Change(
            entry.section,
            entry.name,
            "changed" if (entry.section, entry.name) in before else "added",
            versions[entry.section, entry.name],
            before.get((entry.section, entry.name), {}),
            after.get((entry.section, entry.name), {}),
        )
        for entry in catalog.entries
        if (entry.section, entry.name) in changed
    ]
    return [_with_subscribers(conn, change, reason, migrate) for change in [*made, *retired]]


def _with_subscribers(
    conn: Connection, change: Change, reason: str | None, migrate: bool
) -> Change:
    if change.section != "plans":
        return change
    migrated = 0
    if migrate and change.version:
        moved = call(conn, "migrate_subscribers", plan_id=change.name, reason=reason)
        migrated = moved[0]["migrated"]
    found = live_subscribers(conn, change.name)
    others = [each for each in found if each.version != change.version]
    return replace(change, subscribers=others, migrated=migrated)


def _place(entry: Entry) -> tuple[int, bool]:
    """Plans before what names them, the default last, when the others have given that up."""
    return SECTIONS.index(entry.section), bool(entry.terms.get("default"))


def _retire(
    conn: Connection, catalog: Catalog, before: Exported, reason: str | None
) -> Iterator[Change]:
    """First, so that another plan can be the default."""
    kept = {(entry.section, entry.name) for entry in catalog.entries}
    for (section, name), terms in before.items():
        if (section, name) in kept or not catalog.of(section) or section == "events":
            continue
        if section == "plans":
            call(conn, "retire_plan", plan_id=name, reason=reason)
        elif section == "packs":
            off = as_json({**terms, "active": False})
            call(conn, "set_credit_product", product_id=name, terms=off, reason=reason)
        elif section == "agents":
            off = as_json({**terms, "availability": "disabled"})
            call(conn, "set_agent", agent_id=name, terms=off, reason=reason)
        else:
            off = as_json({**terms, "active": False})
            call(conn, "set_reward", reward_id=name, terms=off, reason=reason)
        yield Change(section, name, "retired", None, terms, {})


def _set(
    conn: Connection, entry: Entry, reason: str | None, prices_from: datetime | None
) -> dict[str, Any]:
    if entry.section == "events":
        return set_event(conn, entry, prices_from, reason)
    function, name = {
        "plans": ("set_plan", "plan_id"),
        "packs": ("set_credit_product", "product_id"),
        "agents": ("set_agent", "agent_id"),
        "rewards": ("set_reward", "reward_id"),
    }[entry.section]
    terms = as_json(entry.terms)
    return call(conn, function, **{name: entry.name}, terms=terms, reason=reason)[0]


def set_event(
    conn: Connection,
    entry: Entry,
    effective_at: datetime | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    """Set a credit event, with prices from `effective_at` on (default: now)."""
    terms = dict(entry.terms)
    if odd := sorted(terms.keys() - set(EVENT_TERMS)):
        raise InvalidValue(f'an event has no "{odd[0]}": there are {", ".join(EVENT_TERMS)}')
    prices = as_json(terms.pop("prices", None))
    return call(
        conn,
        "set_credit_event",
        event=entry.name,
        prices=prices,
        effective_at=effective_at,
        reason=reason,
        **terms,
    )[0]


def export(conn: Connection) -> Exported:
    """What is on sale, as the terms of a catalog by section and name."""
    rows = call(conn, "export_catalog")
    return {(row["section"], row["name"]): row["terms"] for row in rows}


def lost_default(conn: Connection, changes: Iterable[Change]) -> str | None:
    """The plan that was the default before the changes, where none is after them."""
    was = [
        change.name
        for change in changes
        if change.section == "plans" and change.what != "added" and change.before.get("default")
    ]
    is_default = any(row["is_default"] for row in call(conn, "list_plans"))
    return was[0] if was and not is_default else None
