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

    @property
    def label(self) -> str:
        """What tells it from the other counts of a line."""
        fixed = "".join(f",{name}={value}" for name, value in sorted(self.dimensions.items()))
        return f"{self.column or '-'}={self.event}{fixed}"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns mean what. `counts` stands in the place of event and quantity.

    `key` names what tells a record from others; without it, it is the content of the whole file
    and the line's number, which is right only for files that never change. `given` are the fields
    that somebody asked for: then their columns must be there.
    """

    account: str = "account"
    event: str = "event"
    quantity: str = "quantity"
    time: str | None = None
    cost: str | None = None
    key: tuple[str, ...] = ()
    dimensions: Mapping[str, str] = field(default_factory=dict)
    counts: tuple[Count, ...] = ()
    given: frozenset[str] = frozenset()

    @property
    def names(self) -> set[str]:
        """Every column that means something."""
        several = {*self.key, *self.dimensions.values(), *(c.column for c in self.counts)}
        single = {self.account, self.time, self.cost}
        single |= set() if self.counts else {self.event, self.quantity}
        return {name for name in several | single if name}


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


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that says nothing that can be recorded, and why."""

    line: int
    wrong: str


def uses_of(line: Line, columns: Columns, digest: str) -> Iterator[Use]:
    """What a line says was used; a count of 0 says nothing. Raises InvalidValue.

    A quantity that there is no column for is 1; an empty dimension is none, an empty cost that of
    the price list.
    """
    if line.wrong:
        raise InvalidValue(line.wrong)
    key = [_text(line, name) for name in columns.key]
    key = key or [f"{digest}:{line.number}"]
    common: dict[str, Any] = {
        "line": line.number,
        "account": _text(line, columns.account),
        "occurred_at": None,
        "cost": None,
    }
    if columns.time and ("time" in columns.given or _has(line, columns.time)):
        common["occurred_at"] = _moment(line, columns.time)
    if columns.cost and _value(line, columns.cost) not in ("", None):
        common["cost"] = _figure(line, columns.cost)
    named = {
        name: _text(line, column)
        for name, column in columns.dimensions.items()
        if _has(line, column)
    }
    if not columns.counts:
        quantity = Decimal(1)
        if "quantity" in columns.given or _is_there(line, columns.quantity):
            quantity = _figure(line, columns.quantity)
        event = _text(line, columns.event)
        yield Use(event=event, quantity=quantity, dimensions=named, key=_joined(key), **common)
    for count in columns.counts:
        quantity = _figure(line, count.column) if count.column else Decimal(1)
        if quantity:
            dimensions = {**named, **count.dimensions}
            own = _joined([*key, count.label])
            yield Use(
                event=count.event, quantity=quantity, dimensions=dimensions, key=own, **common
            )


def _joined(parts: list[str]) -> str:
    """One key of several parts, which no other parts have."""
    return json.dumps(parts, ensure_ascii=False) if len(parts) > 1 else parts[0]


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
    if line.has_columns:
        there = ", ".join(line.values)
        raise InvalidValue(f'there is no column "{name}": the columns are {there}')
    found: Any = line.values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise InvalidValue(f'there is no "{name}"')
        found = found[part]
    return found


def _is_there(line: Line, name: str) -> bool:
    try:
        _value(line, name)
    except InvalidValue:
        return False
    return True


def _has(line: Line, name: str) -> bool:
    """Whether a line has a value; a table must have the column."""
    if not line.has_columns and not _is_there(line, name):
        return False
    return _value(line, name) not in ("", None)


def _text(line: Line, name: str) -> str:
    found = _value(line, name)
    if isinstance(found, bool) or not isinstance(found, str | int | Decimal) or found == "":
        raise InvalidValue(f"{name} is empty or no text")
    text = str(found)
    if "\x00" in text:
        raise InvalidValue(f"{name} has a character of code 0")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{name} has half a character: {text[error.start]!a}") from error
    return text


def _figure(line: Line, name: str) -> Decimal:
    text = _text(line, name).strip()
    try:
        if not text.isascii() or "_" in text:
            raise InvalidOperation
        found = Decimal(text)
        if found.is_finite() and (found.adjusted() > 30 or len(text) > 100):
            raise InvalidOperation
        exponent = found.as_tuple().exponent
        if isinstance(exponent, int) and exponent < -30:
            raise InvalidOperation
        return found
    except InvalidOperation:
        raise InvalidValue(f"{name} is no number: {text[:40]!r}") from None


def _moment(line: Line, name: str) -> datetime:
    text = _text(line, name)
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidValue(f"{name} is no time in ISO 8601: {text[:40]!r}") from None
