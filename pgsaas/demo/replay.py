"""Records the requests of a trace as use, over several connections.

Each request is the use of one event with two kinds: tokens of the prompt and of the completion.
What they cost says the price list of the preset `platform`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import psycopg

from pgsaas.call import call
from pgsaas.catalog import preset
from pgsaas.catalog.loading import set_event
from pgsaas.demo.trace import Request, Trace
from pgsaas.exact import as_json

EVENT = "llm_tokens"
Connect: TypeAlias = Callable[[], psycopg.Connection[Any]]
#: Takes what is done and how much there is in all.
Advance: TypeAlias = Callable[[int, int], None]


@dataclass(slots=True)
class Run:
    """What one pass over the requests did."""

    charged: int = 0
    replayed: int = 0
    refused: int = 0
    free: int = 0
    seconds: float = 0.0
    credits: Decimal = Decimal(0)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def done(self) -> int:
        """Requests so far."""
        return self.charged + self.replayed + self.refused + self.free


def open_accounts(
    conn: psycopg.Connection[Any], trace: Trace, needed: Sequence[Decimal], advance: Advance
) -> list[UUID]:
    """An account per sum, with at least that much purchased, in whole hundreds; and the prices."""
    for event in preset("platform").of("events"):
        if event.name == EVENT:
            set_event(conn, event)
    found = []
    name = f"trace-{trace.digest}-{len(trace.requests)}-{len(needed)}"
    for index, amount in enumerate(needed):
        made = call(conn, "create_account", external_id=f"{name}-{index}", name=f"trace {index}")
        account_id = made[0]["account_id"]
        pack = 100 * max(1, math.ceil(amount / 100))
        call(
            conn,
            "add_credits",
            account_id=account_id,
            amount=Decimal(pack),
            source="purchase",
            description=f"pack of {pack}",
            idempotency_key=name,
        )
        found.append(account_id)
        advance(len(found), len(needed))
    return found


def replay(
    connect: Connect,
    trace: Trace,
    accounts: Sequence[UUID],
    connections: int,
    advance: Advance,
) -> Run:
    """Charge request i to account i mod n, each in a transaction of its own.

    Connection c takes every c-th request, so that neighbours run at the same time. The first
    error of any connection ends the pass and is raised.
    """
    run, stop = Run(), threading.Event()
    numbered = list(enumerate(trace.requests))
    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        shares = [numbered[first::connections] for first in range(connections)]
        running = [
            pool.submit(_charge, connect, trace.digest, share, accounts, run, stop)
            for share in shares
        ]
        try:
            while wait(running, timeout=0.1).not_done:
                advance(run.done, len(numbered))
        finally:
            stop.set()
    for each in running:
        each.result()
    run.seconds = time.perf_counter() - began
    return run


def _charge(
    connect: Connect,
    digest: str,
    share: Sequence[tuple[int, Request]],
    accounts: Sequence[UUID],
    run: Run,
    stop: threading.Event,
) -> None:
    try:
        with connect() as conn:
            for index, request in share:
                if stop.is_set():
                    return
                kinds = {"prompt": request.prompt, "completion": request.completion}
                used = {kind: Decimal(tokens) for kind, tokens in kinds.items() if tokens}
                answers = call(
                    conn,
                    "record_usage_batch",
                    account_ids=[accounts[index % len(accounts)]] * len(used),
                    events=[EVENT] * len(used),
                    quantities=list(used.values()),
                    dimensions=[as_json({"kind": kind}) for kind in used],
                    idempotency_keys=[f"{digest}:{request.line}:{kind}" for kind in used],
                )
                with run.lock:
                    if not answers:
                        run.free += 1
                    elif not all(answer["success"] for answer in answers):
                        run.refused += 1
                    elif all(answer["replayed"] for answer in answers):
                        run.replayed += 1
                    else:
                        run.charged += 1
                        run.credits += sum(answer["cost"] for answer in answers)
    except BaseException:
        stop.set()
        raise


def ledger_charges(conn: psycopg.Connection[Any], accounts: Sequence[UUID]) -> list[Decimal]:
    """What the ledger says each account was charged: the sum of its deductions, row by row."""
    return [_charged(conn, account_id) for account_id in accounts]


def _charged(conn: psycopg.Connection[Any], account_id: UUID) -> Decimal:
    total, before = Decimal(0), None
    while True:
        page = {"limit": 1000, "type": "deduction", "before_seq": before}
        rows = call(conn, "list_transactions", account_id=account_id, **page)
        total -= sum((row["amount"] for row in rows), Decimal(0))
        if len(rows) < 1000:
            return total
        before = rows[-1]["seq"]
