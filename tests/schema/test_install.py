"""Installing: once, twice, by many at a time, and away again."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pgsaas import install
from pgsaas.embedded import Server
from pgsaas.errors import LockBusy, RolesRefused, RuleViolated
from pgsaas.install.session import LOCK_KEY
from pgsaas.resources import Resources, packaged
from tests.conftest import Database, temporary_database
from tests.schema.conftest import dump, pgsaas_roles, psql, write


def state(database: Database, resources: Resources | None = None) -> install.Status:
    with install.open_session(database.dsn) as conn:
        return install.status(conn, resources or packaged())


def test_a_fresh_database_is_installed_and_current(empty: Database) -> None:
    assert not state(empty).installed
    done = install.migrate(empty.dsn)
    assert done.bootstrapped
    assert done.applied == list(packaged().migrations())
    assert done.loaded
    assert state(empty).current


def test_installing_twice_changes_nothing(empty: Database) -> None:
    install.migrate(empty.dsn)
    before = dump(empty)
    assert install.migrate(empty.dsn) == install.Migration(False, [], False)
    assert dump(empty) == before
    assert install.migrate(empty.dsn, force=True).loaded
    assert dump(empty) == before


def test_everything_in_the_schema_belongs_to_the_owner_role(empty: Database) -> None:
    install.migrate(empty.dsn)
    with empty.connect() as conn:
        owners = conn.execute("""
            select distinct pg_get_userbyid(relowner) from pg_class
            where relnamespace = 'pgsaas'::regnamespace
            union select pg_get_userbyid(proowner) from pg_proc
            where pronamespace = 'pgsaas'::regnamespace
            union select pg_get_userbyid(typowner) from pg_type
            where typnamespace = 'pgsaas'::regnamespace
        """).fetchall()
    assert owners == [("pgsaas_owner",)]


def test_rolling_everything_back_and_installing_again_gives_the_same_schema(
    empty: Database,
) -> None:
    install.migrate(empty.dsn)
    before = dump(empty, "--schema-only")
    install.roll_back_all(empty.dsn)
    with empty.connect() as conn:
        left = conn.execute("""
            select relname from pg_class where relnamespace = 'pgsaas'::regnamespace
                and relkind in ('r', 'v') and relname not like '%yoyo%'
            union select proname from pg_proc where pronamespace = 'pgsaas'::regnamespace
        """).fetchall()
    assert left == []
    assert state(empty).pending == list(packaged().migrations())
    install.migrate(empty.dsn)
    assert dump(empty, "--schema-only") == before


def test_eight_migrates_at_once_install_once(empty: Database) -> None:
    barrier = threading.Barrier(8)

    def go(_: int) -> install.Migration:
        barrier.wait()
        return install.migrate(empty.dsn)

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(go, range(8)))
    assert sum(one.bootstrapped for one in done) == 1
    assert sum(bool(one.applied) for one in done) == 1
    assert sum(one.loaded for one in done) == 1
    assert state(empty).current


def test_a_second_migrate_says_whom_it_waits_for_and_gives_up(empty: Database) -> None:
    said: list[str] = []
    with empty.connect() as other:
        other.execute("select pg_advisory_lock(%s)", [LOCK_KEY])
        with pytest.raises(LockBusy, match=f"pid {other.info.backend_pid} still holds"):
            install.migrate(empty.dsn, talk=said.append, wait=0.2)
    assert len(said) == 1
    assert "waiting up to 0.2 s" in said[0]


def test_two_databases_of_one_cluster_install_at_once(bare: Server) -> None:
    for _ in range(5):
        with temporary_database(bare) as one, temporary_database(bare) as two:
            barrier = threading.Barrier(2)

            def go(database: Database, start: threading.Barrier = barrier) -> bool:
                start.wait()
                return install.migrate(database.dsn, adopt_roles=True).loaded

            with ThreadPoolExecutor(2) as pool:
                assert list(pool.map(go, [one, two])) == [True, True]
            assert state(one).current
            assert state(two).current
            install.uninstall(one.dsn)
            assert state(two).current
            assert len(pgsaas_roles(bare)) == 6
            install.uninstall(two.dsn)
            assert pgsaas_roles(bare) == []


def test_existing_roles_are_used_only_when_told_so(bare: Server, empty: Database) -> None:
    install.migrate(empty.dsn)
    with temporary_database(bare) as second:
        with pytest.raises(RolesRefused, match=r"exist already: pgsaas_admin, .*--adopt-roles"):
            install.migrate(second.dsn)
        assert install.migrate(second.dsn, adopt_roles=True).bootstrapped
        install.uninstall(second.dsn)


@pytest.mark.parametrize(
    ("preparation", "words"),
    [
        ("create role pgsaas_app superuser", "attributes .* pgsaas_app"),
        ("create role pgsaas_owner createrole", "attributes .* pgsaas_owner"),
        ("create role pgsaas_admin createdb", "attributes .* pgsaas_admin"),
        ("create role pgsaas_webhook replication", "attributes .* pgsaas_webhook"),
        ("create role pgsaas_runner bypassrls", "attributes .* pgsaas_runner"),
        ("create role pgsaas_user login", "attributes .* pgsaas_user"),
        (
            "create role between; create role pgsaas_app; create role pgsaas_user;"
            "grant pgsaas_app to between; grant between to pgsaas_user",
            "members of stronger ones: pgsaas_user in pgsaas_app",
        ),
        (
            "create role pgsaas_owner; create role pgsaas_app; grant pgsaas_owner to pgsaas_app",
            "members of stronger ones: pgsaas_app in pgsaas_owner",
        ),
    ],
)
def test_dangerous_roles_are_refused_even_when_told_to_adopt(
    bare: Server, preparation: str, words: str
) -> None:
    with temporary_database(bare) as database, database.connect() as conn:
        try:
            conn.execute(preparation.encode())
            with pytest.raises(RolesRefused, match=words):
                install.migrate(database.dsn, adopt_roles=True)
            assert not state(database).installed
        finally:
            for role in ["between", *pgsaas_roles(bare)]:
                conn.execute(f"drop role if exists {role}".encode())


def test_a_schema_that_belongs_to_somebody_else_is_refused(bare: Server) -> None:
    with temporary_database(bare) as database:
        with database.connect() as conn:
            conn.execute("create schema pgsaas")
        with pytest.raises(RolesRefused, match="schema pgsaas belongs to postgres"):
            install.migrate(database.dsn)
    assert pgsaas_roles(bare) == []


def test_only_a_new_installation_becomes_a_test_one(empty: Database) -> None:
    install.migrate(empty.dsn)
    with pytest.raises(RuleViolated, match="never becomes a test one"):
        install.migrate(empty.dsn, test_mode=True)
    assert state(empty).mode == "live"


def test_an_edited_migration_is_drift(empty: Database, files: Resources) -> None:
    install.migrate(empty.dsn, resources=files)
    path = files.migrations_folder / "0001-installation.sql"
    path.write_text(path.read_text() + "-- an innocent comment\n")
    assert state(empty, files).drifted == ["0001-installation"]
    said: list[str] = []
    assert install.migrate(empty.dsn, resources=files, talk=said.append).applied == []
    assert said == [
        "warning: 0001-installation was edited after it was applied; it is not applied again"
    ]
    assert not state(empty, files).current


def test_a_new_migration_is_pending_and_then_applied(empty: Database, files: Resources) -> None:
    install.migrate(empty.dsn, resources=files)
    write(
        files,
        "migrations/9000-colours.sql",
        "-- depends: 0001-installation\nset local role pgsaas_owner;\n"
        "create table if not exists pgsaas.colours (colour text);\n",
    )
    assert state(empty, files).pending == ["9000-colours"]
    done = install.migrate(empty.dsn, resources=files)
    assert done.applied == ["9000-colours"]
    assert done.loaded  # a new table has no privileges yet
    assert state(empty, files).current
    assert state(empty).unknown == ["9000-colours"]


@pytest.mark.parametrize("options", [[], ["-1"]])
@pytest.mark.parametrize("test_mode", [False, True])
def test_the_printed_script_installs_what_migrate_installs(
    empty: Database, bare: Server, options: list[str], test_mode: bool
) -> None:
    with install.open_session(empty.dsn) as conn:
        script = install.migrate_script(conn, packaged(), test_mode=test_mode)
    psql(empty, script, *options)
    assert state(empty).current
    assert state(empty).mode == ("test" if test_mode else "live")
    assert install.migrate(empty.dsn) == install.Migration(False, [], False)
    with temporary_database(bare) as second:
        install.migrate(second.dsn, adopt_roles=True)
        assert dump(empty, "--schema-only") == dump(second, "--schema-only")
        install.uninstall(second.dsn)
    with install.open_session(empty.dsn) as conn:
        assert "Nothing to do" in install.migrate_script(conn, packaged())


def test_a_script_that_fails_changes_nothing(empty: Database, files: Resources) -> None:
    write(files, "sql/70_broken.sql", "select 1/0;")
    with install.open_session(empty.dsn) as conn:
        script = install.migrate_script(conn, files)
    with pytest.raises(AssertionError, match="division by zero"):
        psql(empty, script)
    assert not state(empty).installed
    assert pgsaas_roles(empty.server) == []


def test_a_restored_dump_is_not_adopted_until_somebody_says_so(
    bare: Server, empty: Database
) -> None:
    install.migrate(empty.dsn)
    with empty.connect() as conn:
        assert conn.execute("select pgsaas.is_adopted()").fetchone() == (True,)
    with temporary_database(bare) as copy:
        psql(copy, dump(empty), "-v", "ON_ERROR_STOP=1")
        assert state(copy).current
        with copy.connect() as conn:
            adopted = "select pgsaas.is_adopted(), adopted_at from pgsaas.installation"
            assert conn.execute(adopted).fetchone() == (False, None)
            assert conn.execute("select pgsaas.adopt_installation()").fetchone() == (True,)
            assert conn.execute("select pgsaas.adopt_installation()").fetchone() == (False,)
            assert conn.execute(adopted).fetchone() != (True, None)
        install.uninstall(copy.dsn)


def test_plain_yoyo_leaves_a_working_database(empty: Database) -> None:
    with empty.connect() as conn:
        conn.execute(packaged().roles().text.encode())
    done = yoyo_apply(empty, "&schema=pgsaas")
    assert done.returncode == 0, done.stderr
    assert state(empty).current
    assert install.migrate(empty.dsn) == install.Migration(False, [], False)


def test_plain_yoyo_that_died_before_its_last_step_is_finished_by_migrate(
    empty: Database, files: Resources
) -> None:
    with empty.connect() as conn:
        conn.execute(packaged().roles().text.encode())
    (files.migrations_folder / "post-apply.py").unlink()
    done = yoyo_apply(empty, "&schema=pgsaas", files)
    assert done.returncode == 0, done.stderr
    assert not state(empty).current
    assert install.migrate(empty.dsn).loaded
    assert state(empty).current


def yoyo_apply(
    database: Database, more: str, resources: Resources | None = None
) -> subprocess.CompletedProcess[str]:
    url = database.dsn.replace("postgresql://", "postgresql+psycopg://") + more
    command = [sys.executable, "-m", "yoyo", "apply", "--batch", "--no-config-file"]
    folder = (resources or packaged()).migrations_folder
    return subprocess.run(
        [*command, "--database", url, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
