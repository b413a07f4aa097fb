"""pgsaas usage import: every line is recorded once, or said to be wrong by its number."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgsaas.intake import importing
from pgsaas.intake.lines import LONGEST
from tests.cli.conftest import Shell
from tests.conftest import Conn, Database

HEADING = "account,event,quantity,id\n"


@pytest.fixture
def priced(shell: Shell, ada: str) -> Shell:
    shell.ok("events", "set", "call", "--price", '{"model": "unit", "unit": 2}')
    shell.ok("accounts", "create", "--external-id", "bo")
    shell.ok("credits", "add", "bo", "10")
    return shell


def recorded(conn: Conn) -> list[tuple[object, ...]]:
    return conn.execute(
        "select x.external_id, u.event_name, u.quantity, u.cost from pgsaas.usage_records u"
        " join pgsaas.account_external_ids x using (account_id) order by 1, u.usage_id"
    ).fetchall()


def balanced(conn: Conn) -> None:
    assert conn.execute("select * from pgsaas.verify_ledger()").fetchall() == []


@pytest.mark.parametrize("form", ["csv", "csv.gz", "crlf.csv", "bom.csv", "jsonl", "jsonl.gz"])
def test_a_file_is_recorded_once_whatever_its_form(
    priced: Shell, conn: Conn, tmp_path: Path, form: str
) -> None:
    rows = [("ada", "call", 3), ("bo", "call", 1), ("ada", "call", 2)]
    if "csv" in form:
        end = "\r\n" if "crlf" in form else "\n"
        text = end.join(["account,event,quantity", *(f"{a},{e},{q}" for a, e, q in rows), ""])
    else:
        names = ("account", "event", "quantity")
        text = "\n\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows)
    data = (b"\xef\xbb\xbf" if "bom" in form else b"") + text.encode()
    file = tmp_path / f"use.{form}"
    file.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
    done = priced.json("usage", "import", str(file), "--key-by-line")
    assert (done["recorded"], done["replayed"], done["credits"]) == (3, 0, 12)
    assert [row[:3] for row in recorded(conn)] == [rows[0], rows[2], rows[1]]
    again = priced.json("usage", "import", str(file), "--key-by-line")
    assert (again["recorded"], again["replayed"]) == (0, 3)
    assert len(recorded(conn)) == 3
    balanced(conn)


WRONG = {
    "few cells": ("ada,call\n", "4 columns are needed, this line has 2"),
    "many cells": ("ada,call,1,x,y\n", "4 columns are needed, this line has 5"),
    "no number": ("ada,call,one,x\n", "quantity is no number: 'one'"),
    "negative": ("ada,call,-1,x\n", "quantity must be above 0"),
    "other digits": ("ada,call,1_000,x\n", "quantity is no number: '1_000'"),
    "return": ("ada,call,1,x\rada,call,9,y\n", "a carriage return stands within the line"),
    "zero": ("ada,call,0,x\n", "quantity must be above 0"),
    "NaN": ("ada,call,NaN,x\n", "quantity must be above 0"),
    "too much": ("ada,call,1e30,x\n", "quantity must be above 0"),
    "no account": (",call,1,x\n", "account is empty"),
    "unknown account": ("cy,call,1,x\n", 'no account "cy"'),
    "unknown event": ("ada,dance,1,x\n", 'no credit event "dance" (EVENT_NOT_FOUND)'),
    "poor account": ("bo,call,100,x\n", "not enough credits"),
    "code 0": ("ada,ca\0ll,1,x\n", "event has a character of code 0"),
    "no UTF-8": ("ada,ca\udcffll,1,x\n", "no text in UTF-8 (byte 7)"),
    "long line": (f"ada,{'x' * LONGEST},1,x\n", f"longer than {LONGEST:,} bytes"),
    "long key": (f"ada,call,1,{'k' * 256}\n", "idempotency key must have 1 to 255 bytes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_bad_line_is_named_and_stops_or_is_skipped(
    priced: Shell, conn: Conn, tmp_path: Path, name: str
) -> None:
    line, said = WRONG[name]
    file = tmp_path / "use.csv"
    text = f"{HEADING}ada,call,1,a\n{line}ada,call,2,b\n"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    stopped = priced("usage", "import", str(file), "--key", "id")
    assert stopped.code == 1
    assert stopped.err.startswith(f"pgsaas: {file}, line 3: ")
    assert "; all before it is recorded (1 record); mend the line" in stopped.err
    assert [row[2] for row in recorded(conn)] == [1]
    assert said in stopped.err
    assert stopped.err.count("\n") == 1
    skipped = priced("usage", "import", str(file), "--key", "id", "--skip")
    assert skipped.code == 1
    assert f"{file}, line 3: " in skipped.err
    assert skipped.err.endswith("pgsaas: 1 line was skipped\n")
    assert [row[2] for row in recorded(conn)] == [1, 2]
    balanced(conn)


def test_a_quoted_cell_may_go_on_in_the_next_line(
    priced: Shell, conn: Conn, tmp_path: Path
) -> None:
    file = tmp_path / "use.csv"
    file.write_text('account,event,quantity,note\nada,call,1,"one\ntwo"\nada,call,2,"a ""b"""\n')
    assert priced.json("usage", "import", str(file), "--key-by-line")["recorded"] == 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(HEADING.encode() + b"ada,call,1,a\n" * 9)[:-9], "the gzip file is cut off"),
        (b"account,account\n", "line 1: columns need names that differ"),
        (b"\x1f\x8bnonsense", "Unknown compression method"),
    ],
    ids=["cut off", "two names", "no gzip"],  # compressed bytes hold the time
)
def test_a_file_that_cannot_be_read_is_named(
    priced: Shell, tmp_path: Path, data: bytes, said: str
) -> None:
    file = tmp_path / "use.csv"
    file.write_bytes(data)
    refused = priced("usage", "import", str(file), "--key-by-line")
    assert refused.code == 1
    assert said in refused.err
    assert str(file) in refused.err
    assert refused.err.count("\n") == 1


def test_a_file_that_is_not_there_or_has_no_format(priced: Shell, tmp_path: Path) -> None:
    gone = priced("usage", "import", str(tmp_path / "no.csv"), "--key-by-line")
    assert (gone.code, gone.err.count("\n")) == (1, 1)
    assert "no.csv cannot be read: No such file" in gone.err
    (tmp_path / "use.txt").write_text(HEADING)
    assert (
        "say --format" in priced("usage", "import", str(tmp_path / "use.txt"), "--key-by-line").err
    )


def test_cloudevents_are_told_apart_by_source_and_id(
    priced: Shell, conn: Conn, tmp_path: Path
) -> None:
    file = tmp_path / "use.jsonl"
    at = conn.execute("select pgsaas.now()").fetchone()
    assert at
    event = {"specversion": "1.0", "type": "call", "subject": "ada", "time": at[0].isoformat()}
    each = [("/a", "1", 1), ("/a", "2", 2), ("/b", "1", 4), ("/a", "1", 1)]
    lines = [
        {**event, "source": source, "id": id_, "data": {"quantity": quantity}}
        for source, id_, quantity in each
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    done = priced.json("usage", "import", str(file), "--cloudevents")
    assert (done["recorded"], done["replayed"], done["credits"]) == (3, 1, 16)
    assert [row[2] for row in recorded(conn)] == [1, 2, 4]


def test_a_key_that_was_used_for_other_use_is_named(priced: Shell, tmp_path: Path) -> None:
    file = tmp_path / "use.csv"
    file.write_text(f"{HEADING}ada,call,1,a\nada,call,2,a\n")
    refused = priced("usage", "import", str(file), "--key", "id")
    assert 'line 3: idempotency key "a" was used for another request' in refused.err


def test_a_dry_run_prices_and_records_nothing(priced: Shell, conn: Conn, tmp_path: Path) -> None:
    file = tmp_path / "use.csv"
    file.write_text("in,out\n1000,0\n500,20\n")
    options = ["--count", "in=call", "--count", "out=call", "--spread", "3"]
    done = priced.json("usage", "import", str(file), *options, "--dry-run")
    assert (done["recorded"], done["credits"]) == (3, 3040)
    assert recorded(conn) == []
    conn.execute("update pgsaas.installation set mode = 'live'")
    refused = priced("usage", "import", str(file), *options)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "this database is not in test mode" in refused.err
    assert recorded(conn) == []
    conn.execute("update pgsaas.installation set mode = 'test'")
    assert priced.json("usage", "import", str(file), *options)["credits"] == 3040
    assert [row[2] for row in recorded(conn)] == [500, 20, 1000]


def test_an_import_that_is_killed_is_finished_by_the_next(
    priced: Shell, db: Database, conn: Conn, tmp_path: Path
) -> None:
    file = tmp_path / "use.csv"
    file.write_text("in\n" + "".join(f"{1 + n % 7}\n" for n in range(20_000)))
    command = [sys.executable, "-m", "pgsaas", "usage", "import", str(file)]
    command += ["--count", "in=call", "--spread", "7"]
    environment = {**os.environ, "PGSAAS_DATABASE_URL": db.dsn}
    count = "select count(*) from pgsaas.usage_records"
    for _ in range(3):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        was = conn.execute(count).fetchone()
        while conn.execute(count).fetchone() == was and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    stopped = conn.execute(count).fetchone()
    assert stopped
    assert 0 < stopped[0] < 20_000
    done = priced.json("usage", "import", str(file), "--count", "in=call", "--spread", "7")
    assert done["recorded"] + done["replayed"] == 20_000
    assert done["credits"] == 2 * sum(1 + n % 7 for n in range(20_000))
    assert conn.execute(count).fetchone() == (20_000,)
    total = conn.execute("select -sum(amount) from pgsaas.credit_transactions where amount < 0")
    assert total.fetchone() == (done["credits"],)
    balanced(conn)


def test_lines_need_something_that_tells_them_apart(priced: Shell, tmp_path: Path) -> None:
    file = tmp_path / "use.csv"
    file.write_text("account,event\nada,call\n")
    refused = priced("usage", "import", str(file))
    assert refused.code == 2
    assert "--key COLUMN" in refused.err
    assert priced.json("usage", "import", str(file), "--dry-run")["credits"] == 2
    assert priced("usage", "import", str(file), "--key", "event", "--key-by-line").code == 2


def test_a_file_that_is_cut_off_records_nothing(priced: Shell, conn: Conn, tmp_path: Path) -> None:
    """What is fetched again is another file: its lines would be other records."""
    file = tmp_path / "use.csv.gz"
    rows = "".join(f"ada,call,1,{n * 7919}\n" for n in range(5000))
    whole = gzip.compress((HEADING + rows).encode())
    file.write_bytes(whole[:-9])
    refused = priced("usage", "import", str(file), "--key-by-line")
    assert (refused.code, refused.err) == (1, f"pgsaas: {file}: the gzip file is cut off\n")
    damaged = bytearray(whole)
    damaged[-6] ^= 1  # the checksum at the end
    file.write_bytes(damaged)
    assert priced("usage", "import", str(file), "--key-by-line").code == 1
    assert recorded(conn) == []


def test_the_same_content_packed_or_not_is_the_same_file(priced: Shell, tmp_path: Path) -> None:
    plain, packed = tmp_path / "use.csv", tmp_path / "other.csv.gz"
    plain.write_text("account,event\nada,call\nada,call\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert priced.json("usage", "import", str(plain), "--key-by-line")["recorded"] == 2
    assert priced.json("usage", "import", str(packed), "--key-by-line")["replayed"] == 2


def test_a_count_keeps_its_key_beside_another(priced: Shell, tmp_path: Path) -> None:
    file = tmp_path / "use.csv"
    file.write_text("account,id,in,out\nada,a,1,2\n")
    one = ["--key", "id", "--count", "in=call"]
    assert priced.json("usage", "import", str(file), *one)["recorded"] == 1
    both = priced.json("usage", "import", str(file), "--count", "out=call", *one)
    assert (both["recorded"], both["replayed"]) == (1, 1)


@pytest.mark.parametrize("bad", ["ada,call,0,x", "ada,call,1", "cy,call,1,x"])
def test_a_bad_line_stops_at_its_line_wherever_it_is(
    priced: Shell, conn: Conn, tmp_path: Path, bad: str
) -> None:
    file = tmp_path / "use.csv"
    lines = [f"ada,call,{n},{n}" for n in range(1, 8)]
    lines[4:4] = [bad, "ada,call", "ada,dance,1,z"]
    file.write_text(HEADING + "\n".join(lines) + "\n")
    refused = priced("usage", "import", str(file), "--key", "id")
    assert refused.err.startswith(f"pgsaas: {file}, line 6: ")
    assert "all before it is recorded (4 records)" in refused.err
    assert [row[2] for row in recorded(conn)] == [1, 2, 3, 4]
    skipped = priced("usage", "import", str(file), "--key", "id", "--skip", "--json")
    assert [each["line"] for each in skipped.json["bad_lines"]] == [6, 7, 8]
    assert [row[2] for row in recorded(conn)] == [1, 2, 3, 4, 5, 6, 7]


NOTE = "account,event,quantity,id,note\n"


@pytest.mark.parametrize(
    "cells",
    [
        'ada,call,1,b,"hello\nbo,call,4,inj,y\nbye"\n',
        'ada,call,1,b,"hello\nbo,call,4,inj,y\nbye",odd\n',
        'ada,call,1,b 5" disk,"hi\nbo,call,4,inj,y\nbye"\n',
        'ada,call,1,b,"hello\n' + "x\n" * 101 + 'bo,call,4,inj,y\nbye"\n',
        'ada,call,1,b,"hello\nbo,call,4,inj,y\n',
    ],
)
def test_what_stands_within_a_cell_is_never_use_of_somebody(
    priced: Shell, conn: Conn, tmp_path: Path, cells: str
) -> None:
    file = tmp_path / "use.csv"
    file.write_text(NOTE + "ada,call,2,a,ok\n" + cells + "ada,call,3,c,ok\n")
    priced("usage", "import", str(file), "--key", "id", "--skip")
    assert {row[0] for row in recorded(conn)} == {"ada"}


def test_a_cell_without_an_end_stops_everything(priced: Shell, conn: Conn, tmp_path: Path) -> None:
    file = tmp_path / "use.csv"
    file.write_text(HEADING + 'ada,call,4,a\nada,call,1,"2\nada,call,2,b\n')
    for skip in ([], ["--skip"]):
        refused = priced("usage", "import", str(file), "--key", "id", *skip)
        assert refused.code == 1
        assert f"{file}, line 3: a quoted cell has no end: nothing after it can" in refused.err
        assert [row[2] for row in recorded(conn)] == [4]


def test_a_last_line_that_may_be_cut_off_is_not_recorded(
    priced: Shell, conn: Conn, tmp_path: Path
) -> None:
    file = tmp_path / "use.csv"
    file.write_text(HEADING + "ada,call,1,a\nada,call,2,req-2")
    refused = priced("usage", "import", str(file), "--key", "id")
    assert "line 3: the file ends within this line" in refused.err
    file.write_text(HEADING + "ada,call,1,a\nada,call,2,req-23\n")
    assert priced.json("usage", "import", str(file), "--key", "id")["recorded"] == 1
    assert [row[2] for row in recorded(conn)] == [1, 2]


HUGE = ["1e400000", "1e999999999", "1e-20000", "9" * 20_000, "0." + "1" * 200]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("quantity", f'"{text}"') for text in HUGE),
        ("f", "1e99999999999999999999"),
        ("f", "NaN"),
        ("id", '"\\ud800"'),
        ("kind", '"\\ud800"'),
        ("time", '"2024-01-01T00:00:00+23:00"'),
        ("time", '"9999-12-31T23:00:00-12:00"'),
        ("account", '"' + ":" * 60_000 + '"'),
        ("quantity", "[" * 20_000),
        ("quantity", '1, "quantity": 2'),
    ],
    ids=range(14),
)
def test_a_value_that_no_database_takes_is_its_lines_own(
    priced: Shell, conn: Conn, tmp_path: Path, name: str, value: str
) -> None:
    priced.ok("events", "set", "call", "--has-dimension", "kind")
    at = conn.execute("select pgsaas.now()").fetchone()
    assert at

    def line(id_: str, **more: str) -> str:
        use = {"account": '"ada"', "event": '"call"', "id": f'"{id_}"', "quantity": "1"}
        use |= {"time": f'"{at[0].isoformat()}"'} | more
        return "{" + ", ".join(f'"{key}": {text}' for key, text in use.items()) + "}\n"

    file = tmp_path / "use.jsonl"
    file.write_text(line("1") + line("2", **{name: value}) + line("3"))
    options = ["--key", "id", "--time", "time", "--dimension", "kind=kind"]
    refused = priced("usage", "import", str(file), *options)
    assert (refused.code, len(refused.err) < 1000, refused.err.count("\n")) == (1, True, 1)
    assert f"{file}, line 2: " in refused.err
    assert len(recorded(conn)) == 1
    skipped = priced("usage", "import", str(file), *options, "--skip", "--json")
    assert [each["line"] for each in skipped.json["bad_lines"]] == [2]
    assert len(recorded(conn)) == 2


@pytest.mark.parametrize("skip", [[], ["--skip"]])
def test_of_a_line_all_is_recorded_or_nothing(
    priced: Shell, conn: Conn, tmp_path: Path, skip: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 4)
    file = tmp_path / "use.csv"
    rows = ["ada,1,1,1,1", "bo,2,1,2,9", "ada,3,1,1,1"]  # bo has 10 credits
    file.write_text("account,id,a,b,c\n" + "\n".join(rows) + "\n")
    counts = [part for name in "abc" for part in ("--count", f"{name}=call")]
    done = priced("usage", "import", str(file), "--key", "id", *counts, *skip)
    assert done.err.count("line 3: ") == 1
    assert [row[0] for row in recorded(conn)] == ["ada"] * (6 if skip else 3)


def test_counts_have_keys_of_their_own(priced: Shell, conn: Conn, tmp_path: Path) -> None:
    file = tmp_path / "use.csv"
    file.write_text("account,id,b,a:b\nada,x,0,2\nada,x:a,2,0\n")
    counts = ["--count", "b=call", "--count", "a:b=call"]
    done = priced.json("usage", "import", str(file), "--key", "id", *counts)
    assert (done["recorded"], done["replayed"]) == (2, 0)
    assert priced("usage", "import", str(file), "--key", "id", *counts, *counts).code == 2
    odd = ["--count", "b=call,kind=x,kind=y"]
    assert priced("usage", "import", str(file), "--key", "id", *odd).code == 2


@pytest.mark.parametrize(
    ("cost", "at", "account"),
    [("-5", "", "ada"), ("0.0000001", "", "ada"), ("1e13", "", "ada"), ("1", "", "cy")],
)
def test_a_dry_run_refuses_what_the_import_would(
    priced: Shell, tmp_path: Path, cost: str, at: str, account: str
) -> None:
    file = tmp_path / "use.csv"
    file.write_text(f"account,event,id,cost\n{account},call,1,{cost}\n")
    options = ["--key", "id", "--cost", "cost"]
    dry = priced("usage", "import", str(file), *options, "--dry-run")
    real = priced("usage", "import", str(file), *options)
    assert dry.code == real.code == 1
    assert dry.err.partition(";")[0] == real.err.partition(";")[0]


def test_what_can_be_read_once_only_is_refused(priced: Shell, tmp_path: Path) -> None:
    pipe = tmp_path / "use.csv"
    os.mkfifo(pipe)
    refused = priced("usage", "import", str(pipe), "--key", "id")
    assert "cannot be read twice" in refused.err


def test_what_a_line_leaves_empty_is_left_to_the_event(
    priced: Shell, conn: Conn, tmp_path: Path
) -> None:
    price = '{"model": "unit", "unit": 3, "dimensions": {"kind": "b"}}'
    priced.ok("events", "set", "tokens", "--price", price, "--has-dimension", "kind")
    file = tmp_path / "use.csv"
    file.write_text("account,event,id,kind,price\nada,call,1,,\nada,tokens,2,b,\nada,call,3,,7\n")
    options = ["--key", "id", "--dimension", "kind=kind", "--cost", "price"]
    done = priced.json("usage", "import", str(file), *options)
    assert (done["recorded"], done["credits"]) == (3, 2 + 3 + 7)
    events = tmp_path / "use.jsonl"
    event = {"specversion": "1.0", "subject": "ada", "source": "/", "type": "call"}
    lines = [{**event, "id": "1"}, {**event, "id": "2", "type": "tokens", "data": {"kind": "b"}}]
    events.write_text("\n".join(map(json.dumps, lines)))
    options = ["--cloudevents", "--dimension", "kind=data.kind"]
    assert priced.json("usage", "import", str(events), *options)["credits"] == 2 + 3


def test_a_column_that_is_not_there_and_one_that_is_not_used_are_named(
    priced: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "use.csv"
    file.write_text("who,event,id,at\nada,call,1,2026-01-01\n")
    refused = priced("usage", "import", str(file), "--key", "id")
    assert 'there is no column "account": the columns are who, event, id, at' in refused.err
    done = priced("usage", "import", str(file), "--key", "id", "--account", "who")
    assert done.err == "columns that are not used: at\n"


def test_a_dry_run_says_which_prices_it_cannot_foresee(priced: Shell, tmp_path: Path) -> None:
    price = (
        '{"model": "graduated", "per": "period", "tiers": [{"up_to": 2, "flat": 0}, {"unit": 1}]}'
    )
    priced.ok("events", "set", "render", "--price", price)
    file = tmp_path / "use.csv"
    file.write_text("account,event\nada,render\n")
    done = priced("usage", "import", str(file), "--dry-run")
    assert "render: tiers per period were counted from nothing" in done.err
