"""A story, told to SQL and model side by side: they must agree at every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

from tests.properties.deals import Line, Refused
from tests.properties.stories import OF_CREDITS, PLANS, Step, Story
from tests.sql.ledger import Ledger
from tests.sql.plans import settled

#: The functions behind the acts, and their arguments where those have other names.
CALLS = {
    "use": "deduct_credits", "add": "add_credits", "start": "start_subscription",
    "change": "change_plan", "cancel": "cancel_subscription", "resume": "resume_subscription",
    "say": "set_subscription_status", "hold": "hold_credits", "capture": "capture_hold",
}  # fmt: skip
ARGUMENTS = {"plan": "p_plan_id", "end": "p_expires_at", "hold": "p_hold_id"}


class Difference(AssertionError):
    """SQL and model differ."""


def differ(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Difference(f"{what}: SQL says {found}, the model {wanted}")


def differ_lines(found: Sequence[Line], wanted: Sequence[Line]) -> None:
    """Compare ledger rows; show them from the first that differs."""
    if found != wanted:
        pairs = zip(found, wanted, strict=False)
        same = min(len(found), len(wanted))
        same = next((n for n, (one, other) in enumerate(pairs) if one != other), same)
        differ(f"row {same + 1}", shown(found[same : same + 4]), shown(wanted[same : same + 4]))


def shown(lines: Sequence[Line]) -> str:
    found = [f"{kind} {amount} {at.timestamp():.6f} ({at})" for kind, amount, at in lines]
    return "; ".join(found) or "nothing"


def arguments(step: Step) -> dict[str, Any]:
    """What the function is asked."""
    return {ARGUMENTS.get(name, f"p_{name}"): value for name, value in step.asked.items()}


class Telling:
    """A story told to one account or to twins.

    Of twins the first is settled at every moment at which something happens, the other one only
    acts.
    """

    def __init__(self, ledger: Ledger, story: Story, twins: bool) -> None:
        self.ledger, self.story, self.twins = ledger, story, twins
        self.customer = story.customer()
        self.outcomes: Counter[str] = Counter()
        ledger.at(story.start)
        self.accounts: list[UUID] = [ledger.account() for _ in range(1 + twins)]

    def tell(self) -> None:
        for number, step in enumerate(self.story.steps):
            try:
                self.live(step)
            except Difference as difference:
                raise Difference(f"step {number}: {step}\n{difference}") from None
        for account in self.accounts:
            settled(self.ledger, account)
            self.compare_lines(account)
            differ("verify_ledger", self.ledger.call_all("verify_ledger", account), [])

    def live(self, step: Step) -> None:
        if step.at < self.customer.now and not self.is_stored():
            step = replace(step, at=self.customer.now)
        if self.twins:
            self.wait(step)
        self.ledger.at(step.at)
        if step.at != self.customer.now:
            self.customer.pass_to(step.at)
            self.compare()
        if step.act == "change":
            self.compare_preview(step)
        self.customer, code = step.done(self.customer)
        self.outcomes[f"{step.act} {code or 'done'}"] += 1
        for account in self.accounts:
            if step.act == "settle":
                settled(self.ledger, account)
            elif step.act != "look":
                differ("answer", self.call(account, step) or "done", code or "done")
            self.compare_lines(account, step.act not in (*OF_CREDITS, "settle") or code != "")
        if step.act != "look":
            self.compare()

    def is_stored(self) -> bool:
        """Whether the accounts' own time is the customer's, so that a clock may go back."""
        query = "select last_at from pgsaas.account_balances where account_id = %s"
        times = [self.ledger.scalar(query, account) for account in self.accounts]
        return all(time == self.customer.now for time in times)

    def wait(self, step: Step) -> None:
        """Settle the first twin whenever something happens."""
        while (due := self.customer.due()) <= step.at:
            self.ledger.at(due)
            self.customer.pass_to(due)
            settled(self.ledger, self.accounts[0])
            self.compare()

    def call(self, account: UUID, step: Step) -> str:
        """Make the call; how it ended."""
        try:
            with self.ledger.conn.transaction():
                answer = self.ledger.call(CALLS[step.act], account, **arguments(step))
        except psycopg.Error as error:
            return str(error.sqlstate)
        return answer.get("error_code") or ""

    def compare(self) -> None:
        wanted = self.customer.view()
        for number, account in enumerate(self.accounts):
            found = self.ledger.call("get_balance", account)
            sources = {name: Decimal(str(n)) for name, n in found["by_source"].items() if n}
            differ(f"by_source of {number}", sources, self.customer.by_source)
            differ(f"balance of {number}", found["balance"], self.customer.balance)
            rows = self.ledger.call_all("get_subscription", account)
            differ(f"subscriptions of {number}", len(rows), int(wanted is not None))
            if wanted:
                then = rows[0]["next_plan"]
                rows[0]["next_plan"] = then and (then["plan_id"], then["quantity"])
                differ(
                    f"subscription of {number}", {name: rows[0][name] for name in wanted}, wanted
                )

    def compare_preview(self, step: Step) -> None:
        try:
            wanted = self.customer.preview(**step.asked)
        except Refused:
            return
        for account in self.accounts:
            found = self.ledger.call("preview_change_plan", account, **arguments(step))
            differ("preview", {name: found[name] for name in wanted}, wanted)

    def compare_lines(self, account: UUID, is_late: bool = False) -> None:
        """Compare the rows; those that are due need not be there yet."""
        found = self.ledger.rows(account)
        differ_lines(found, self.customer.lines[: len(found) if is_late else None])


def set_plans(ledger: Ledger, default: str | None) -> None:
    for plan in PLANS.values():
        rollover = "unlimited" if plan.rollover is None else float(plan.rollover)
        terms = {
            "allowance": float(plan.allowance), "rollover": rollover, "rank": plan.rank,
            "trial_days": plan.trial_days, "default": plan.name == default,
            "on_upgrade": "replace" if plan.replaces else "prorate" if plan.prorates else "keep",
            "past_due_grace": f"{plan.grace.days} days",
        }  # fmt: skip
        ledger.call("set_plan", plan.name, terms)


def tell(ledger: Ledger, story: Story, twins: bool = False) -> Counter[str]:
    """Tell a story and forget it; how its steps ended."""
    with ledger.conn.transaction(force_rollback=True):
        set_plans(ledger, story.default)
        telling = Telling(ledger, story, twins)
        telling.tell()
    return telling.outcomes


def told(ledger: Ledger, story: Story, twins: bool = False) -> Counter[str]:
    """tell(); a difference is told by the shortest story that has one."""
    try:
        return tell(ledger, story, twins)
    except Difference as difference:
        story = shortest(ledger, story, twins)
        raise Difference(
            f"{story}\n{unlike(ledger, story, twins)}\n(first: {difference})"
        ) from None


def unlike(ledger: Ledger, story: Story, twins: bool) -> str | None:
    try:
        tell(ledger, story, twins)
    except Difference as found:
        return str(found)
    return None


def shortest(ledger: Ledger, story: Story, twins: bool) -> Story:
    """Leave out what the difference does not need."""
    size = len(story.steps) // 2
    while size:
        start = 0
        while start < len(story.steps):
            fewer = replace(story, steps=story.steps[:start] + story.steps[start + size :])
            if unlike(ledger, fewer, twins):
                story = fewer
            else:
                start += size
        size //= 2
    return story
