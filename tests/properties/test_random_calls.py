"""Random calls, weighted like a day's work, give the same ledger in SQL as in the model.

Where the state machine looks for the shortest way to a difference, this goes the long way: hundreds
of calls on accounts that remember everything. The quick run is the same each time; `make soak`
draws a seed, which is printed, or takes PGSAAS_SEED.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.conftest import Database
from tests.properties.soak import soak

OPERATIONS = 250_000


@pytest.mark.parametrize("seed", [1, 2])
def test_a_few_thousand_calls(db: Database, seed: int) -> None:
    assert soak(db.dsn, operations=2_500, seed=seed, length=250)["refund_credits done"] > 50


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_hundreds_of_thousands_of_calls(db: Database) -> None:
    seed = int(os.environ.get("PGSAAS_SEED") or random.randrange(10**9))  # noqa: S311
    print(f"seed {seed}, {OPERATIONS} operations")
    outcomes = soak(db.dsn, OPERATIONS, seed, length=250)
    print(*(f"{count:8} {name}" for name, count in sorted(outcomes.items())), sep="\n")
