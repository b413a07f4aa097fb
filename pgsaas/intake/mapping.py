"""What the values of a line mean: whose use it was, of what, when, and under which key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from pgsaas.errors import InvalidValue
from pgsaas.intake.lines import Line


@dataclass(frozen=True, slots=True)
class Count:
    """A column that counts the use of an event; `dimensions` are fixed for it."""

    column: str | None
    event: str
    dimensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns mean what. `counts` stands in the place of event and quantity."""

    account: str = "account"
    event: str = "event"
    quantity: str = "quantity"
    time: str | None = None
    cost: str | None = None
    key: tuple[str, ...] = ()
    dimensions: Mapping[str, str] = field(default_factory=dict)
    counts: tuple[Count, ...] = ()


#: How CloudEvents (specversion 1.0) name these things: source and id together identify an event.
CLOUDEVENTS = Columns(
    account="subject",
    event="type",
    quantity="data.quantity",
    time="time",
    key=("source", "id"),
)


@dataclass(frozen=True, slots=True)
class Use:
    """One use of an event, as record_usage takes it; `account` is what the file calls it."""

    line: int
    account: str
    event: str
    quantity: Decimal
    dimensions: dict[str, str]
    occurred_at: datetime | None
    cost: Decimal | None
    key: str


def uses_of(line: Line, columns: Columns, digest: str) -> Iterator[Use]:
    """What a line says was used; a count of 0 says nothing. Raises InvalidValue.

    Without columns for the key it is the file's digest and the line's number, so that a file that
    is read again has no further effect.
    """
    if line.wrong:
        raise InvalidValue(line.wrong)
    key = [_text(line, name) for name in columns.key]
    stem = json.dumps(key) if len(key) > 1 else (key or [f"{digest}:{line.number}"])[0]
    common: dict[str, Any] = {
        "line": line.number,
        "account": _text(line, columns.account) if columns.account else "",
        "occurred_at": _moment(line, columns.time) if columns.time else None,
        "cost": _figure(line, columns.cost) if columns.cost else None,
    }
    named = {name: _text(line, column) for name, column in columns.dimensions.items()}
    if not columns.counts:
        event = _text(line, columns.event)
        quantity = _figure(line, columns.quantity)
        yield Use(event=event, quantity=quantity, dimensions=named, key=stem, **common)
    for number, count in enumerate(columns.counts, start=1):
        quantity = _figure(line, count.column) if count.column else Decimal(1)
        if quantity:
            dimensions = {**named, **count.dimensions}
            own = stem if len(columns.counts) == 1 else f"{stem}:{number}"
            yield Use(
                event=count.event, quantity=quantity, dimensions=dimensions, key=own, **common
            )


@dataclass(frozen=True, slots=True)
class Balance:
    """What somebody had in another system."""

    line: int
    account: str
    balance: Decimal


def balance_of(line: Line, account: str, balance: str) -> Balance:
    """What a line says somebody had. Raises InvalidValue."""
    if line.wrong:
        raise InvalidValue(line.wrong)
    return Balance(line.number, _text(line, account), _figure(line, balance))


def _value(line: Line, name: str) -> Any:
    if name in line.values:
        return line.values[name]
    found: Any = line.values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise InvalidValue(f"there is no {name}")
        found = found[part]
    return found


def _text(line: Line, name: str) -> str:
    found = _value(line, name)
    if isinstance(found, bool) or not isinstance(found, str | int | Decimal) or found == "":
        raise InvalidValue(f"{name} is empty or no text")
    text = str(found)
    if "\x00" in text:
        raise InvalidValue(f"{name} has a character of code 0")
    return text


def _figure(line: Line, name: str) -> Decimal:
    text = _text(line, name)
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        raise InvalidValue(f"{name} is no number: {text[:40]!r}") from None


def _moment(line: Line, name: str) -> datetime:
    text = _text(line, name)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidValue(f"{name} is no time in ISO 8601: {text[:40]!r}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
