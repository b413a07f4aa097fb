"""Every fault: which rule is broken, where, how, and which test must say so."""

from __future__ import annotations

from tests.mutants.faults.access import ACCESS_FAULTS
from tests.mutants.faults.credits import CREDITS_FAULTS
from tests.mutants.faults.holds import HOLDS_FAULTS
from tests.mutants.faults.install import INSTALL_FAULTS
from tests.mutants.faults.plans import PLANS_FAULTS
from tests.mutants.faults.settlement import SETTLEMENT_FAULTS
from tests.mutants.faults.upgrades import UPGRADES_FAULTS
from tests.mutants.faults.usage import USAGE_FAULTS

FAULTS = [
    *SETTLEMENT_FAULTS,
    *CREDITS_FAULTS,
    *HOLDS_FAULTS,
    *USAGE_FAULTS,
    *PLANS_FAULTS,
    *UPGRADES_FAULTS,
    *ACCESS_FAULTS,
    *INSTALL_FAULTS,
]
