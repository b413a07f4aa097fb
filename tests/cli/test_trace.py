"""Real requests through the ledger: every credit is compared with the file."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pgsaas.call import call
from pgsaas.cli import demo_run
from pgsaas.demo import replay
from pgsaas.demo.trace import expected_charges, read_trace
from pgsaas.errors import InvalidValue, NoDatabase
from tests.cli.conftest import Shell

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
LINE = "2023-11-16 18:17:03.9799600,4808,10\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Seven requests, one of them for nothing."""
    path = tmp_path / "trace.csv"
    tokens = [(4808, 10), (3180, 8), (110, 27), (7433, 14), (0, 0), (1, 0), (999999, 999999)]
    lines = [f"2023-11-16 18:17:0{n}.9799600,{a},{b}\r\n" for n, (a, b) in enumerate(tokens)]
    path.write_text(HEADER + "".join(lines))
    return path


def test_a_request_has_its_line_and_its_tokens(trace: Path) -> None:
    requests = read_trace(trace).requests
    assert (requests[0].prompt, requests[0].completion) == (4808, 10)
    assert (requests[5].prompt, requests[5].completion) == (1, 0)
    assert [request.line for request in read_trace(trace, 2).requests] == [2, 3]


def test_what_each_account_owes_is_worked_out_from_the_file_alone(trace: Path) -> None:
    assert expected_charges(trace, 3) == [
        Decimal("4.828") + Decimal("7.461") + Decimal("2999.997"),
        Decimal("3.196"),
        Decimal("0.164") + Decimal("0.001"),
    ]
    assert expected_charges(trace, 2, limit=3) == [Decimal("4.992"), Decimal("3.196")]


def test_every_request_is_charged_once(shell: Shell, folder: Path, trace: Path) -> None:
    call = ("demo", "--trace", str(trace), "--accounts", "3", "--folder", str(folder))
    first = shell.json(*call, "--connections", "2")
    assert (first["expected_credits"], first["ledger_credits"]) == (3015.647, 3015.647)
    once, again = first["runs"]
    assert (once["charged"], once["replayed"], once["free"], once["refused"]) == (6, 0, 1, 0)
    assert (again["charged"], again["replayed"], again["credits"]) == (0, 6, 0)
    assert first["differences"] == []

    later = shell(*call)
    assert later.code == 0
    assert "charged 0 (0 credits), replayed 6, refused 0, free of charge 1" in later.out
    assert "by the ledger:  3015.647 credits, equal for every account" in later.out


def test_a_difference_is_named_and_exits_1(
    shell: Shell, folder: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_too_much(path: Path, accounts: int, limit: int | None) -> list[Decimal]:
        first, *others = expected_charges(path, accounts, limit)
        return [first + Decimal("0.001"), *others]

    monkeypatch.setattr(demo_run, "expected_charges", one_too_much)
    differs = shell("demo", "--trace", str(trace), "--accounts", "3", "--folder", str(folder))
    assert differs.code == 1
    assert "pgsaas: account 0: the ledger has 3012.286, the file 3012.287\n" in differs.err


def test_an_interrupted_run_is_finished_by_the_next_one(
    shell: Shell, folder: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def call_twice(conn: Any, function: str, **arguments: Any) -> list[dict[str, Any]]:
        nonlocal calls
        calls += function == "record_usage_batch"
        if calls > 2:
            raise NoDatabase("the cable is out")
        return call(conn, function, **arguments)

    command = ("demo", "--trace", str(trace), "--accounts", "3", "--folder", str(folder))
    with monkeypatch.context() as patched:
        patched.setattr(replay, "call", call_twice)
        broken = shell(*command, "--connections", "1")
    assert (broken.code, broken.err) == (4, "pgsaas: the cable is out\n")
    done = shell.json(*command)
    assert (done["runs"][0]["charged"], done["runs"][0]["replayed"]) == (4, 2)
    assert done["ledger_credits"] == 3015.647


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: the columns must be TIMESTAMP,ContextTokens,GeneratedTokens"),
        (b"time,prompt,completion\n", "line 1: the columns must be"),
        (HEADER.encode(), "has no requests"),
        ((HEADER + LINE + "2023-11-16 18:17:04,48").encode(), "line 3: 3 columns are needed"),
        ((HEADER + LINE + "\n" + LINE).encode(), "line 3: 3 columns are needed"),
        ((HEADER + LINE.replace("10", "1O")).encode(), "line 2: GeneratedTokens is no number"),
        ((HEADER + LINE.replace("4808", "-1")).encode(), "line 2: ContextTokens is no number"),
        ((HEADER + LINE.replace("4808", "1e9")).encode(), "line 2: ContextTokens is no number"),
        ((HEADER + LINE.replace("4808", "")).encode(), "line 2: ContextTokens is no number"),
        ((HEADER + LINE.replace("2023", "soon")).encode(), "line 2: 'soon-11-16"),
        ((HEADER + LINE).encode() + b"\xff\n", "line 3: this is no text in UTF-8"),
    ],
)
def test_a_bad_file_is_one_line_that_says_where(
    shell: Shell, folder: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    refused = shell("demo", "--trace", str(path), "--folder", str(folder))
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(f"pgsaas: {path}")
    assert said in refused.err
    assert refused.err.count("\n") == 1
    assert not (folder / "data").exists()


def test_a_file_that_is_not_there_is_a_usage_error(shell: Shell, tmp_path: Path) -> None:
    assert shell("demo", "--trace", str(tmp_path / "none.csv")).code == 2
    with pytest.raises(InvalidValue, match="cannot be read"):
        read_trace(tmp_path)


def real_trace() -> Path:
    """The file that PGSAAS_TRACE_FILE names, of the Azure Public Dataset."""
    name = os.environ.get("PGSAAS_TRACE_FILE")
    if not name:
        pytest.skip("PGSAAS_TRACE_FILE names no file of the Azure Public Dataset")
    return Path(name)


def test_real_requests_are_charged_exactly(shell: Shell, folder: Path) -> None:
    path = real_trace()
    limit = ("--limit", "1000", "--folder", str(folder))
    done = shell.json("demo", "--trace", str(path), *limit)
    assert done["expected_credits"] == done["ledger_credits"]
    assert done["runs"][0]["charged"] == 1000


@pytest.mark.soak
def test_all_real_requests_are_charged_exactly(shell: Shell, folder: Path) -> None:
    path = real_trace()
    done = shell.json("demo", "--trace", str(path), "--folder", str(folder))
    assert done["expected_credits"] == done["ledger_credits"]
    assert done["runs"][0]["charged"] == done["requests"]
