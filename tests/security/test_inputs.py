"""Odd, huge and forged inputs: refused with 22023, stored as they are, or harmless."""

from __future__ import annotations

import json

import psycopg
import pytest

from tests.conftest import Conn
from tests.security.conftest import World, account, credit, one, refusal

INJECTIONS = [
    "'; drop table pgsaas.accounts; --",
    'x" = 1; --',
    "%s %I %L %1$s",
    "$$ || 1",
    "\\'",
    "🏴\u202e\ufeff",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_texts_are_stored_as_they_are(tx: Conn, text: str) -> None:
    made = account(tx, text, p_name=text, p_email=text, p_realm=text)
    assert one(tx, "select pgsaas.account_id_for(%s, %s)", text, text) == made
    tx.execute("select pgsaas.add_member(%s, %s)", [made, text])
    credit(tx, made, 5, p_description=text, p_idempotency_key=text)
    tx.execute(
        "select pgsaas.deduct_credits(%s, 1, null, %s, %s, %s, %s)",
        [made, text, text, text, json.dumps({text: text})],
    )
    row = tx.execute(
        "select agent_id, description, idempotency_key, metadata"
        " from pgsaas.list_transactions(%s, p_limit => 1)",
        [made],
    ).fetchone()
    assert row == (text, text, text, {text: text})
    tx.execute("select pgsaas.freeze_account(%s, %s)", [made, text])
    assert one(tx, "select details ->> 'reason' from pgsaas.audit_events order by"
               " audit_event_id desc limit 1") == text  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
def test_settings_are_columns_and_values_only(tx: Conn, text: str) -> None:
    assert refusal(tx, "select pgsaas.set_setting(%s, 'x')", text)[0] == "22023"
    assert refusal(tx, "select pgsaas.set_setting('clawback', %s)", text)[0] == "22023"
    assert (
        refusal(tx, "select pgsaas.set_setting('default_low_balance_at', %s)", text)[0] == "22023"
    )
    assert one(tx, "select pgsaas.set_setting('identity_realm', %s)", text) == text


@pytest.mark.parametrize(
    "name", ["is_only_row", "ctid", "tableoid", "xmin", "", "clawback ", "CLAWBACK", None]
)
def test_what_is_no_setting_is_not_set(tx: Conn, name: str | None) -> None:
    assert refusal(tx, "select pgsaas.set_setting(%s, 'false')", name)[0] == "22023"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1e13", "0.0000001"])
def test_an_alert_is_an_amount(tx: Conn, value: str) -> None:
    assert (
        refusal(tx, "select pgsaas.set_setting('default_low_balance_at', %s)", value)[0] == "22023"
    )


HUGE = "x" * 5000


@pytest.mark.parametrize(
    "call",
    [
        "deduct_credits(%(a)s, 1, p_description => %(huge)s)",
        "deduct_credits(%(a)s, 1, p_agent_id => %(huge)s)",
        "deduct_credits(%(a)s, 1, p_idempotency_key => %(huge)s)",
        "deduct_credits(%(a)s, 1, p_metadata => %(metadata)s)",
        "add_credits(%(a)s, 1, %(huge)s)",
        "add_credits(%(a)s, 1, p_idempotency_key => %(huge)s)",
        "hold_credits(%(a)s, 1, p_description => %(huge)s)",
        "refund_credits(%(a)s, 2, p_reason => %(huge)s)",
        "revoke_grant(%(a)s, 1, 1, %(huge)s)",
        "transfer_credits(%(a)s, %(a)s, 1, %(huge)s)",
        "adjust_credits(%(a)s, 1, %(huge)s)",
        "set_overdraft_limit(%(a)s, 1, %(huge)s)",
        "freeze_account(%(a)s, %(huge)s)",
        "unfreeze_account(%(a)s, %(huge)s)",
        "erase_account(%(a)s, %(huge)s)",
        "set_setting('clawback', 'owed', %(huge)s)",
        "add_platform_admin('x', %(huge)s)",
        "remove_platform_admin('root', %(huge)s)",
        "create_account(p_external_id => %(huge)s)",
        "create_account(p_name => %(huge)s)",
        "create_account(p_email => %(huge)s)",
        "create_account(p_realm => %(huge)s)",
        "create_account(p_profile => %(metadata)s)",
        "update_account(%(a)s, %(huge)s)",
        "update_account(%(a)s, p_profile => %(metadata)s)",
        "add_member(%(a)s, %(huge)s)",
        "act_as(%(huge)s)",
    ],
)
def test_huge_texts_are_refused(tx: Conn, call: str) -> None:
    made = account(tx)
    credit(tx, made, 5)
    tx.execute("select pgsaas.deduct_credits(%s, 1)", [made])
    tx.execute("select pgsaas.add_platform_admin('root')")
    noise = "".join(chr(0x4E00 + i * 7919 % 20000) for i in range(16000))
    values = {"a": made, "huge": HUGE, "metadata": json.dumps({"x": noise})}
    with pytest.raises(psycopg.Error) as caught, tx.transaction():
        tx.execute(f"select pgsaas.{call}".encode(), values)
    assert caught.value.sqlstate == "22023"


def test_a_profile_does_not_grow_by_being_updated_again_and_again(world: World) -> None:
    query = "select pg_column_size(profile) from pgsaas.accounts where account_id = %s"
    with world.user("alice") as conn:
        for number in range(4):
            noise = "".join(chr(0x4E00 + i * (number + 7919) % 20000) for i in range(4000))
            try:
                with conn.transaction():
                    conn.execute(
                        "select pgsaas.update_account(%s, p_profile => %s)",
                        [world.ids["alice"], json.dumps({f"key {number}": noise})],
                    )
            except psycopg.Error as error:
                assert error.sqlstate == "22023"  # noqa: PT017
                break
        assert one(conn, query, world.ids["alice"]) <= 16384


@pytest.mark.parametrize(
    "ttl", ["0", "-1 hour", "25 hours", "1 mon", "1 mon -30 days", "24:00:01", "1000 years", None]
)
def test_odd_lengths_of_holds_are_refused(tx: Conn, ttl: str | None) -> None:
    made = account(tx)
    credit(tx, made, 5)
    assert refusal(tx, "select pgsaas.hold_credits(%s, 1, %s)", made, ttl)[0] == "22023"


@pytest.mark.parametrize("metadata", ["[]", "1", '"x"', "null", "true"])
def test_metadata_is_an_object(tx: Conn, metadata: str) -> None:
    made = account(tx)
    credit(tx, made, 5)
    call = "select pgsaas.deduct_credits(%s, 1, p_metadata => %s)"
    assert refusal(tx, call, made, metadata)[0] == "22023"


def test_zero_bytes_are_refused_by_the_server(tx: Conn) -> None:
    made = account(tx)
    credit(tx, made, 5)
    call = "select pgsaas.deduct_credits(%s, 1, p_metadata => %s)"
    assert refusal(tx, call, made, '{"x": "\\u0000"}')[0] == "22P05"
    assert refusal(tx, "select set_config('request.jwt.claims', %s, true),"
                   " pgsaas.my_account_ids()", '{"sub": "a\\u0000b"}')[0] == "22P05"  # fmt: skip


def test_a_transfer_tells_where_credits_went_whatever_its_metadata_says(world: World) -> None:
    alice, acme = world.accounts("alice", "acme")
    forged = json.dumps({"to_account_id": "x", "from_account_id": "x", "from_seq": 0, "y": 1})
    with world.user("alice") as conn:
        conn.execute(
            "select pgsaas.transfer_credits(%s, %s, 1, p_metadata => %s)", [alice, acme, forged]
        )
        last = "select metadata from pgsaas.list_transactions(%s, p_limit => 1)"
        assert one(conn, last, alice)["to_account_id"] == str(acme)
        assert one(conn, last, acme)["from_account_id"] == str(alice)


def test_forged_rows_given_to_helpers_of_readers_show_nothing_of_others(world: World) -> None:
    """Readers' helpers take a whole row of account_balances, which anybody can make up."""
    with world.user("mallory", "pgsaas_user") as conn:
        row = "jsonb_populate_record(null::pgsaas.account_balances, %s)"
        forged = json.dumps({
            "account_id": str(world.ids["bob"]), "last_at": "2000-01-01", "held": 5, "balance": 0,
            "next_change_at": "-infinity", "next_reset_at": "infinity", "owed": 0, "seq": 0,
            "not_spent": 0, "lifetime_earned": 0,
        })  # fmt: skip
        shown = f"select cardinality(pgsaas.grants_to_settle({row}, '{{1,2}}'))"
        assert one(conn, shown, forged) == 0
        plan = (
            "select cardinality(new_rows) + cardinality(grants) + cardinality(lapsed)"
            f" from pgsaas.plan_settlement({row}, '2200-01-01')"
        )
        assert one(conn, plan, forged) == 0
