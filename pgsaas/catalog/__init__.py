"""Catalogs that come with pgsaas: price lists to start from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import Any

#: Price lists by name.
PRESETS = ("platform", "queries", "organizations")


@dataclass(frozen=True, slots=True)
class Event:
    """A credit event as set_credit_event takes it; figures are Decimal, never float."""

    name: str
    prices: list[dict[str, Any]]
    description: str | None = None
    category: str | None = None
    unit: str | None = None
    dimensions: list[str] | None = None


def preset(name: str) -> list[Event]:
    """The credit events of a preset. Raises ValueError for an unknown one."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: there are {', '.join(PRESETS)}")
    text = files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    found = tomllib.loads(text, parse_float=Decimal)["events"]
    return [Event(**each) for each in found]
