"""What may happen to accounts, one method per kind of call.

A Chooser decides: hypothesis, which shrinks what it chose, or a plain random generator.
Values are few and collide on purpose: expiry times fall on a grid and on each other, amounts
are often exactly what a grant, a hold or the account has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from tests.properties.account import FOREVER, Grant, Row
from tests.properties.model import Ledger
from tests.properties.pair import Pair

T = TypeVar("T")

STARTS = [
    datetime(2025, 1, 31, 9, tzinfo=UTC),
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2025, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC),
]
AMOUNTS = [Decimal(n) for n in (1, 2, 3, 10, "0.5", "0.1", "0.000001", "3.333333", "7.25", 25, 100)]
SOURCES = ["purchase", "bonus", "referral", "refund", "trial", "transfer", "allowance", "rollover"]
TTLS = [timedelta(minutes=m) for m in (1, 15, 60, 360, 1440)]
STEPS = [timedelta(minutes=m) for m in (0, 1, 15, 60, 360, 1440, 7 * 1440, 20 * 1440, 62 * 1440)]
INFINITY = Decimal("Infinity")
TINY, HUGE = Decimal("0.0000001"), Decimal(10**12 + 1)
WRONG_AMOUNTS = [None, Decimal(0), Decimal(-1), Decimal("NaN"), INFINITY, -INFINITY, TINY, HUGE]
WRONG: list[tuple[str, dict[str, Any]]] = [
    *(("deduct_credits", {"amount": amount}) for amount in WRONG_AMOUNTS),
    *(("add_credits", {"amount": amount}) for amount in WRONG_AMOUNTS),
    *(("hold_credits", {"amount": amount}) for amount in WRONG_AMOUNTS),
    *(("adjust_credits", {"amount": amount}) for amount in WRONG_AMOUNTS if amount != -1),
    *(("record_usage", {"event": "credit", "quantity": amount}) for amount in WRONG_AMOUNTS),
    ("record_usage", {"event": "credit", "dimensions": Jsonb({"model": "a"})}),
    ("record_usage", {"event": "credit", "cost": -1}),
    *(("refund_credits", {"seq": 1, "amount": amount}) for amount in WRONG_AMOUNTS[1:]),
    *(("revoke_grant", {"grant_id": 1, "amount": amount}) for amount in WRONG_AMOUNTS[1:]),
    *(("capture_hold", {"hold_id": 1, "amount": amount}) for amount in WRONG_AMOUNTS[1:]),
    ("capture_hold", {"hold_id": 1, "shortfall": "some"}),
    ("deduct_credits", {"amount": 1, "idempotency_key": ""}),
    ("deduct_credits", {"amount": 1, "idempotency_key": "é" * 128}),
    ("deduct_credits", {"amount": 1, "metadata": Jsonb([])}),
    ("deduct_credits", {"amount": 1, "metadata": Jsonb({"a": "x" * 17_000})}),
    ("deduct_credits", {"amount": 1, "description": "x" * 4_097}),
    ("deduct_credits", {"amount": 1, "agent_id": "x" * 256}),
    ("add_credits", {"amount": 1, "source": "gift"}),
    ("add_credits", {"amount": 1, "source": None}),
    ("adjust_credits", {"amount": 1, "reason": None}),
    ("hold_credits", {"amount": 1, "ttl": timedelta(0)}),
    ("hold_credits", {"amount": 1, "ttl": timedelta(minutes=-1)}),
    ("hold_credits", {"amount": 1, "ttl": timedelta(days=1, microseconds=1)}),
    ("hold_credits", {"amount": 1, "ttl": None}),
    ("extend_hold", {"hold_id": 1, "ttl": timedelta(days=2)}),
    ("set_burn_order", {"burn_order": "largest_first"}),
    ("set_overdraft_limit", {"limit": Decimal(-1)}),
    ("set_overdraft_limit", {"limit": Decimal("NaN")}),
]


class Chooser(Protocol):
    """Picks one of some options; earlier ones are simpler."""

    def pick(self, options: Sequence[T]) -> T: ...


def can_pay(account: Ledger) -> bool:
    return account.available > 0 and not account.is_frozen


def has_hold(account: Ledger) -> bool:
    return any(hold.is_open for hold in account.holds)


def refundable(account: Ledger) -> list[Row]:
    return [row for row in account.rows if row.parts and row.refunded < -row.amount]


def revocable(account: Ledger) -> list[Grant]:
    return [g for g in account.grants if g.revoked < g.amount and not g.is_moved]


class Moves:
    """Moves on the accounts of a pair, the first of which is an organization."""

    def __init__(self, pair: Pair, accounts: list[UUID], choose: Chooser) -> None:
        self.pair = pair
        self.accounts = accounts
        self.choose = choose

    # choices

    def pick(self, *options: T) -> T:
        return self.choose.pick(options)

    def usually(self, times: int = 1) -> bool:
        return self.pick(*[True] * times, False)

    def account(self, wish: Callable[[Ledger], object] = bool) -> tuple[UUID, Ledger]:
        """An account, usually one for which the wish comes true."""
        ledgers = self.pair.world.accounts
        good = [account_id for account_id in self.accounts if wish(ledgers[account_id])]
        account_id = self.choose.pick(good if good and self.usually(9) else self.accounts)
        return account_id, ledgers[account_id]

    def lack(self, wish: Callable[[Ledger], object]) -> bool:
        """No account can do it, and trying to see it refused is only sometimes worth a call."""
        ledgers = self.pair.world.accounts
        return self.usually(9) and not any(wish(ledgers[a]) for a in self.accounts)

    def amount(self, *exact: Decimal) -> Decimal:
        """A round figure, or often exactly what there is; usually no more than that."""
        there_is = [amount for amount in exact if amount > 0]
        most = max(there_is, default=Decimal(0))
        fits = [amount for amount in AMOUNTS if amount <= most]
        round_figures = fits if fits and self.usually(5) else AMOUNTS
        return self.choose.pick(there_is if there_is and self.usually() else round_figures)

    def of_account(self, account: Ledger) -> Decimal:
        return self.amount(account.available, *(grant.free for grant in account.grants))

    def key(self) -> str | None:
        return None if self.usually() else f"key-{next(self.pair.numbers)}"

    def grid(self) -> datetime:
        """A time that others hit as well."""
        time = self.pair.now + self.choose.pick(STEPS)
        return time.replace(hour=time.hour // 6 * 6, minute=0, second=0, microsecond=0)

    def due_times(self) -> list[datetime]:
        """When something happens by itself, on any account."""
        events = (event for a in self.accounts for event in self.pair.world.accounts[a].due())
        return sorted({event[0] for event in events if event[0] < FOREVER})

    def moment(self) -> datetime:
        known = self.due_times()
        return self.choose.pick(known) if known and self.usually() else self.grid()

    def hold_id(self, account: Ledger) -> int:
        still_open = [hold.hold_id for hold in account.holds if hold.is_open]
        if still_open and self.usually(9):
            return self.choose.pick(still_open)
        return self.choose.pick(range(len(account.holds) + 2))

    # credits

    def add(self) -> None:
        account_id, _ = self.account()
        self.pair.call(
            "add_credits",
            account_id,
            amount=self.amount(),
            source=self.choose.pick(SOURCES),
            expires_at=self.moment() if self.usually() else None,
            effective_at=None if self.usually(2) else self.moment(),
            priority=self.pick(None, None, 0, -1, 5),
            idempotency_key=self.key(),
        )

    def deduct(self) -> None:
        if self.lack(can_pay):
            self.add()
            return
        account_id, account = self.account(can_pay)
        self.pair.call(
            "deduct_credits",
            account_id,
            amount=self.of_account(account),
            job_id=self.pick(None, UUID(int=7)),
            agent_id=self.pick(None, "chat"),
            idempotency_key=self.key(),
        )

    def use(self) -> None:
        account_id, account = self.account(can_pay)
        self.pair.call(
            "record_usage",
            account_id,
            event=self.pick("credit", "credit", "nothing"),
            quantity=self.of_account(account),
            idempotency_key=self.key(),
        )

    def batch(self) -> None:
        self.pair.batch("deduct_credits", [self.item("amount") for _ in range(self.many())])

    def use_batch(self) -> None:
        items = [self.item("quantity") for _ in range(self.many())]
        event = {"event": "credit"}
        items = [item | (event if self.usually(5) else {"event": "nothing"}) for item in items]
        self.pair.batch("record_usage", items)

    def many(self) -> int:
        return self.pick(1, 2, 3, 8)

    def item(self, figure: str) -> dict[str, Any]:
        account_id, account = self.account(can_pay)
        item: dict[str, Any] = {
            "account_id": self.pick(*[account_id] * 9, uuid4()),
            figure: self.of_account(account),
            "idempotency_key": self.pick(None, f"batch-{self.pick(1, 2, 3)}", self.key()),
        }
        if not self.usually(9):
            item |= {"account_id": account_id, figure: self.choose.pick(WRONG_AMOUNTS)}
        return item

    def refund(self) -> None:
        if self.lack(refundable):
            self.deduct()
            return
        account_id, account = self.account(refundable)
        if (taken := refundable(account)) and self.usually(9):
            row = self.choose.pick(taken)
            seq, left = row.seq, -row.amount - row.refunded
        else:
            seq, left = self.choose.pick(range(len(account.rows) + 2)), Decimal(1)
        amount = self.pick(None, self.amount(left))
        self.pair.call(
            "refund_credits", account_id, seq=seq, amount=amount, idempotency_key=self.key()
        )

    def revoke(self) -> None:
        account_id, account = self.account(revocable)
        grants = [grant for grant in account.grants if not grant.is_moved]
        exact = [Decimal(1)]
        grant_id = len(account.grants) + 1
        if grants and self.usually(9):
            grant = self.choose.pick(revocable(account) or grants)
            grant_id = grant.grant_id
            exact = [grant.amount - grant.revoked, grant.free]
        amount = self.pick(None, self.amount(*exact))
        self.pair.call(
            "revoke_grant", account_id, grant_id=grant_id, amount=amount, idempotency_key=self.key()
        )

    def transfer(self) -> None:
        if self.lack(can_pay):
            self.add()
            return
        account_id, account = self.account(lambda account: self.mobile(account) > 0)
        self.pair.call(
            "transfer_credits",
            account_id,
            to=self.choose.pick([a for a in self.accounts if a != account_id]),
            amount=self.amount(self.mobile(account))
            if self.usually(5)
            else self.of_account(account),
            idempotency_key=self.key(),
        )

    def mobile(self, account: Ledger) -> Decimal:
        return sum((grant.free for grant in account.mobile_grants(self.pair.now)), Decimal(0))

    def adjust(self) -> None:
        account_id, account = self.account()
        amount = self.of_account(account) * self.pick(1, -1)
        self.pair.call("adjust_credits", account_id, amount=amount, idempotency_key=self.key())

    # holds

    def hold(self) -> None:
        if self.lack(can_pay):
            self.add()
            return
        account_id, account = self.account(can_pay)
        self.pair.call(
            "hold_credits",
            account_id,
            amount=self.of_account(account),
            ttl=self.choose.pick(TTLS),
            job_id=self.pick(None, UUID(int=7)),
            idempotency_key=self.key(),
        )

    def extend(self) -> None:
        if self.lack(has_hold):
            self.hold()
            return
        account_id, account = self.account(has_hold)
        hold_id, ttl = self.hold_id(account), self.choose.pick(TTLS)
        self.pair.call("extend_hold", account_id, hold_id=hold_id, ttl=ttl)

    def capture(self) -> None:
        if self.lack(has_hold):
            self.hold()
            return
        account_id, account = self.account(has_hold)
        hold_id = self.hold_id(account)
        held = [hold.amount for hold in account.holds if hold.hold_id == hold_id]
        more = [amount + account.available for amount in held]
        self.pair.call(
            "capture_hold",
            account_id,
            hold_id=hold_id,
            amount=self.pick(None, self.amount(*held, *more)),
            shortfall=self.pick("refuse", "partial", "debt"),
            idempotency_key=self.key(),
        )

    def release(self) -> None:
        if self.lack(has_hold):
            self.hold()
            return
        account_id, account = self.account(has_hold)
        self.pair.call("release_hold", account_id, hold_id=self.hold_id(account))

    # terms

    def start_period(self) -> None:
        account_id, account = self.account()
        allowance = self.pick(Decimal(100), Decimal(0), Decimal("12.5"))
        limit = self.pick(Decimal(0), Decimal(30), None)
        name = "change_allowance" if account.anchor else "start_period"
        self.pair.call(name, account_id, allowance=allowance, rollover_limit=limit)

    def overdraft(self) -> None:
        account_id, _ = self.account()
        limit = self.pick(Decimal(0), Decimal(20), Decimal("0.000001"))
        self.pair.call("set_overdraft_limit", account_id, limit=limit)

    def burn_order(self) -> None:
        account_id, _ = self.account()
        order = self.pick("expiring_first", "purchased_first")
        self.pair.call("set_burn_order", account_id, burn_order=order)

    def freeze(self) -> None:
        account_id, account = self.account(lambda account: account.is_frozen)
        self.pair.call("unfreeze_account" if account.is_frozen else "freeze_account", account_id)

    def switch_clawback(self) -> None:
        _, account = self.account()
        self.pair.set_setting("clawback", "unrecovered" if account.clawback == "owed" else "owed")

    # time

    def pass_time(self) -> None:
        self.pair.set_clock(
            self.pair.now + self.choose.pick(STEPS[:5] if self.usually(3) else STEPS)
        )

    def pass_until_due(self) -> None:
        """Exactly to an instant when something falls due, or just before it."""
        if later := [at for at in self.due_times() if at > self.pair.now]:
            self.pair.set_clock(later[0] - self.pick(timedelta(0), timedelta(microseconds=1)))

    def turn_back(self) -> None:
        """A transaction that began earlier gets its turn later."""
        self.pair.set_clock(self.pair.now - self.choose.pick(STEPS[1:6]))

    # the same again, and wrong

    def replay(self) -> None:
        if not self.pair.keyed:
            return
        name, account_id, asked = self.choose.pick(self.pair.keyed[-8:])
        for figure in {"amount", "quantity"} & asked.keys():
            if asked[figure]:
                asked = asked | {figure: asked[figure] + Decimal("0.000000")}
        answer = self.pair.call(name, account_id, **asked)
        assert isinstance(answer, dict)
        assert answer["replayed"]

    def reuse_key(self) -> None:
        if not self.pair.keyed:
            return
        name, account_id, asked = self.choose.pick(self.pair.keyed[-8:])
        changes: dict[str, Any] = {
            figure: (asked.get(figure) or 0) + 1 or Decimal(2) for figure in ("amount", "quantity")
        }
        changes["event"] = "nothing" if asked.get("event") == "credit" else "credit"
        changes |= {"job_id": UUID(int=8), "agent_id": "draw", "priority": 9}
        changes |= {"ttl": timedelta(minutes=2), "hold_id": 99, "seq": 99, "grant_id": 99}
        changes |= {"shortfall": "debt" if asked.get("shortfall") != "debt" else "refuse"}
        changes["source"] = "trial" if asked.get("source") != "trial" else "bonus"
        change = self.choose.pick([name for name in asked if name in changes])
        self.pair.differ(
            f"the key of {asked} with another {change}",
            "PT409",
            self.pair.call(name, account_id, **asked | {change: changes[change]}),
        )

    def ask_wrong(self) -> None:
        account_id, _ = self.account()
        if not self.usually(5):
            self.pair.refuse("transfer_credits", account_id, to=account_id, amount=Decimal(1))
        name, asked = self.choose.pick(WRONG)
        self.pair.refuse(name, account_id, **asked)

    def ask_nobody(self) -> None:
        name, asked = self.choose.pick(NOBODY)
        self.pair.call(name, uuid4(), **asked)

    def transaction(self) -> None:
        """Several calls in one transaction, kept or rolled back."""
        self.pair.begin()
        for _ in range(self.pick(1, 2, 3)):
            self.choose.pick(WRITES)(self)
        self.pair.end(self.pick("commit", "rollback"))

    def read(self) -> None:
        account_id, account = self.account()
        self.pair.compare_reads(account_id)
        times = [row.at for row in account.rows] or [self.pair.now]
        at = self.choose.pick(times) + timedelta(microseconds=self.pick(0, -1))
        self.pair.compare_balance_at(account_id, min(at, self.pair.now))


NOBODY: list[tuple[str, dict[str, Any]]] = [
    ("deduct_credits", {"amount": Decimal(1)}),
    ("record_usage", {"event": "credit", "quantity": Decimal(1)}),
    ("add_credits", {"amount": Decimal(1)}),
    ("hold_credits", {"amount": Decimal(1)}),
    ("capture_hold", {"hold_id": 1}),
    ("release_hold", {"hold_id": 1}),
    ("refund_credits", {"seq": 1}),
    ("revoke_grant", {"grant_id": 1}),
    ("adjust_credits", {"amount": Decimal(1)}),
    ("set_burn_order", {"burn_order": "purchased_first"}),
]
WRITES: list[Callable[[Moves], None]] = [
    *(Moves.deduct, Moves.hold, Moves.capture, Moves.refund, Moves.add, Moves.release),
    *(Moves.revoke, Moves.transfer, Moves.batch, Moves.adjust, Moves.replay, Moves.freeze),
    *(Moves.use, Moves.use_batch),
]
MOVES: dict[Callable[[Moves], None], int] = {  # how often, where nothing else decides
    Moves.deduct: 12,
    Moves.add: 12,
    Moves.hold: 8,
    Moves.capture: 8,
    Moves.release: 2,
    Moves.extend: 2,
    Moves.refund: 6,
    Moves.revoke: 4,
    Moves.transfer: 5,
    Moves.batch: 4,
    Moves.use: 6,
    Moves.use_batch: 4,
    Moves.adjust: 2,
    Moves.transaction: 3,
    Moves.replay: 4,
    Moves.reuse_key: 2,
    Moves.ask_wrong: 2,
    Moves.ask_nobody: 1,
    Moves.read: 4,
    Moves.pass_time: 6,
    Moves.pass_until_due: 6,
    Moves.turn_back: 3,
    Moves.start_period: 2,
    Moves.overdraft: 1,
    Moves.burn_order: 1,
    Moves.freeze: 1,
    Moves.switch_clawback: 1,
}
