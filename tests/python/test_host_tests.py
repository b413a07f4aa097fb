"""docs/testing.md: the tests of an application run as they are printed there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgsaas.embedded import Server

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
BLOCKS = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("conftest", [text for name, text in BLOCKS if name == "conftest.py"])
def test_an_application_tests_its_charges(conftest: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(conftest)
    for name, text in BLOCKS:
        if name.startswith("test_"):
            (tmp_path / name).write_text(text)
    parts = dict(part.split("=") for part in server.url().split("?")[1].split("&"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--postgresql-host={parts['host']}", f"--postgresql-port={parts['port']}"),
            "--postgresql-user=postgres",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
