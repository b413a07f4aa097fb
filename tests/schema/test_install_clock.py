"""The test clock and the identity of an installation, as the owner uses them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from pgsaas import install
from pgsaas.call import call
from pgsaas.errors import InvalidValue, RuleViolated
from tests.conftest import Conn, Database
from tests.schema.conftest import dump

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def now(conn: Conn) -> datetime:
    value = call(conn, "now")[0]["now"]
    assert isinstance(value, datetime)
    return value


def test_the_clock_stands_moves_and_is_given_back(conn: Conn) -> None:
    assert call(conn, "set_clock", at=NOON) == [{"set_clock": NOON}]
    assert now(conn) == NOON
    later = NOON + timedelta(days=3)
    assert call(conn, "advance_clock", by=timedelta(days=3)) == [{"advance_clock": later}]
    assert now(conn) == later
    call(conn, "reset_clock")
    assert abs(now(conn) - datetime.now(UTC)) < timedelta(seconds=5)


def test_every_session_sees_the_clock_and_the_real_one_again(db: Database) -> None:
    with db.connect() as one, db.connect() as two:
        two.execute("prepare t as select pgsaas.now()")
        for _ in range(7):
            two.execute("execute t")
        call(one, "set_clock", at=NOON)
        assert two.execute("execute t").fetchone() == (NOON,)
        call(one, "reset_clock")
        assert two.execute("execute t").fetchone() != (NOON,)


def test_giving_the_time_back_leaves_the_function_as_it_was(db: Database) -> None:
    before = dump(db)
    with db.connect() as conn:
        call(conn, "set_clock", at=NOON)
        assert dump(db) != before
        call(conn, "reset_clock")
    assert dump(db) == before


def test_setting_a_set_clock_rewrites_no_function(conn: Conn) -> None:
    call(conn, "set_clock", at=NOON)
    written = "select xmin::text from pg_proc where oid = 'pgsaas.now()'::regprocedure"
    before = conn.execute(written).fetchone()
    for hours in range(20):
        call(conn, "set_clock", at=NOON + timedelta(hours=hours))
    assert conn.execute(written).fetchone() == before
    assert conn.execute("select count(*) from pgsaas.test_clock").fetchone() == (1,)


def test_the_real_clock_is_inlined_away(conn: Conn) -> None:
    plan = conn.execute(
        "explain (costs off) select from pgsaas.installation where created_at < pgsaas.now()"
    ).fetchall()
    assert any("(created_at < now())" in line for (line,) in plan)


@pytest.mark.parametrize("at", [None, "infinity", "-infinity"])
def test_a_time_that_is_none_is_refused(tx: Conn, at: str | None) -> None:
    with pytest.raises(InvalidValue):
        call(tx, "set_clock", at=at)


@pytest.mark.parametrize("by", [None, "-1 second"])
def test_the_clock_does_not_advance_backwards(tx: Conn, by: str | None) -> None:
    with pytest.raises(InvalidValue):
        call(tx, "advance_clock", by=by)


def test_a_live_installation_has_no_test_clock(tx: Conn) -> None:
    tx.execute("update pgsaas.installation set mode = 'live'")
    for function, arguments in (
        ("set_clock", {"at": NOON}),
        ("advance_clock", {"by": "1 day"}),
        ("reset_clock", {}),
    ):
        with pytest.raises(RuleViolated, match="live installation"), tx.transaction():
            call(tx, function, **arguments)


def test_no_setting_of_a_session_moves_time(tx: Conn) -> None:
    tx.execute("create temporary table test_clock (at timestamptz); set search_path = pg_temp")
    tx.execute("insert into test_clock values ('2020-01-01')")
    tx.execute("create function pg_temp.now() returns timestamptz return timestamptz '2020-01-01'")
    assert now(tx).year > 2020


def test_a_clone_knows_that_it_is_one(db: Database) -> None:
    with db.connect() as conn:
        assert call(conn, "is_adopted") == [{"is_adopted": False}]
        db.adopt()
        assert call(conn, "is_adopted") == [{"is_adopted": True}]
        assert call(conn, "adopt_installation") == [{"adopt_installation": False}]


def test_there_is_one_installation(tx: Conn) -> None:
    for statement in (
        "insert into pgsaas.installation default values",
        "insert into pgsaas.installation (is_only) values (false)",
        "update pgsaas.installation set mode = 'both'",
    ):
        with pytest.raises(psycopg.errors.IntegrityError), tx.transaction():
            tx.execute(statement.encode())


def test_two_installations_differ(db: Database, empty: Database) -> None:
    install.migrate(empty.dsn)
    with db.connect() as one, empty.connect() as two:
        query = "select installation_id, salt, pgsaas.current_fingerprint(), length(salt)"
        ours = one.execute(f"{query} from pgsaas.installation").fetchone()
        theirs = two.execute(f"{query} from pgsaas.installation").fetchone()
    assert ours is not None
    assert theirs is not None
    assert all(a != b for a, b in zip(ours[:3], theirs[:3], strict=True))
    assert ours[3] == 32
