"""The load of sql/: whole or not at all, nothing in the schema without a file, no stall."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psycopg
import pytest

from pgsaas import install
from pgsaas.errors import ClockReplaced, PgsaasError, StaleObject
from pgsaas.install.session import silent
from pgsaas.resources import Resources
from tests.conftest import Database
from tests.schema.conftest import dump, write

GREETING = """
create or replace function pgsaas.greeting(p_name text) returns text
language sql immutable as $$ select 'hello ' || p_name $$;
create or replace view pgsaas.greetings as select pgsaas.greeting('ann') as greeting;
"""
#: What the lead's files 80 and 81 do, in small.
DECLARED = """
create or replace function pgsaas.touch() returns trigger language plpgsql as
$$ begin return new; end $$;
insert into pgsaas_declared values
    ('trigger', 'clock_touch', 'test_clock'), ('policy', 'clock_read', 'pgsaas.test_clock');
do $$ begin
    if not exists (select from pg_catalog.pg_trigger where tgname = 'clock_touch') then
        create trigger clock_touch before update on pgsaas.test_clock
        for each row execute function pgsaas.touch();
        create policy clock_read on pgsaas.test_clock for select to pgsaas_admin using (true);
    end if;
end $$;
"""
#: Granting rewrites the row of every function, stale ones too.
PRIVILEGES = "revoke all on all routines in schema pgsaas from public;"


@pytest.fixture
def loaded(empty: Database, files: Resources) -> Database:
    write(files, "sql/70_greeting.sql", GREETING)
    write(files, "sql/80_triggers.sql", DECLARED)
    write(files, "sql/82_privileges.sql", PRIVILEGES)
    install.migrate(empty.dsn, resources=files)
    return empty


def test_a_room_that_changed_is_loaded(loaded: Database, files: Resources) -> None:
    write(files, "sql/70_greeting.sql", GREETING.replace("hello", "good day"))
    with install.open_session(loaded.dsn) as conn:
        assert not install.status(conn, files).current
        assert install.migrate(loaded.dsn, resources=files).loaded
        assert install.status(conn, files).current
        assert conn.execute("select greeting from pgsaas.greetings").fetchone() == ("good day ann",)


def test_a_room_that_fails_changes_nothing_and_is_named(loaded: Database, files: Resources) -> None:
    before = dump(loaded)
    write(files, "sql/70_greeting.sql", GREETING.replace("hello", "hi"))
    write(files, "sql/75_broken.sql", "create or replace function pgsaas.b() returns x\n")
    with pytest.raises(PgsaasError, match=r"sql/75_broken\.sql failed and the load was rolled"):
        install.migrate(loaded.dsn, resources=files)
    assert dump(loaded) == before


def test_bodies_are_checked_while_loading(loaded: Database, files: Resources) -> None:
    write(
        files,
        "sql/75_typo.sql",
        "create or replace function pgsaas.b() returns bigint language sql as "
        "'select count(*) from no_such_table';",
    )
    with pytest.raises(PgsaasError, match="no_such_table"):
        install.migrate(loaded.dsn, resources=files)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "create function pgsaas.forgotten(integer) returns integer language sql return $1",
            r"function pgsaas\.forgotten\(integer\)",
        ),
        (
            "create function pgsaas.greeting(text, text) returns text language sql return $1",
            r"function pgsaas\.greeting\(text,text\)",
        ),
        ("create procedure pgsaas.work() language plpgsql as 'begin end'", r"pgsaas\.work\(\)"),
        (
            "create aggregate pgsaas.total(numeric) (sfunc = numeric_add, stype = numeric)",
            r"pgsaas\.total\(numeric\)",
        ),
        ("create view pgsaas.peek as select 1 as one", r"view pgsaas\.peek"),
        (
            "create policy everybody on pgsaas.installation using (true)",
            "policy everybody on installation",
        ),
        (
            "create trigger sneak before update on pgsaas.installation "
            "for each row execute function suppress_redundant_updates_trigger()",
            "trigger sneak on installation",
        ),
    ],
)
def test_what_no_file_made_is_named_and_the_load_rolls_back(
    loaded: Database, files: Resources, statement: str, named: str
) -> None:
    with loaded.connect() as conn:
        conn.execute(statement.encode())
    before = dump(loaded)
    write(files, "sql/71_more.sql", GREETING.replace("greeting", "more"))
    with pytest.raises(StaleObject, match=named):
        install.migrate(loaded.dsn, resources=files)
    assert dump(loaded) == before


def test_a_function_whose_file_went_away_is_stale(loaded: Database, files: Resources) -> None:
    (files.root / "sql/70_greeting.sql").unlink()
    with pytest.raises(StaleObject, match=r"pgsaas\.greeting\(text\), view pgsaas\.greetings"):
        install.migrate(loaded.dsn, resources=files)


def test_a_trigger_that_is_no_longer_declared_is_stale(loaded: Database, files: Resources) -> None:
    write(files, "sql/80_triggers.sql", DECLARED.split("insert", maxsplit=1)[0])
    with pytest.raises(StaleObject, match="policy clock_read on test_clock, trigger clock_touch"):
        install.migrate(loaded.dsn, resources=files)


def test_a_signature_changes_through_the_list_of_the_retired(
    loaded: Database, files: Resources
) -> None:
    changed = GREETING.replace("p_name text", "p_name text, p_mark text")
    changed = changed.replace("'ann'", "'ann', '!'")
    write(files, "sql/70_greeting.sql", changed)
    with pytest.raises(StaleObject, match=r"pgsaas\.greeting\(text\)"):
        install.migrate(loaded.dsn, resources=files)
    retired = "drop view if exists pgsaas.greetings;"
    retired += "drop function if exists pgsaas.greeting(text);"
    write(files, "sql/00_retired.sql", retired)
    assert install.migrate(loaded.dsn, resources=files).loaded
    assert not install.migrate(loaded.dsn, resources=files).loaded
    assert install.migrate(loaded.dsn, resources=files, force=True).loaded


def test_a_load_refuses_to_run_over_a_test_clock(empty: Database, files: Resources) -> None:
    install.migrate(empty.dsn, resources=files, test_mode=True)
    before = dump(empty)
    with empty.connect() as conn:
        conn.execute("select pgsaas.set_clock('2026-01-31 12:00+00')")
        write(files, "sql/70_greeting.sql", GREETING)
        write(files, "migrations/9000-x.sql", "create table if not exists pgsaas.x (x int);")
        with pytest.raises(ClockReplaced, match="pgsaas clock reset"):
            install.migrate(empty.dsn, resources=files)
        assert install.status(conn, files).pending == ["9000-x"]
        conn.execute("select pgsaas.reset_clock()")
    (files.root / "sql/70_greeting.sql").unlink()
    (files.root / "migrations/9000-x.sql").unlink()
    assert dump(empty) == before
    assert install.migrate(empty.dsn, resources=files, force=True).loaded


def test_open_transactions_and_the_load_do_not_wait_for_each_other(
    loaded: Database, files: Resources
) -> None:
    with (
        loaded.connect(autocommit=False) as writer,
        loaded.connect(autocommit=False) as other,
    ):
        writer.execute("update pgsaas.test_clock set at = now()")
        writer.execute("select * from pgsaas.migration_files for update")
        writer.execute("select pgsaas.greeting('bob'), pgsaas.now()")
        write(files, "sql/71_more.sql", GREETING.replace("greeting", "more"))
        started = time.monotonic()
        assert install.migrate(loaded.dsn, resources=files).loaded
        assert time.monotonic() - started < 2
        other.execute("insert into pgsaas.test_clock (at) values (now())")
        other.execute("select pgsaas.greeting('bob')")
        writer.rollback()
        other.rollback()


def test_a_load_that_is_under_way_stops_nobody(loaded: Database, files: Resources) -> None:
    write(files, "sql/95_slow.sql", "select pg_catalog.pg_sleep(1.5);")
    loading = threading.Thread(target=install.migrate, args=[loaded.dsn], kwargs=_with(files))
    loading.start()
    with loaded.connect() as conn:
        asleep = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
        while loading.is_alive() and not conn.execute(asleep).fetchone():
            time.sleep(0.01)
        conn.execute("set lock_timeout = '300ms'")
        conn.execute("update pgsaas.test_clock set at = now()")
        conn.execute("select pgsaas.greeting('bob'), pgsaas.now()")
        assert loading.is_alive()
    loading.join()


def test_a_load_that_meets_a_lock_gives_way_and_tries_again(
    loaded: Database, files: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgsaas.install.loader.PAUSE", 0)
    said: list[str] = []
    write(files, "sql/71_more.sql", GREETING.replace("greeting", "more"))
    with loaded.connect(autocommit=False) as reader:
        reader.execute("select * from pgsaas.greetings")

        def talk(line: str) -> None:
            said.append(line)
            if "waits for a lock" in line:
                reader.rollback()

        assert install.migrate(loaded.dsn, resources=files, talk=talk).loaded
    assert "the load waits for a lock: attempt 2" in said


def test_a_migration_that_fails_is_named_and_rolled_back(
    loaded: Database, files: Resources
) -> None:
    text = "set local role pgsaas_owner; create table pgsaas.x (x int); select 1/0;"
    write(files, "migrations/9000-broken.sql", text)
    with pytest.raises(PgsaasError, match="migration 9000-broken failed and was rolled back"):
        install.migrate(loaded.dsn, resources=files, talk=silent)
    with loaded.connect() as conn, pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("select * from pgsaas.x")


def _with(files: Resources) -> dict[str, Resources]:
    return {"resources": files}


def test_the_hash_does_not_depend_on_line_ends(files: Resources) -> None:
    before = files.sql_sha256()
    for path in Path(files.root / "sql").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert files.sql_sha256() == before
