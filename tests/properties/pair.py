"""SQL and model side by side: every call goes to both, and their answers must be equal."""

from __future__ import annotations

import copy
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import psycopg
from psycopg import rows
from psycopg.types.json import Jsonb, set_json_loads

from tests.properties.account import FOREVER, ZERO, Grant, Part
from tests.properties.model import Answer, Ledger, Raised, World

Conn: TypeAlias = psycopg.Connection[tuple[Any, ...]]

DESCRIBED = ("add_credits", "deduct_credits", "hold_credits", "transfer_credits")
REASONED = ("adjust_credits", "freeze_account", "set_overdraft_limit", "unfreeze_account")
TOO_MUCH = Decimal(10**12)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
#: What the arguments of a call are called in its batch.
MANY = {
    "account_id": "account_ids",
    "amount": "amounts",
    "event": "events",
    "quantity": "quantities",
    "idempotency_key": "idempotency_keys",
}
#: A use of one costs its quantity, of the other nothing.
PRICES = {"credit": {"model": "unit", "unit": 1}, "nothing": {"base": 0}}


class Disagreement(AssertionError):
    """SQL and model answer differently."""


def connect(dsn: str) -> Conn:
    """A session with settings that no answer may depend on."""
    conn = psycopg.connect(dsn, autocommit=True, prepare_threshold=1)
    conn.execute("set timezone = 'Asia/Kathmandu'")
    conn.execute("set intervalstyle = 'iso_8601'")
    set_json_loads(partial(json.loads, parse_float=Decimal, parse_int=Decimal), conn)
    return conn


def plain(value: object) -> str:
    """A value as a reader wants to see it."""
    if isinstance(value, dict):
        pairs = (f"{key}={plain(item)}" for key, item in value.items() if item is not None)
        return " ".join(pairs)
    if isinstance(value, (list, tuple)):
        return " ".join(
            f"({plain(i)})" if isinstance(i, (dict, tuple)) else plain(i) for i in value
        )
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


class Pair:
    """A model and a database; `calls` tells how they got where they are."""

    def __init__(self, conn: Conn, now: datetime) -> None:
        self.conn = conn
        self.world = World()
        self.now = now
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.keyed: list[tuple[str, UUID, dict[str, Any]]] = []
        self.outcomes: Counter[tuple[str, str | None]] = Counter()
        self.before = self.world, self.keyed
        self.numbers = itertools.count(1)
        self.set_clock(now)
        self.set_setting("clawback", "owed")
        for event, price in PRICES.items():
            self.query("set_credit_event", event=event, prices=Jsonb(price), effective_at=LONG_AGO)

    def record(self, what: str, *arguments: Any) -> None:
        """Remember a call, so that it can be shown, and made again on other accounts."""
        self.calls.append((what, arguments))

    def differ(self, what: str, model: object, got: object) -> None:
        if model != got:
            raise Disagreement(f"{what}\n  model {plain(model)}\n  sql   {plain(got)}")

    def history(self) -> str:
        """What led here, the accounts called a0, a1 …"""
        text = "\n".join(f"{what} {plain(arguments)}" for what, arguments in self.calls)
        for number, account_id in enumerate(self.world.accounts):
            text = text.replace(str(account_id), f"a{number}")
        return text

    def set_clock(self, at: datetime) -> None:
        """Where the clock stands for everybody; account time does not follow it backwards."""
        self.now = at
        self.record("set_clock", at)
        self.conn.execute("select pgsaas.set_clock(%s)", [at])

    def set_setting(self, name: str, value: str) -> None:
        self.record("set_setting", name, value)
        for account in self.world.accounts.values():
            setattr(account, name, value)
        self.conn.execute("select pgsaas.set_setting(%s, %s, 'a test')", [name, value])

    def open_account(self, kind: str = "user") -> UUID:
        account_id = uuid4()
        self.query("create_account", account_id=account_id, kind=kind)
        self.world.accounts[account_id] = Ledger(self.now)
        return account_id

    def open_organization(self, members: int) -> list[UUID]:
        """An organization's account and those of its members."""
        accounts = [self.open_account("organization")]
        for _ in range(members):
            member = self.open_account()
            self.query("add_member", account_id=accounts[0], user_id=str(member))
            accounts.append(member)
        self.world.organization |= set(accounts)
        return accounts

    def query(self, name: str, /, **arguments: Any) -> list[Answer]:
        """The rows of a function, by column name."""
        named = ", ".join(f"p_{argument} => %s" for argument in arguments)
        statement = f"select * from pgsaas.{name}({named})".encode()
        with self.conn.cursor(row_factory=rows.dict_row) as cursor:
            return cursor.execute(statement, list(arguments.values())).fetchall()

    def free_text(self, name: str) -> dict[str, Any]:
        """What an answer never depends on, different each time."""
        if name in REASONED:
            return {"reason": "a test"}
        number = next(self.numbers)
        metadata = {"metadata": Jsonb({"call": number})}
        if name == "record_usage":
            return metadata
        return {"description": f"call {number}", **metadata} if name in DESCRIBED else {}

    def ask(self, name: str, account_id: UUID, **asked: Any) -> list[Answer] | str:
        """What SQL answers, or the SQLSTATE that it raises."""
        first = {"from" if name == "transfer_credits" else "account_id": account_id}
        try:
            with self.conn.transaction():
                return self.query(name, **first, **asked, **self.free_text(name))
        except psycopg.Error as error:
            return error.sqlstate or repr(error)

    def call(self, name: str, account_id: UUID, **asked: Any) -> Answer | str:
        """Call a function on both sides and compare; the answer, or the SQLSTATE raised."""
        self.record("call", name, account_id, asked)
        got = self.ask(name, account_id, **asked)
        try:
            answer = self.world.call(self.now, name, account_id, **asked)
        except Raised as raised:
            self.differ(name, str(raised), got)
            self.outcomes[name, got if isinstance(got, str) else None] += 1
            return str(raised)
        self.compare_answers(name, [answer], got)
        self.outcomes[name, "replayed" if answer.get("replayed") else answer.get("error_code")] += 1
        if answer.get("replayed"):
            self.follow_clock(account_id)
        elif asked.get("idempotency_key") and answer["success"]:
            self.keyed.append((name, account_id, asked))
        return answer

    def refuse(self, name: str, account_id: UUID, **asked: Any) -> None:
        """A call with wrong arguments raises 22023; the model never hears of it."""
        self.record("refuse", name, account_id, asked)
        try:
            with self.conn.transaction():
                first = {"from" if name == "transfer_credits" else "account_id": account_id}
                self.query(name, **first, **self.free_text(name) | asked)
        except psycopg.Error as error:
            self.differ(f"wrong {name} {asked}", "22023", error.sqlstate)
        else:
            self.differ(f"wrong {name} {asked}", "22023", "an answer")

    def batch(self, name: str, items: Sequence[dict[str, Any]]) -> list[Answer]:
        self.record("batch", name, list(items))
        arrays = {MANY[one]: [item[one] for item in items] for one in items[0]}
        got = self.query(f"{name}_batch", **arrays)
        got.sort(key=lambda row: int(row["item"]))
        answers = list(self.world.batch(self.now, name, items))
        self.compare_answers(f"{name}_batch", answers, got)
        self.outcomes.update((f"{name}_batch", answer.get("error_code")) for answer in answers)
        for account_id in {item["account_id"] for item in items} & set(self.world.accounts):
            self.follow_clock(account_id)
        return answers

    def compare_answers(self, what: str, model: Sequence[Answer], got: list[Answer] | str) -> None:
        if isinstance(got, str):
            self.differ(what, model, got)
            return
        self.differ(f"{what}: rows", len(model), len(got))
        for expected, row in zip(model, got, strict=True):
            other = {column for column in expected if expected[column] != row.get(column)}
            show = other | {"success"} & set(expected) if other else set()
            self.differ(what, {c: expected[c] for c in show}, {c: row.get(c) for c in show})

    def follow_clock(self, account_id: UUID) -> None:
        """A replay may move account time or leave it; nothing else may differ."""
        account = self.world.accounts[account_id]
        found = self.conn.execute(
            "select last_at from pgsaas.account_balances where account_id = %s", [account_id]
        ).fetchone()
        assert found
        if found[0] not in (account.last_at, max(self.now, account.last_at)):
            self.differ("last_at", (account.last_at, self.now), found[0])
        account.last_at = found[0].astimezone(UTC)

    def begin(self) -> None:
        """Open a transaction of the host; the calls until end() are part of it."""
        self.record("begin")
        self.before = copy.deepcopy(self.world), list(self.keyed)
        self.conn.execute("begin")

    def end(self, outcome: str) -> None:
        """End it by `commit` or `rollback`."""
        self.record("end", outcome)
        self.conn.execute(outcome.encode())
        if outcome == "rollback":
            self.world, self.keyed = self.before

    # reading

    def compare_reads(self, account_id: UUID) -> None:
        """What a reader sees now: due things as done, whether or not anybody wrote them."""
        self.record("compare_reads", account_id)
        account = self.world.settled(account_id, self.now)
        reset_at = account.period_end if account.anchor else None
        free = [grant for grant in account.grants if grant.free]
        expiries = [grant.expires_at for grant in free if grant.expires_at < FOREVER]
        expected = {
            "balance": account.balance,
            "held": account.held,
            "available": account.available,
            "owed": account.owed,
            "overdraft_limit": account.overdraft_limit,
            "by_source": {
                source: sum(grant.free for grant in free if grant.source == source)
                for source in {grant.source for grant in free}
            },
            "next_expiry_at": min(expiries, default=None),
            "next_reset_at": reset_at,
            "monthly_allowance": account.allowance,
            "lifetime_earned": account.lifetime_earned,
            "lifetime_spent": account.lifetime_spent,
            "is_frozen": account.is_frozen,
            "seq": len(account.rows),
        }
        self.compare_answers("get_balance", [expected], self.ask("get_balance", account_id))
        grants = [
            (
                *(grant.grant_id, grant.source, grant.priority, grant.amount),
                grant.amount - grant.revoked if grant.is_pending else grant.free,
                grant.effective_at,
                grant.expires_at if grant.expires_at < FOREVER else None,
                grant.is_pending,
            )
            for grant in account.grants
            if grant.free or grant.is_pending
        ]
        got = self.conn.execute(
            "select grant_id, source, priority, amount, remaining, effective_at,"
            " nullif(expires_at, 'infinity'), is_pending"
            " from pgsaas.open_credit_grants where account_id = %s order by grant_id",
            [account_id],
        ).fetchall()
        self.differ("open_credit_grants", grants, got)

    def compare_balance_at(self, account_id: UUID, at: datetime) -> None:
        self.record("compare_balance_at", account_id, at)
        expected = {"balance_at": self.world.settled(account_id, self.now).balance_at(at)}
        self.compare_answers(
            f"balance_at {at}", [expected], self.ask("balance_at", account_id, at=at)
        )

    def compare_explanation(self, account_id: UUID, seq: int) -> None:
        row = self.world.accounts[account_id].rows[seq - 1]
        got = self.conn.execute(
            "select coalesce(grant_id, 0), amount, refunded"
            " from pgsaas.explain_deduction(%s, %s) order by part",
            [account_id, seq],
        ).fetchall()
        self.differ(f"explain_deduction {seq}", list(refunded(row.parts, row.refunded)), got)

    def compare_account(self, account_id: UUID) -> None:
        """Everything there is to know about an account, after settling it on both sides."""
        self.compare_reads(account_id)
        self.call("deduct_credits", account_id, amount=TOO_MUCH)
        self.compare_reads(account_id)
        account = self.world.accounts[account_id]
        ledger = [
            (row.seq, row.kind, row.amount, row.balance_after, row.at) for row in account.rows
        ]
        got = self.conn.execute(
            "select seq, transaction_type, amount, balance_after, created_at"
            " from pgsaas.credit_transactions where account_id = %s order by seq",
            [account_id],
        ).fetchall()
        for expected, found in itertools.zip_longest(ledger, got):
            self.differ("ledger", expected, found)
        got = self.conn.execute(
            "select usage_id, event_name, quantity, cost, seq, balance_after, created_at"
            " from pgsaas.usage_records where account_id = %s order by usage_id",
            [account_id],
        ).fetchall()
        for use, found in itertools.zip_longest(account.uses, got):
            self.differ("usage", use, found)
        for row in account.rows:
            if row.parts:
                self.compare_explanation(account_id, row.seq)
        self.differ("verify_ledger", [], self.query("verify_ledger", account_id=account_id))


def refunded(parts: Sequence[Part], amount: Decimal) -> Iterator[tuple[int, Decimal, Decimal]]:
    """Grant, size and refunded share of each part: the last-burned part comes back first."""
    after = sum((part for _, part in parts), ZERO)
    for grant, part in parts:
        after -= part
        yield (
            grant.grant_id if isinstance(grant, Grant) else 0,
            part,
            min(part, max(ZERO, amount - after)),
        )
