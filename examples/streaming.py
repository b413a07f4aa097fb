"""Charge an answer that is streamed: hold an estimate, stream, capture what was used.

The `finally` runs when the stream ends, fails or its reader goes away. Should the process die, the
hold lapses by itself and nothing was charged.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import psycopg

HOLD = "select success, hold_id, error_message from pgsaas.hold_credits(%s, %s, '5 minutes')"
EXTEND = "select success from pgsaas.extend_hold(%s, %s, '5 minutes')"
CAPTURE = "select error_code from pgsaas.capture_usage(%s, %s, 'llm_tokens', %s, %s)"
RECORD = "select error_code from pgsaas.record_usage(%s, 'llm_tokens', %s, %s)"
RELEASE = "select success from pgsaas.release_hold(%s, %s)"
KIND = '{"kind": "completion"}'
HEARTBEAT = 60  # seconds


class NotCharged(Exception):
    """Work was done and could not be charged; the argument is the error code."""


def one(conn: psycopg.Connection[Any], query: str, *values: object) -> tuple[Any, ...]:
    """The row of a call."""
    row: tuple[Any, ...] = conn.execute(query.encode(), values).fetchone()
    return row


def charged(
    conn: psycopg.Connection[Any], account_id: UUID, tokens: Iterable[str], estimate: int
) -> Iterator[str]:
    """Pass tokens on; the account pays for those that were passed on, `estimate` credits at hand.

    Raises ValueError when the account has less than that. `conn` is in autocommit mode.
    """
    success, hold_id, refusal = one(conn, HOLD, account_id, estimate)
    if not success:
        raise ValueError(refusal)
    used, beat = 0, time.monotonic()
    try:
        for token in tokens:
            used += 1
            if time.monotonic() - beat > HEARTBEAT:
                one(conn, EXTEND, account_id, hold_id)
                beat = time.monotonic()
            yield token
    finally:
        settle(conn, account_id, hold_id, used)


def settle(conn: psycopg.Connection[Any], account_id: UUID, hold_id: int, used: int) -> None:
    """Charge what was used. Raises NotCharged when that is refused, so that somebody looks."""
    if not used:
        one(conn, RELEASE, account_id, hold_id)
        return
    (code,) = one(conn, CAPTURE, account_id, hold_id, used, KIND)
    if code == "HOLD_CLOSED":  # it took longer than the hold lasted
        (code,) = one(conn, RECORD, account_id, used, KIND)
    if code:
        one(conn, RELEASE, account_id, hold_id)
        raise NotCharged(code)
