"""What the contract's "may" allows a user's claims: every writer, role and kind of caller."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Conn
from tests.security import contract
from tests.security.conftest import JOB, World

#: One good call of each function that the backend calls for an account, on {acme}.
CALLS = {
    "create_account": "create_account(p_external_id => 'new')",
    "update_account": "update_account({acme}, 'x')",
    "add_member": "add_member({acme}, 'zoe')",
    "set_member_role": "set_member_role({acme}, 'mia', 'billing')",
    "remove_member": "remove_member({acme}, 'gus')",
    "freeze_account": "freeze_account({acme}, 'x')",
    "unfreeze_account": "unfreeze_account({acme}, 'x')",
    "export_account": "export_account({acme})",
    "erase_account": "erase_account({acme}, 'x')",
    "lock_accounts": "lock_accounts(array[{acme}])",
    "deduct_credits": "deduct_credits({acme}, 1)",
    "deduct_credits_batch": "deduct_credits_batch(array[{acme}], array[1])",
    "add_credits": "add_credits({acme}, 1)",
    "refund_credits": "refund_credits({acme}, 3, 1)",
    "revoke_grant": "revoke_grant({acme}, 1, 1)",
    "transfer_credits": "transfer_credits({acme}, {mine}, 1)",
    "adjust_credits": "adjust_credits({acme}, 1, 'x')",
    "set_overdraft_limit": "set_overdraft_limit({acme}, 1, 'x')",
    "set_burn_order": "set_burn_order({acme}, 'expiring_first')",
    "set_low_balance_at": "set_low_balance_at({acme}, 1)",
    "set_setting": "set_setting('clawback', 'owed')",
    "hold_credits": "hold_credits({acme}, 1)",
    "extend_hold": "extend_hold({acme}, 1)",
    "capture_hold": "capture_hold({acme}, 1, 1)",
    "release_hold": "release_hold({acme}, 1)",
    "verify_ledger": "verify_ledger({acme})",
    "set_credit_event": """set_credit_event('new', '{{"base": 1}}')""",
    "set_plan": "set_plan('new', '{{}}')",
    "retire_plan": "retire_plan('basic')",
    "set_credit_product": """set_credit_product('new',
        '{{"credits": 1, "prices": {{"usd": 1}}}}')""",
    "set_agent": "set_agent('new', '{{}}')",
    "start_subscription": """create_account() new,
        lateral pgsaas.start_subscription(new.account_id, 'basic')""",
    "change_plan": "change_plan({acme}, p_quantity => 2)",
    "cancel_subscription": "cancel_subscription({acme})",
    "resume_subscription": "resume_subscription({acme})",
    "set_subscription_status": "set_subscription_status({acme}, 'past_due')",
    "reset_monthly_credits": "now() at, lateral pgsaas.reset_monthly_credits()",
    "run_due": "run_due()",
    "use_entitlement": "use_entitlement({acme}, 'slots')",
    "set_entitlement": "set_entitlement({acme}, 'sso', 'true', 'x')",
    "set_spend_cap": "set_spend_cap({acme}, 'account', null, 1000)",
    "set_reward": """set_reward('WELCOME', '{{"credits": 9}}')""",
    "redeem_code": "redeem_code({acme}, 'hello')",
    "set_referrer": "set_referrer({acme}, 'nobody')",
    "reward_referral": "reward_referral({acme})",
    "start_job": "start_job({acme}, 'painter')",
    "complete_job": "complete_job({acme}, {job})",
    "fail_job": "fail_job({acme}, {job})",
    "migrate_subscribers": "now() at, lateral pgsaas.migrate_subscribers('basic')",
    "assign_default_plan": "now() at, lateral pgsaas.assign_default_plan()",
    "note_run": "note_run('a test', 0)",
    "record_usage": "record_usage({acme}, 'call')",
    "record_usage_batch": "record_usage_batch(array[{acme}], array['call'])",
    "consume_credits": "consume_credits({acme}, 'call')",
    "capture_usage": "capture_usage({acme}, 1, 'call', 1)",
    "check_and_deduct_credits": "check_and_deduct_credits({acme})",
}
MAY = {
    "read": {"owner", "admin", "billing", "member"},
    "spend": {"owner", "admin", "member"},
    "pay": {"owner", "admin", "billing"},
    "manage": {"owner", "admin"},
    "system": set(),
    "": set(),
}
SUBS = {"alice": "owner", "adam": "admin", "bill": "billing", "mia": "member", "mallory": None}
#: Refused to every user before the account is looked at.
FOR_NO_USER = {
    "create_account", "freeze_account", "unfreeze_account", "erase_account", "set_burn_order",
    "verify_ledger", "start_subscription", "change_plan", "set_subscription_status",
    "reset_monthly_credits", "run_due", "note_run",
    "migrate_subscribers", "assign_default_plan", "set_entitlement",
    "set_referrer", "reward_referral",
}  # fmt: skip
UNKNOWN_ANSWERS = {
    "ACCOUNT_NOT_FOUND", "PT404", "0",
}  # fmt: skip


def call(conn: Conn, world: World, name: str, sub: str = "alice") -> str:
    """ok, an sqlstate, an error code, or the 0 of a function that counts."""
    ids = {key: f"'{value}'::uuid" for key, value in world.ids.items()}
    ids["job"] = f"'{JOB}'::uuid"
    ids["mine"] = ids.get(sub, ids["alice"])
    try:
        with conn.transaction():
            cursor = conn.execute(f"select * from pgsaas.{CALLS[name].format(**ids)}".encode())
            row = cursor.fetchone()
    except psycopg.Error as error:
        return str(error.sqlstate)
    columns = [column.name for column in cursor.description or ()]
    if row is not None and "error_code" in columns:
        return str(row[columns.index("error_code")] or "ok")
    return "0" if row is not None and repr(row[0]) == "0" else "ok"


def test_every_function_that_changes_an_account_is_tried() -> None:
    written = {
        name for name, each in contract.functions().items()
        if each.may not in ("", "read") or each.callers == {"admin"}
    }  # fmt: skip
    assert written == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("sub", SUBS)
def test_a_users_claims_allow_what_the_contract_says(world: World, name: str, sub: str) -> None:
    each = contract.functions()[name]
    with world.user(sub) as conn:
        answer = call(conn, world, name, sub)
    if "app" not in each.callers:
        assert answer == "42501"
    elif SUBS[sub] in MAY[each.may]:
        assert answer == "ok"
    elif SUBS[sub] is not None or name in FOR_NO_USER:
        assert answer == "PT403"
    else:
        assert answer in UNKNOWN_ANSWERS


@pytest.mark.parametrize("sub", ["adam", "bill"])
def test_a_user_transfers_only_between_accounts_they_belong_to(world: World, sub: str) -> None:
    """Not to a member's own account: membership needs no consent, so this would tell who exists."""
    unknown = "select pgsaas.transfer_credits(%s, gen_random_uuid(), 1)::text"
    known = "select pgsaas.transfer_credits(%s, %s, 1)::text"
    with world.user(sub) as conn:
        answer = conn.execute(known, (world.ids["acme"], world.ids["alice"])).fetchone()
        assert answer == conn.execute(unknown, (world.ids["acme"],)).fetchone()
    assert answer is not None
    assert "ACCOUNT_NOT_FOUND" in answer[0]


@pytest.mark.parametrize("name", CALLS)
def test_without_a_user_the_backend_may_do_all_that_it_may_call(world: World, name: str) -> None:
    with world.acting("pgsaas_app") as conn:
        answer = call(conn, world, name)
    assert answer == ("ok" if "app" in contract.functions()[name].callers else "42501")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("role", ["pgsaas_user", "pgsaas_webhook", "pgsaas_runner"])
def test_end_users_and_the_roles_of_later_parts_call_no_writer(
    world: World, name: str, role: str
) -> None:
    for sub in ("alice", "root@staff"):
        with world.user(sub, role) as conn:
            assert call(conn, world, name) == "42501"


@pytest.mark.parametrize("name", CALLS)
def test_nobody_may_do_nothing(world: World, name: str) -> None:
    """Claims that name nobody, and two sources that differ, are never the system."""
    requests = (
        world.acting("pgsaas_app", claims={"role": "anon"}),
        world.acting("pgsaas_app", claims={"sub": ""}),
        world.acting("pgsaas_app", claims={"sub": {}}),
        world.acting("pgsaas_app", claims="null"),
        world.acting("pgsaas_app", claims={"sub": "bob"}, act_as="alice"),
        world.acting("pgsaas_admin", claims={"role": "anon"}),
        world.acting("pgsaas_admin", claims={"sub": ""}),
    )
    for request in requests:
        with request as conn:
            assert call(conn, world, name) in UNKNOWN_ANSWERS | {"PT403", "42501"}


@pytest.mark.parametrize("name", CALLS)
def test_only_staff_act_in_the_role_of_staff(world: World, name: str) -> None:
    each = contract.functions()[name]
    for claims, is_staff in (
        ({"sub": "root@staff"}, True),
        (None, True),
        ({"sub": "alice"}, False),
    ):
        with world.acting("pgsaas_admin", claims=claims) as conn:
            answer = call(conn, world, name)
        if "admin" not in each.callers:
            assert answer == "42501"
        elif is_staff or (
            claims == {"sub": "alice"} and name in ("export_account", "set_low_balance_at")
        ):
            assert answer == "ok"
        else:
            assert answer == "PT403"


def test_staff_have_no_more_rights_in_the_role_of_the_backend(world: World) -> None:
    with world.acting("host_backend", claims={"sub": "root@staff"}) as conn:
        for name in ("freeze_account", "erase_account", "set_burn_order", "verify_ledger"):
            assert call(conn, world, name) == "PT403", name
        assert call(conn, world, "add_credits") == "ACCOUNT_NOT_FOUND"


def test_a_user_does_not_state_what_their_use_costs(world: World) -> None:
    with world.user("alice") as conn:
        for call in (
            "record_usage(%s, 'call', p_cost => 0)",
            "record_usage_batch(array[%s]::uuid[], array['call'], p_costs => array[0])",
        ):
            with pytest.raises(psycopg.Error) as refused, conn.transaction():
                conn.execute(f"select pgsaas.{call}".encode(), [world.ids["acme"]])
            assert refused.value.sqlstate == "PT403"
