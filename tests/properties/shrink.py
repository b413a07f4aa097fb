"""From a long history that ends in a difference to a short one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias
from uuid import UUID

import psycopg

from tests.properties.pair import Conn, Disagreement, Pair

Calls: TypeAlias = Sequence[tuple[str, tuple[Any, ...]]]


def renamed(value: Any, names: dict[UUID, UUID]) -> Any:
    """The same arguments for other accounts."""
    if isinstance(value, dict):
        return {key: renamed(item, names) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(renamed(item, names) for item in value)
    return names.get(value, value) if isinstance(value, UUID) else value


def again(conn: Conn, calls: Calls, accounts: Sequence[UUID]) -> tuple[Pair, str | None]:
    """Make the calls on new accounts; the difference they lead to, if any."""
    conn.rollback()
    (_, (start,)), *rest = calls
    pair = Pair(conn, start)
    new = pair.open_organization(members=len(accounts) - 1)
    names = dict(zip(accounts, new, strict=True))
    try:
        for what, arguments in renamed(rest, names):
            if what == "call":
                name, account_id, asked = arguments
                pair.call(name, account_id, **asked)
            elif what == "refuse":
                name, account_id, asked = arguments
                pair.refuse(name, account_id, **asked)
            else:
                getattr(pair, what)(*arguments)
        for account_id in new:
            pair.compare_account(account_id)
    except Disagreement as difference:
        return pair, str(difference)
    except (AssertionError, psycopg.Error):
        return pair, None
    return pair, None


def shrink(conn: Conn, calls: Calls, accounts: Sequence[UUID]) -> str:
    """Leave out what the difference does not need; the story that remains."""
    _, first = again(conn, calls, accounts)
    if first is None:
        return "no difference the second time"
    calls = list(calls)
    size = len(calls) // 2
    while size:
        start = 1
        while start < len(calls):
            fewer = [*calls[:start], *calls[start + size :]]
            found = again(conn, fewer, accounts)[1]
            if found and found.split()[0] == first.split()[0]:
                calls = fewer
            else:
                start += size
        size //= 2
    pair, difference = again(conn, calls, accounts)
    return f"{pair.history()}\n{difference}"
