"""Installing as somebody who is no superuser, in a database with a life of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgsaas import install
from pgsaas.embedded import Server
from pgsaas.errors import MissingPrivilege
from pgsaas.resources import packaged
from tests.conftest import Database, temporary_database
from tests.schema.conftest import dump, pgsaas_roles, psql

#: A database as a host like Supabase hands it out: others' objects, grants to everybody.
HOSTILE = """
    create table public.users (id bigint primary key, email text);
    create function public.now() returns timestamptz language sql as 'select null::timestamptz';
    create schema auth;
    alter role landlord set statement_timeout = '100ms';
    alter role landlord set idle_session_timeout = '100ms';
    alter role landlord set search_path = public, pg_catalog;
    alter role landlord set default_transaction_isolation = 'serializable';
    alter default privileges grant execute on functions to public, anon;
    alter default privileges grant all on tables to anon;
    alter default privileges grant all on sequences to anon;
    alter default privileges for role landlord grant execute on functions to public, anon;
    alter default privileges for role landlord grant all on tables to anon;
    alter default privileges for role landlord grant all on sequences to anon;
    alter default privileges for role landlord grant all on schemas to anon;
"""
#: Nobody but the owner of everything may touch the schema; PUBLIC's execute is the load's to end.
GRANTED = """
    select c.relname from pg_class c, aclexplode(c.relacl) a
    where c.relnamespace = 'pgsaas'::regnamespace and a.grantee in (0, 'anon'::regrole)
    union all
    select p.proname from pg_proc p, aclexplode(p.proacl) a
    where p.pronamespace = 'pgsaas'::regnamespace and a.grantee = 'anon'::regrole
    union all
    select n.nspname from pg_namespace n, aclexplode(n.nspacl) a
    where n.nspname = 'pgsaas' and a.grantee in (0, 'anon'::regrole)
"""


@pytest.fixture
def landlord(bare: Server) -> Iterator[Database]:
    """A hostile database whose owner is the login role `landlord`, with `anon` beside it."""
    with temporary_database(bare) as database:
        try:
            with database.connect() as conn:
                conn.execute("create role landlord login; create role anon")
                conn.execute(f"alter database {database.name} owner to landlord".encode())
                conn.execute(HOSTILE)
            yield database
        finally:
            install.uninstall(database.dsn, force=True)
            with database.connect() as conn:
                conn.execute("drop owned by anon; drop owned by landlord")
                conn.execute(f"alter database {database.name} owner to postgres".encode())
                conn.execute("drop role landlord; drop role anon")
    assert pgsaas_roles(bare) == []


def _installed_and_closed(database: Database) -> None:
    with database.connect() as conn:
        assert conn.execute(GRANTED).fetchall() == []
    with install.open_session(database.dsn_as("landlord")) as session:
        assert install.status(session, packaged()).current
        with install.as_owner(session):
            row = session.execute("select pgsaas.is_adopted(), pgsaas.now() is null").fetchone()
        assert row == (True, False)


def test_the_owner_of_a_database_who_may_create_roles_installs_and_uninstalls(
    landlord: Database, bare: Server
) -> None:
    with landlord.connect() as conn:
        conn.execute("alter role landlord createrole")
    before = dump(landlord)
    dsn = landlord.dsn_as("landlord")
    assert install.migrate(dsn).bootstrapped
    _installed_and_closed(landlord)
    assert install.migrate(dsn, force=True).loaded
    assert len(install.uninstall(dsn).roles_dropped) == 6
    assert dump(landlord) == before
    assert pgsaas_roles(bare) == []


def test_without_createrole_a_dba_runs_the_printed_script_first(
    landlord: Database, bare: Server
) -> None:
    dsn = landlord.dsn_as("landlord")
    with pytest.raises(MissingPrivilege, match=r"landlord may not prepare .*--roles-sql"):
        install.migrate(dsn)
    assert pgsaas_roles(bare) == []
    psql(landlord, install.roles_script(packaged(), "landlord", adopt_roles=False))
    done = install.migrate(dsn)
    assert not done.bootstrapped
    assert done.loaded
    _installed_and_closed(landlord)
    removed = install.uninstall(dsn)  # its data; the roles are the DBA's
    assert (removed.schema_dropped, removed.roles_dropped) == (True, [])
    assert removed.roles_kept["pgsaas_app"] == (
        "a DBA drops it: drop owned by pgsaas_app; drop role pgsaas_app"
    )


def test_a_dba_who_is_no_superuser_may_run_the_script(landlord: Database, bare: Server) -> None:
    with landlord.connect() as conn:
        conn.execute("create role dba login createrole")
        conn.execute(f"grant create on database {landlord.name} to dba".encode())
    try:
        script = install.roles_script(packaged(), "landlord", adopt_roles=False)
        psql(landlord, script, user="dba")
        psql(landlord, script, user="dba")
        assert install.migrate(landlord.dsn_as("landlord")).loaded
        _installed_and_closed(landlord)
    finally:
        with landlord.connect() as conn:
            conn.execute("reassign owned by dba to postgres")
            if conn.info.server_version >= 160000:
                conn.execute("revoke pgsaas_owner from landlord granted by dba")
            conn.execute("drop owned by dba cascade; drop role dba")


def test_a_stranger_is_told_what_to_have_done(landlord: Database) -> None:
    install.migrate(landlord.dsn)
    with pytest.raises(MissingPrivilege, match="landlord may not"):
        install.migrate(landlord.dsn_as("landlord"))


def test_a_database_that_gives_nobody_temporary_tables_is_installed_too(
    landlord: Database,
) -> None:
    with landlord.connect() as conn:
        conn.execute(f"revoke temporary on database {landlord.name} from public".encode())
        conn.execute("alter role landlord createrole")
    assert install.migrate(landlord.dsn_as("landlord")).loaded
    _installed_and_closed(landlord)


def test_the_printed_script_of_a_migrate_works_for_that_owner(landlord: Database) -> None:
    with landlord.connect() as conn:
        conn.execute("alter role landlord createrole")
    dsn = landlord.dsn_as("landlord")
    with install.open_session(dsn) as session:
        script = install.migrate_script(session, packaged())
    psql(landlord, script, user="landlord")
    _installed_and_closed(landlord)
    assert install.migrate(dsn) == install.Migration(False, [], False)


def test_an_installing_session_takes_no_setting_of_its_role(landlord: Database) -> None:
    wanted = {
        "search_path": '""',
        "statement_timeout": "0",
        "idle_session_timeout": "0",
        "default_transaction_isolation": "read committed",
        "client_encoding": "UTF8",
    }
    with install.open_session(landlord.dsn_as("landlord")) as session:
        for name, value in wanted.items():
            assert session.execute(f"show {name}".encode()).fetchone() == (value,)
