"""Plants every fault (or those whose names contain an argument) and reports what went unnoticed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.fault import Fault
from tests.mutants.faults import FAULTS

ROOT = Path(__file__).parents[2]
AT_ONCE = 2


def run_tests(tests: list[str], folder: Path = ROOT, at_once: int = 1) -> tuple[bool, str]:
    """Whether the tests of this copy of the project pass; and pytest's closing line."""
    shared = ["-n", str(at_once)] if at_once > 1 else []
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            *shared,
            "-m",
            "not soak",
            *tests,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else done.stderr.strip()[-200:]


def plant(fault: Fault, folder: Path) -> None:
    """A copy of the project with the fault in it."""
    for path in ROOT.iterdir():
        if path.is_dir() and path.name not in {".venv", ".git"}:
            shutil.copytree(path, folder / path.name)
        elif path.is_file() and path.name != ".git":
            shutil.copy(path, folder)
    path = folder / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise SystemExit(f"{fault.name}: {fault.file} has {text.count(fault.old)} such places")
    path.write_text(text.replace(fault.old, fault.new))


def try_fault(fault: Fault) -> str | None:
    """None when the test noticed the fault, else what happened."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plant(fault, folder)
        passed, closing = run_tests([fault.test], folder)
    if passed:
        return "unnoticed"
    if not re.search(r"\d+ failed", closing) or re.search(r"\d+ error", closing):
        return f"the faulty project does not start, or the test does not run: {closing}"
    return None


def main() -> None:
    """Exit 0 when every fault was noticed by its test, and every test passes without it."""
    wanted = [fault for fault in FAULTS if all(word in fault.name for word in sys.argv[1:])]
    if not wanted:
        sys.exit(f"no fault is named like {' '.join(sys.argv[1:])}")
    passed, closing = run_tests(sorted({fault.test for fault in wanted}), at_once=AT_ONCE)
    if not passed:
        sys.exit(f"the tests must pass before faults are planted: {closing}")
    unnoticed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for fault, trouble in zip(wanted, pool.map(try_fault, wanted), strict=True):
            print(f"{'NOT NOTICED' if trouble else 'noticed':12} {fault.name}", flush=True)
            if trouble:
                unnoticed += 1
                print(f"             {trouble} ({fault.test})", flush=True)
    print(f"{len(wanted) - unnoticed} of {len(wanted)} faults noticed")
    sys.exit(1 if unnoticed else 0)


if __name__ == "__main__":
    main()
