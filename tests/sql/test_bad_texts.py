from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from psycopg.pq import ExecStatus

from tests.sql.ledger import Ledger
from tests.sql.scene import KEYED, TEXTS, Scene, play

KEYS = {
    "": False,
    "k": True,
    "k" * 255: True,
    "k" * 256: False,
    "k" * 10_000: False,
    "é" * 127 + "k": True,  # 255 bytes
    "é" * 128: False,
    "🔑" * 63 + "key": True,
    "🔑" * 64: False,
}
OTHER_KINDS = ["[]", "null", '"text"', "1", "true", '[{"a": 1}]']


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    return play(ledger)


def of_size(size: int) -> dict[str, str]:
    """A JSON object that takes this many bytes as text: 9 for all but the value."""
    return {"k": "x" * (size - 9)}


@pytest.mark.parametrize("function", KEYED)
@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[:1]}{len(key.encode())}")
def test_a_key_has_1_to_255_bytes(scene: Scene, function: str, key: str) -> None:
    if KEYS[key]:
        assert scene.call(function, p_idempotency_key=key)["replayed"] is False
        assert scene.call(function, p_idempotency_key=key)["replayed"] is True
        return
    with scene.ledger.raises("22023"):
        scene.call(function, p_idempotency_key=key)


@pytest.mark.parametrize("function", KEYED)
@pytest.mark.parametrize("metadata", OTHER_KINDS)
def test_metadata_that_is_no_object_raises(scene: Scene, function: str, metadata: str) -> None:
    with scene.ledger.raises("22023"):
        scene.call(function, p_metadata=metadata)


@pytest.mark.parametrize("function", KEYED)
def test_metadata_may_have_16384_bytes_and_no_more(scene: Scene, function: str) -> None:
    size = scene.ledger.scalar("select octet_length((%s::jsonb)::text)", json.dumps(of_size(16384)))
    assert size == 16384
    for wrong in (of_size(16385), of_size(10_000_000)):
        with scene.ledger.raises("22023"):
            scene.call(function, p_metadata=wrong)
    assert scene.call(function, p_metadata=of_size(16384))["success"]


@pytest.mark.parametrize("function", KEYED)
def test_no_metadata_is_as_good_as_an_empty_object(scene: Scene, function: str) -> None:
    assert scene.call(function, p_metadata=None, p_idempotency_key="k")["success"]
    assert scene.call(function, p_metadata={}, p_idempotency_key="k")["replayed"]


@pytest.mark.parametrize("function", KEYED)
def test_metadata_may_be_nested_deep_within_its_bytes(scene: Scene, function: str) -> None:
    deep = '{"a":' * 300 + "1" + "}" * 300
    assert scene.call(function, p_metadata=deep)["success"]
    with scene.ledger.raises("54001"):  # PostgreSQL's own limit, before we are asked
        scene.call(function, p_metadata='{"a":' * 100_000 + "1" + "}" * 100_000)


def test_metadata_read_from_a_table_is_measured_like_metadata_from_the_wire(scene: Scene) -> None:
    scene.ledger.conn.execute("create temp table jobs (about jsonb)")
    scene.ledger.conn.execute(
        "insert into jobs select jsonb_build_object('k', repeat('x', 1000000))"
    )
    with scene.ledger.raises("22023"):
        scene.ledger.query(
            "select d.* from jobs j, pgsaas.deduct_credits(%s, 5, p_metadata => j.about) d",
            scene.one,
        )


@pytest.mark.parametrize("function", TEXTS)
def test_a_description_or_reason_has_at_most_4096_bytes(scene: Scene, function: str) -> None:
    for wrong in ("x" * 4097, "é" * 2049):
        with scene.ledger.raises("22023"):
            scene.call(function, **{TEXTS[function]: wrong})
    scene.call(function, **{TEXTS[function]: "é" * 2048})


@pytest.mark.parametrize("function", ["adjust_credits", "set_overdraft_limit", "freeze_account",
                                      "unfreeze_account", "erase_account"])  # fmt: skip
@pytest.mark.parametrize("reason", [None, "", "  \t\n"])
def test_acts_that_need_a_reason_refuse_none(
    scene: Scene, function: str, reason: str | None
) -> None:
    with scene.ledger.raises("22023"):
        scene.call(function, p_reason=reason)


@pytest.mark.parametrize("function", ["deduct_credits", "hold_credits"])
def test_an_agent_id_has_at_most_255_bytes(scene: Scene, function: str) -> None:
    with scene.ledger.raises("22023"):
        scene.call(function, p_agent_id="é" * 128)
    assert scene.call(function, p_agent_id="é" * 127 + "x")["success"]


def raw_call(ledger: Ledger, parameter: str, value: bytes) -> tuple[str | None, str]:
    """deduct_credits with bytes as they are, which no driver would send."""
    conn: psycopg.Connection[Any] = ledger.conn
    conn.execute("savepoint before")
    done = conn.pgconn.exec_params(
        f"select * from pgsaas.deduct_credits($1, 1, {parameter} => $2::text)".encode(),
        [str(ledger.account(10)).encode(), value],
        param_formats=[0, 1],
    )
    assert done.status == ExecStatus.FATAL_ERROR
    conn.execute("rollback to before")
    state = done.error_field(67)
    return (state.decode() if state else None), done.error_message.decode(errors="replace")


@pytest.mark.parametrize("value", [b"a\x00b", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"])
@pytest.mark.parametrize("parameter", ["p_idempotency_key", "p_description", "p_agent_id"])
def test_nul_and_broken_utf8_are_refused_by_postgresql_as_22021(
    ledger: Ledger, parameter: str, value: bytes
) -> None:
    state, message = raw_call(ledger, parameter, value)
    assert state == "22021"
    assert 'invalid byte sequence for encoding "UTF8"' in message


def test_nul_in_metadata_is_refused_by_postgresql_as_22p05(scene: Scene) -> None:
    with scene.ledger.raises("22P05"):
        scene.call("deduct_credits", p_metadata='{"a": "\\u0000"}')
