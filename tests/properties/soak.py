"""Random calls to SQL and model side by side, hundreds of thousands of them.

usage: python -m tests.properties.soak DSN [--operations N] [--seed S] [--length L]

DSN is an installed test database. Every `--length` moves the accounts are compared row by row
and left for new ones. A difference is printed with the few calls that lead to it; the seed, which
is always printed, repeats the run.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from tests.properties.moves import MOVES, STARTS, Moves
from tests.properties.pair import Disagreement, Pair, connect
from tests.properties.shrink import shrink

T = TypeVar("T")


class Dice:
    """Choices of a random generator."""

    def __init__(self, seed: str) -> None:
        self.generator = random.Random(seed)  # noqa: S311

    def pick(self, options: Sequence[T]) -> T:
        return self.generator.choice(options)


def soak(dsn: str, operations: int, seed: int, length: int) -> Counter[str]:
    """Run until so many moves were made; how calls ended. Raises Disagreement."""
    moves, weights = list(MOVES), list(MOVES.values())
    outcomes: Counter[str] = Counter()
    made = 0
    with connect(dsn) as conn:
        conn.execute("set synchronous_commit = off")
        while made < operations:
            dice = Dice(f"{seed}-{made}")
            pair = Pair(conn, dice.pick(STARTS))
            game = Moves(pair, pair.open_organization(members=2), dice)
            try:
                for _ in range(min(length, operations - made)):
                    move = dice.generator.choices(moves, weights)[0]
                    move(game)
                    made += 1
                for account_id in game.accounts:
                    pair.compare_account(account_id)
            except Disagreement as difference:
                story = shrink(conn, pair.calls, game.accounts)
                raise Disagreement(f"{story}\n(first seen as: {difference})") from None
            for (name, code), count in pair.outcomes.items():
                outcomes[f"{name} {code or 'done'}"] += count
        for row in conn.execute("select * from pgsaas.verify_ledger()"):
            raise Disagreement(f"verify_ledger: {row}")
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dsn")
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))  # noqa: S311
    parser.add_argument("--length", type=int, default=200)
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.operations} operations", flush=True)
    try:
        outcomes = soak(asked.dsn, asked.operations, asked.seed, asked.length)
    except Disagreement as difference:
        print(difference)
        return 1
    print("equal:", *(f"{count:8} {name}" for name, count in sorted(outcomes.items())), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
