"""Spend caps against a model that keeps what was counted, when, and for whom: no sum is stored."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.conftest import Conn
from tests.sql.ledger import START, Ledger
from tests.sql.plans import set_plans, subscribed

OFFICES = 100
AGENTS = ("lab", "desk")
KEYS = (None, "ci", "home")
WHO = [("account", ""), *(("agent", name) for name in AGENTS), ("key", "ci")]


@dataclass
class Entry:
    """So much was counted then; the number says what came before and what after it."""

    amount: int
    at: datetime
    number: int


@dataclass
class Job:
    subjects: set[tuple[str, str]]
    job_id: UUID
    hold_id: int | None
    ends: datetime
    held: Entry
    more: Entry | None = None
    state: str = "running"

    def look(self, now: datetime) -> None:
        """A job whose time is over has spent nothing."""
        if self.state == "running" and self.ends <= now:
            self.state, self.held.amount = "abandoned", 0

    @property
    def cost(self) -> int:
        return self.held.amount + (self.more.amount if self.more else 0)


@dataclass
class Cap:
    amount: int
    interval: str
    number: int

    def start(self, now: datetime) -> datetime:
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return day if self.interval == "day" else day.replace(day=1)


@dataclass
class Office:
    """An account, its caps and its jobs."""

    ledger: Ledger
    account: UUID
    dice: random.Random
    now: datetime
    number: int = 0
    caps: dict[tuple[str, str], Cap] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def spent(self, who: tuple[str, str]) -> int:
        cap = self.caps[who]
        entries = [
            entry for job in self.jobs if who in job.subjects for entry in (job.held, job.more)
        ]
        return sum(
            entry.amount
            for entry in entries
            if entry and entry.number > cap.number and entry.at >= cap.start(self.now)
        )

    def room(self, subjects: set[tuple[str, str]]) -> int:
        bound = self.caps.keys() & subjects
        left = [max(0, self.caps[who].amount - self.spent(who)) for who in bound]
        return min(left, default=10**9)

    def entry(self, amount: int) -> Entry:
        self.number += 1
        return Entry(amount, self.now, self.number)

    def cap(self) -> None:
        who = self.dice.choice(WHO)
        amount = self.dice.choice([None, 0, 20, 60, 60, 150, 150])
        interval = self.dice.choice(["day", "day", "month"])
        self.ledger.scalar(
            "select pgsaas.set_spend_cap(%s, %s, %s, %s, %s)", self.account, *who, amount, interval
        )
        self.number += 1
        was = self.caps.pop(who, None)
        if amount is not None:
            is_same = was and was.interval == interval
            self.caps[who] = Cap(amount, interval, was.number if was and is_same else self.number)

    def start(self) -> None:
        agent, key = self.dice.choice(AGENTS), self.dice.choice(KEYS)
        cost, minutes = self.dice.choice([0, 1, 10, 40]), self.dice.choice([10, 600, 1440])
        subjects = {("account", ""), ("agent", agent)} | ({("key", key)} if key else set())
        answer = self.ledger.call(
            "start_job", self.account, agent, p_cost=cost, p_key_name=key,
            p_ttl=timedelta(minutes=minutes),
        )  # fmt: skip
        bound = self.caps.keys() & subjects
        has_room = all(cost + self.spent(who) <= self.caps[who].amount for who in bound)
        has_room = has_room or cost == 0
        assert answer["success"] == has_room, answer
        self.done[f"start {has_room}"] += 1
        if has_room:
            ends = self.now + timedelta(minutes=minutes)
            self.jobs.append(
                Job(subjects, answer["job_id"], answer["hold_id"], ends, self.entry(cost))
            )

    def complete(self, job: Job) -> None:
        shortfall = self.dice.choice(["partial", "partial", "refuse", "debt"])
        asked = self.dice.choice([0, 1, job.held.amount, 30, 70])
        if job.state in ("completed", "failed"):
            return
        answer = self.ledger.call(
            "complete_job", self.account, job.job_id, asked, p_shortfall=shortfall
        )
        was = job.held.amount
        cost = asked
        if shortfall != "debt" and asked > was:
            cost = min(asked, was + self.room(job.subjects))
        is_refused = shortfall == "refuse" and cost < asked
        assert answer["success"] == (not is_refused), answer
        self.done[f"complete {shortfall} {not is_refused}"] += 1
        if not is_refused:
            assert answer["cost"] == cost
            job.state = "completed"
            job.held.amount = min(was, cost)
            job.more = self.entry(cost - job.held.amount)

    def fail(self, job: Job) -> None:
        if job.state == "completed" and not job.cost:
            return
        self.ledger.done("fail_job", self.account, job.job_id)
        self.done[f"fail {job.state}"] += 1
        job.state, job.held.amount = "failed", 0
        if job.more:
            job.more.amount = 0

    def capture(self, job: Job) -> None:
        """The host captures the hold by itself."""
        if job.state == "running" and job.held.amount and job.hold_id:
            amount = self.dice.randrange(1, job.held.amount + 20)
            answer = self.ledger.call("capture_hold", self.account, job.hold_id, amount)
            if answer["success"]:
                self.done["capture"] += 1
                job.state, job.more = "completed", self.entry(max(0, amount - job.held.amount))
                job.held.amount = min(amount, job.held.amount)

    def release(self, job: Job) -> None:
        """The host gives the hold back by itself; the job goes on."""
        if job.state == "running" and job.hold_id:
            self.ledger.call("release_hold", self.account, job.hold_id)
            self.done["release"] += 1

    def wait(self) -> None:
        lengths: list[dict[str, float]] = [
            {"minutes": 5}, {"minutes": 10}, {"hours": 3}, {"hours": 11}, {"days": 1}, {"days": 29},
        ]  # fmt: skip
        self.now = self.ledger.after(**self.dice.choice(lengths))

    def step(self) -> None:
        act = self.dice.choice(
            ["cap", "start", "start", "start", "complete", "complete", "fail", "capture", "release",
             "wait", "wait"]
        )  # fmt: skip
        if act in ("cap", "start", "wait"):
            getattr(self, act)()
        elif self.jobs:
            getattr(self, act)(self.dice.choice(self.jobs[-6:]))
        for job in self.jobs:
            job.look(self.now)
        rows = self.ledger.call_all("list_spend_caps", self.account)
        told: dict[Any, Any] = {(row["subject_kind"], row["subject"]): row["spent"] for row in rows}
        assert told == {who: self.spent(who) for who in self.caps}


@pytest.fixture
def ledger(tx: Conn) -> Ledger:
    ledger = Ledger(tx)
    ledger.at(START)
    return ledger


def days_of(ledger: Ledger, seed: str, steps: int) -> Counter[str]:
    """What an office does in so many steps; how that went."""
    set_plans(ledger)
    for agent in AGENTS:
        ledger.call("set_agent", agent, {"credits": 1})
    account = subscribed(ledger, "pro")
    ledger.call("add_credits", account, 10**6, p_source="purchase")
    now: datetime = ledger.scalar("select pgsaas.now()")
    office = Office(ledger, account, random.Random(seed), now)  # noqa: S311
    for number in range(steps):
        try:
            office.step()
        except (AssertionError, psycopg.Error) as error:
            raise AssertionError(f"seed {seed}, step {number}: {error}") from error
    return office.done


@pytest.mark.parametrize("seed", range(4))
def test_a_cap_counts_what_was_counted(ledger: Ledger, seed: int) -> None:
    assert len(days_of(ledger, f"office-{seed}", 120)) >= 8


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_caps_count_for_long(conn: Conn) -> None:
    first = os.environ.get("PGSAAS_SEED") or str(random.randrange(10**9))  # noqa: S311
    print(f"seed {first}, {OFFICES} offices")
    done: Counter[str] = Counter()
    for number in range(OFFICES):
        with conn.transaction(force_rollback=True):
            ledger = Ledger(conn)
            ledger.at(START)
            done += days_of(ledger, f"{first}-{number}", 300)
    print(*(f"{count:8} {name}" for name, count in sorted(done.items())), sep="\n")
