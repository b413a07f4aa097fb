"""Charge an answer that is streamed: hold an estimate, stream, capture what was used.

The `finally` runs when the stream ends, fails or its reader goes away. Should the process die, the
hold lapses by itself and nothing was charged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import psycopg

HOLD = "select success, hold_id, error_message from pgsaas.hold_credits(%s, %s, '5 minutes')"
EXTEND = "select from pgsaas.extend_hold(%s, %s, '5 minutes')"
CAPTURE = "select cost from pgsaas.capture_usage(%s, %s, 'llm_tokens', %s, %s)"
RELEASE = "select from pgsaas.release_hold(%s, %s)"


def charged(
    conn: psycopg.Connection[Any], account_id: UUID, tokens: Iterable[str], estimate: int
) -> Iterator[str]:
    """Pass tokens on; the account pays for those that were passed on, `estimate` credits at hand.

    Raises ValueError when the account has less than that. `conn` is in autocommit mode.
    """
    success, hold_id, refusal = conn.execute(HOLD, [account_id, estimate]).fetchone()  # type: ignore[misc]
    if not success:
        raise ValueError(refusal)
    used = 0
    try:
        for token in tokens:
            used += 1
            if used % 1000 == 0:
                conn.execute(EXTEND, [account_id, hold_id])
            yield token
    finally:
        if used:
            kind = '{"kind": "completion"}'
            conn.execute(CAPTURE, [account_id, hold_id, used, kind])
        else:
            conn.execute(RELEASE, [account_id, hold_id])
