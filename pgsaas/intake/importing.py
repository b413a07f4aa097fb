"""Records the use that a file tells, in batches, each a transaction of its own.

Every record has a key, so a file that is read again, or was cut short by a crash, changes nothing
for what is recorded already.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import psycopg

from pgsaas.call import call
from pgsaas.errors import InvalidValue, PgsaasError
from pgsaas.intake.lines import Line
from pgsaas.intake.mapping import Columns, Use, uses_of

BATCH = 1_000
#: Takes a line's number and what is wrong with it; raises to stop everything.
Complain: TypeAlias = Callable[[int, str], None]
#: Takes what a file calls accounts; says which account each is, or what is wrong with it.
Find: TypeAlias = Callable[[Collection[str]], Mapping[str, UUID | PgsaasError]]


@dataclass(slots=True)
class Import:
    """What has come of a file so far."""

    recorded: int = 0
    replayed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    credits: Decimal = Decimal(0)
    lines: int = 0

    @property
    def records(self) -> int:
        """Records that were answered."""
        return self.recorded + self.replayed + self.refused.total()


def read_uses(
    lines: Iterable[Line], columns: Columns, digest: str, complain: Complain
) -> Iterator[Use]:
    """The uses of a file's lines; what cannot be read is complained of."""
    for line in lines:
        try:
            found = list(uses_of(line, columns, digest))
        except InvalidValue as error:
            complain(line.number, str(error))
            continue
        yield from found


def record(
    conn: psycopg.Connection[Any],
    uses: Iterable[Use],
    find: Find,
    complain: Complain,
    advance: Callable[[Import], None],
) -> Import:
    """Record all of it; a connection in autocommit mode makes each batch a transaction."""
    done = Import()
    known: dict[str, UUID | PgsaasError] = {}
    for read in _batched(iter(uses), BATCH):
        new = {use.account for use in read} - known.keys()
        known.update(find(new) if new else {})
        batch, account_ids = [], []
        for use in read:
            account = known[use.account]
            if isinstance(account, UUID):
                batch.append(use)
                account_ids.append(account)
            else:
                complain(use.line, str(account))
        answers = call(
            conn,
            "record_usage_batch",
            account_ids=account_ids,
            events=[use.event for use in batch],
            quantities=[use.quantity for use in batch],
            dimensions=[json.dumps(use.dimensions) for use in batch],
            occurred_at=[use.occurred_at for use in batch],
            costs=_costs(batch),
            idempotency_keys=[use.key for use in batch],
        )
        for use, answer in zip(batch, answers, strict=True):
            if answer["success"]:
                done.replayed += answer["replayed"]
                done.recorded += not answer["replayed"]
                done.credits += answer["cost"]
            else:
                done.refused[answer["error_code"]] += 1
                complain(use.line, f"{answer['error_message']} ({answer['error_code']})")
        done.lines = read[-1].line
        advance(done)
    return done


def price(
    conn: psycopg.Connection[Any],
    uses: Iterable[Use],
    complain: Complain,
    advance: Callable[[Import], None],
) -> Import:
    """What all of it would cost, by the price list; nothing is recorded."""
    done = Import()
    for batch in _batched(iter(uses), BATCH):
        answers = call(
            conn,
            "price_usage_batch",
            events=[use.event for use in batch],
            quantities=[use.quantity for use in batch],
            dimensions=[json.dumps(use.dimensions) for use in batch],
            occurred_at=[use.occurred_at for use in batch],
        )
        for use, answer in zip(batch, answers, strict=True):
            if answer["success"]:
                done.recorded += 1
                done.credits += answer["cost"] if use.cost is None else use.cost
            else:
                done.refused[answer["error_code"]] += 1
                complain(use.line, f"{answer['error_message']} ({answer['error_code']})")
        done.lines = batch[-1].line
        advance(done)
    return done


def _costs(batch: Iterable[Use]) -> list[Decimal | None] | None:
    costs = [use.cost for use in batch]
    return costs if any(cost is not None for cost in costs) else None


def _batched(uses: Iterator[Use], size: int) -> Iterator[tuple[Use, ...]]:
    while batch := tuple(itertools.islice(uses, size)):
        yield batch
