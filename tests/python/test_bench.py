"""The bench must not rot: one small row of it, against a server of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.results import Result
from bench.rows import ROWS


def test_a_smoke_run_of_one_row_prints_its_table_and_writes_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "performance.md"
    assert bench.main(["--quick", "--rows", "storage", "--output", str(page)]) == 0
    table = capsys.readouterr().out
    assert table.count("storage per ledger row with its indexes") == 2
    assert table.strip() in page.read_text()
    assert "verify_ledger found: nothing" in page.read_text()


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--rows", "nothing"])
    assert "no row named nothing" in capsys.readouterr().err


def test_every_row_says_what_it_measures() -> None:
    assert all(row.measure.__doc__ for row in ROWS.values())


def test_a_goal_is_met_up_to_its_bound() -> None:
    assert Result("what", "", 1.5, 1.5, "≤").met is True
    assert Result("what", "", 0.7, 0.75, "≥").met is False
    assert Result("what", "measured").met is None
