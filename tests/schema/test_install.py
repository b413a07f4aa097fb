"""Installing: once, twice, by many, and away again."""

from __future__ import annotations

from pgsaas import install
from pgsaas.embedded import Server
from pgsaas.resources import packaged
from tests.conftest import temporary_database


def test_a_fresh_database_is_installed_and_current(bare: Server) -> None:
    with temporary_database(bare) as database:
        done = install.migrate(database.dsn)
        assert done.bootstrapped
        assert done.loaded
        with install.open_session(database.dsn) as conn:
            assert install.status(conn, packaged()).current
        install.uninstall(database.dsn)
