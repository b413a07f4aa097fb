"""The rows of the table: what is measured, against what, and the goal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bench.lab import APPLICATION, Lab, Shape, ratio

TIMES = "\N{MULTIPLICATION SIGN}"
HOT_ACCOUNT = "00000000-0000-0000-0000-000000000001"
A = Shape("a")
A_KEY = Shape("a_key")
DEDUCT = Shape("deduct", APPLICATION)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table; `value` and `bound` are null where there is no goal."""

    what: str
    detail: str
    value: float | None = None
    bound: float | None = None
    relation: str = "≤"
    unit: str = ""

    @property
    def goal(self) -> str:
        """The goal as it is printed."""
        return "" if self.bound is None else f"{self.relation} {self.bound:g}{self.unit}"

    @property
    def shown(self) -> str:
        """The result as it is printed."""
        if self.value is None:
            return ""
        places = {" B": 0, " % more": 1}.get(self.unit, 2)
        return f"{self.value:.{places}f}{self.unit}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; null without one."""
        if self.value is None or self.bound is None:
            return None
        value = round(self.value, 2)
        return value <= self.bound if self.relation == "≤" else value >= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement by the name that --rows takes; `durable` picks the server."""

    measure: Callable[[Lab], Iterator[Result]]
    durable: bool = False


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
}


def middle(values: list[float], parts: float = 1) -> str:
    """The median, as it is printed."""
    value = sorted(values)[len(values) // 2] / parts
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def per_second(found: Mapping[str, list[float]]) -> str:
    """Medians of throughputs."""
    return ", ".join(f"{name} {middle(values)}" for name, values in found.items()) + " a second"


def count(clients: int) -> str:
    """1 client, 4 clients."""
    return f"{clients} client{'s' if clients > 1 else ''}"


def at_most(
    what: str, than: str, value: float, bound: float, detail: str, unit: str = ""
) -> Result:
    """A result that should stay below its bound."""
    return Result(what, detail, value, bound, "≤", unit or f" {TIMES} {than}")


def at_least(
    what: str, than: str, value: float, bound: float, detail: str, unit: str = ""
) -> Result:
    """A result that should reach its bound."""
    return Result(what, detail, value, bound, "≥", unit or f" {TIMES} {than}")
