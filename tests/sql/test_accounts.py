from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from tests.sql.ledger import NOBODY, START, Ledger
from tests.sql.test_bad_texts import of_size


def test_an_account_is_returned_as_it_was_made(ledger: Ledger) -> None:
    made = ledger.call("create_account", NOBODY, "organization", "Ada's", "ada@example.com",
                       "ada", "clerk", {"plan": "x"})  # fmt: skip
    assert made == {
        "account_id": NOBODY, "kind": "organization", "name": "Ada's", "email": "ada@example.com",
        "realm": "clerk", "external_id": "ada", "profile": {"plan": "x"}, "is_frozen": False,
        "created_at": START, "created": True,
    }  # fmt: skip
    assert ledger.call("get_balance", NOBODY)["balance"] == 0


def test_no_arguments_make_a_new_account_each_time(ledger: Ledger) -> None:
    one, two = ledger.call("create_account"), ledger.call("create_account")
    assert one["account_id"] != two["account_id"]
    assert one["created"]
    assert two["created"]


AGAIN = [
    {"p_account_id": NOBODY},
    {"p_external_id": "ada"},
    {"p_account_id": NOBODY, "p_external_id": "ada"},
    {"p_external_id": "ada", "p_realm": ""},
    {"p_account_id": NOBODY, "p_name": "another", "p_email": "other@example.com"},
    {"p_external_id": "ada", "p_name": "another", "p_profile": {"other": 1}},
]


@pytest.mark.parametrize("again", AGAIN)
def test_the_same_ids_name_the_same_account(ledger: Ledger, again: dict[str, object]) -> None:
    ledger.call("set_plan", "free", {"default": True, "allowance": 100})
    first = ledger.call("create_account", NOBODY, p_external_id="ada", p_name="Ada")
    ledger.at(START.replace(day=11))
    before = ledger.state()
    second = ledger.call("create_account", **again)
    assert second == first | {"created": False}
    assert ledger.state() == before


CONFLICTS = [
    pytest.param({"p_account_id": UUID(int=5), "p_external_id": "ada"},
                 id="known-id-other-account"),
    pytest.param({"p_account_id": NOBODY, "p_external_id": "eve"}, id="known-account-other-id"),
    pytest.param({"p_account_id": NOBODY, "p_external_id": "ada", "p_realm": "clerk"},
                 id="known-account-other-realm"),
    pytest.param({"p_account_id": NOBODY, "p_kind": "organization"}, id="kind-by-account-id"),
    pytest.param({"p_external_id": "ada", "p_kind": "organization"}, id="kind-by-external-id"),
]  # fmt: skip


@pytest.mark.parametrize("other", CONFLICTS)
def test_ids_of_different_accounts_and_another_kind_conflict(
    ledger: Ledger, other: dict[str, object]
) -> None:
    ledger.call("create_account", NOBODY, p_external_id="ada")
    with ledger.raises("PT409"):
        ledger.call("create_account", **other)


def test_an_account_without_an_external_id_is_not_given_one_later(ledger: Ledger) -> None:
    ledger.call("create_account", NOBODY)
    with ledger.raises("PT409"):
        ledger.call("create_account", NOBODY, p_external_id="ada")


WRONG: list[dict[str, object]] = [
    {"p_kind": "robot"},
    {"p_kind": None},
    {"p_external_id": ""},
    {"p_external_id": "x" * 256},
    {"p_external_id": "é" * 128},
    {"p_external_id": "x", "p_realm": "x" * 256},
    {"p_name": "x" * 1001},
    {"p_email": "é" * 501},
    {"p_profile": "[]"},
    {"p_profile": "null"},
    {"p_profile": of_size(16385)},
]


@pytest.mark.parametrize("wrong", WRONG, ids=[str(w)[:40] for w in WRONG])
def test_wrong_arguments_make_no_account(ledger: Ledger, wrong: dict[str, object]) -> None:
    with ledger.raises("22023"):
        ledger.call("create_account", **wrong)


def test_arguments_at_the_edge_make_an_account(ledger: Ledger) -> None:
    made = ledger.call("create_account", p_name="é" * 500, p_email="e" * 1000,
                       p_external_id="é" * 127 + "x", p_realm="r" * 255,
                       p_profile=of_size(16384))  # fmt: skip
    assert made["created"]
    assert ledger.call("create_account", p_profile=None)["profile"] == {}


def test_one_external_id_in_two_realms_is_two_accounts(ledger: Ledger) -> None:
    one = ledger.account(p_external_id="1", p_realm="public.users")
    two = ledger.account(p_external_id="1", p_realm="public.teams")
    three = ledger.account(p_external_id="1")
    assert len({one, two, three}) == 3
    found = [ledger.scalar("select pgsaas.account_id_for('1', %s)", realm)
             for realm in ("public.users", "public.teams", None, "", "nowhere")]  # fmt: skip
    assert found == [one, two, three, three, None]
    ledger.call("set_setting", "identity_realm", "public.teams")
    assert ledger.scalar("select pgsaas.account_id_for('1')") == two
    assert ledger.call("create_account", p_external_id="1")["account_id"] == two
    assert ledger.scalar("select pgsaas.account_id_for(null)") is None


def test_a_new_account_gets_the_settings_of_that_moment(ledger: Ledger) -> None:
    ledger.call("set_plan", "free", {"default": True, "allowance": 100, "rollover": "unlimited"})
    ledger.call("set_setting", "default_burn_order", "expiring_first")
    ledger.call("set_setting", "default_low_balance_at", "10")
    account = ledger.account()
    row = ledger.query(
        "select monthly_allowance, balance, burn_order, low_balance_at from pgsaas.credit_balances"
    )
    assert row == [{"monthly_allowance": 100, "balance": 100, "burn_order": "expiring_first",
                    "low_balance_at": 10}]  # fmt: skip
    ledger.at(START.replace(month=4))
    assert ledger.balance(account)["balance"] == 200


def test_updating_merges_the_profile_and_leaves_what_is_null(ledger: Ledger) -> None:
    account = ledger.account(p_name="Ada", p_email="a@example.com", p_profile={"a": 1, "b": 2})
    changed = ledger.call("update_account", account, p_profile={"b": 3, "c": None})
    assert (changed["name"], changed["email"]) == ("Ada", "a@example.com")
    assert changed["profile"] == {"a": 1, "b": 3, "c": None}
    changed = ledger.call("update_account", account, p_name="", p_email="b@example.com")
    assert (changed["name"], changed["email"], changed["created"]) == ("", "b@example.com", False)
    assert changed["profile"] == {"a": 1, "b": 3, "c": None}
    assert ledger.call("update_account", account) == changed


@pytest.mark.parametrize(
    "wrong", [{"p_name": "x" * 1001}, {"p_email": "x" * 1001}, {"p_profile": "[]"},
              {"p_profile": of_size(16385)}],
)  # fmt: skip
def test_wrong_updates_change_nothing(ledger: Ledger, wrong: dict[str, object]) -> None:
    account = ledger.account()
    with ledger.raises("22023"):
        ledger.call("update_account", account, **wrong)


def test_a_profile_does_not_outgrow_its_limit_bit_by_bit(ledger: Ledger) -> None:
    account = ledger.account(p_profile={"a": "x" * 10_000})
    with ledger.raises("22023"):
        ledger.call("update_account", account, p_profile={"b": "x" * 10_000})


def test_members_come_change_and_go(ledger: Ledger) -> None:
    team = ledger.account(p_kind="organization")
    ada = ledger.call("add_member", team, "ada", "owner")
    assert ada == {"account_id": team, "user_id": "ada", "member_role": "owner",
                   "created_at": START}  # fmt: skip
    ledger.at(START.replace(day=11))
    assert ledger.call("add_member", team, "ada", "owner") == ada
    assert ledger.call("add_member", team, "bob")["member_role"] == "member"
    with ledger.raises("PT409"):
        ledger.call("add_member", team, "bob", "admin")
    assert ledger.call("set_member_role", team, "bob", "billing")["member_role"] == "billing"
    assert ledger.call("remove_member", team, "bob") == {"remove_member": True}
    assert ledger.call("remove_member", team, "bob") == {"remove_member": False}
    with ledger.raises("PT404"):
        ledger.call("set_member_role", team, "bob", "admin")
    actions = ledger.query(
        "select action, details from pgsaas.audit_events order by 1, audit_event_id"
    )
    assert actions == [
        {"action": "member.added", "details": {"user_id": "ada", "role": "owner"}},
        {"action": "member.added", "details": {"user_id": "bob", "role": "member"}},
        {"action": "member.removed", "details": {"user_id": "bob"}},
        {"action": "member.role_changed",
         "details": {"user_id": "bob", "old": "member", "new": "billing"}},
    ]  # fmt: skip


@pytest.mark.parametrize("role", ["god", "", "Owner", None])
def test_there_are_four_roles(ledger: Ledger, role: str | None) -> None:
    team = ledger.account(p_kind="organization")
    ledger.call("add_member", team, "ada", "owner")
    for function in ("add_member", "set_member_role"):
        with ledger.raises("22023"):
            ledger.call(function, team, "ada", role)


@pytest.mark.parametrize("user", ["", None, "x" * 256, "é" * 128])
def test_a_user_id_has_1_to_255_bytes(ledger: Ledger, user: str | None) -> None:
    team = ledger.account(p_kind="organization")
    for function in ("add_member", "set_member_role"):
        with ledger.raises("22023"):
            ledger.call(function, team, user, "member")
    for function, arguments in (("remove_member", (team, user)), ("act_as", (user,)),
                                ("add_platform_admin", (user,))):  # fmt: skip
        with ledger.raises("22023"):
            ledger.call(function, *arguments)


def test_the_last_owner_of_an_organization_stays(ledger: Ledger) -> None:
    team = ledger.account(p_kind="organization")
    ledger.call("add_member", team, "ada", "owner")
    ledger.call("add_member", team, "bob", "admin")
    with ledger.raises("PT422"):
        ledger.call("remove_member", team, "ada")
    for role in ("admin", "billing", "member"):
        with ledger.raises("PT422"):
            ledger.call("set_member_role", team, "ada", role)
    assert ledger.call("set_member_role", team, "ada", "owner")["member_role"] == "owner"
    ledger.call("set_member_role", team, "bob", "owner")
    ledger.call("remove_member", team, "ada")
    with ledger.raises("PT422"):
        ledger.call("remove_member", team, "bob")


def test_a_user_account_needs_no_owner_of_its_own(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.call("add_member", account, "ada", "owner")
    assert ledger.call("remove_member", account, "ada") == {"remove_member": True}


ACTORS = ["owner", "admin", "billing", "member", None]


@pytest.mark.parametrize("actor", ACTORS)
def test_members_manage_members_as_far_as_their_role_goes(
    ledger: Ledger, actor: str | None
) -> None:
    team = ledger.account(p_kind="organization")
    ledger.call("add_member", team, "first", "owner")
    ledger.call("add_member", team, "other", "member")
    if actor:
        ledger.call("add_member", team, "me", actor)
    ledger.become("pgsaas_app", "me")
    expected = {"owner": None, "admin": None, "billing": "PT403", "member": "PT403", None: "PT404"}
    owners = expected | {"admin": "PT403"}
    calls: list[tuple[str, tuple[str, ...], dict[str | None, str | None]]] = [
        ("add_member", ("new", "member"), expected),
        ("set_member_role", ("other", "admin"), expected),
        ("add_member", ("boss", "owner"), owners),
        ("set_member_role", ("other", "owner"), owners),
        ("set_member_role", ("first", "member"), owners),
        ("remove_member", ("new",), expected),
    ]
    for function, arguments, codes in calls:
        if (wanted := codes[actor]) is None:
            ledger.call(function, team, *arguments)
            continue
        with pytest.raises(Exception) as caught, ledger.conn.transaction():
            ledger.call(function, team, *arguments)
        assert getattr(caught.value, "sqlstate", None) == wanted, (function, arguments)


def test_anybody_may_leave(ledger: Ledger) -> None:
    team = ledger.account(p_kind="organization")
    ledger.call("add_member", team, "me", "member")
    ledger.become("pgsaas_app", "me")
    assert ledger.call("remove_member", team, "me") == {"remove_member": True}


def test_locking_counts_the_accounts_there_are(ledger: Ledger) -> None:
    one, two = ledger.account(), ledger.account()
    for ids, count in [([], 0), (None, 0), ([one], 1), ([two, one, two], 2), ([None], 0),
                       ([one, uuid4(), None], 1)]:  # fmt: skip
        assert ledger.call("lock_accounts", ids) == {"lock_accounts": count}


def test_a_user_locks_only_accounts_they_may_spend_from(ledger: Ledger) -> None:
    mine, foreign, paid = (ledger.account(p_kind="organization") for _ in range(3))
    ledger.call("add_member", mine, "me", "member")
    ledger.call("add_member", paid, "me", "billing")
    ledger.become("pgsaas_app", "me")
    assert ledger.call("lock_accounts", [mine, foreign]) == {"lock_accounts": 1}
    with pytest.raises(Exception, match="billing") as caught, ledger.conn.transaction():
        ledger.call("lock_accounts", [mine, paid])
    assert getattr(caught.value, "sqlstate", None) == "PT403"
