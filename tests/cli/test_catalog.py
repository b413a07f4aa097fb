"""pgsaas catalog: a file becomes what is sold, all of it or nothing, and comes out again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgsaas.catalog import PRESETS
from tests.cli.conftest import Shell
from tests.conftest import Conn

FILE = """
[[plans]]
id = "free"
default = true
allowance = 10

[[plans]]
id = "pro"
rank = 1
allowance = 100
prices = [{ interval = "month", currency = "usd", amount = 2900 }]
limits = { projects = 5, videos = { limit = "unlimited", per = "period" } }

[[packs]]
id = "small"
credits = 50
prices = { usd = 500 }
expires_after = "12 months"
discounts = [{ from = 10, percent = 12.5 }]

[[events]]
id = "call"
prices = [{ model = "unit", unit = 0.000001 }]

[[agents]]
id = "painter"
plan = "pro"
credits = 10
actions = { sketch = 2.5 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.toml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_exported_and_applied_again_changes_nothing(
    shell: Shell, tmp_path: Path, name: str
) -> None:
    assert shell.json("catalog", "validate", name)["valid"]
    assert shell("catalog", "export").out == ""
    assert all(c["what"] == "added" for c in shell.json("catalog", "apply", name)["changes"])
    path = tmp_path / "out.toml"
    path.write_text(shell.ok("catalog", "export"))
    assert shell.json("catalog", "plan", str(path))["changes"] == []
    assert shell("catalog", "apply", name).err == "nothing changed\n"


def test_a_plan_says_what_would_change_and_changes_nothing(
    shell: Shell, conn: Conn, file: Path
) -> None:
    shell.ok("catalog", "apply", str(file))
    before = shell.ok("catalog", "export")
    text = FILE.replace("allowance = 100", "allowance = 120").replace("0.000001", "2")
    text = text.replace('[[packs]]\nid = "small"', '[[packs]]\nid = "large"')
    file.write_text(text.replace('id = "free"\ndefault = true', 'id = "none"\ndefault = true'))
    said = shell.ok("catalog", "plan", str(file))
    assert "~ plan pro (version 2)\n    allowance: 100 → 120\n" in said
    for line in ("- plan free\n", "- pack small\n", "+ pack large\n", "+ plan none (version 1)\n"):
        assert line in said
    assert shell.ok("catalog", "export") == before
    assert shell.ok("catalog", "apply", str(file)) == said
    plans = conn.execute("select plan_id, is_retired from pgsaas.subscription_plans order by 1")
    assert plans.fetchall() == [("free", True), ("none", False), ("pro", False)]
    old = conn.execute("select allowance from pgsaas.plan_versions where plan_id = 'pro'")
    assert sorted(old.fetchall()) == [(100,), (120,)]
    file.write_text(FILE)  # a retired plan can be chosen again
    assert "+ plan free" in shell.ok("catalog", "apply", str(file))


SUBSCRIBED = """select pgsaas.start_subscription(
    (pgsaas.create_account(p_external_id => name)).account_id, 'pro', p_currency => currency,
    p_unit_amount => amount)
  from (values %s) v (name, currency, amount)"""


def subscribe(conn: Conn, *values: str) -> None:
    """Accounts with a subscription to pro: name, currency and a price of their own, or null."""
    conn.execute((SUBSCRIBED % ", ".join(values)).encode())


def test_a_plan_names_whom_it_touches(shell: Shell, conn: Conn, file: Path) -> None:
    shell.ok("catalog", "apply", str(file))
    subscribe(conn, "('ada', 'usd', null::bigint)", "('bo', 'usd', null)")
    file.write_text(FILE.replace("allowance = 100", "allowance = 120"))
    said = "~ plan pro (version 2)\n    allowance: 100 → 120\n    2 subscribers keep version 1\n"
    assert shell.ok("catalog", "plan", str(file)) == said
    assert shell.ok("catalog", "apply", str(file)) == said
    subscribe(conn, "('cy', 'usd', null::bigint)", "('di', 'usd', null)")
    conn.execute("select pgsaas.cancel_subscription(pgsaas.account_id_for('di'), false)")
    file.write_text(FILE.replace("allowance = 100", "allowance = 140"))
    found = shell.json("catalog", "plan", str(file))["changes"][0]
    assert (found["name"], found["version"], found["migrated"]) == ("pro", 3, 0)
    assert found["subscribers"] == [
        {"version": 1, "subscribers": 2},
        {"version": 2, "subscribers": 1},
    ]
    file.write_text(FILE[: FILE.index('[[plans]]\nid = "pro"')])
    retired = shell.ok("catalog", "apply", str(file))
    assert retired == (
        "- plan pro\n    2 subscribers keep version 1\n    1 subscriber keeps version 2\n"
    )
    file.write_text(FILE.replace("allowance = 100", "allowance = 120"))  # on sale again
    assert shell.ok("catalog", "apply", str(file)) == (
        "+ plan pro (version 2)\n    2 subscribers keep version 1\n"
    )


def test_only_plans_have_subscribers(shell: Shell, file: Path) -> None:
    for change in shell.json("catalog", "apply", str(file))["changes"]:
        assert ("subscribers" in change, "migrated" in change) == (
            change["section"] == "plans",
            change["section"] == "plans",
        )


def test_subscribers_move_to_the_new_version_when_asked(
    shell: Shell, conn: Conn, file: Path
) -> None:
    shell.ok("catalog", "apply", str(file))
    subscribe(conn, "('ada', 'usd', null::bigint)", "('bo', 'usd', null)")
    text = FILE.replace("allowance = 100", "allowance = 120").replace("2900", "3100")
    file.write_text(text)
    shell.ok("catalog", "apply", str(file))
    text = text.replace("allowance = 120", "allowance = 150").replace("amount = 3100", "amount = 5")
    subscribe(conn, "('cy', 'usd', null::bigint)")
    file.write_text(text.replace('id = "small"', 'id = "large"'))
    said = shell.ok("catalog", "apply", str(file), "--migrate", "--reason", "one price for all")
    assert "    3 subscribers move to version 3\n" in said
    assert "keep" not in said
    terms = "select distinct plan_version, unit_amount from pgsaas.subscriptions"
    assert conn.execute(f"{terms} where plan_id = 'pro'").fetchall() == [(3, 5)]
    available = "select available from pgsaas.credit_balances"
    assert {row[0] for row in conn.execute(available)} == {160}  # 10 were free's
    file.write_text(text.replace("[[plans]]\nid = \"pro\"", "[[plans]]\nid = \"prime\"").replace(
        'plan = "pro"', 'plan = "prime"'))  # fmt: skip
    change = shell.json("catalog", "apply", str(file), "--migrate")["changes"]
    retired = next(each for each in change if each["name"] == "pro")
    assert (retired["what"], retired["migrated"]) == ("retired", 0)
    assert retired["subscribers"] == [{"version": 3, "subscribers": 3}]


def test_a_migration_that_fails_leaves_the_catalog_as_it_was(
    shell: Shell, conn: Conn, file: Path
) -> None:
    shell.ok("catalog", "apply", str(file))
    subscribe(conn, "('ada', 'usd', null::bigint)")
    before = shell.ok("catalog", "export")
    conn.execute(
        "create function public.fail() returns trigger language plpgsql as"
        " $$ begin raise exception 'out of order'; end $$"
    )
    conn.execute(
        "create trigger fail before update on pgsaas.subscriptions"
        " for each row execute function public.fail()"
    )
    file.write_text(FILE.replace("allowance = 100", "allowance = 120"))
    failed = shell("catalog", "apply", str(file), "--migrate")
    assert (failed.code, failed.out, failed.err) == (1, "", "pgsaas: out of order\n")
    assert shell.ok("catalog", "export") == before


def test_a_price_that_subscribers_pay_is_not_taken_away_in_silence(
    shell: Shell, conn: Conn, file: Path
) -> None:
    euro = 'prices = [{ interval = "month", currency = "eur", amount = 2900 }]'
    dollar = euro.replace("eur", "usd")
    both = euro.replace("}]", '}, { interval = "month", currency = "usd", amount = 2900 }]')
    file.write_text(FILE.replace(dollar, both))
    shell.ok("catalog", "apply", str(file))
    subscribe(conn, "('ada', 'usd', null::bigint)", "('bo', 'eur', null)", "('cy', 'chf', 9)")
    file.write_text(FILE.replace(dollar, euro))
    for arguments in (["plan"], ["apply"]):
        told = shell("catalog", *arguments, str(file))
        assert (told.code, told.err) == (
            0,
            'warning: plan "pro" has no price per month in usd any more: 1 of its subscribers '
            "pays one, and keeps it\n"
            "`pgsaas subscriptions list --plan PLAN` names the subscribers of a plan\n",
        )
        assert "    3 subscribers keep version 1\n" in told.out
    file.write_text(FILE.replace(dollar, euro).replace("allowance = 100", "allowance = 120"))
    moved = shell("catalog", "apply", str(file), "--migrate")  # that price went before
    assert (moved.code, moved.err) == (0, "")
    paid = conn.execute(
        "select currency, unit_amount, plan_version from pgsaas.subscriptions"
        " where plan_id = 'pro' order by 1"
    )
    assert paid.fetchall() == [("chf", 9, 3), ("eur", 2900, 3), ("usd", 2900, 3)]


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("rank = 1", "rang = 1", 'line 7: plan "pro" has no "rang"'),
        ("rank = 1", "rank = 1\ndefault = true", "line 7: plan \"pro\" would be a second default"),
        ("amount = 2900", "amount = -1", 'line 7: "amount" must be a number from 0'),
        ("amount = 2900", "amount = 29.5", 'line 7: "amount" must be a number'),
        ('"month"', '"week"', 'line 7: "interval" is month or year'),
        ('currency = "usd"', 'currency = "dollar"', 'needs an "amount" and a "currency"'),
        ("allowance = 100", "allowance = nan", 'line 7: "allowance" must be a number'),
        ("allowance = 100", 'rollover = "some"', 'line 7: "rollover" must be a number'),
        ("allowance = 100", 'renewal_grace = "3 moons"', '"renewal_grace" must be a length'),
        ("projects = 5", "projects = -5", 'line 7: "limit" must be a number'),
        ("projects = 5", 'projects = { per = "period" }', '"projects" of "limits" needs a "limit"'),
        ('per = "period"', 'per = "moon"', '"per" of "videos" is period, not'),
        ("credits = 50", "credits = 0", 'line 14: "credits" must be a number'),
        ("usd = 500", "USD = 500", "line 14: a currency has three small letters"),
        ("percent = 12.5", "percent = 100", "line 14: discounts are for rising quantities"),
        ('"12 months"', '"forever"', 'line 14: "expires_after" must be a length'),
        ("unit = 0.000001", "unit = -1", "line 21: "),
        ('id = "call"', 'id = "call"\nname = "Call"', 'line 21: an event has no "name"'),
        ('id = "pro"', 'id = "free"', "line 7: 'free' is there already, in line 2"),
        ('id = "pro"', 'id = "Pro!"', "line 7: a plan's id has 1 to 100 small letters"),
        ('id = "pro"', "", 'line 7: an entry of plans needs an "id"'),
        ('plan = "pro"', 'plan = "prof"', 'line 25: there is no plan "prof"'),
        ("credits = 10\n", "credits = -1\n", 'line 25: "credits" must be a number'),
        ("sketch = 2.5", "sketch = true", 'line 25: "sketch" must be a number'),
        ("credits = 10\n", 'availability = "never"\n', 'line 25: "availability" is available'),
        ("[[packs]]", "[[boxes]]", 'there is no "boxes"'),
        ("[[packs]]", "[[packs]", "at line 14"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_nothing_is_changed(
    shell: Shell, file: Path, was: str, now: str, said: str
) -> None:
    assert was in FILE
    file.write_text(FILE.replace(was, now, 1))
    for command in ("validate", "apply"):
        refused = shell("catalog", command, str(file))
        assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
        assert said in refused.err
    assert shell("catalog", "export").out == ""


def test_an_action_costs_what_its_agent_asks(shell: Shell, conn: Conn, file: Path) -> None:
    shell.ok("catalog", "apply", str(file))
    for action, cost in {"painter": 10, "painter.sketch": 2.5, "painter.mural": 10}.items():
        row = conn.execute("select pgsaas.get_credit_cost(%s)", [action]).fetchone()
        assert row is not None
        assert float(row[0]) == cost
    shell.ok("events", "set", "painter.mural", "--price", '{"base": 40}')
    assert conn.execute("select pgsaas.get_credit_cost('painter.mural')").fetchone() == (40,)
    file.write_text(FILE.replace('id = "painter"', 'id = "sculptor"'))
    assert "- agent painter\n" in shell.ok("catalog", "apply", str(file))
    listed = conn.execute("select agent_id, availability from pgsaas.list_agents(true)").fetchall()
    assert listed == [("painter", "disabled"), ("sculptor", "available")]
    assert "nothing would change" in shell("catalog", "plan", str(file)).err


def test_packs_cost_less_by_the_dozen(shell: Shell, conn: Conn, file: Path) -> None:
    shell.ok("catalog", "apply", str(file))
    prices = "select credits, prices ->> 'usd', percent_off from pgsaas.list_credit_products(%s)"
    assert conn.execute(prices, [9]).fetchone() == (450, "4500", 0)
    row = conn.execute(prices, [11]).fetchone()
    assert row is not None
    assert (row[0], row[1], float(row[2])) == (550, "4813", 12.5)  # 4812.5 is rounded up


def test_who_may_not_set_prices_may_not_apply_a_catalog(
    shell: Shell, conn: Conn, file: Path
) -> None:
    conn.execute("create role catalog_reader login in role pgsaas_app")
    try:
        shell.use(
            f"host={conn.info.host} port={conn.info.port} dbname={conn.info.dbname}"
            " user=catalog_reader"
        )
        refused = shell("catalog", "apply", str(file))
        assert refused.code == 1
        assert "pgsaas_admin" in refused.err
        assert shell("catalog", "export").code == 0
    finally:
        conn.execute("drop role catalog_reader")


def test_the_catalog_that_the_documentation_prints_can_be_applied(
    shell: Shell, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text()
    printed = tmp_path / "printed.toml"
    printed.write_text(page.split("```toml\n")[1].split("```")[0])
    assert shell.ok("catalog", "validate", str(printed)).endswith(
        "is a catalog of 2 plans, 1 packs, 2 events, 2 agents, 2 rewards\n"
    )
    shell.ok("catalog", "apply", str(printed))
    exported = tmp_path / "exported.toml"
    exported.write_text(shell.ok("catalog", "export"))
    assert shell("catalog", "plan", str(exported)).err == "nothing would change\n"


def test_a_default_plan_that_goes_is_warned_of(shell: Shell, file: Path) -> None:
    file.write_text('[[plans]]\nid = "free"\ndefault = true\n[[plans]]\nid = "pro"\n')
    assert "warning" not in shell("catalog", "apply", str(file)).err
    file.write_text('[[plans]]\nid = "pro"\n')
    said = 'warning: no default plan follows "free": new accounts have no subscription\n'
    assert said in shell("catalog", "plan", str(file)).err
    file.write_text('[[plans]]\nid = "pro"\ndefault = true\n')
    assert "warning" not in shell("catalog", "apply", str(file)).err


@pytest.mark.parametrize("end", ["2030-01-01", "2030-01-01T00:00:00Z", '"2030-01-01T00:00:00Z"'])
def test_a_time_may_be_written_as_toml_does(shell: Shell, file: Path, end: str) -> None:
    file.write_text(f'[[rewards]]\nid = "X"\ncredits = 1\nends_at = {end}\n')
    shell.ok("catalog", "apply", str(file))
    (reward,) = shell.json("rewards", "list")["rewards"]
    assert reward["ends_at"].startswith("2030-01-01T00:00:00")
