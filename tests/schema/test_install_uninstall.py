"""Uninstalling: no trace, no harm to the application, none to other databases."""

from __future__ import annotations

import pytest

from pgsaas import install
from pgsaas.embedded import Server
from pgsaas.errors import HostDepends, LockBusy
from pgsaas.resources import packaged
from tests.conftest import Database, temporary_database
from tests.schema.conftest import dump, pgsaas_roles

HOST = """
    create table public.users (id bigint primary key, email text);
    insert into public.users values (1, 'ann@example.com');
    create view public.emails as select email from public.users;
    create function public.hello() returns text language sql return 'hello';
    alter default privileges grant select on tables to public;
"""
#: What attach_users() and expose() leave in the application's schemas.
OURS = """
    create function pgsaas.on_user() returns trigger language plpgsql as
        $$ begin return new; end $$;
    create trigger pgsaas_attach after insert on public.users
        for each row execute function pgsaas.on_user();
    create function public.get_time() returns timestamptz language sql
        as 'select pgsaas.now()';
    comment on function public.get_time() is 'pgsaas wrapper of now';
    create function public.get_time_2() returns timestamptz language sql return pgsaas.now();
    comment on function public.get_time_2() is 'pgsaas wrapper of now';
    grant execute on function public.get_time() to pgsaas_app;
    grant select on public.users to pgsaas_app;
    grant create on schema public to pgsaas_owner;
"""


def test_uninstalling_leaves_no_trace(bare: Server) -> None:
    with temporary_database(bare) as database, database.connect() as conn:
        conn.execute(HOST)
        before = dump(database)
        install.migrate(database.dsn)
        conn.execute(OURS)
        done = install.uninstall(database.dsn)
        assert done.schema_dropped
        assert done.triggers_dropped == ["pgsaas_attach on public.users"]
        assert len(done.wrappers_dropped) == 2
        assert len(done.roles_dropped) == 6
        assert dump(database) == before
        assert pgsaas_roles(bare) == []
        assert not install.uninstall(database.dsn).schema_dropped


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "create table public.notes (n uuid, is_only boolean references pgsaas.installation)",
            "constraint notes_is_only_fkey on table",
        ),
        ("create view public.state as select mode from pgsaas.installation", "view"),
        (
            "create materialized view public.state as select mode from pgsaas.installation",
            "materialized view",
        ),
        ("create function public.t() returns timestamptz return pgsaas.now()", "function"),
        ("create table public.notes (at timestamptz default pgsaas.now())", "default value"),
        ("create function public.f(pgsaas.installation) returns int return 1", "function"),
        ("create table public.notes (one pgsaas.test_clock)", "column one of table"),
        ("create table public.notes () inherits (pgsaas.test_clock)", "table"),
        (
            "create table public.notes (n int); create policy p on public.notes "
            "using (pgsaas.is_adopted())",
            "policy p on table",
        ),
    ],
)
def test_objects_of_the_application_that_depend_on_it_are_listed_and_kept(
    bare: Server, statement: str, named: str
) -> None:
    with temporary_database(bare) as database, database.connect() as conn:
        install.migrate(database.dsn)
        conn.execute(statement.encode())
        before = dump(database)
        with pytest.raises(HostDepends, match=named):
            install.uninstall(database.dsn)
        assert dump(database) == before
        assert install.uninstall(database.dsn, force=True).schema_dropped
        assert pgsaas_roles(bare) == []


def test_a_sibling_database_keeps_its_installation_and_the_roles(bare: Server) -> None:
    with temporary_database(bare) as one, temporary_database(bare) as two:
        install.migrate(one.dsn)
        install.migrate(two.dsn, adopt_roles=True)
        before = dump(two)
        done = install.uninstall(one.dsn)
        assert done.roles_dropped == []
        assert done.roles_kept["pgsaas_owner"] == f"is used by database {two.name}"
        assert set(done.roles_kept) == set(pgsaas_roles(bare))
        assert len(done.roles_kept) == 6
        assert dump(two) == before
        with install.open_session(two.dsn) as conn:
            assert install.status(conn, packaged()).current
        assert len(install.uninstall(two.dsn).roles_dropped) == 6


def test_a_role_that_owns_something_of_the_application_stays(bare: Server) -> None:
    with temporary_database(bare) as database, database.connect() as conn:
        install.migrate(database.dsn)
        conn.execute("create table public.theirs (n int)")
        conn.execute("alter table public.theirs owner to pgsaas_app")
        done = install.uninstall(database.dsn)
        assert done.roles_kept["pgsaas_app"] == "owns table public.theirs"
        conn.execute("drop table public.theirs")
        install.uninstall(database.dsn)


def test_roles_can_be_kept(bare: Server, empty: Database) -> None:
    install.migrate(empty.dsn)
    assert install.uninstall(empty.dsn, keep_roles=True).roles_dropped == []
    assert len(pgsaas_roles(bare)) == 6
    install.migrate(empty.dsn, adopt_roles=True)


def test_an_application_that_holds_a_lock_too_long_is_told_so(empty: Database) -> None:
    install.migrate(empty.dsn)
    with empty.connect(autocommit=False) as other, pytest.MonkeyPatch.context() as patch:
        other.execute("select * from pgsaas.installation for update")
        patch.setattr("pgsaas.install.removal.PATIENCE", "set local lock_timeout = '100ms'")
        with pytest.raises(LockBusy, match="holds a lock for too long"):
            install.uninstall(empty.dsn)
        other.rollback()
