"""JSON with exact numbers: a Decimal is written as its digits, never by way of a float."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any


def digits(number: Decimal) -> str:
    """A number without exponent and without zeros at its end."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def as_json(value: Any) -> str:
    """JSON with amounts as exact numbers, however many digits they have."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(str(k))}: {as_json(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_json(part) for part in value)}]"
    if isinstance(value, Decimal) and value.is_finite():
        return digits(value)
    if isinstance(value, datetime):
        return json.dumps(value.astimezone(UTC).isoformat())
    return json.dumps(value, default=str)
