"""Where the configuration comes from, and what never shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgsaas.errors import NoDatabase, PgsaasError
from pgsaas.settings import libpq_url, read_settings

FLAG, SPECIAL, COMMON, LOCAL, TOML = (
    f"postgresql://u@{host}/d" for host in ("flag", "special", "common", "local", "toml")
)


def test_flag_goes_before_environment_before_dotenv_before_toml(tmp_path: Path) -> None:
    environment = {"PGSAAS_DATABASE_URL": SPECIAL, "DATABASE_URL": COMMON, "PGHOST": "h"}
    (tmp_path / ".env").write_text(f'export DATABASE_URL="{LOCAL}"  # here\nX=1\n')
    (tmp_path / "pgsaas.toml").write_text(f'database_url = "{TOML}"\n')

    def found(flag: str | None = None) -> str:
        return read_settings(flag, environment=environment, folder=tmp_path).database_url

    assert found(FLAG) == FLAG
    assert found() == SPECIAL
    del environment["PGSAAS_DATABASE_URL"]
    assert found() == COMMON
    del environment["DATABASE_URL"]
    assert found() == LOCAL
    (tmp_path / ".env").unlink()
    assert found() == TOML
    (tmp_path / "pgsaas.toml").unlink()
    assert found() == ""
    del environment["PGHOST"]
    with pytest.raises(NoDatabase, match="PGSAAS_DATABASE_URL"):
        found()


def test_the_password_is_not_in_the_repr(tmp_path: Path) -> None:
    settings = read_settings("postgresql://u:geheim@h/d", environment={}, folder=tmp_path)
    assert "geheim" not in repr(settings)
    assert "geheim" not in str(settings)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql+psycopg://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u@h/d?schema=public&pgbouncer=true", "postgresql://u@h/d"),
        (
            "postgresql://u@h/d?sslmode=require&schema=x",
            "postgresql://u@h/d?sslmode=require",
        ),
        (
            "postgresql://u@/d?host=/run/pg&port=5433",
            "postgresql://u@/d?host=%2Frun%2Fpg&port=5433",
        ),
        ("host=h dbname=d", "host=h dbname=d"),
    ],
)
def test_addresses_of_other_tools_are_understood(given: str, taken: str) -> None:
    assert libpq_url(given) == taken


def test_a_toml_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "pgsaas.toml").write_text("database_url = \n")
    with pytest.raises(PgsaasError, match=r"pgsaas\.toml cannot be read"):
        read_settings(environment={}, folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("database-url = 'x'", "database-url"),
        ("[pgsaas]\ndatabase_url = 'x'", "pgsaas"),
        ("database_url = 5", "database_url"),
    ],
)
def test_a_toml_file_with_something_else_in_it_is_refused(
    tmp_path: Path, text: str, unknown: str
) -> None:
    (tmp_path / "pgsaas.toml").write_text(text)
    with pytest.raises(PgsaasError, match=f'"{unknown}" means nothing here'):
        read_settings(environment={}, folder=tmp_path)
