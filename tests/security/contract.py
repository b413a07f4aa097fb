"""docs/contract.md as data: who may call what, and who may read what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "contract.md"

#: Called with the rights of whoever reads: by invoker readers, views and policies. They read
#: through row security themselves or compute from their arguments, so calling one directly
#: tells no more than the readers do.
READERS_CALL = frozenset({
    "acts_as_system", "read_claims", "transaction_stamp", "identity_realm", "raise_not_found",
    "project_account", "plan_settlement", "grants_to_settle", "new_row", "new_grant",
    "expired_grant", "hand_on", "admitted_grant", "due_events", "end_period", "return_part",
    "return_parts", "cancel_debt", "pay", "debts_to_settle", "query_cost",
    "source_rank", "period_end", "exact_interval", "free_by_source", "row_allocations",
    "length_text", "price_terms", "limit_terms", "months_since", "gives_access",
    "project_subscription", "subscription_period", "default_subscription", "due_at", "ends_at",
    "default_plan", "grace_ends_at", "ended_in",
})  # fmt: skip
#: Procedures, which the tables do not have.
PROCEDURES = {"run_all_due": frozenset({"app"})}
#: Called by the policies of pgsaas_admin alone.
ADMINS_CALL = frozenset({"acts_as_admin"})
#: Columns that no reader of a table sees.
HIDDEN_COLUMNS = {"installation": {"salt"}}
#: Columns that foreign keys of the backend's own tables may name.
REFERENCED = {"accounts.account_id", "usage_records.account_id", "usage_records.usage_id"}


@dataclass(frozen=True, slots=True)
class Function:
    """A row of a table of functions."""

    name: str
    may: str
    callers: frozenset[str]


def _tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in block.strip().splitlines()
        ]
        found.append((rows[0], rows[2:]))
    return found


def functions() -> dict[str, Function]:
    """Every function of the contract by name."""
    made = {}
    for head, rows in _tables(CONTRACT.read_text()):
        if head and head[0] == "function":
            for row in rows:
                cells = dict(zip(head, row, strict=True))
                made[row[0]] = Function(row[0], cells["may"], frozenset(cells["callers"].split()))
    return made


def readers() -> dict[str, frozenset[str]]:
    """Who reads each table and view."""
    return {
        row[0]: frozenset(row[2].split())
        for head, rows in _tables(CONTRACT.read_text())
        if head[0] == "relation"
        for row in rows
    }


def callers_of(name: str) -> frozenset[str]:
    """Who may execute a function of the schema; nobody but its owner unless it is written."""
    written = functions().get(name)
    if written is not None:
        return written.callers - {"owner"}
    if name in PROCEDURES:
        return PROCEDURES[name]
    if name in READERS_CALL:
        return frozenset({"app", "user", "admin"})
    return frozenset({"admin"}) if name in ADMINS_CALL else frozenset()
