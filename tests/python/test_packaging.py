"""The distributions carry the SQL: each one migrates from a folder that is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pgsaas.embedded import Server
from pgsaas.resources import packaged
from tests.conftest import temporary_database

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a release is made of, away from the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pgsaas", "sql", "migrations"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    """sdist, and the wheel made from the sdist."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", cwd=source)
    return source / "dist"


def migrates(server: Server, folder: Path, target: Path) -> None:
    """Install `target` into an environment of its own and migrate from `folder`."""
    environment = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
    python = environment / "bin" / "python"
    site = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder)
    # The dependencies and the build backend come from our own environment, appended after the
    # new one's packages; only pgsaas is installed anew.
    ours = Path(pytest.__file__).resolve().parents[1]
    pth = Path(site.strip()) / "zz-dependencies.pth"
    pth.write_text(f"import sys; sys.path.append({str(ours)!r})\n")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"]
    editable = ["--editable"] if target.is_dir() else []
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    run(*pip, *options, *editable, str(target), cwd=folder)
    where = run(python, "-c", "import pgsaas; print(pgsaas.__file__)", cwd=folder)
    assert not Path(where.strip()).is_relative_to(ROOT)
    with temporary_database(server) as database:
        command = [environment / "bin" / "pgsaas"]
        run(*command, "migrate", "--adopt-roles", "--database-url", database.dsn, cwd=folder)
        run(*command, "status", "--database-url", database.dsn, cwd=folder)
        run(*command, "uninstall", "--yes", "--database-url", database.dsn, cwd=folder)


def test_the_wheel_migrates(bare: Server, built: Path, tmp_path: Path) -> None:
    migrates(bare, tmp_path, next(built.glob("*.whl")))


def test_the_sdist_migrates(bare: Server, built: Path, tmp_path: Path) -> None:
    migrates(bare, tmp_path, next(built.glob("*.tar.gz")))


def test_the_editable_install_migrates(bare: Server, source: Path, tmp_path: Path) -> None:
    migrates(bare, tmp_path, source)


def test_every_file_of_sql_and_migrations_is_in_both(built: Path) -> None:
    resources = packaged()
    wanted = {
        str(path.relative_to(resources.root))
        for folder in ("sql", "migrations")
        for path in (resources.root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {f"pgsaas/_data/{name}" for name in wanted} <= names
    assert "pgsaas/py.typed" in names
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        packed = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert wanted <= packed
