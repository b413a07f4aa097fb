"""The rows of use, plans and work: what is measured, against what, and the goal."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from bench.lab import APPLICATION, Lab, Shape, ratio
from bench.results import A_KEY, TIMES, Result, at_most, middle


def usage(lab: Lab) -> Iterator[Result]:
    """Pricing, charging and recording in one call, and many at once."""
    found = lab.cpu({"a_key": A_KEY, "usage": Shape("usage", APPLICATION)})
    times = f"{ratio(found, 'usage', 'a_key'):.2f} {TIMES} A+key"
    yield Result(
        "`record_usage`, priced by a dimension, with key: backend CPU",
        f"{times}: {middle(found['usage'])} µs to {middle(found['a_key'])} µs",
    )
    calls = max(10, lab.effort.calls // 200)
    shapes = {"limit": Shape("limit_usage_batch"), "batch": Shape("usage_batch", APPLICATION)}
    found = lab.cpu(shapes, calls)
    times = f"{ratio(found, 'limit', 'batch'):.2f} {TIMES} the set-based limit of use"
    each = {name: f"{middle(values, 1000)} µs" for name, values in found.items()}
    yield Result(
        "`record_usage_batch`, 1,000 over 10,000 accounts, items per CPU second",
        f"{times}: {each['batch']} to {each['limit']} an item",
    )


def usage_import(lab: Lab) -> Iterator[Result]:
    """A file into the database by the command that users run, and the same file again."""
    lab.copy("bench_import")
    lines = lab.effort.stored // 5
    kinds = ("prompt", "completion")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "use.csv")
        with file.open("w", encoding="utf-8") as out:
            out.write("account,event,quantity,kind\n")
            for n in range(lines):
                account = UUID(int=1 + n * 7919 % 10_000)
                out.write(f"{account},llm_tokens,{1 + n % 4000},{kinds[n % 2]}\n")
        for title in ("by a client on the same machine", "the same file again"):
            done = lab.pgsaas(
                "bench_import",
                "usage",
                "import",
                str(file),
                "--dimension",
                "kind=kind",
                "--key-by-line",
            )
            rate = (done["recorded"] + done["replayed"]) / done["seconds"]
            yield Result(
                f"`pgsaas usage import`, {lines:,} lines over 10,000 accounts, {title}",
                f"{rate:,.0f} lines a second",
            )


def usage_stats(lab: Lab) -> Iterator[Result]:
    """A year of one account by month and dimension, out of very many records."""
    lab.copy("bench_used")
    lab.load("bench_used", "usage", rows_each=lab.effort.grown // 10_000)
    found = lab.cpu({"stats": Shape("stats", APPLICATION, "bench_used")}, 200)
    yield Result(
        f"`get_usage_stats`, a year by month, {lab.effort.grown:,} records: backend CPU",
        f"{middle(found['stats'])} µs",
    )


def resets(lab: Lab) -> Iterator[Result]:
    """The month of many accounts ends: in one statement, and in steps of 10,000."""
    accounts = lab.effort.grown // 10
    seconds, wal_bytes = {}, {}
    for name, limit in (("one", accounts), ("steps", 10_000)):
        database = f"bench_reset_{name}"
        lab.copy(database)
        lab.load(database, "resets", accounts=accounts)
        with lab.connect(database) as conn:
            conn.execute("checkpoint")
            conn.execute("set synchronous_commit = off")
            before = conn.execute("select pg_current_wal_insert_lsn()").fetchone()
            begun, remaining = time.perf_counter(), 1
            while remaining:
                said = conn.execute(
                    "select remaining from pgsaas.reset_monthly_credits(%s)", [limit]
                ).fetchone()
                remaining = said[0] if said else 0
            seconds[name] = time.perf_counter() - begun
            written = conn.execute(
                "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", before
            ).fetchone()
            wal_bytes[name] = float(written[0]) / accounts if written else 0
    what = f"reset of {accounts:,} accounts with rollover, a third with a half-spent pack"
    yield at_most(
        f"{what}: steps of 10,000",
        "one statement",
        seconds["steps"] / seconds["one"],
        1.1,
        f"{seconds['steps']:.0f} s to {seconds['one']:.0f} s",
    )
    yield at_most(f"{what}: WAL per account", "", wal_bytes["steps"], 1800, "in steps", " B")


def work(lab: Lab) -> Iterator[Result]:
    """The question before the work, and the job with its hold."""
    lab.copy("bench_work")
    lab.load("bench_work", "work")
    shapes = {
        "select": Shape("bare_select", APPLICATION, "bench_work"),
        "authorize": Shape("authorize", APPLICATION, "bench_work"),
        "deduct": Shape("deduct", APPLICATION, "bench_work"),
        "start": Shape("start_job", APPLICATION, "bench_work"),
    }
    found = lab.cpu(shapes)
    for title, name, to in (
        ("`authorize_agent` to a bare select", "authorize", "select"),
        ("`start_job` to `deduct_credits`", "start", "deduct"),
    ):
        yield Result(
            f"{title}: backend CPU",
            f"{ratio(found, name, to):.1f} {TIMES}: {middle(found[name])} µs to"
            f" {middle(found[to])} µs",
        )
