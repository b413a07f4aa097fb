"""The table, and the page docs/performance.md around it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from bench.lab import Effort
from bench.results import Result

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def table(results: Sequence[Result]) -> str:
    """The results as a table of Markdown."""
    lines = ["| what | goal | result | | measured |", "|---|---|---|---|---|"]
    for result in results:
        verdict = {True: "met", False: "**missed**", None: ""}[result.met]
        lines.append(
            f"| {result.what} | {result.goal} | {result.shown} | {verdict} | {result.detail} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """CPU model and number of cores."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores"


def page(results: Sequence[Result], effort: Effort, version: str, problems: Sequence[str]) -> str:
    """The whole page."""
    missed = [result for result in results if result.met is False]
    verdict = f"{len(missed)} of {sum(r.met is not None for r in results)} goals missed."
    ledgers = "; ".join(problems) or "nothing, in any database of the run; no deadlocks"
    return PROSE.format(
        machine=machine(),
        version=version,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        rounds=effort.rounds,
        verdict=verdict if missed else "All goals met.",
        table=table(results),
        ledgers=ledgers,
    )


PROSE = """\
# Performance

Written by `make bench`, which starts its own servers, takes about a quarter of an hour, and needs
nothing but the development environment. `python -m bench --quick` is a smoke run,
`python -m bench --rows batch,balance` measures some rows; both print the table and leave this page
alone. The CPU of a backend can only be read on Linux.

A figure is a ratio to a baseline of the same run: the alternatives take turns, in {rounds} rounds
after one to warm up, and the ratio is the median of the ratios within a round. So it means about
the same on another machine, while the figures behind it do not. *A* is one statement that takes
from a balance if it suffices and adds a row to a ledger, the least that PostgreSQL can do; *A+key*
adds a unique idempotency key and is the fair comparison. Neither knows grants, expiry, replays,
overdraft, holds or callers. The set-based limit is one statement that does for 1,000 items what
A+key does; that of use also looks up a price and adds a record, which then has the key. Backend
CPU is the steadiest measure; throughput includes pgbench, which shares the cores.

- Machine: {machine}
- PostgreSQL {version}; shared_buffers 4 GB; no checkpoint and no autovacuum within a round.
  Durable rows flush each commit to disk, the others do not wait for it.
- Date: {date}
- verify_ledger found: {ledgers}

{verdict}

{table}

## Where the time of a charge goes

By instructions of one backend (callgrind on a single-user server): A+key 159,000 a call,
`deduct_credits` 360,000, of which this server prints 30,000 that others send. A PL/pgSQL function
that runs two statements is set up and torn down anew in every call, and that is most of the
difference: starting its two statements takes 94,000, checking that the functions and operators in
them may be called 24,000. Of the rest, checks of the arguments take 22,000, `on conflict` 15,500,
the look at the caller's settings 9,000, ten more columns of the ledger row 6,000. `get_balance`
computes fourteen columns under row security, where the bare select reads six; written as one SQL
function it took more (316,000 instead of 252,000).

## Where the log of a reset goes

By `pg_waldump` over 100,000 accounts just after a checkpoint, of 2,690 B an account: grants 1,300 B
(the end of the old allowance, the new one and what rolled over, with their entries in three
indexes), the row of the balance 770 B, rows of the ledger 440 B, the lock that the grants' foreign
key takes on the account 120 B. A quarter of all is images of whole pages.

## What follows for users

- The lock on an account's row lasts until the commit has been flushed: call `deduct_credits` last
  in a transaction.
- Keys in order of time (a ULID, a UUID of version 7, a time in front) keep the key index's pages
  together; random keys write a page image for nearly every charge after a checkpoint.
  `wal_compression` makes those images smaller.
- Charge many items with `deduct_credits_batch` where they come together.
- List an account that very many sessions charge at the same time in `pgsaas.hot_accounts`.
- Do not set `commit_delay`: it lengthens the lock.
"""
