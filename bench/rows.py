"""The rows of the ledger: what is measured, against what, and the goal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.lab import APPLICATION, Lab, Shape, ratio
from bench.results import (
    A_KEY,
    DEDUCT,
    HOT_ACCOUNT,
    A,
    Result,
    Row,
    at_least,
    at_most,
    count,
    middle,
    per_second,
)
from bench.rows_of_use import resets, usage, usage_import, usage_stats, work


def deduct_cpu(lab: Lab) -> Iterator[Result]:
    """The whole call against the fair baseline."""
    found = lab.cpu({"a": A, "a_key": A_KEY, "deduct": DEDUCT})
    yield at_most(
        "`deduct_credits`, with key, description, job and agent: backend CPU",
        "A+key",
        ratio(found, "deduct", "a_key"),
        1.5,
        f"{middle(found['deduct'])} µs to {middle(found['a_key'])} µs, A {middle(found['a'])} µs",
    )


def deduct_throughput(lab: Lab) -> Iterator[Result]:
    """Charges of many accounts, each committed to disk."""
    for clients in (1, 4, 8):
        found = lab.throughput({"a": A, "deduct": DEDUCT}, clients)
        yield at_least(
            f"… throughput, durable commits, 10,000 accounts, {count(clients)}",
            "A",
            ratio(found, "deduct", "a"),
            0.75,
            per_second(found),
        )


def hot_account(lab: Lab) -> Iterator[Result]:
    """One account that everybody charges at once, queued by its row or by the advisory lock."""
    one = {"accounts": 1}
    flagged = {"pgsaas.hot_accounts": HOT_ACCOUNT}
    found = lab.throughput(
        {
            "a": Shape("a", variables=one),
            "plain": Shape("deduct", APPLICATION, variables=one),
            "flagged": Shape("deduct", APPLICATION, variables=one, settings=flagged),
        },
        16,
    )
    detail = per_second(found)
    title = "… one hot account, 16 clients, durable"
    yield at_least(title, "A", ratio(found, "plain", "a"), 0.85, detail)
    yield at_least(f"{title}, listed as hot", "A", ratio(found, "flagged", "a"), 1.1, detail)


def batch(lab: Lab) -> Iterator[Result]:
    """A batch against one statement that does the least for as many items."""
    calls = max(10, lab.effort.calls // 200)
    found = lab.cpu({"limit": Shape("limit_batch"), "batch": Shape("batch", APPLICATION)}, calls)
    each = {name: f"{middle(values, 1000)} µs" for name, values in found.items()}
    yield at_least(
        "batch of 1,000 over 10,000 accounts, items per CPU second",
        "the set-based limit",
        ratio(found, "limit", "batch"),
        0.5,
        f"{each['batch']} to {each['limit']} an item",
    )


def batch_hot(lab: Lab) -> Iterator[Result]:
    """A batch on one account against charging it one by one, each committed to disk."""
    shapes = {
        "a": Shape("a", variables={"accounts": 1}),
        "batch": Shape("batch_hot", APPLICATION),
    }
    found = lab.throughput(shapes, 1)
    yield at_least(
        "batch of 100 on one hot account, durable, items a second",
        "A one by one",
        100 * ratio(found, "batch", "a"),
        10,
        f"{middle(found['batch'], 0.01)} to {middle(found['a'])} a second",
    )


def balance(lab: Lab) -> Iterator[Result]:
    """Reading a balance against selecting six columns of its row."""
    for clients in (1, 4):
        shapes = {"select": Shape("bare_select"), "balance": Shape("balance", APPLICATION)}
        found = lab.throughput(shapes, clients)
        yield at_least(
            f"`get_balance`, {count(clients)}: reads a second",
            "a bare select",
            ratio(found, "balance", "select"),
            0.75,
            per_second(found),
        )


def ledger_growth(lab: Lab) -> Iterator[Result]:
    """The same charge with a long ledger behind every account, by both kinds of keys.

    A key at random finds another page of the key index for nearly every charge, a page that no
    cache holds and that goes into the WAL whole; keys in order of time find the account's last.
    """
    lab.copy("bench_ungrown")
    lab.copy("bench_grown")
    lab.load("bench_grown", "growth", rows_each=lab.effort.grown // 10_000)
    for title, script in (
        ("keys in order of time", "deduct_ordered"),
        ("random keys", "deduct"),
    ):
        shapes = {
            "none": Shape(script, APPLICATION, "bench_ungrown"),
            "grown": Shape(script, APPLICATION, "bench_grown"),
        }
        found = lab.cpu(shapes)
        yield at_most(
            f"{lab.effort.grown:,} ledger rows: CPU of a charge, {title}",
            "none",
            100 * (ratio(found, "grown", "none") - 1),
            10,
            f"{middle(found['grown'])} µs to {middle(found['none'])} µs",
            " % more",
        )


def spent_grants(lab: Lab) -> Iterator[Result]:
    """The slow half of a charge, which walks the open grants, with a history of spent ones."""
    lab.copy("bench_spent")
    lab.load("bench_spent", "spent")
    one = {"first": 10_001, "last": 10_100}
    many = {"first": 10_101, "last": 10_200}
    shapes = {
        "one": Shape("deduct_slow", database="bench_spent", variables=one),
        "many": Shape("deduct_slow", database="bench_spent", variables=many),
    }
    found = lab.cpu(shapes)
    yield at_most(
        "1,000 spent grants: CPU of a charge on the slow path",
        "one spent grant",
        100 * (ratio(found, "many", "one") - 1),
        3,
        f"{middle(found['many'])} µs to {middle(found['one'])} µs",
        " % more",
    )


def storage(lab: Lab) -> Iterator[Result]:
    """Bytes of the ledger and its indexes per row, by charges in random order of accounts."""
    size = "select pg_total_relation_size('pgsaas.credit_transactions')"
    batches = max(1, lab.effort.stored // 10_000)
    for title, script, bound in (
        ("bare", "store_bare", 150),
        ("with job, agent, description and key", "store_full", 380),
    ):
        database = f"bench_{script}"
        lab.copy(database)
        before = lab.value(size, database)
        lab.run(Shape(script, database=database), batches)
        stored = (lab.value(size, database) - before) / (batches * 10_000)
        yield at_most(
            f"storage per ledger row with its indexes, {title}",
            "",
            stored,
            bound,
            f"{batches * 10_000:,} rows",
            " B",
        )


def wal(lab: Lab) -> Iterator[Result]:
    """WAL per charge just after a checkpoint, with keys at random and keys in order of time."""
    calls = lab.effort.calls // 2
    for title, script in (
        ("A+key, random keys", A_KEY),
        ("random keys", DEDUCT),
        ("keys in order of time", Shape("deduct_ordered", APPLICATION)),
    ):
        with lab.connect() as conn:
            conn.execute("checkpoint")
        cold, warm = lab.wal(script, calls), lab.wal(script, calls)
        yield Result(
            f"WAL per charge, {title}",
            f"{cold:,.0f} B in the {calls:,} calls after a checkpoint, {warm:,.0f} B after them",
        )


ROWS: Mapping[str, Row] = {
    "deduct_cpu": Row(deduct_cpu),
    "deduct_throughput": Row(deduct_throughput, durable=True),
    "hot_account": Row(hot_account, durable=True),
    "batch": Row(batch),
    "batch_hot": Row(batch_hot, durable=True),
    "balance": Row(balance),
    "ledger_growth": Row(ledger_growth),
    "spent_grants": Row(spent_grants),
    "storage": Row(storage),
    "wal": Row(wal),
    "usage": Row(usage),
    "usage_import": Row(usage_import),
    "usage_stats": Row(usage_stats),
    "resets": Row(resets),
    "work": Row(work),
}
