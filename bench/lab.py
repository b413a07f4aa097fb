"""Servers to measure on, and the two ways to measure: throughput, and CPU of the backend.

Alternatives are measured in turns, round by round, so that whatever else the machine does falls on
all of them; what is reported are medians, and ratios are medians of the ratios within a round. The
first round warms up and is thrown away.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from pgsaas import install
from pgsaas.embedded import Server

HERE = Path(__file__).parent
APPLICATION = "bench_application"  # a login role that has been granted pgsaas_app
FRESH = "bench_fresh"
# No checkpoint and no vacuum falls into a round by chance; durability is the server's own.
SETTINGS = {
    "shared_buffers": "4GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure, and on how much."""

    rounds: int = 5
    seconds: float = 4
    calls: int = 20_000
    grown: int = 10_000_000
    stored: int = 1_000_000

    def with_rounds(self, rounds: int) -> Effort:
        """The same with another number of rounds."""
        return replace(self, rounds=rounds)


QUICK = Effort(rounds=1, seconds=1, calls=500, grown=100_000, stored=10_000)


@dataclass(frozen=True, slots=True)
class Shape:
    """One alternative: a pgbench script, who runs it where, with which variables and settings."""

    script: str
    user: str = "postgres"
    database: str = "bench"
    variables: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


Readings = dict[str, list[float]]


def ratio(readings: Readings, what: str, to: str) -> float:
    """The median of the ratios of two alternatives within each round."""
    pairs = zip(readings[what], readings[to], strict=True)
    return statistics.median(one / other for one, other in pairs)


def say(text: str) -> None:
    """Progress, for who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Lab:
    """One server with the database `bench`: pgsaas, 10,000 accounts, and the baselines."""

    def __init__(self, server: Server, effort: Effort) -> None:
        self.server = server
        self.effort = effort

    def connect(self, database: str = "bench") -> psycopg.Connection[tuple[Any, ...]]:
        """A superuser's connection in autocommit mode."""
        return psycopg.connect(self.server.url(database), autocommit=True)

    def prepare(self) -> None:
        """Make the database that all others are copies of, and the first copy."""
        with self.connect("postgres") as conn:
            conn.execute(f"create database {FRESH}".encode())
        install.migrate(self.server.url(FRESH))
        with self.connect("postgres") as conn:
            conn.execute(f"create role {APPLICATION} login in role pgsaas_app".encode())
        self.load(FRESH, "setup")
        self.load(FRESH, "baseline")
        self.copy("bench")

    def copy(self, database: str) -> None:
        """A database with pgsaas, installed as users do it, the accounts and the baselines."""
        with self.connect("postgres") as conn:
            conn.execute(f"create database {database} template {FRESH}".encode())
            conn.execute("checkpoint")

    def load(self, database: str, name: str, **settings: object) -> None:
        """Run bench/sql/NAME.sql statement by statement, with settings of the bench's own."""
        options = " ".join(f"-c pgsaas_bench.{key}={value}" for key, value in settings.items())
        command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.server.url(database)]
        self._run(command, {"PGOPTIONS": options}, (HERE / "sql" / f"{name}.sql").read_text())

    def pgsaas(self, database: str, *arguments: str) -> Any:
        """What a command of pgsaas says as JSON."""
        command = [sys.executable, "-m", "pgsaas", *arguments, "--json"]
        told = self._run(command, {"PGSAAS_DATABASE_URL": self.server.url(database)})
        return json.loads(told)

    def value(self, query: str, database: str = "bench") -> Any:
        """The single value of a query."""
        with self.connect(database) as conn:
            row = conn.execute(query.encode()).fetchone()
        return row[0] if row else None

    def throughput(self, shapes: Mapping[str, Shape], clients: int) -> Readings:
        """Transactions per second of each alternative, round by round."""
        arguments = ["-T", f"{max(1, round(self.effort.seconds))}"]
        return self._rounds(
            shapes, lambda shape: _tps(self._pgbench(shape, clients, arguments, {}))
        )

    def cpu(self, shapes: Mapping[str, Shape], calls: int | None = None) -> Readings:
        """CPU microseconds of the backend per call, commits not waited for."""
        count = calls or self.effort.calls

        def once(shape: Shape) -> float:
            before = self._ended_backends()
            self.run(shape, count)
            time.sleep(0.15)  # until the postmaster has waited for the backend
            return 1e6 * (self._ended_backends() - before) / count

        return self._rounds(shapes, once)

    def run(self, shape: Shape, calls: int) -> None:
        """Run a script so many times with one client, commits not waited for."""
        self._pgbench(shape, 1, ["-t", str(calls)], {"synchronous_commit": "off"})

    def wal(self, shape: Shape, calls: int) -> float:
        """Bytes of WAL that a call writes."""
        before = self.value("select pg_current_wal_insert_lsn()")
        self.run(shape, calls)
        written = self.value(f"select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{before}')")
        return float(written) / calls

    def problems(self, kept: Sequence[str] = ("bench", FRESH)) -> list[str]:
        """What verify_ledger finds in every other database of this server, and deadlocks.

        They are dropped then: in memory, all of them together are too large for most machines.
        """
        found = []
        with self.connect("postgres") as conn:
            query = "select datname, deadlocks from pg_stat_database where datname ~ '^bench'"
            databases = [row for row in conn.execute(query).fetchall() if row[0] not in kept]
        for name, deadlocks in databases:
            say(f"verifying the ledgers of {name}")
            if deadlocks:
                found.append(f"{name}: {deadlocks} deadlocks")
            with self.connect(name) as conn:
                rows = conn.execute("select * from pgsaas.verify_ledger() limit 10").fetchall()
            found += [f"{name}: {row}" for row in rows]
            with self.connect("postgres") as conn:
                conn.execute(f"drop database {name}".encode())
        return found

    def _rounds(self, shapes: Mapping[str, Shape], once: Any) -> Readings:
        readings: Readings = {name: [] for name in shapes}
        for number in range(self.effort.rounds + 1):
            for name, shape in shapes.items():
                reading = once(shape)
                if number:
                    readings[name].append(reading)
        for name, values in readings.items():
            say(f"  {name:12} {statistics.median(values):10.1f}  {[round(v, 1) for v in values]}")
        return readings

    def _pgbench(
        self, shape: Shape, clients: int, arguments: Sequence[str], settings: Mapping[str, str]
    ) -> str:
        options = {**settings, **shape.settings}
        variables = [f"-D{name}={value}" for name, value in shape.variables.items()]
        command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "1"]
        command += [*arguments, "-f", str(HERE / "scripts" / f"{shape.script}.sql")]
        command += ["-Daccounts=10000", *variables, self.server.url(shape.database, shape.user)]
        environment = {"PGOPTIONS": " ".join(f"-c {k}={v}" for k, v in options.items())}
        return self._run(command, environment)

    def _run(self, command: Sequence[str], environment: Mapping[str, str], text: str = "") -> str:
        program = str(self.server.bindir / command[0])
        done = subprocess.run(
            [program, *command[1:]],
            env={**os.environ, **environment},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or "ERROR" in done.stderr:
            raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def _ended_backends(self) -> float:
        """CPU seconds of the children that the postmaster has waited for (Linux)."""
        pid = int((self.server.data / "postmaster.pid").read_text().splitlines()[0])
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _tps(output: str) -> float:
    found = re.search(r"tps = ([\d.]+)", output)
    if not found:
        raise RuntimeError(f"pgbench said no tps: {output}")
    return float(found[1])


@contextmanager
def memory_lab(effort: Effort) -> Iterator[Lab]:
    """A server in memory, commits not flushed: for rows about CPU."""
    settings = {**SETTINGS, "full_page_writes": "on"}
    with Server(settings=settings) as server:
        yield _prepared(Lab(server, effort))


@contextmanager
def durable_lab(effort: Effort) -> Iterator[Lab]:
    """A server on disk whose commits are flushed."""
    with (
        tempfile.TemporaryDirectory(prefix="pgsaas-bench-", dir="/var/tmp") as folder,
        Server(Path(folder), settings=SETTINGS, durable=True) as server,
    ):
        yield _prepared(Lab(server, effort))


def _prepared(lab: Lab) -> Lab:
    say(f"loading 10,000 accounts in {lab.server.data.parent}")
    lab.prepare()
    return lab
