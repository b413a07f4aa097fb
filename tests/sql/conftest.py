from __future__ import annotations

import pytest

from tests.conftest import Conn
from tests.sql.ledger import START, Ledger


@pytest.fixture
def ledger(tx: Conn) -> Ledger:
    """A ledger whose clock stands at START; rolled back at the end."""
    found = Ledger(tx)
    found.at(START)
    return found


@pytest.fixture
def own(conn: Conn) -> Ledger:
    """A ledger in a database of its own, every statement committed."""
    found = Ledger(conn)
    found.at(START)
    return found
