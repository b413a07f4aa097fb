"""What a fault is, and where the tests are that notice one."""

from __future__ import annotations

from dataclasses import dataclass

GOLDEN = "tests/sql/test_golden_ledger.py"
ARCHIVE = "tests/sql/test_archive.py"
CONVENTIONS = "tests/schema/test_conventions.py"
MACHINE = (
    "tests/properties/test_ledger_machine.py::test_sql_and_model_agree_on_any_sequence_of_calls"
)
RANDOM = "tests/properties/test_random_calls.py"
RACES = "tests/concurrency/test_races.py"
LOCKS = "tests/concurrency/test_locks.py"
SETTLEMENT = "tests/sql/test_settlement.py"
DEBTS = "tests/sql/test_debts.py"
CLAWBACK = "tests/sql/test_clawback.py"
IDEMPOTENCY = "tests/sql/test_idempotency.py"
TRANSFERS = "tests/sql/test_transfers.py"
FACTS = "tests/sql/test_facts.py"
GUARD = "tests/sql/test_guard.py"
MATRIX = "tests/security/test_matrix.py"
TENANTS = "tests/security/test_tenants.py"
ROWS = "tests/security/test_row_security.py"
MAY = "tests/security/test_members_may.py"
MEMBERS = "tests/security/test_members.py"
MINTING = "tests/security/test_minting.py"
ATTACHED = "tests/security/test_attached.py"
REFUNDS = "tests/sql/test_refunds.py"
BATCH = "tests/sql/test_batch.py"
VERIFY = "tests/sql/test_verify.py"
READS = "tests/sql/test_reads.py"
LOAD = "tests/schema/test_install_load.py"
STALLS = "tests/schema/test_load_stalls_nobody.py"
PRICES = "tests/properties/test_prices.py"
USAGE = "tests/sql/test_usage.py"
USAGE_BATCH = "tests/sql/test_usage_batch.py"
USAGE_EDGES = "tests/sql/test_usage_edges.py"
USAGE_RACES = "tests/concurrency/test_usage_races.py"
UNINSTALL = "tests/schema/test_install_uninstall.py"
RESTORED = "tests/security/test_restored.py"
ROLES = "tests/schema/test_install_roles.py"
CLI = "tests/python/test_cli.py"
CREDITS = "tests/cli/test_credits.py"
DOCTOR = "tests/cli/test_doctor.py"


@dataclass(frozen=True, slots=True)
class Fault:
    """`old` stands once in `file` and becomes `new`; `test` must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str
