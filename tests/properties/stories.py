"""Stories of two years: a shop, when somebody came, and what happened then.

They are written on the model alone, so each can be told again: to twins, or with parts left out
until only what makes a difference remains.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.properties.deals import TICK, Plan, Refused
from tests.properties.subscriber import Subscriber

LENGTH = timedelta(days=731)
STARTS = (
    "2027-01-31 10:00", "2028-02-29", "2027-11-30 23:59:59.5", "2026-12-31 23:59", "2027-03-01",
    "2027-08-29 00:00:00.000001", "2027-01-15 12:00",
)  # fmt: skip
PLANS = {
    plan.name: plan
    for plan in (
        Plan("free", Decimal(100), Decimal(30)),
        Plan("pro", Decimal(1000), Decimal(500), 1, 14),
        Plan("max", Decimal(5000), None, 2, 30, grace=timedelta(days=3)),
        Plan("swap", Decimal(3000), Decimal(1000), 2, 3, True, timedelta(days=40)),
        Plan("odd", Decimal("333.333333"), Decimal("0.000001"), 1, 45, prorates=True),
        Plan("none", Decimal(0), None, 3, 7, True, timedelta(0)),
    )
}
#: The default plan of a shop: one that is free, one that grants nothing, or none.
DEFAULTS = ("free", "none", None)
CHOICES = ("pro", "max", "swap", "odd", "none")
#: What happens, and how often.
ACTS = {
    "look": 10, "settle": 10, "use": 30, "add": 8, "start": 25, "change": 25, "cancel": 8,
    "resume": 6, "say": 28, "hold": 6, "capture": 1,
}  # fmt: skip
#: Those of them that look at credits alone.
OF_CREDITS = ("use", "add", "hold", "capture")
#: What may be said of payments, and how often.
NEWS = ("active",) * 6 + ("past_due", "unpaid", "paused") * 2 + ("canceled", "expired")


def moment(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass(frozen=True)
class Step:
    """At this time somebody does something; or only looks, or settles what is due."""

    at: datetime
    act: str
    asked: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        asked = ", ".join(f"{name}={value}" for name, value in self.asked.items())
        return f"{self.at:%Y-%m-%d %H:%M:%S.%f}  {self.act}({asked})"

    def done(self, customer: Subscriber) -> tuple[Subscriber, str]:
        """The customer afterwards, and how it ended; one who was refused is as before."""
        after = copy.deepcopy(customer)
        if self.act in ("look", "settle"):
            return after, ""
        try:
            answer = getattr(after, self.act)(**self.asked)
        except Refused as refused:
            return customer, str(refused)
        return after, answer or ""


@dataclass(frozen=True)
class Story:
    """A shop by its default plan, when somebody came, and what happened then."""

    default: str | None
    start: datetime
    steps: tuple[Step, ...] = ()

    def customer(self) -> Subscriber:
        return Subscriber(PLANS, PLANS[self.default] if self.default else None, self.start)

    def __str__(self) -> str:
        head = f"default plan {self.default}\n{self.start:%Y-%m-%d %H:%M:%S.%f}  create_account()"
        return "\n".join([head, *map(str, self.steps)])


class Author:
    """Writes stories by chance; the same seed gives the same story."""

    def __init__(self, seed: str) -> None:
        self.dice = random.Random(seed)  # noqa: S311

    def story(self, length: timedelta = LENGTH) -> Story:
        story = Story(self.dice.choice(DEFAULTS), moment(self.dice.choice(STARTS)))
        customer = story.customer()
        steps: list[Step] = []
        while customer.now < story.start + length:
            step = self.step(customer)
            steps.append(step)
            customer.pass_to(step.at)
            customer, _ = step.done(customer)
        return replace(story, steps=tuple(steps))

    def step(self, customer: Subscriber) -> Step:
        held = [number for number, hold in enumerate(customer.holds, 1) if hold.parts]
        if held and self.dice.random() < 0.5:
            at = customer.now + timedelta(hours=self.dice.randrange(24))
            amount = Decimal(self.dice.choice(["1", "600", "5000"]))
            return Step(at, "capture", {"hold": self.dice.choice(held), "amount": amount})
        act = self.dice.choices(list(ACTS), list(ACTS.values()))[0]
        at = self.time(customer)
        write: Callable[[datetime], dict[str, Any]] = getattr(self, act, lambda _: {})
        return Step(at, act, write(max(at, customer.now)))

    def time(self, customer: Subscriber) -> datetime:
        """When it goes on: at once, soon, months later, just when something is due, or before."""
        due = customer.due()
        if due.year > 9000:
            due = customer.now + timedelta(days=40)
        lengths = {
            timedelta(0): 20,
            timedelta(seconds=self.dice.randrange(1, 5 * 86400)): 30,
            timedelta(hours=self.dice.randrange(1, 30 * 24)): 25,
            timedelta(days=self.dice.randrange(30, 200)): 5,
            due - customer.now: 15,
            max(timedelta(0), due - customer.now - timedelta(hours=5)): 4,
            max(timedelta(0), due - customer.now - TICK): 4,
            -timedelta(hours=self.dice.randrange(1, 1000)): 2,
        }
        return customer.now + self.dice.choices(list(lengths), list(lengths.values()))[0]

    def maybe(self, chance: float, **asked: Any) -> dict[str, Any]:
        return asked if self.dice.random() < chance else {}

    def use(self, _: datetime) -> dict[str, Any]:
        amounts = ("1", "50", "333.333333", "700", "1000", "2500", "4321.000001")
        return {"amount": Decimal(self.dice.choice(amounts))}

    def hold(self, at: datetime) -> dict[str, Any]:
        return self.use(at) | {"ttl": timedelta(hours=self.dice.choice([1, 6, 24]))}

    def capture(self, _: datetime) -> dict[str, Any]:
        return {"hold": self.dice.choice([1, 2]), "amount": Decimal(1)}

    def add(self, at: datetime) -> dict[str, Any]:
        asked: dict[str, Any] = {"amount": Decimal(self.dice.choice(["20", "0.5", "800"]))}
        if self.dice.random() < 0.6:
            return asked | {"source": "purchase"}
        days = self.dice.randrange(1, 90)
        return asked | {"source": "bonus"} | self.maybe(0.7, end=at + timedelta(days=days))

    def start(self, at: datetime) -> dict[str, Any]:
        return {
            "plan": self.dice.choice(CHOICES),
            **self.maybe(0.3, interval="year"),
            **self.maybe(0.3, quantity=self.dice.choice([2, 3, 7])),
            **self.maybe(0.3, is_trial=True),
            **self.maybe(0.1, allowance=Decimal(self.dice.choice(["0", "250", "7000"]))),
            **self.maybe(0.1, anchor=at - timedelta(hours=self.dice.randrange(10_000))),
        }

    def change(self, at: datetime) -> dict[str, Any]:
        asked = {
            **self.maybe(0.5, plan=self.dice.choice(CHOICES)),
            **self.maybe(0.2, interval=self.dice.choice(["month", "year"])),
            **self.maybe(0.3, quantity=self.dice.choice([1, 2, 3, 7])),
            **self.maybe(0.05, allowance=Decimal(self.dice.choice(["0", "250", "7000"]))),
            **self.maybe(0.3, at_period_end=self.dice.choice([True, False])),
        }
        return asked if asked.keys() - {"at_period_end"} else self.change(at)

    def cancel(self, _: datetime) -> dict[str, Any]:
        return {"at_period_end": self.dice.random() < 0.7}

    def say(self, _: datetime) -> dict[str, Any]:
        return {"status": self.dice.choice(NEWS)}
