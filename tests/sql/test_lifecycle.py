from __future__ import annotations

import json
import subprocess
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.conftest import Database
from tests.sql.ledger import START, Ledger, code, day
from tests.sql.scene import KEYED, Scene, play

STOPPED = ("deduct_credits", "hold_credits", "transfer_credits")


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    return play(ledger)


@pytest.mark.parametrize("function", [*KEYED, "release_hold", "extend_hold", "set_overdraft_limit",
                                      "set_burn_order", "set_low_balance_at"])  # fmt: skip
def test_a_frozen_account_spends_nothing_new_and_everything_else_goes_on(
    scene: Scene, function: str
) -> None:
    assert scene.call("freeze_account") == {"freeze_account": True}
    before = scene.ledger.state()
    answer = scene.call(function)
    if function in STOPPED:
        assert code(answer) == "ACCOUNT_FROZEN"
        assert answer["new_balance"] == 900
        assert scene.ledger.state() == before
    else:
        assert answer["success"]
        assert scene.ledger.balance(scene.one)["is_frozen"]
    assert scene.ledger.violations() == []


@pytest.mark.parametrize(
    ("shortfall", "taken"), [("refuse", None), ("partial", 10), ("debt", 1000)]
)
def test_a_frozen_account_is_not_emptied_through_a_hold(
    ledger: Ledger, shortfall: str, taken: int | None
) -> None:
    account = ledger.account(500)
    ledger.done("hold_credits", account, 10)
    ledger.call("freeze_account", account, "fraud")
    answer = ledger.call("capture_hold", account, 1, 1000, shortfall)
    if taken is None:
        assert code(answer) == "ACCOUNT_FROZEN"
        assert ledger.balance(account)["held"] == 10
        ledger.done("capture_hold", account, 1, 10)
    else:
        assert answer["captured"] == taken
    assert ledger.violations() == []


def test_nothing_is_transferred_to_a_frozen_account(scene: Scene) -> None:
    scene.call("freeze_account", p_account_id=scene.two)
    assert code(scene.call("transfer_credits")) == "ACCOUNT_FROZEN"


def test_an_unfrozen_account_goes_on_where_it_stopped(scene: Scene) -> None:
    assert scene.call("unfreeze_account") == {"unfreeze_account": False}
    assert scene.call("freeze_account") == {"freeze_account": True}
    assert scene.call("freeze_account") == {"freeze_account": False}
    assert scene.call("unfreeze_account") == {"unfreeze_account": True}
    assert scene.call("deduct_credits")["success"]
    assert [e["action"] for e in scene.ledger.query(
        "select action from pgsaas.audit_events where account_id is not null"
    )] == ["account.frozen", "account.unfrozen"]  # fmt: skip
    assert scene.ledger.violations() == []


def exported(ledger: Ledger, account: UUID) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in ledger.query("select section, record::text from pgsaas.export_account(%s)", account):
        found.setdefault(row["section"], []).append(json.loads(row["record"]))
    return found


def test_an_export_holds_every_row_and_nothing_of_others(scene: Scene) -> None:
    scene.call("adjust_credits")
    scene.ledger.call("add_member", scene.one, "ada", "admin")
    scene.ledger.call("add_member", scene.two, "mallory", "admin")
    scene.ledger.call("update_account", scene.one, "Ada", "ada@example.com", {"shoe": 38})
    scene.call("transfer_credits", p_metadata={"why": "a gift"})
    everything = exported(scene.ledger, scene.one)
    assert set(everything) == {"account", "balance", "member", "grant", "hold", "transaction",
                               "audit_event"}  # fmt: skip
    [account] = everything["account"]
    assert (account["name"], account["profile"]) == ("Ada", {"shoe": 38})
    assert [m["user_id"] for m in everything["member"]] == ["ada"]
    assert [t["seq"] for t in everything["transaction"]] == [1, 2, 3, 4]
    assert everything["transaction"][-1]["metadata"]["why"] == "a gift"
    assert len(everything["hold"]) == 1
    assert len(everything["grant"]) == 2
    assert [e["action"] for e in everything["audit_event"]] == ["credits.adjusted", "member.added"]
    assert "mallory" not in json.dumps(everything)
    with scene.ledger.raises("PT404"):
        scene.ledger.call_all("export_account", UUID(int=1))


def test_an_export_says_what_is_really_left_of_each_grant(scene: Scene) -> None:
    scene.ledger.done("deduct_credits", scene.one, 7)
    everything = exported(scene.ledger, scene.one)
    left = {grant["grant_id"]: grant["remaining"] for grant in everything["grant"]}
    assert everything["balance"][0]["by_source"] == {"purchase": 843}
    assert left == {1: 843}


def test_an_export_holds_the_terms_and_the_messages_about_an_account(scene: Scene) -> None:
    scene.ledger.done("set_low_balance_at", scene.one, 850)
    scene.ledger.done("set_burn_order", scene.one, "expiring_first")
    scene.ledger.done("deduct_credits", scene.one, 7)
    text = json.dumps(exported(scene.ledger, scene.one))
    missing = [word for word in ("expiring_first", "low_balance_at", "balance.low")
               if word not in text]  # fmt: skip
    assert missing == []


WORDS = ["Planted-Name", "planted@example.com", "planted-profile", "planted-external",
         "planted-member", "planted-description", "planted-metadata", "planted-hold",
         "planted-reason", "planted-adjustment", "planted-key-value"]  # fmt: skip


def plant(ledger: Ledger) -> UUID:
    """An account with every word that can be said about it."""
    ledger.call("set_plan", "free", {"default": True, "allowance": 100})
    account = ledger.account(500, p_name="Planted-Name", p_email="planted@example.com",
                             p_external_id="planted-external",
                             p_profile={"planted-profile": 1})  # fmt: skip
    ledger.call("add_member", account, "planted-member", "admin")
    ledger.call("set_member_role", account, "planted-member", "owner")
    seq = ledger.done("deduct_credits", account, 5, p_description="planted-description",
                      p_metadata={"planted-metadata": "planted-key-value"})["seq"]  # fmt: skip
    ledger.done("refund_credits", account, seq, 1, "planted-reason")
    ledger.done("hold_credits", account, 5, p_description="planted-hold",
                p_metadata={"m": "planted-metadata"})  # fmt: skip
    ledger.done("capture_hold", account, 1, 2, p_metadata={"m": "planted-metadata"})
    ledger.done("hold_credits", account, 3, p_description="planted-hold")
    ledger.done("adjust_credits", account, 5, "planted-adjustment")
    ledger.done("set_overdraft_limit", account, 5, "planted-reason")
    ledger.call("freeze_account", account, "planted-reason")
    ledger.call("unfreeze_account", account, "planted-reason")
    ledger.done("revoke_grant", account, 1, 5, "planted-reason", None, {"planted-metadata": 1})
    return account


def dumped(database: Database) -> str:
    done = subprocess.run(
        [str(database.server.bindir / "pg_dump"), database.dsn],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def test_no_word_about_an_erased_account_is_left_in_the_whole_database(
    own: Ledger, db: Database
) -> None:
    account = plant(own)
    before = dumped(db)
    assert [word for word in WORDS if word not in before] == []
    figures = own.query(
        "select seq, created_at, transaction_type, amount, balance_after, grant_id, hold_id,"
        " ref_seq, allocations from pgsaas.credit_transactions order by seq"
    )
    assert own.call("erase_account", account, "they asked") == {"erase_account": True}
    after = dumped(db)
    assert [word for word in WORDS if word in after] == []
    assert figures == own.query(
        "select seq, created_at, transaction_type, amount, balance_after, grant_id, hold_id,"
        " ref_seq, allocations from pgsaas.credit_transactions order by seq"
    )
    assert own.violations() == []
    assert own.audit("account.erased")[0]["details"] == {"reason": "they asked"}


def test_an_erased_account_stays_frozen_and_gets_no_allowance(ledger: Ledger) -> None:
    account = plant(ledger)
    ledger.call("erase_account", account, "they asked")
    assert ledger.call("erase_account", account, "again") == {"erase_account": False}
    assert len(ledger.audit("account.erased")) == 1
    with ledger.raises("PT422"):
        ledger.call("unfreeze_account", account, "please")
    with ledger.raises("PT404"):
        ledger.call("update_account", account, "a new name")
    with ledger.raises("PT404"):
        ledger.call("add_member", account, "ada")
    assert code(ledger.call("deduct_credits", account, 1)) == "ACCOUNT_FROZEN"
    ledger.at(day("2026-08-01"))
    shown = ledger.balance(account)
    assert (shown["monthly_allowance"], shown["next_reset_at"]) == (0, None)
    ledger.done("add_credits", account, 1)
    assert ledger.violations() == []


@pytest.mark.parametrize(
    ("person", "allowance"),
    [
        ({"p_external_id": "planted-external"}, 0),
        ({"p_email": "planted@example.com"}, 0),
        ({"p_email": "  PLANTED@Example.com "}, 0),
        ({"p_external_id": "somebody", "p_email": "planted@example.com"}, 0),
        ({"p_external_id": "planted-external", "p_realm": "another"}, 100),
        ({"p_external_id": "somebody", "p_email": "somebody@example.com"}, 100),
        ({}, 100),
    ],
)
def test_an_erased_person_gets_no_second_first_allowance(
    ledger: Ledger, person: dict[str, object], allowance: int
) -> None:
    account = plant(ledger)
    ledger.call("erase_account", account, "they asked")
    again = ledger.call("create_account", **person)
    assert again["created"]
    assert again["account_id"] != account
    shown = ledger.balance(again["account_id"])
    assert (shown["balance"], shown["monthly_allowance"]) == (allowance, allowance)


def test_the_hash_of_an_erased_person_is_salted(ledger: Ledger) -> None:
    account = plant(ledger)
    ledger.call("erase_account", account, "they asked")
    hashes = {row["h"] for row in ledger.query(
        "select subject_hash as h from pgsaas.erased_subjects"
    )}  # fmt: skip
    assert len(hashes) == 2
    for text in ("planted@example.com", '["email", "planted@example.com"]'):
        assert ledger.scalar("select sha256(%s::bytea)", text.encode()) not in hashes


@pytest.mark.parametrize("function", ["freeze_account", "unfreeze_account", "erase_account"])
def test_a_user_neither_freezes_nor_erases(scene: Scene, function: str) -> None:
    scene.ledger.call("add_member", scene.one, "ada", "owner")
    scene.ledger.become("pgsaas_app", "ada")
    with pytest.raises(psycopg.Error) as caught, scene.ledger.conn.transaction():
        scene.call(function)
    assert caught.value.sqlstate == "PT403"


def test_a_frozen_account_is_frozen_from_that_moment_on(scene: Scene) -> None:
    """The fast path looks at nothing but next_change_at: it must say so."""
    assert scene.call("deduct_credits")["success"]
    scene.call("freeze_account")
    for clock in (START, day("2027-01-01")):
        scene.ledger.at(clock)
        assert code(scene.call("deduct_credits")) == "ACCOUNT_FROZEN"


def test_an_export_shows_what_is_due_as_done(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 100, p_expires_at=day("2026-03-11"))
    ledger.done("hold_credits", account, 10)
    ledger.at(day("2026-03-12"))
    found = exported(ledger, account)
    assert found["balance"][0]["balance"] == 0
    assert found["grant"][0]["remaining"] == 0
    assert found["hold"][0]["state"] == "lapsed"
    assert ledger.query("select * from pgsaas.open_credit_holds") == []


def test_an_export_has_what_an_archive_left(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 10, p_idempotency_key="order-1")
    ledger.at(day("2026-05-01"))
    ledger.call_all("archive_ledger", account, day("2026-04-01"))
    found = exported(ledger, account)
    assert found["archived_key"][0]["idempotency_key"] == "order-1"
    assert found["checkpoint"][0]["balance_after"] == 10


def organization(ledger: Ledger, **members: str) -> UUID:
    found: UUID = ledger.call("create_account", None, "organization")["account_id"]
    for user, role in members.items():
        ledger.call("add_member", found, user, role)
    return found


def test_erasing_takes_the_person_out_of_organizations_and_of_their_records(
    ledger: Ledger,
) -> None:
    ada = ledger.call("create_account", p_external_id="ada")["account_id"]
    joined = organization(ledger, ada="admin", bo="owner")
    left = organization(ledger, ada="member", bo="owner")
    ledger.call("remove_member", left, "ada")
    ledger.conn.execute("select pgsaas.act_as('ada')")
    ledger.call("add_member", joined, "cy", "member")
    ledger.conn.execute("select set_config('pgsaas.actor', '', true)")
    ledger.call("erase_account", ada, "asked for it")
    assert ledger.query("select user_id from pgsaas.account_members order by 1") == [
        {"user_id": "bo"}, {"user_id": "bo"}, {"user_id": "cy"}
    ]  # fmt: skip
    events = ledger.query(
        "select account_id, action, actor, details from pgsaas.audit_events"
        " where account_id = any (%s) order by audit_event_id",
        [joined, left],
    )
    assert "ada" not in str([(event["actor"], event["details"]) for event in events])
    assert [event["actor"] for event in events if event["details"].get("user_id") == "cy"] == [
        "user:erased role:postgres"
    ]
    assert (events[-1]["account_id"], events[-1]["action"]) == (joined, "member.removed")


def test_the_only_owner_of_an_organization_is_not_erased(ledger: Ledger) -> None:
    ada = ledger.call("create_account", p_external_id="ada")["account_id"]
    theirs = organization(ledger, ada="owner", bo="member")
    with ledger.raises("PT422"):
        ledger.call("erase_account", ada, "asked for it")
    ledger.call("set_member_role", theirs, "bo", "owner")
    assert ledger.call("erase_account", ada, "asked for it")["erase_account"]
