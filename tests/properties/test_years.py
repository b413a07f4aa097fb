"""Two years of a customer in seconds: SQL does what the promises say, whenever somebody looks.

The quick run tells the same stories each time; `make soak` draws a seed, which is printed, or takes
PGSAAS_SEED.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import Database
from tests.properties.deals import TICK, ZERO
from tests.properties.pair import connect
from tests.properties.stories import PLANS, Author, Step, Story, moment
from tests.properties.telling import Telling, set_plans, told
from tests.sql.ledger import Ledger
from tests.sql.plans import subscription

STORIES = 600
TWINS = 120
CIRCLES = 300
BEGAN = moment("2027-01-31 10:00")


@pytest.fixture
def ledger(db: Database) -> Iterator[Ledger]:
    with connect(db.dsn) as conn:
        conn.execute("set synchronous_commit = off")
        yield Ledger(conn)


def on(time: str, act: str, **asked: Any) -> Step:
    return Step(moment(time), act, asked)


#: Somebody comes on 31 January 2027, 10:00, to a shop with a free plan.
TALES: dict[str, list[Step]] = {
    "a change in the very second of a reset": [
        on("2027-01-31 10:00", "start", plan="pro"),
        on("2027-02-28 10:00", "change", plan="max"),
        on("2027-03-31 10:00", "change", plan="pro"),
        on("2027-04-30 10:00", "change", plan="swap"),
        on("2027-04-30 10:00", "cancel", at_period_end=False),
        on("2027-04-30 10:00", "start", plan="max"),
    ],
    "more seats in the very second of a reset, and just before": [
        on("2027-01-31 10:00", "start", plan="pro"),
        Step(moment("2027-02-28 10:00") - TICK, "change", {"quantity": 2}),
        on("2027-02-28 10:00", "change", quantity=3),
        on("2027-03-01", "settle"),
    ],
    "a clock that goes back": [
        on("2027-01-31 10:00", "start", plan="pro"),
        on("2027-03-03", "use", amount=Decimal(700)),
        on("2027-02-01", "change", plan="max"),
        on("2027-01-01", "cancel"),
        on("2027-02-27", "resume"),
        on("2027-02-27", "use", amount=Decimal(1)),
        on("2027-04-01", "settle"),
    ],
    "a year that begins in a month with fewer days than its anchor": [
        on("2027-01-31 10:00", "start", plan="pro"),
        on("2027-03-05", "change", interval="year"),
        on("2027-04-01", "look"),
        on("2028-02-28 10:00", "look"),
        on("2028-02-29 10:00", "look"),
        on("2029-03-01", "settle"),
    ],
    "more seats, a dearer plan, and more again within a month": [
        on("2027-01-31 10:00", "start", plan="pro"),
        on("2027-02-05", "change", quantity=7),
        on("2027-02-12", "change", plan="odd"),
        on("2027-02-14", "use", amount=Decimal("4321.000001")),
        on("2027-02-20", "change", plan="max", quantity=9),
        on("2027-02-20", "say", status="past_due"),
        on("2027-02-21", "say", status="active"),
        on("2027-02-24", "change", plan="swap", quantity=3, at_period_end=False),
        on("2027-02-25", "change", plan="max", quantity=20),
        on("2027-02-26", "cancel", at_period_end=False),
        on("2027-02-26", "start", plan="swap", quantity=40),
        on("2027-03-31 10:00", "settle"),
    ],
    "two plans that replace within a month": [
        on("2027-01-31 10:00", "start", plan="odd", quantity=3),
        on("2027-02-05", "change", plan="swap"),
        on("2027-02-06", "use", amount=Decimal(2500)),
        on("2027-02-12", "change", plan="none", allowance=Decimal(7000)),
        on("2027-02-20", "change", plan="swap", quantity=7, at_period_end=False),
        on("2027-02-28 10:00", "change", plan="none", allowance=Decimal(7000)),
        on("2027-03-31 10:00", "settle"),
    ],
    "a year from 29 February": [
        on("2028-02-29", "start", plan="pro", interval="year"),
        on("2028-06-29", "settle"),
        on("2029-02-28", "use", amount=Decimal(1500)),
        on("2029-02-28", "cancel"),
    ],
    "an anchor in the past": [
        on("2027-03-01 10:00", "start", plan="pro", interval="year", anchor=moment("2025-12-31")),
        on("2027-03-30", "look"),
        on("2027-03-31", "use", amount=Decimal(1200)),
        on("2028-06-01", "settle"),
    ],
    "a year that was canceled at once, and another": [
        on("2027-01-31 10:00", "start", plan="pro", interval="year"),
        on("2027-02-10", "cancel", at_period_end=False),
        on("2027-05-11", "start", plan="max", interval="year"),
        on("2027-05-12", "cancel"),
        on("2028-06-01", "settle"),
    ],
    "a trial that is canceled, and paid for": [
        on("2027-01-31 10:00", "start", plan="pro", is_trial=True),
        on("2027-02-03", "change", quantity=3),
        on("2027-02-10", "cancel"),
        on("2027-02-11", "say", status="active"),
        on("2027-02-14 10:00", "look"),
        on("2027-06-01", "settle"),
    ],
    "a trial that was ended early, and a month that was paid for": [
        on("2027-01-31 10:00", "start", plan="pro", is_trial=True),
        on("2027-02-03", "cancel", at_period_end=False),
        on("2027-02-04", "start", plan="pro"),
        on("2027-04-06", "settle"),
    ],
    "a trial that was paid for, with a lower plan to follow": [
        on("2027-01-31 10:00", "start", plan="max", is_trial=True),
        on("2027-02-10", "change", plan="pro"),
        on("2027-02-11", "say", status="active"),
        on("2027-06-01", "settle"),
    ],
    "past due while a lower plan comes": [
        on("2027-01-31 10:00", "start", plan="max"),
        on("2027-02-10", "change", plan="pro"),
        on("2027-02-27", "say", status="past_due"),
        on("2027-03-01", "look"),
        on("2027-04-30", "settle"),
    ],
    "past due for longer than the lower plan that comes would have it": [
        on("2027-01-31 10:00", "start", plan="swap"),
        on("2027-02-02", "change", plan="pro"),
        on("2027-02-27", "say", status="past_due"),
        on("2027-03-20", "look"),
        on("2027-08-01", "settle"),
    ],
    "past due while a higher plan comes, and nobody is there": [
        on("2027-01-31 10:00", "start", plan="pro"),
        on("2027-02-10", "change", plan="max", at_period_end=True),
        on("2027-02-27", "say", status="past_due"),
        on("2027-08-01", "use", amount=Decimal(1)),
    ],
    "paused while a lower plan comes": [
        on("2027-01-31 10:00", "start", plan="max"),
        on("2027-02-10", "change", plan="pro"),
        on("2027-02-27", "say", status="paused"),
        on("2027-04-15", "say", status="active"),
        on("2027-06-01", "settle"),
    ],
    "canceled, then past due": [
        on("2027-01-31 10:00", "start", plan="pro"),
        on("2027-02-10", "cancel"),
        on("2027-02-27", "say", status="past_due"),
        on("2027-06-01", "settle"),
    ],
    "past due, then canceled before the grace ends": [
        on("2027-01-31 10:00", "start", plan="swap"),
        on("2027-02-27", "say", status="past_due"),
        on("2027-02-27", "cancel"),
        on("2027-06-01", "settle"),
    ],
    "held over the end of a plan": [
        on("2027-01-31 10:00", "start", plan="max"),
        on("2027-02-10", "cancel"),
        on("2027-02-28 09:00", "hold", amount=Decimal(3000), ttl=timedelta(hours=1)),
        on("2027-02-28 09:30", "hold", amount=Decimal(1000), ttl=timedelta(hours=6)),
        on("2027-02-28 09:40", "hold", amount=Decimal(500), ttl=timedelta(hours=6)),
        on("2027-02-28 12:00", "capture", hold=2, amount=Decimal(400)),
        on("2027-03-31 10:00", "settle"),
    ],
    "held while another plan replaces it": [
        on("2027-01-31 10:00", "start", plan="pro"),
        on("2027-02-10", "hold", amount=Decimal(600), ttl=timedelta(hours=6)),
        on("2027-02-10", "change", plan="swap"),
        on("2027-02-10 05:00", "capture", hold=1, amount=Decimal(100)),
        on("2027-03-31 10:00", "settle"),
    ],
    "paused, canceled, and active in the very second of the end": [
        on("2027-01-31 10:00", "start", plan="pro"),
        on("2027-02-10", "say", status="paused"),
        on("2027-02-27", "cancel"),
        on("2027-02-28 10:00", "say", status="active"),
        on("2027-06-01", "settle"),
    ],
}


@pytest.mark.parametrize("default", ["free", None])
@pytest.mark.parametrize("name", TALES)
def test_a_tale_goes_as_it_was_promised(ledger: Ledger, name: str, default: str | None) -> None:
    told(ledger, Story(default, BEGAN, tuple(TALES[name])))


@pytest.mark.parametrize("name", TALES)
def test_a_tale_goes_alike_late_and_in_time(ledger: Ledger, name: str) -> None:
    told(ledger, Story("free", BEGAN, tuple(TALES[name])), twins=True)


def many(ledger: Ledger, seed: str, stories: int, twins: bool = False) -> Counter[str]:
    """Random stories; how their steps ended."""
    outcomes: Counter[str] = Counter()
    for number in range(stories):
        outcomes += told(ledger, Author(f"{seed}-{number}").story(), twins)
    return outcomes


def test_two_years_go_as_they_were_promised(ledger: Ledger) -> None:
    assert many(ledger, "years", 4)["start done"] > 5


def test_being_late_is_harmless(ledger: Ledger) -> None:
    assert many(ledger, "twins", 1, twins=True)["settle done"] > 0


def circles(seed: str) -> Story:
    """Many acts within one month."""
    author = Author(seed)
    first = author.start(BEGAN) | {"is_trial": False, "anchor": BEGAN}
    steps, at = [Step(BEGAN, "start", first)], BEGAN
    for _ in range(20):
        at += timedelta(hours=author.dice.choice([0, 1, 20, 30]))
        act = author.dice.choice(["change", "change", "cancel", "start", "start", "say"])
        asked = getattr(author, act)(at) | ({"is_trial": False} if act == "start" else {})
        steps.append(Step(at, act, asked))
    return Story(author.dice.choice(["free", None]), BEGAN, tuple(steps))


def go_in_circles(ledger: Ledger, story: Story) -> int:
    """What is granted never exceeds the highest allowance, twice if a plan replaced; steps done."""
    set_plans(ledger, story.default)
    telling = Telling(ledger, story, twins=False)
    (account,) = telling.accounts
    since = len(ledger.rows(account))
    highest, done, times = ZERO, 0, 1
    for step in story.steps:
        ledger.at(step.at)
        done += telling.call(account, step) == ""
        row = subscription(ledger, account)
        if row["status"] == "active":
            times = 2 if PLANS[row["plan_id"]].replaces and highest > 0 else times
            highest = max(highest, row["monthly_allowance"])
        granted = [amount for kind, amount, _ in ledger.rows(account, since) if kind == "grant"]
        assert sum(granted) <= highest * times, story
    return done


@pytest.mark.parametrize("seed", range(4))
def test_no_circle_within_a_month_grants_more_than_its_plans(ledger: Ledger, seed: int) -> None:
    assert go_in_circles(ledger, circles(f"circle-{seed}")) > 2


@pytest.mark.parametrize("seed", range(4))
def test_a_circle_goes_as_it_was_promised(ledger: Ledger, seed: int) -> None:
    assert told(ledger, circles(f"told-{seed}"))["change done"] > 0


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_thousands_of_years(db: Database, ledger: Ledger) -> None:
    seed = os.environ.get("PGSAAS_SEED") or str(random.randrange(10**9))  # noqa: S311
    print(f"seed {seed}, {STORIES} stories, {TWINS} of twins, {CIRCLES} in circles")
    outcomes = many(ledger, seed, STORIES)
    outcomes += many(ledger, f"{seed}-twins", TWINS, twins=True)
    for number in range(CIRCLES):
        outcomes += told(ledger, circles(f"{seed}-told-{number}"))
        with ledger.conn.transaction(force_rollback=True):
            outcomes["in circles"] += go_in_circles(ledger, circles(f"{seed}-{number}"))
    print(*(f"{count:8} {name}" for name, count in sorted(outcomes.items())), sep="\n")
