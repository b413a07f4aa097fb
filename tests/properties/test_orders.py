"""What comes back at the same moment leaves the account with the same credits in any order.

After a random history, refunds, releases and new credits are tried in every order, each in a
transaction that is rolled back. Which grant ends up free may depend on the order, since whoever
comes first pays what is owed; the figures may not. Revocations are left out: what a revocation
takes depends on what is free (decision 0007).
"""

from __future__ import annotations

import itertools
import os
import random
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import pytest

from tests.conftest import Database
from tests.properties.moves import MOVES, STARTS, Moves
from tests.properties.pair import Conn, Pair, connect
from tests.properties.soak import Dice

Step: TypeAlias = tuple[str, tuple[Any, ...]]

MOST = 3
SETS = 2_000


def steps_of(game: Moves, account_id: UUID) -> list[Step]:
    """What may come back to an account."""
    account = game.pair.world.accounts[account_id]
    steps: list[Step] = [("add_credits", (account_id, Decimal(7)))]
    steps += [("release_hold", (account_id, hold.hold_id)) for hold in account.holds]
    steps += [("refund_credits", (account_id, row.seq)) for row in account.rows if row.parts]
    return steps


def figures(conn: Conn, account_id: UUID, steps: tuple[Step, ...]) -> list[tuple[Any, ...]]:
    """Which steps are done, and what the account has after all of them."""
    with conn.transaction(force_rollback=True):
        done = []
        for name, arguments in steps:
            places = ", ".join(["%s"] * len(arguments))
            call = f"select success from pgsaas.{name}({places})".encode()
            done += conn.execute(call, arguments).fetchall()
        found = conn.execute(
            "select balance, held, owed from pgsaas.get_balance(%s)", [account_id]
        ).fetchall()
        violated = conn.execute("select * from pgsaas.verify_ledger(%s)", [account_id])
        assert violated.fetchall() == []
    return [*sorted(done), *found]


def try_orders(dsn: str, seed: int, sets: int) -> int:
    """How many sets of steps were compared in every order."""
    moves, weights = list(MOVES), [*MOVES.values()]
    weights[moves.index(Moves.overdraft)] = 6
    compared = 0
    with connect(dsn) as conn:
        conn.execute("set synchronous_commit = off")
        for round_ in itertools.count():
            dice = Dice(f"{seed}-{round_}")
            pair = Pair(conn, dice.pick(STARTS))
            game = Moves(pair, pair.open_organization(members=1), dice)
            for _ in range(60):
                dice.generator.choices(moves, weights)[0](game)
            for account_id, _ in itertools.product(game.accounts, range(5)):
                steps = steps_of(game, account_id)
                chosen = dice.generator.sample(steps, min(len(steps), MOST))
                orders = itertools.permutations(chosen)
                ends = [figures(conn, account_id, order) for order in orders]
                assert ends == ends[:1] * len(ends), f"{seed}-{round_}: {chosen}"
                compared += 1
                if compared == sets:
                    return compared
    raise AssertionError("rounds do not end")


@pytest.mark.parametrize("seed", [1, 2])
def test_what_comes_back_ends_alike_in_any_order(db: Database, seed: int) -> None:
    assert try_orders(db.dsn, seed, sets=40) == 40


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_thousands_of_sets_end_alike_in_any_order(db: Database) -> None:
    seed = int(os.environ.get("PGSAAS_SEED") or random.randrange(10**9))  # noqa: S311
    print(f"seed {seed}, {SETS} sets")
    assert try_orders(db.dsn, seed, SETS) == SETS
