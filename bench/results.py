"""What a row of the table says, and how figures are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench.lab import APPLICATION, Lab, Shape

TIMES = "\N{MULTIPLICATION SIGN}"
HOT_ACCOUNT = "00000000-0000-0000-0000-000000000001"
A = Shape("a")
A_KEY = Shape("a_key")
DEDUCT = Shape("deduct", APPLICATION)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table; `value` and `bound` are null where there is no goal."""

    what: str
    detail: str
    value: float | None = None
    bound: float | None = None
    relation: str = "≤"
    unit: str = ""

    @property
    def goal(self) -> str:
        """The goal as it is printed."""
        return "" if self.bound is None else f"{self.relation} {self.bound:g}{self.unit}"

    @property
    def shown(self) -> str:
        """The result as it is printed."""
        if self.value is None:
            return ""
        places = {" B": 0, " % more": 1}.get(self.unit, 2)
        return f"{self.value:.{places}f}{self.unit}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; null without one."""
        if self.value is None or self.bound is None:
            return None
        value = round(self.value, 2)
        return value <= self.bound if self.relation == "≤" else value >= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement by the name that --rows takes; `durable` picks the server."""

    measure: Callable[[Lab], Iterator[Result]]
    durable: bool = False


def middle(values: list[float], parts: float = 1) -> str:
    """The median, as it is printed."""
    value = sorted(values)[len(values) // 2] / parts
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def per_second(found: Mapping[str, list[float]]) -> str:
    """Medians of throughputs."""
    return ", ".join(f"{name} {middle(values)}" for name, values in found.items()) + " a second"


def count(clients: int) -> str:
    """1 client, 4 clients."""
    return f"{clients} client{'s' if clients > 1 else ''}"


def at_most(
    what: str, than: str, value: float, bound: float, detail: str, unit: str = ""
) -> Result:
    """A result that should stay below its bound."""
    return Result(what, detail, value, bound, "≤", unit or f" {TIMES} {than}")


def at_least(
    what: str, than: str, value: float, bound: float, detail: str, unit: str = ""
) -> Result:
    """A result that should reach its bound."""
    return Result(what, detail, value, bound, "≥", unit or f" {TIMES} {than}")
