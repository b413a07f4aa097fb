"""Records the use that a file tells, in batches, each a transaction of its own.

Every record has a key, so a file that is read again, or was cut short by a crash, changes nothing
for what is recorded already. Where a bad line stops the import, every line before it is recorded
and none after it.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import psycopg

from pgsaas.call import call
from pgsaas.errors import InvalidValue, PgsaasError
from pgsaas.intake.lines import Line
from pgsaas.intake.mapping import Bad, Columns, Use, uses_of

BATCH = 1_000
#: Takes a bad line; raises to stop everything, returns to go on.
Complain: TypeAlias = Callable[[Bad], None]
#: Takes what a file calls accounts; says which account each is, or what is wrong with it.
Find: TypeAlias = Callable[[Collection[str]], Mapping[str, UUID | PgsaasError]]
Answers: TypeAlias = list[dict[str, Any]]


@dataclass(slots=True)
class Import:
    """What has come of a file so far."""

    recorded: int = 0
    replayed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    credits: Decimal = Decimal(0)
    lines: int = 0
    events: set[str] = field(default_factory=set)  # that were priced

    def count(self, answers: Answers) -> None:
        """Add what a batch was answered."""
        for answer in answers:
            if answer["success"]:
                self.replayed += answer.get("replayed", False)
                self.recorded += not answer.get("replayed", False)
                self.credits += answer["cost"]
            else:
                self.refused[answer["error_code"]] += 1


def read_uses(lines: Iterable[Line], columns: Columns, digest: str) -> Iterator[Use | Bad]:
    """The uses of a file's lines, and the lines that say none."""
    for line in lines:
        try:
            found = list(uses_of(line, columns, digest))
        except InvalidValue as error:
            yield Bad(line.number, str(error))
            continue
        yield from found


def record(
    conn: psycopg.Connection[Any],
    read: Iterable[Use | Bad],
    find: Find,
    complain: Complain,
    skip: bool,
    done: Import,
    advance: Callable[[Import], None],
) -> None:
    """Record all of it; a connection in autocommit mode makes each batch a transaction.

    Of a line all is recorded or nothing. Unless bad lines may be skipped, the first one is
    complained of when everything before it is recorded.
    """
    known: dict[str, UUID | PgsaasError] = {}
    for batch in _batched(read, BATCH):
        uses, bad = _sorted_out(batch, find, known)
        if not skip:
            uses = _before(uses, bad[:1])
        while True:
            answers, refused = _record(conn, uses, known)
            if not refused:
                break
            bad += refused
            uses = _without(uses, refused) if skip else _before(uses, refused[:1])
        done.count(answers)
        for each in sorted(bad, key=lambda each: each.line):
            complain(each)
        done.lines = batch[-1].line
        advance(done)


def price(
    conn: psycopg.Connection[Any],
    read: Iterable[Use | Bad],
    find: Find,
    complain: Complain,
    done: Import,
    advance: Callable[[Import], None],
) -> None:
    """What all of it would cost, by the price list; nothing is recorded."""
    known: dict[str, UUID | PgsaasError] = {}
    for batch in _batched(read, BATCH):
        uses, bad = _sorted_out(batch, find, known)
        answers = call(conn, "price_usage_batch", **_arrays(uses))
        done.events.update(use.event for use in uses)
        done.count(answers)
        for each in sorted([*bad, *_refused(uses, answers)], key=lambda each: each.line):
            complain(each)
        done.lines = batch[-1].line
        advance(done)


def _sorted_out(
    batch: Iterable[Use | Bad], find: Find, known: dict[str, UUID | PgsaasError]
) -> tuple[list[Use], list[Bad]]:
    uses = [each for each in batch if isinstance(each, Use)]
    new = {use.account for use in uses} - known.keys()
    known.update(find(new) if new else {})
    bad = {each.line: each for each in batch if isinstance(each, Bad)}
    for use in uses:
        account = known[use.account]
        if isinstance(account, PgsaasError):
            bad.setdefault(use.line, Bad(use.line, str(account)))
    return [use for use in uses if use.line not in bad], [bad[line] for line in sorted(bad)]


def _without(uses: Iterable[Use], bad: Iterable[Bad]) -> list[Use]:
    lines = {each.line for each in bad}
    return [use for use in uses if use.line not in lines]


def _before(uses: Iterable[Use], bad: Sequence[Bad]) -> list[Use]:
    return [use for use in uses if not bad or use.line < bad[0].line]


def _record(
    conn: psycopg.Connection[Any],
    uses: Sequence[Use],
    known: Mapping[str, UUID | PgsaasError],
) -> tuple[Answers, list[Bad]]:
    """Record uses, all or none: the lines of those that are refused."""
    with conn.transaction() as transaction:
        answers = call(
            conn,
            "record_usage_batch",
            account_ids=[known[use.account] for use in uses],
            idempotency_keys=[use.key for use in uses],
            **_arrays(uses),
        )
        refused = _refused(uses, answers)
        if refused:
            raise psycopg.Rollback(transaction)
    return answers, refused


def _arrays(uses: Sequence[Use]) -> dict[str, Any]:
    costs = [use.cost for use in uses]
    return {
        "events": [use.event for use in uses],
        "quantities": [use.quantity for use in uses],
        "dimensions": [json.dumps(use.dimensions) for use in uses],
        "occurred_at": [use.occurred_at for use in uses],
        "costs": costs if any(cost is not None for cost in costs) else None,
    }


def _refused(uses: Sequence[Use], answers: Answers) -> list[Bad]:
    """A line is named once, by the first of its uses that was refused."""
    found: dict[int, Bad] = {}
    for use, answer in zip(uses, answers, strict=True):
        if not answer["success"]:
            said = f"{answer['error_message']} ({answer['error_code']})"
            found.setdefault(use.line, Bad(use.line, said))
    return list(found.values())


def _batched(read: Iterable[Use | Bad], size: int) -> Iterator[list[Use | Bad]]:
    """Batches that end between lines."""
    batch: list[Use | Bad] = []
    for _, line in itertools.groupby(read, key=lambda each: each.line):
        batch += line
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
