from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.sql.ledger import NOBODY, START, Ledger, Row, code, day
from tests.sql.scene import ANSWERING, KEYED, Scene, play

# every argument that makes another request of it
DIFFERENT: dict[str, list[dict[str, object]]] = {
    "deduct_credits": [{"p_amount": 6}, {"p_job_id": NOBODY}, {"p_agent_id": "a"},
                       {"p_agent_id": ""}],
    "hold_credits": [{"p_amount": 6}, {"p_job_id": NOBODY}, {"p_agent_id": "a"},
                     {"p_ttl": "1 hour"}],
    "add_credits": [{"p_amount": 6}, {"p_source": "trial"}, {"p_expires_at": day("2027-01-01")},
                    {"p_effective_at": day("2026-04-01")}, {"p_priority": 1}],
    "refund_credits": [{"p_amount": 6}, {"p_amount": None}, {"p_seq": 1}],
    "revoke_grant": [{"p_amount": 6}, {"p_amount": None}, {"p_grant_id": 2}],
    "transfer_credits": [{"p_amount": 6}, {"p_to": NOBODY}],
    "adjust_credits": [{"p_amount": 6}, {"p_amount": -5}],
    "capture_hold": [{"p_amount": 6}, {"p_amount": None}, {"p_hold_id": 2},
                     {"p_shortfall": "debt"}],
}  # fmt: skip
SAYING = {
    "deduct_credits": "p_description",
    "hold_credits": "p_description",
    "add_credits": "p_description",
    "transfer_credits": "p_description",
    "refund_credits": "p_reason",
    "revoke_grant": "p_reason",
    "adjust_credits": "p_reason",
}


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    return play(ledger)


def original(answer: Row) -> Row:
    """What a replay repeats of an answer."""
    return {
        name: value
        for name, value in answer.items()
        if name not in ("available", "replayed", "unrecovered")
    }


@pytest.mark.parametrize("function", KEYED)
def test_a_replay_repeats_the_answer_with_what_is_available_now(
    scene: Scene, function: str
) -> None:
    first = scene.call(function, p_idempotency_key="k")
    assert first["replayed"] is False
    scene.ledger.done("deduct_credits", scene.one, 7)
    before = scene.ledger.state()
    again = scene.call(function, p_idempotency_key="k")
    assert original(again) == original(first)
    assert again["replayed"] is True
    assert again["available"] == first["available"] - 7
    assert scene.ledger.state() == before


CASES = [
    pytest.param(function, other, id=f"{function}-{next(iter(other))}-{n}")
    for function, others in DIFFERENT.items()
    for n, other in enumerate(others)
]


@pytest.mark.parametrize(("function", "other"), CASES)
def test_another_request_under_a_used_key_raises(
    scene: Scene, function: str, other: dict[str, object]
) -> None:
    scene.call(function, p_idempotency_key="k")
    if other == {"p_to": NOBODY}:
        other = {"p_to": scene.ledger.account()}
    with scene.ledger.raises("PT409"):
        scene.call(function, p_idempotency_key="k", **other)


@pytest.mark.parametrize("function", KEYED)
def test_words_make_no_other_request(scene: Scene, function: str) -> None:
    first = scene.call(function, p_idempotency_key="k", p_metadata={"a": 1})
    named: Row = {"p_idempotency_key": "k", "p_metadata": {"b": 2}}
    if function in SAYING:
        named[SAYING[function]] = "in other words"
    again = scene.call(function, **named)
    assert (again["replayed"], again["seq"]) == (True, first["seq"])


@pytest.mark.parametrize("function", KEYED)
def test_trailing_zeros_make_no_other_request(scene: Scene, function: str) -> None:
    scene.call(function, p_idempotency_key="k", p_amount="5")
    assert scene.call(function, p_idempotency_key="k", p_amount="5.000")["replayed"]
    assert scene.call(function, p_idempotency_key="k", p_amount="05.0")["replayed"]


def test_one_key_serves_every_function_and_every_account_once(scene: Scene) -> None:
    for function in KEYED:
        assert scene.call(function, p_idempotency_key="k")["replayed"] is False
    scene.ledger.done("add_credits", scene.two, 5, p_idempotency_key="k")
    answer = scene.call("deduct_credits", p_account_id=scene.two, p_idempotency_key="k")
    assert answer["replayed"] is False
    for function in KEYED:
        assert scene.call(function, p_idempotency_key="k")["replayed"] is True
    assert scene.ledger.violations() == []


def test_keys_are_compared_byte_by_byte(scene: Scene) -> None:
    keys = ["k", "K", "k ", " k", "ﬁ", "fi", "é", "e\u0301"]
    for key in keys:
        assert scene.call("deduct_credits", p_idempotency_key=key)["replayed"] is False
    for key in keys:
        assert scene.call("deduct_credits", p_idempotency_key=key)["replayed"] is True


SESSIONS = [
    ("timezone", "UTC", "Pacific/Chatham"),
    ("intervalstyle", "postgres", "iso_8601"),
    ("extra_float_digits", "1", "-15"),
    ("datestyle", "ISO, MDY", "German, DMY"),
    ("bytea_output", "hex", "escape"),
]


@pytest.mark.parametrize("function", KEYED)
@pytest.mark.parametrize(("setting", "first", "second"), SESSIONS)
def test_no_session_setting_makes_another_request(
    scene: Scene, function: str, setting: str, first: str, second: str
) -> None:
    named: Row = {"p_idempotency_key": "k", "p_amount": "5.000001"}
    if function == "add_credits":
        named |= {"p_expires_at": day("2026-07-01"), "p_effective_at": day("2026-03-29 01:30")}
    if function == "hold_credits":
        named |= {"p_ttl": "23:59:59.999999"}
    arguments = scene.arguments(function) | named
    places = ", ".join(f"{name} => %s" for name in arguments)
    for value, replayed in ((first, False), (second, True)):
        scene.ledger.conn.execute(f"set local {setting} = '{value}'")
        answer = scene.ledger.scalar(
            f"select replayed from pgsaas.{function}({places})", *arguments.values()
        )
        assert answer is replayed


def test_the_same_ttl_in_other_words_is_the_same_request(scene: Scene) -> None:
    scene.call("hold_credits", p_ttl="15 minutes", p_idempotency_key="k")
    again = scene.call("hold_credits", p_ttl="900 seconds", p_idempotency_key="k")
    assert again["replayed"]


REFUSALS: dict[str, Row] = {
    "deduct_credits": {"p_amount": 2000},
    "hold_credits": {"p_amount": 2000},
    "transfer_credits": {"p_amount": 2000},
    "adjust_credits": {"p_amount": -2000},
    "capture_hold": {"p_amount": 2000},
    "refund_credits": {"p_amount": 2000},
    "revoke_grant": {"p_amount": 2000},
}


@pytest.mark.parametrize("function", REFUSALS)
def test_a_refusal_burns_no_key(scene: Scene, function: str) -> None:
    refused = scene.call(function, p_idempotency_key="k", **REFUSALS[function])
    assert code(refused) is not None
    answer = scene.call(function, p_idempotency_key="k")
    assert (answer["success"], answer["replayed"]) == (True, False)


@pytest.mark.parametrize("function", KEYED)
def test_rolling_back_frees_the_key_and_the_row_number(scene: Scene, function: str) -> None:
    before = scene.ledger.state()
    with scene.ledger.conn.transaction(force_rollback=True):
        first = scene.call(function, p_idempotency_key="k")
    assert scene.ledger.state() == before
    second = scene.call(function, p_idempotency_key="k")
    assert second["replayed"] is False
    assert second == first


def freeze(ledger: Ledger, scene: Scene) -> None:
    ledger.call("freeze_account", scene.one, "a reason")


def wait_for_months(ledger: Ledger, scene: Scene) -> None:
    ledger.at(START.replace(year=2027))
    ledger.done("deduct_credits", scene.one, 1)


def wait_for_the_hold(ledger: Ledger, scene: Scene) -> None:
    ledger.at(START.replace(day=12))


def spend_all(ledger: Ledger, scene: Scene) -> None:
    ledger.done("deduct_credits", scene.one, ledger.available(scene.one))


def erase(ledger: Ledger, scene: Scene) -> None:
    ledger.call("erase_account", scene.one, "a reason")


@pytest.mark.parametrize("function", KEYED)
@pytest.mark.parametrize("event", [freeze, wait_for_months, wait_for_the_hold, spend_all, erase])
def test_a_replay_is_answered_whatever_happened_since(
    scene: Scene, function: str, event: Callable[[Ledger, Scene], Any]
) -> None:
    named: Row = {"p_idempotency_key": "k"}
    if function == "add_credits":
        named["p_expires_at"] = day("2026-03-12")
    first = scene.call(function, **named)
    event(scene.ledger, scene)
    before = scene.ledger.state()
    again = scene.call(function, **named)
    assert original(again) == original(first)
    assert again["replayed"] is True
    assert scene.ledger.state() == before
    assert scene.ledger.violations() == []


@pytest.mark.parametrize("function", ANSWERING)
def test_expanding_the_answer_in_the_select_list_calls_once(scene: Scene, function: str) -> None:
    arguments = scene.arguments(function)
    places = ", ".join(f"{name} => %s" for name in arguments)
    with scene.ledger.conn.transaction(force_rollback=True):
        scene.ledger.query(f"select * from pgsaas.{function}({places})", *arguments.values())
        once = scene.ledger.state()
    scene.ledger.query(f"select (pgsaas.{function}({places})).*", *arguments.values())
    again = scene.ledger.state()
    for event in (once["audit_events"] or []) + (again["audit_events"] or []):
        event.pop("audit_event_id")  # ids of what was rolled back are not used again
    assert again == once
