"""What clients got at the same time is what the model gets one call after the other.

Each call is a transaction that also draws a number after its effect, while it still holds its
locks: the numbers are the order in which the calls took place. The model makes the calls in that
order, and must give every answer, every row and every account time.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from psycopg import errors

from tests.concurrency.clients import (
    ISOLATION_LEVELS,
    Answer,
    Client,
    clients,
    is_sound,
    open_account,
    open_members,
)
from tests.conftest import Database
from tests.properties.model import Ledger, World
from tests.properties.pair import REASONED, Pair, connect

CLIENTS = 6


@dataclass(frozen=True)
class Call:
    """One committed call, and what came of it."""

    number: int
    at: datetime
    name: str
    account_id: UUID
    asked: dict[str, Any]
    answers: list[Answer]
    last_at: dict[UUID, datetime]


@dataclass
class Play:
    """What the clients know of each other."""

    members: list[UUID]  # may transfer
    loners: list[UUID]  # have grants revoked
    holds: list[tuple[UUID, int]] = field(default_factory=list)
    grants: list[tuple[UUID, int]] = field(default_factory=list)
    keyed: list[tuple[str, UUID, dict[str, Any]]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    keys: Iterator[int] = field(default_factory=itertools.count)


class Player:
    """A client that makes random calls, each in a transaction of its own."""

    def __init__(self, conn: Client, play: Play, seed: str) -> None:
        self.conn = conn
        self.play = play
        self.dice = random.Random(seed)  # noqa: S311
        self.errors: Counter[str] = Counter()

    def amount(self, most: int) -> Decimal:
        return Decimal(self.dice.randrange(1, most * 4)) / 4

    def soon(self, milliseconds: int) -> datetime:
        return datetime.now(UTC) + timedelta(milliseconds=self.dice.randrange(1, milliseconds))

    def key(self) -> str | None:
        return f"key-{next(self.play.keys)}" if self.dice.random() < 0.5 else None

    def choose(self) -> tuple[str, UUID, dict[str, Any]]:
        dice, play = self.dice, self.play
        account = dice.choice(play.members + play.loners)
        key = {"idempotency_key": self.key()}
        match dice.choices(range(12), [24, 14, 10, 12, 4, 3, 5, 4, 4, 8, 4, 6])[0]:
            case 0:
                return "deduct_credits", account, {"amount": self.amount(8)} | key
            case 1:
                terms = {
                    "amount": self.amount(20),
                    "source": dice.choice(["purchase", "bonus", "trial"]),
                    "expires_at": self.soon(3000) if dice.random() < 0.5 else None,
                    "effective_at": self.soon(300) if dice.random() < 0.2 else None,
                    "priority": dice.choice([None, None, -1, 1]),
                }
                return "add_credits", account, terms | key
            case 2:
                ttl = timedelta(milliseconds=dice.randrange(1, 800))
                return "hold_credits", account, {"amount": self.amount(6), "ttl": ttl} | key
            case 3 if play.holds:
                account, hold = dice.choice(play.holds[-20:])
                terms = {"hold_id": hold, "amount": self.amount(9) if dice.random() < 0.7 else None}
                shortfall = {"shortfall": dice.choice(["refuse", "partial", "debt"])}
                return "capture_hold", account, terms | shortfall | key
            case 4 if play.holds:
                account, hold = dice.choice(play.holds[-20:])
                return "release_hold", account, {"hold_id": hold}
            case 5 if play.holds:
                account, hold = dice.choice(play.holds[-20:])
                return "extend_hold", account, {"hold_id": hold, "ttl": timedelta(seconds=1)}
            case 6:
                seen = [call for call in play.calls[-100:] if call.answers[0].get("seq")]
                if not seen:
                    return "deduct_credits", account, {"amount": self.amount(8)} | key
                some = dice.choice(seen)
                amount = dice.choice([None, self.amount(3)])
                terms = {"seq": some.answers[0]["seq"], "amount": amount}
                return "refund_credits", some.account_id, terms | key
            case 7 if play.grants:
                account, grant = dice.choice(play.grants[-20:])
                terms = {"grant_id": grant, "amount": dice.choice([None, self.amount(3)])}
                return "revoke_grant", account, terms | key
            case 8 | 7:
                account, to = dice.sample(play.members, 2)
                return "transfer_credits", account, {"to": to, "amount": self.amount(5)} | key
            case 9 if play.keyed:
                return dice.choice(play.keyed[-20:])
            case 10:
                adjustment = {"amount": self.amount(3) * dice.choice([1, -1])} | key
                order = {"burn_order": dice.choice(["purchased_first", "expiring_first"])}
                limit = {"limit": Decimal(dice.choice([0, 5]))}
                terms_by_name: dict[str, dict[str, Any]] = {
                    "adjust_credits": adjustment,
                    "set_burn_order": order,
                    "set_overdraft_limit": limit,
                }
                name = dice.choice(list(terms_by_name))
                return name, account, terms_by_name[name]
            case _:
                return "deduct_credits_batch", account, {"items": list(self.items())}

    def items(self) -> Iterator[dict[str, Any]]:
        for _ in range(self.dice.randrange(1, 9)):
            account = self.dice.choice(self.play.members + self.play.loners)
            key = f"batch-{self.dice.randrange(200)}"
            yield {
                "account_id": account,
                "amount": Decimal(self.dice.choice([1, 2])),
                "idempotency_key": key,
            }

    def play_until(self, end: float) -> None:
        while time.monotonic() < end:
            name, account_id, asked = self.choose()
            try:
                self.make(name, account_id, asked)
            except (errors.SerializationFailure, errors.InvalidParameterValue) as error:
                # lost a race, or came too late for what it wanted to add; nothing was stored
                self.errors[type(error).__name__] += 1

    def make(self, name: str, account_id: UUID, asked: dict[str, Any]) -> None:
        arguments = {"from" if name == "transfer_credits" else "account_id": account_id, **asked}
        touched = {account_id, asked.get("to", account_id)}
        if name == "deduct_credits_batch":
            items = asked["items"]
            arguments = {
                f"{column}s": [item[column] for item in items]
                for column in ("account_id", "amount", "idempotency_key")
            }
            touched = set(arguments["account_ids"])
        if name in REASONED:
            arguments["reason"] = "a test"
        named = ", ".join(f"p_{argument} => %s" for argument in arguments)
        statement = f"select pgsaas.now() as at, f.* from pgsaas.{name}({named}) as f".encode()
        with self.conn.transaction():
            answers = self.conn.execute(statement, list(arguments.values())).fetchall()
            order = self.conn.execute(
                "select nextval('serial_order') as number, account_id, last_at"
                " from pgsaas.account_balances where account_id = any (%s)",
                [list(touched)],
            ).fetchall()
        self.note(name, account_id, asked, answers, order)

    def note(
        self,
        name: str,
        account_id: UUID,
        asked: dict[str, Any],
        answers: list[Answer],
        order: list[Answer],
    ) -> None:
        number = min(row["number"] for row in order)
        last_at = {row["account_id"]: row["last_at"] for row in order}
        at = answers[0]["at"]
        self.play.calls.append(Call(number, at, name, account_id, asked, answers, last_at))
        if not answers[0].get("success"):
            return
        if asked.get("idempotency_key"):
            self.play.keyed.append((name, account_id, asked))
        if name == "hold_credits":
            self.play.holds.append((account_id, answers[0]["hold_id"]))
        if name == "add_credits" and account_id in self.play.loners:
            self.play.grants.append((account_id, answers[0]["grant_id"]))


def model_makes(calls: list[Call], world: World) -> Counter[str]:
    """The calls in the order in which they took place; the model answers as SQL did."""
    outcomes: Counter[str] = Counter()
    for call in sorted(calls, key=lambda call: call.number):
        if call.name == "deduct_credits_batch":
            expected = list(world.batch(call.at, "deduct_credits", call.asked["items"]))
        else:
            expected = [world.call(call.at, call.name, call.account_id, **call.asked)]
        found = sorted(call.answers, key=lambda row: row.get("item", 0))
        for wanted, got in zip(expected, found, strict=True):
            assert wanted == {column: got[column] for column in wanted}, call
            how = "replayed" if wanted.get("replayed") else wanted["error_code"] or "done"
            outcomes[f"{call.name} {how}"] += 1
        for account_id, last_at in call.last_at.items():
            account = world.accounts[account_id]
            if any(wanted.get("replayed") for wanted in expected):
                assert last_at in (account.last_at, max(account.last_at, call.at)), call
                account.last_at = last_at
            assert account.last_at == last_at, call
    return outcomes


def play(db: Database, seconds: float) -> None:
    seed = int(os.environ.get("PGSAAS_SEED") or random.randrange(10**9))  # noqa: S311
    with clients(db, CLIENTS) as conns:
        conns[0].execute("create sequence serial_order")
        members = open_members(conns[0], 3, amount=0)
        table = Play(members, [open_account(conns[0]) for _ in range(2)])
        world = World()
        for row in conns[0].execute("select account_id, last_at from pgsaas.account_balances"):
            world.accounts[row["account_id"]] = Ledger(row["last_at"])
        world.organization = set(members)
        players = [Player(conn, table, f"{seed}-{n}") for n, conn in enumerate(conns)]
        for conn, isolation in zip(conns, ISOLATION_LEVELS, strict=False):
            conn.execute(f"set default_transaction_isolation = '{isolation}'".encode())
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(CLIENTS) as pool:
            for finished in [pool.submit(player.play_until, end) for player in players]:
                finished.result()
        lost = sum((player.errors for player in players), Counter[str]())
        print(f"seed {seed}, {len(table.calls)} calls, not stored: {dict(lost)}")
        for outcome, count in sorted(model_makes(table.calls, world).items()):
            print(f"{count:8} {outcome}")
        assert is_sound(conns[0])
    with connect(db.dsn) as reader:
        pair = Pair(reader, datetime.now(UTC) + timedelta(minutes=1))
        pair.world = world
        for account_id in world.accounts:
            if account_id not in {*table.members, *table.loners}:
                continue
            pair.compare_account(account_id)


def test_concurrent_calls_are_calls_in_some_order(db: Database) -> None:
    play(db, seconds=2)


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_many_concurrent_calls_are_calls_in_some_order(db: Database) -> None:
    play(db, seconds=60)
