"""Who sees what: every kind of caller, every relation and reader, exact counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.conftest import Conn
from tests.security import contract
from tests.security.conftest import ERIK, UMA, World, one

#: What is sold, which everybody reads.
PUBLIC = {
    "credit_events", "credit_prices", "plans", "plan_versions", "plan_prices", "credit_products",
    "subscription_plans", "agents",
}  # fmt: skip
OF_ACCOUNTS = sorted(
    r for r, who in contract.readers().items() if "user" in who and r not in PUBLIC
)
EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class Caller:
    """How a request arrives, and the accounts it may see."""

    name: str
    sees: tuple[str, ...]
    claims: Any = None
    act_as: str | None = None
    role: str = "host_signed_in"
    stale: str | None = None
    owns: tuple[str, ...] | None = None


def sub(value: Any, **more: Any) -> dict[str, Any]:
    return {"sub": value, "role": "host_signed_in", **more}


STALE = "12345/1700000000.000000:alice"

CALLERS = [
    Caller("an owner", ("alice", "acme"), sub("alice")),
    Caller("an admin", ("adam", "acme"), sub("adam")),
    Caller("a member for billing", ("bill", "acme"), sub("bill")),
    Caller("a plain member", ("mia", "acme"), sub("mia")),
    Caller("another tenant", ("bob", "bobco"), sub("bob")),
    Caller("a user known by the account's id", ("uma",), sub(str(UMA))),
    Caller("the same in capitals", ("uma",), sub(str(UMA).upper())),
    Caller("one who chose another account's id as a name", ("impostor",), sub("{bob}")),
    Caller("the same name in capitals is nobody's", (), sub("{BOB}")),
    Caller("the id of an organization", (), sub("{acme}")),
    Caller("the name of an organization", (), sub("acme")),
    Caller("the id of an account that has a name", (), sub("{alice}")),
    Caller("the id of an account of another realm", (), sub("{alice elsewhere}")),
    Caller("an erased user", (), sub(str(ERIK))),
    Caller("a stranger", (), sub("mallory")),
    Caller("a name with blanks", (), sub(" alice ")),
    Caller("a name with another case", (), sub("Alice")),
    Caller("a pattern", (), sub("%")),
    Caller("without claims", (), role="host_anonymous"),
    Caller("anonymous, with a token", (), {"role": "host_anonymous"}, role="host_anonymous"),
    Caller("a token of the backend's role in another", (), {"role": "host_service"}),
    Caller("a sub of null", (), sub(None)),
    Caller("an empty sub", (), sub("")),
    Caller("a sub that is a list", (), sub(["alice"])),
    Caller("a sub that is an object", (), sub({"sub": "alice"})),
    Caller("a sub that is true", (), sub(True)),
    Caller("a sub that is a number", (), sub(1)),
    Caller("claims that are a list", (), ["sub", "alice"]),
    Caller("claims that are a text", (), '"sub"'),
    Caller("claims that are null", (), "null"),
    Caller("claims that say a user id elsewhere", (), {"user_id": "alice", "email": "alice"}),
    Caller("claims of staff", (), sub("mallory", is_admin=True, app_metadata={"role": "admin"})),
    Caller("the last of two subs", ("bob", "bobco"), '{"sub": "alice", "sub": "bob"}'),
    Caller("act_as alone", ("alice", "acme"), act_as="alice"),
    Caller("act_as and the same claims", ("alice", "acme"), sub("alice"), "alice"),
    Caller("act_as and other claims", (), sub("bob"), "alice"),
    Caller("act_as and an empty sub", (), sub(""), "alice"),
    Caller("an old stamp in the session", (), stale=STALE, role="host_anonymous"),
    Caller("an old stamp and claims", ("bob", "bobco"), sub("bob"), stale=STALE),
    Caller("an old stamp, and act_as", ("bob", "bobco"), act_as="bob", stale=STALE),
    Caller("no stamp at all", (), stale="alice", role="host_anonymous"),
    Caller("half a stamp", (), stale="/:alice", role="host_anonymous"),
    Caller("the backend", (EVERYBODY,), role="host_backend"),
    Caller("the backend by its key", (EVERYBODY,), {"role": "host_service"}, role="host_service"),
    Caller("the backend with a stamp of before", (EVERYBODY,), role="pgsaas_app", stale=STALE),
    Caller("the backend for alice", ("alice", "acme"), sub("alice"), role="host_backend"),
    Caller("the backend acting as alice", ("alice", "acme"), act_as="alice", role="host_backend"),
    Caller("the backend for two at once", (), sub("bob"), "alice", role="host_backend"),
    Caller("the backend for an empty sub", (), sub(""), role="host_backend"),
    Caller("the backend for a list", (), sub(["alice"]), role="host_backend"),
    Caller("the backend for anonymous", (), {"role": "host_anonymous"}, role="host_backend"),
    Caller("the backend, claims of nothing", (), {}, role="host_backend"),
    Caller("the key with a user's claims", ("bob", "bobco"), {"role": "host_service", "sub": "bob"},
           role="host_service"),
    Caller("staff without claims", (EVERYBODY,), role="host_staff"),
    Caller("staff", (EVERYBODY,), {"sub": "root@staff"}, role="pgsaas_admin"),
    Caller("a user in the role of staff", (), sub("alice"), role="pgsaas_admin",
           owns=("alice", "acme")),
    Caller("anonymous in the role of staff", (), {"role": "x"}, role="pgsaas_admin"),
    Caller("staff in the role of users", (), sub("root@staff")),
]  # fmt: skip


@contextmanager
def arriving(world: World, caller: Caller) -> Iterator[Conn]:
    """As PostgREST does: one login without rights, a role and claims local to the transaction."""
    claims = caller.claims
    if isinstance(claims, dict) and isinstance(claims.get("sub"), str):
        name = claims["sub"].strip("{}")
        known = {**world.ids, "BOB": str(world.ids["bob"]).upper()}
        if claims["sub"].startswith("{"):
            claims = {**claims, "sub": str(known[name])}
    text = claims if isinstance(claims, str) or claims is None else json.dumps(claims)
    direct = caller.role in ("host_backend", "host_staff")
    login = caller.role if direct else "host_gateway"
    with psycopg.connect(world.database.dsn_as(login), prepare_threshold=None) as conn:
        if caller.stale:
            conn.execute("select set_config('pgsaas.actor', %s, false)", [caller.stale])
            conn.commit()
        if not direct:
            conn.execute(f"set local role {caller.role}".encode())
        if text is not None:
            conn.execute("select set_config('request.jwt.claims', %s, true)", [text])
        if caller.act_as:
            conn.execute("select pgsaas.act_as(%s)", [caller.act_as])
        yield conn
        conn.rollback()


@pytest.fixture(params=CALLERS, ids=[caller.name for caller in CALLERS])
def caller(request: pytest.FixtureRequest) -> Caller:
    assert isinstance(request.param, Caller)
    return request.param


def seen(world: World, caller: Caller) -> set[str]:
    names = tuple(world.ids) if EVERYBODY in caller.sees else caller.sees
    return {str(world.ids[name]) for name in names}


def rows(conn: Conn, relation: str) -> list[str]:
    line = "account_id::text || ' ' || md5((to_jsonb(t) - 'last_at')::text)"
    query = f"select {line} from pgsaas.{relation} t order by 1"
    return [row[0] for row in conn.execute(query.encode()).fetchall()]


def test_relations_show_exactly_the_rows_of_the_callers_accounts(
    world: World, caller: Caller
) -> None:
    mine = seen(world, caller)
    with world.acting() as conn:
        everything = {relation: rows(conn, relation) for relation in OF_ACCOUNTS}
    with arriving(world, caller) as conn:
        for relation in OF_ACCOUNTS:
            expected = [row for row in everything[relation] if row.split()[0] in mine]
            assert rows(conn, relation) == expected, relation
            assert len(everything[relation]) >= 4


def test_readers_answer_for_the_callers_accounts_only(world: World, caller: Caller) -> None:
    mine = seen(world, caller)
    with world.acting() as conn:
        query = "select count(*) from pgsaas.list_transactions(%s)"
        known = {name: one(conn, query, of) for name, of in world.ids.items()}
    with arriving(world, caller) as conn:
        for name, of in world.ids.items():
            is_mine = str(of) in mine
            assert one(conn, "select count(*) from pgsaas.get_balance(%s)", of) == is_mine
            assert one(conn, query, of) == (known[name] if is_mine else 0)
            assert (one(conn, "select pgsaas.balance_at(%s, now())", of) is not None) == is_mine
            explain = "select count(*) from pgsaas.explain_deduction(%s, 3)"
            if is_mine:
                assert one(conn, explain, of) > 0
            else:
                with pytest.raises(psycopg.Error) as caught, conn.transaction():
                    conn.execute(explain.encode(), [of])
                assert caught.value.sqlstate == "PT404"
            realm = "elsewhere" if name == "alice elsewhere" else None
            external = {"alice elsewhere": "alice", "impostor": str(world.ids["bob"])}
            found = one(
                conn, "select pgsaas.account_id_for(%s, %s)", external.get(name, name), realm
            )
            assert found == (of if is_mine and of not in (UMA, ERIK) else None)


def test_who_a_caller_is_and_what_they_own(world: World, caller: Caller) -> None:
    with arriving(world, caller) as conn:
        ids = {str(each) for each in one(conn, "select pgsaas.my_account_ids()")}
        owns = caller.sees if caller.owns is None else caller.owns
        assert ids == {str(world.ids[name]) for name in owns if name != EVERYBODY}
        for of in world.ids.values():
            role = one(conn, "select pgsaas.my_role(%s)", of)
            assert (role is not None) == (str(of) in ids)


def test_settings_audit_and_outbox_are_not_for_users(world: World, caller: Caller) -> None:
    staff = caller.role in ("host_staff", "pgsaas_admin")
    with arriving(world, caller) as conn:
        for relation, readers in contract.readers().items():
            if "user" in readers:
                continue
            may = staff or (
                "app" in readers and caller.role not in ("host_signed_in", "host_anonymous")
            )
            query = f"select count(*) from (select 1 from pgsaas.{relation}) x"
            if may:
                count = one(conn, query)
                assert (count > 0) == (EVERYBODY in caller.sees), relation
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                    conn.execute(query.encode())


@pytest.mark.parametrize(
    "text", ["{", "alice", "{'sub': 'alice'}", '{"sub": "al', " ", "\t", "{}x"]
)
@pytest.mark.parametrize("role", ["host_signed_in", "host_service", "pgsaas_admin"])
def test_claims_that_are_no_json_are_an_error_and_nobody(
    world: World, text: str, role: str
) -> None:
    with world.acting(role, claims=text, login="host_gateway") as conn:
        for query in (
            "select count(*) from pgsaas.accounts",
            "select pgsaas.my_account_ids()",
            "select count(*) from pgsaas.credit_balances",
        ):
            with pytest.raises(psycopg.errors.DataError), conn.transaction():
                conn.execute(query.encode())


def test_a_stamp_does_not_outlive_its_transaction(world: World) -> None:
    with psycopg.connect(world.database.dsn_as("host_backend"), prepare_threshold=None) as conn:
        conn.execute("select pgsaas.act_as('alice')")
        conn.execute("select set_config('pgsaas.actor', current_setting('pgsaas.actor'), false)")
        assert one(conn, "select pgsaas.current_user_id()") == "alice"
        conn.commit()
        assert one(conn, "select current_setting('pgsaas.actor')") != ""
        assert one(conn, "select pgsaas.current_user_id()") is None
        conn.rollback()
        with conn.transaction(force_rollback=True):
            conn.execute("select pgsaas.act_as('bob')")
            assert one(conn, "select pgsaas.current_user_id()") == "bob"
        conn.rollback()
        assert one(conn, "select pgsaas.current_user_id()") is None


def test_acting_as_somebody_ends_with_its_savepoint(world: World) -> None:
    with world.acting("pgsaas_app", act_as="alice") as conn:
        with conn.transaction(force_rollback=True):
            conn.execute("select pgsaas.act_as('bob')")
        assert one(conn, "select pgsaas.current_user_id()") == "alice"
