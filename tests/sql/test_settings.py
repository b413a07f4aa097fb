from __future__ import annotations

import pytest

from tests.sql.ledger import Ledger, code

TAKEN = [
    ("identity_realm", "public.users", "public.users"),
    ("identity_realm", "", ""),
    ("clawback", "unrecovered", "unrecovered"),
    ("shadow", "true", "true"),
    ("transfer_scope", "any", "any"),
    ("transfer_min_age", "3 days", "3 days"),
    ("transfer_min_age", "0", "00:00:00"),
    ("default_burn_order", "expiring_first", "expiring_first"),
    ("default_low_balance_at", "0", "0"),
    ("default_low_balance_at", None, None),
]
REFUSED = [
    ("identity_realm", None),
    ("clawback", "forgiven"),
    ("clawback", ""),
    ("clawback", None),
    ("shadow", "perhaps"),
    ("shadow", None),
    ("transfer_scope", "everybody"),
    ("transfer_scope", None),
    ("transfer_min_age", "-1 day"),
    ("transfer_min_age", "soon"),
    ("transfer_min_age", None),
    ("default_burn_order", "random"),
    ("default_burn_order", None),
    ("default_low_balance_at", "-1"),
    ("default_low_balance_at", "1e30"),
    ("is_only_row", "false"),
    ("ctid", "(0,1)"),
    ("no_such_setting", "1"),
    ("clawback; drop table pgsaas.settings", "1"),
    ("", "1"),
    (None, "1"),
]


@pytest.mark.parametrize(("name", "value", "stored"), TAKEN)
def test_a_setting_is_stored_returned_and_audited(
    ledger: Ledger, name: str, value: str | None, stored: str | None
) -> None:
    old = ledger.scalar(f"select {name}::text from pgsaas.settings")
    assert ledger.scalar("select pgsaas.set_setting(%s, %s, %s)", name, value, "why") == stored
    assert ledger.scalar(f"select {name}::text from pgsaas.settings") == stored
    [event] = ledger.audit("setting.changed")
    details = {"setting": name, "old": old, "new": stored, "reason": "why"}
    assert event["details"] == {k: v for k, v in details.items() if v is not None}
    assert event["actor"] == "role:postgres"


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_setting_refuses_what_it_cannot_take(
    ledger: Ledger, name: str | None, value: str | None
) -> None:
    with ledger.raises("22023"):
        ledger.scalar("select pgsaas.set_setting(%s, %s)", name, value)


def test_every_setting_is_tried(ledger: Ledger) -> None:
    columns = ledger.query(
        "select attname from pg_attribute where attrelid = 'pgsaas.settings'::regclass"
        " and attnum > 1 and not attisdropped"
    )
    assert {row["attname"] for row in columns} == {name for name, _, _ in TAKEN}
    assert {row["attname"] for row in columns} <= {name for name, _ in REFUSED}


def test_a_realm_that_no_external_id_could_have_is_refused(ledger: Ledger) -> None:
    with ledger.raises("22023"):
        ledger.scalar("select pgsaas.set_setting('identity_realm', %s)", "r" * 256)


@pytest.mark.parametrize("age", ["infinity", "300000 years", "11 years", "-1 day"])
def test_an_age_that_no_purchase_reaches_is_refused(ledger: Ledger, age: str) -> None:
    with ledger.raises("22023"):
        ledger.call("set_setting", "transfer_min_age", age)


@pytest.mark.parametrize("role", ["pgsaas_app", "pgsaas_user"])
def test_only_admins_change_settings(ledger: Ledger, role: str) -> None:
    ledger.become(role)
    with pytest.raises(Exception, match="permission denied"), ledger.conn.transaction():
        ledger.call("set_setting", "clawback", "unrecovered")
    ledger.be_superuser()
    ledger.become("pgsaas_admin", "somebody")
    with pytest.raises(Exception, match="admin") as caught, ledger.conn.transaction():
        ledger.call("set_setting", "clawback", "unrecovered")
    assert getattr(caught.value, "sqlstate", None) == "PT403"


def test_purchases_move_after_the_set_age_and_bonuses_at_once(ledger: Ledger) -> None:
    ledger.call("set_setting", "transfer_scope", "any")
    one, two = ledger.account(10), ledger.account()
    ledger.done("add_credits", one, 5)
    assert code(ledger.call("transfer_credits", one, two, 6)) == "NOT_TRANSFERABLE"
    ledger.done("transfer_credits", one, two, 5)
    ledger.after(days=13, hours=23)
    assert code(ledger.call("transfer_credits", one, two, 1)) == "NOT_TRANSFERABLE"
    ledger.after(hours=1)
    ledger.done("transfer_credits", one, two, 10)
    assert ledger.violations() == []


@pytest.mark.parametrize(
    ("member", "kinds", "code_"),
    [
        (True, ("user", "organization"), None),
        (True, ("user", "user"), None),
        (False, ("user", "organization"), "NOT_TRANSFERABLE"),
        (False, ("user", "user"), "NOT_TRANSFERABLE"),
        (False, ("organization", "organization"), "NOT_TRANSFERABLE"),
    ],
)
def test_transfers_stay_within_one_organization(
    ledger: Ledger, member: bool, kinds: tuple[str, str], code_: str | None
) -> None:
    one, two = ledger.account(p_kind=kinds[0]), ledger.account(p_kind=kinds[1])
    ledger.done("add_credits", one, 5)
    team = two if kinds[1] == "organization" else ledger.account(p_kind="organization")
    if member:
        for user in {one, two} - {team}:
            ledger.call("add_member", team, str(user))
    assert code(ledger.call("transfer_credits", one, two, 5)) == code_
