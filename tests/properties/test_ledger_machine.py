"""Any sequence of calls gives the same ledger in SQL as in the model.

The quick runs are the same each time. `make soak`, or PGSAAS_SOAK=1, runs long from a seed that
is printed and that PGSAAS_SEED repeats.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import Database
from tests.properties.moves import MOVES, STARTS, Moves
from tests.properties.pair import Conn, Disagreement, Pair, connect
from tests.properties.shrink import shrink

T = TypeVar("T")

COMMON = settings(
    database=None,
    deadline=None,
    print_blob=True,
    phases=[Phase.generate],  # shrink() is quicker, and its story can be read
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
QUICK = settings(COMMON, max_examples=100, stateful_step_count=30, derandomize=True)
SOAK = settings(COMMON, max_examples=5_000, stateful_step_count=60)


class Drawn:
    """Choices that hypothesis makes, and shrinks when they lead to a difference."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def pick(self, options: Sequence[T]) -> T:
        return self.data.draw(st.sampled_from(options))


class LedgerMachine(RuleBasedStateMachine):
    """An organization and two of its members, in SQL and in the model."""

    conn: Conn
    pairs: ClassVar[list[Pair]] = []
    moves: Moves | None = None

    @initialize(data=st.data())
    def open_accounts(self, data: st.DataObject) -> None:
        choose = Drawn(data)
        pair = Pair(self.conn, choose.pick(STARTS))
        self.pairs[:] = [pair]
        self.moves = Moves(pair, pair.open_organization(members=2), choose)

    def teardown(self) -> None:
        if moves := self.moves:
            for account_id in moves.accounts:
                moves.pair.compare_account(account_id)


def step(move: Callable[[Moves], None]) -> Callable[[LedgerMachine, st.DataObject], None]:
    def run(machine: LedgerMachine, data: st.DataObject) -> None:
        moves, machine.moves = machine.moves, None  # nothing to compare after a difference
        assert moves
        moves.choose = Drawn(data)
        move(moves)
        machine.moves = moves

    run.__name__ = move.__name__
    return run


for each in MOVES:
    setattr(LedgerMachine, each.__name__, rule(data=st.data())(step(each)))


def run(db: Database, profile: settings, seed: int | None = None) -> None:
    with connect(db.dsn) as conn:
        machine = type("LedgerMachine", (LedgerMachine,), {"conn": conn})
        if seed is not None:
            hypothesis.seed(seed)(machine)
        try:
            run_state_machine_as_test(machine, settings=profile)
        except Disagreement:
            pair = LedgerMachine.pairs[-1]
            raise AssertionError(shrink(conn, pair.calls, list(pair.world.accounts))) from None
        assert conn.execute("select * from pgsaas.verify_ledger()").fetchall() == []


def run_long(db: Database) -> None:
    seed = int(os.environ.get("PGSAAS_SEED") or random.randrange(10**9))  # noqa: S311
    print(f"seed {seed}, {SOAK.max_examples} sequences of {SOAK.stateful_step_count} calls")
    run(db, SOAK, seed)


@pytest.mark.timeout(600)
def test_sql_and_model_agree_on_any_sequence_of_calls(db: Database) -> None:
    if os.environ.get("PGSAAS_SOAK") == "1":
        run_long(db)
    else:
        run(db, QUICK)


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_sql_and_model_agree_on_thousands_of_long_sequences(db: Database) -> None:
    run_long(db)
