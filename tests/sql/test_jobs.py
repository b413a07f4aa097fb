"""Jobs: authorized in one order, held, charged what they came to, given back when they fail."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from tests.sql.ledger import NOBODY, START, Ledger, Row
from tests.sql.plans import free, set_plans, subscribed

AGENTS: dict[str, dict[str, object]] = {
    "chat": {"credits": 1},
    "music": {"plan": "free", "credits": 15, "actions": {"remix": 4.5}},
    "lab": {"plan": "pro", "credits": 50},
    "games": {"plan": "pro", "credits": 30, "availability": "soon"},
    "old": {"credits": 1, "availability": "disabled"},
    "picky": {"credits": 2, "excluded_plans": ["free"]},
    "gift": {},
}


@pytest.fixture
def shop(ledger: Ledger) -> Ledger:
    set_plans(ledger)
    for name, terms in AGENTS.items():
        ledger.call("set_agent", name, terms)
    return ledger


def start(ledger: Ledger, account: UUID, agent: str = "music", **named: object) -> Row:
    answer = ledger.done("start_job", account, agent, **named)
    assert answer["job_id"] is not None
    return answer


def caps(ledger: Ledger, account: UUID) -> list[tuple[object, ...]]:
    rows = ledger.call_all("list_spend_caps", account)
    return [(row["subject_kind"], row["subject"], row["spent"], row["remaining"]) for row in rows]


def job(ledger: Ledger, account: UUID, job_id: UUID) -> Row:
    rows = ledger.call_all("list_jobs", account)
    return next(row for row in rows if row["job_id"] == job_id)


@pytest.mark.parametrize(
    ("agent", "code", "cost"),
    [
        ("chat", None, 1), ("music", None, 15), ("music.remix", None, 4.5),
        ("music.sing", None, 15),
        ("gift", None, 0), ("lab", "PLAN_REQUIRED", 50), ("games", "PLAN_REQUIRED", 30),
        ("old", "AGENT_NOT_ALLOWED", 1), ("picky", "AGENT_NOT_ALLOWED", 2),
        ("nobody", "AGENT_NOT_ALLOWED", None), ("", "AGENT_NOT_ALLOWED", None),
        (None, "AGENT_NOT_ALLOWED", None),
    ],
)  # fmt: skip
def test_who_may_use_which_agent(
    shop: Ledger, agent: str | None, code: str | None, cost: float | None
) -> None:
    account = shop.account()
    said = shop.call("authorize_agent", account, agent)
    assert (said["success"], said["error_code"]) == (code is None, code)
    assert said["cost"] == (None if cost is None else Decimal(str(cost)))
    assert (said["available"], said["plan_id"]) == (100, "free")
    before = shop.state()
    answer = shop.call("start_job", account, agent)
    assert (answer["success"], answer["error_code"]) == (code is None, code)
    if code:
        assert answer["error_message"] == said["error_message"]
        assert shop.state() == before


def test_the_codes_come_in_their_order(shop: Ledger) -> None:
    """Each obstacle is taken away in turn; the next one then answers."""
    account = subscribed(shop, "pro")
    shop.call("set_subscription_status", account, "paused")
    shop.call("freeze_account", account, "odd")
    ask = {"p_cost": 2000, "p_required_plan": "max"}
    codes = [shop.call("authorize_agent", account, "games", **ask)["error_code"]]
    shop.call("set_subscription_status", account, "active")
    codes.append(shop.call("authorize_agent", account, "games", **ask)["error_code"])
    ask["p_required_plan"] = "FREE"
    codes.append(shop.call("authorize_agent", account, "games", **ask)["error_code"])
    shop.call("set_agent", "games", {"plan": "pro"})
    codes.append(shop.call("authorize_agent", account, "games", **ask)["error_code"])
    ask["p_cost"] = 1
    codes.append(shop.call("authorize_agent", account, "games", **ask)["error_code"])
    shop.call("unfreeze_account", account, "even")
    codes.append(shop.call("authorize_agent", account, "games", **ask)["error_code"])
    assert codes == ["SUBSCRIPTION_INACTIVE", "PLAN_REQUIRED", "AGENT_NOT_ALLOWED",
                     "INSUFFICIENT_CREDITS", "DEDUCTION_FAILED", None]  # fmt: skip


def test_an_account_without_a_subscription_is_inactive(ledger: Ledger) -> None:
    account = ledger.account(100)
    ledger.call("set_agent", "chat", {"credits": 1})
    said = ledger.call("start_job", account, "chat")
    assert (said["error_code"], said["error_message"]) == (
        "SUBSCRIPTION_INACTIVE", "there is no subscription")  # fmt: skip
    assert ledger.call("authorize_agent", NOBODY, "chat")["error_code"] == "ACCOUNT_NOT_FOUND"
    assert ledger.call("start_job", NOBODY, "chat")["error_code"] == "ACCOUNT_NOT_FOUND"


def test_a_job_is_charged_what_it_came_to(shop: Ledger) -> None:
    account = shop.account()
    answer = start(shop, account, p_type="generate", p_input={"prompt": "rain"})
    assert (answer["cost"], answer["available"], answer["seq"]) == (15, 85, None)
    assert job(shop, account, answer["job_id"])["job_status"] == "running"
    done = shop.done("complete_job", account, answer["job_id"], 12, {"url": "x"})
    assert (done["cost"], done["new_balance"], done["available"]) == (12, 88, 88)
    row = job(shop, account, answer["job_id"])
    assert (row["job_status"], row["cost_credits"], row["seq"]) == ("completed", 12, done["seq"])
    assert (row["input"], row["output"]) == ({"prompt": "rain"}, {"url": "x"})
    charged = shop.query(
        "select transaction_type, amount, job_id, agent_id from pgsaas.credit_transactions"
        " where seq = %s", done["seq"]
    )  # fmt: skip
    assert charged == [{"transaction_type": "capture", "amount": -12,
                        "job_id": answer["job_id"], "agent_id": "music"}]  # fmt: skip
    again = shop.done("complete_job", account, answer["job_id"])
    assert (again["replayed"], again["seq"], again["cost"]) == (True, done["seq"], 12)
    with shop.raises("PT409"):
        shop.call("complete_job", account, answer["job_id"], 13)


@pytest.mark.parametrize(
    ("cost", "shortfall", "charged", "code"),
    [(40, "partial", 40, None), (300, "partial", 100, None), (300, "debt", 300, None),
     (300, "refuse", None, "INSUFFICIENT_CREDITS"), (0, "partial", 0, None)],
)  # fmt: skip
def test_a_job_may_come_to_more_than_was_held(
    shop: Ledger, cost: int, shortfall: str, charged: int | None, code: str | None
) -> None:
    account = shop.account()
    job_id = start(shop, account)["job_id"]
    done = shop.call("complete_job", account, job_id, cost, p_shortfall=shortfall)
    assert (done["error_code"], done["success"]) == (code, code is None)
    found = job(shop, account, job_id)
    assert found["job_status"] == ("running" if code else "completed")
    if charged is not None:
        assert done["cost"] == charged
        assert done["new_balance"] == 100 - charged


def test_a_job_that_fails_costs_nothing(shop: Ledger) -> None:
    account = shop.account()
    early, late = (start(shop, account)["job_id"] for _ in range(2))
    assert shop.done("fail_job", account, early, "no sound")["refunded"] == 15
    shop.done("complete_job", account, late)
    assert free(shop, account) == 85
    assert shop.done("fail_job", account, late, "no sound")["refunded"] == 15
    for job_id in (early, late):
        row = job(shop, account, job_id)
        assert (row["job_status"], row["cost_credits"], row["error"]) == ("failed", 0, "no sound")
        again = shop.done("fail_job", account, job_id)
        assert (again["replayed"], again["refunded"]) == (True, 0)
        with shop.raises("PT409"):
            shop.call("complete_job", account, job_id)
    assert free(shop, account) == 100
    assert shop.call_all("verify_ledger") == []


def test_a_job_whose_worker_has_died_is_abandoned(shop: Ledger) -> None:
    account = shop.account()
    dead, late, fails = (start(shop, account)["job_id"] for _ in range(3))
    alive = start(shop, account)
    shop.after(minutes=10)
    shop.done("extend_hold", account, alive["hold_id"], "1 hour")
    shop.after(minutes=5)
    assert free(shop, account) == 85
    states = {row["job_id"]: row["job_status"] for row in shop.call_all("list_jobs", account)}
    assert states == {dead: "abandoned", late: "abandoned", fails: "abandoned",
                      alive["job_id"]: "running"}  # fmt: skip
    assert shop.done("complete_job", account, late, 20)["cost"] == 20  # charged directly
    assert shop.done("fail_job", account, fails)["refunded"] == 0
    assert shop.done("complete_job", account, alive["job_id"])["cost"] == 15
    assert free(shop, account) == 65
    stats = shop.call("job_stats", account)
    assert (stats["jobs"], stats["completed"], stats["failed"], stats["abandoned"]) == (4, 2, 1, 1)
    assert (stats["success_rate"], stats["credits"]) == (Decimal("0.5"), 35)


def test_an_abandoned_job_is_charged_as_far_as_there_are_credits(shop: Ledger) -> None:
    account = shop.account()
    job_id = start(shop, account)["job_id"]
    shop.after(minutes=16)
    shop.done("deduct_credits", account, 95)
    refused = shop.call("complete_job", account, job_id, p_shortfall="refuse")
    assert refused["error_code"] == "INSUFFICIENT_CREDITS"
    assert shop.done("complete_job", account, job_id)["cost"] == 5


def test_a_job_that_was_charged_in_part_is_answered_again_as_the_first_time(shop: Ledger) -> None:
    account = shop.account()
    job_id = start(shop, account)["job_id"]
    first = shop.done("complete_job", account, job_id, 500)
    again = shop.done("complete_job", account, job_id, 500)
    assert (first["cost"], first["replayed"]) == (100, False)
    assert (again["cost"], again["replayed"], again["seq"]) == (100, True, first["seq"])
    with shop.raises("PT409"):
        shop.call("complete_job", account, job_id, 499)


def test_a_failed_job_gives_back_what_was_left_of_its_charge(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 50)", account)
    job_id = start(shop, account)["job_id"]
    seq = shop.done("complete_job", account, job_id)["seq"]
    shop.done("refund_credits", account, seq, 5)
    assert shop.done("fail_job", account, job_id)["refunded"] == 10
    assert free(shop, account) == 1100
    assert shop.scalar("select spent from pgsaas.spend_caps") == 0
    job_id = start(shop, account)["job_id"]
    shop.done("refund_credits", account, shop.done("complete_job", account, job_id)["seq"])
    assert shop.scalar("select spent from pgsaas.spend_caps") == 15
    assert shop.done("fail_job", account, job_id)["refunded"] == 0
    assert job(shop, account, job_id)["job_status"] == "failed"
    assert shop.scalar("select spent from pgsaas.spend_caps") == 0


@pytest.mark.parametrize("minutes", [0, 60])
def test_a_job_whose_hold_was_captured_is_charged_by_that_and_once(
    shop: Ledger, minutes: int
) -> None:
    account = subscribed(shop, "pro")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 50)", account)
    answer = start(shop, account)
    seq = shop.done("capture_hold", account, answer["hold_id"], 12)["seq"]
    captured_at = shop.scalar("select pgsaas.now()")
    shop.after(minutes=minutes)
    seen = job(shop, account, answer["job_id"])
    assert (seen["job_status"], seen["cost_credits"], seen["seq"]) == ("completed", 12, seq)
    assert seen["ended_at"] == captured_at
    assert caps(shop, account) == [("account", "", 12, 38)]
    done = shop.done("complete_job", account, answer["job_id"])
    assert (done["cost"], done["seq"], done["new_balance"]) == (12, seq, 1088)
    assert free(shop, account) == 1088
    assert shop.scalar("select spent from pgsaas.spend_caps") == 12
    assert shop.done("fail_job", account, answer["job_id"])["refunded"] == 12
    assert free(shop, account) == 1100
    assert shop.scalar("select spent from pgsaas.spend_caps") == 0
    assert shop.call_all("verify_ledger") == []


def test_a_job_whose_hold_was_released_is_charged_directly(shop: Ledger) -> None:
    account = shop.account()
    done, failed = (start(shop, account) for _ in range(2))
    for answer in (done, failed):
        shop.done("release_hold", account, answer["hold_id"])
    assert shop.done("complete_job", account, done["job_id"], 12)["cost"] == 12
    assert shop.done("fail_job", account, failed["job_id"])["refunded"] == 0
    assert free(shop, account) == 88


def test_a_late_job_in_shadow_mode_is_charged_all_it_came_to(shop: Ledger) -> None:
    account = shop.account()
    shop.scalar("select pgsaas.set_setting('shadow', 'true')")
    job_id = start(shop, account)["job_id"]
    shop.after(minutes=16)
    assert shop.done("complete_job", account, job_id, 130)["cost"] == 130
    assert shop.balance(account)["owed"] == 30


@pytest.mark.parametrize("shortfall", ["gift", None])
def test_a_shortfall_is_one_of_three_where_nothing_is_held(
    shop: Ledger, shortfall: str | None
) -> None:
    account = shop.account()
    job_id = start(shop, account, "gift")["job_id"]
    with shop.raises("22023"):
        shop.call("complete_job", account, job_id, 5, p_shortfall=shortfall)


def test_free_work_is_a_job_too(shop: Ledger) -> None:
    account = shop.account()
    answer = start(shop, account, "gift")
    assert (answer["cost"], answer["hold_id"]) == (0, None)
    assert shop.done("complete_job", account, answer["job_id"])["seq"] is None
    assert (
        shop.done("complete_job", account, start(shop, account, "gift")["job_id"], 7)["cost"] == 7
    )
    assert free(shop, account) == 93
    gone = start(shop, account, "gift")["job_id"]
    shop.after(minutes=15)
    assert job(shop, account, gone)["job_status"] == "abandoned"


def test_a_key_starts_one_job(shop: Ledger) -> None:
    account = shop.account()
    first = start(shop, account, p_idempotency_key="k", p_input={"a": 1})
    shop.done("complete_job", account, first["job_id"], 3)
    again = start(shop, account, p_idempotency_key="k", p_input={"a": 1})
    assert (again["replayed"], again["job_id"], again["cost"]) == (True, first["job_id"], 15)
    for other in ({"p_input": {"a": 2}}, {"p_cost": 1}, {"p_type": "x"}, {"p_key_name": "y"}):
        with shop.raises("PT409"):
            shop.call("start_job", account, "music", p_idempotency_key="k",
                      **({"p_input": {"a": 1}} | other))  # fmt: skip
    assert len(shop.call_all("list_jobs", account)) == 1


def test_spend_caps_bind_jobs(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    for kind, subject, cap in (("account", "", 100), ("agent", "lab", 60), ("key", "ci", 20)):
        assert shop.scalar(
            "select pgsaas.set_spend_cap(%s, %s, %s, %s, 'day')", account, kind, subject, cap
        )
    first = start(shop, account, "lab")["job_id"]
    full = shop.call("start_job", account, "lab")
    assert (full["error_code"], full["error_message"]) == (
        "DEDUCTION_FAILED", "the spend cap of 60 credits a day is reached (agent lab)")  # fmt: skip
    start(shop, account, p_key_name="ci")
    assert shop.call("start_job", account, "music", p_key_name="ci")["error_code"] is not None
    shop.done("complete_job", account, first, 5)
    last = start(shop, account, "lab")["job_id"]
    shop.done("fail_job", account, last)
    start(shop, account, "lab", p_cost=55)
    refused = shop.call("start_job", account, "chat", p_cost=26)  # 5 + 15 + 55 of 100
    assert "(account)" in refused["error_message"]
    start(shop, account, "chat", p_cost=25)
    shop.after(days=1)
    start(shop, account, "lab")
    spent = shop.query("select subject_kind as k, spent from pgsaas.spend_caps order by 1")
    assert [(row["k"], row["spent"]) for row in spent] == [
        ("account", 50),
        ("agent", 50),
        ("key", 15),
    ]
    assert shop.scalar("select pgsaas.set_spend_cap(%s, 'key', 'ci', null)", account) is True
    assert shop.scalar("select pgsaas.set_spend_cap(%s, 'key', 'ci', null)", account) is False


def test_an_abandoned_job_counts_for_no_cap_once_somebody_looks(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'agent', 'lab', 50, 'month')", account)
    dead = start(shop, account, "lab")["job_id"]
    assert caps(shop, account) == [("agent", "lab", 50, 0)]
    shop.after(minutes=20)
    assert caps(shop, account) == [("agent", "lab", 0, 50)]
    shop.done("fail_job", account, dead)
    assert caps(shop, account) == [("agent", "lab", 0, 50)]
    start(shop, account, "lab")


def test_what_is_spent_of_a_cap_is_told_by_the_present_day_or_month(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.after(days=4)
    shop.scalar("select pgsaas.set_spend_cap(%s, 'agent', 'music', 40, 'day')", account)
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 20, 'month')", account)
    for agent in ("music", "chat"):
        shop.done("complete_job", account, start(shop, account, agent)["job_id"])
    assert caps(shop, account) == [("account", "", 16, 4), ("agent", "music", 15, 25)]
    since, until = shop.query(
        "select counted_since, resets_at from pgsaas.list_spend_caps(%s)", account
    )[1].values()
    assert (since, until) == (START + timedelta(days=4), START.replace(day=15, hour=0))
    shop.after(days=1)
    assert caps(shop, account) == [("account", "", 16, 4), ("agent", "music", 0, 40)]
    shop.after(days=31)
    assert caps(shop, account) == [("account", "", 0, 20), ("agent", "music", 0, 40)]
    since, until = shop.query(
        "select counted_since, resets_at from pgsaas.list_spend_caps(%s)", account
    )[0].values()
    assert (since, until) == (
        START.replace(month=4, day=1, hour=0),
        START.replace(month=5, day=1, hour=0),
    )


def test_a_job_that_nobody_ends_counts_for_no_cap_when_the_next_one_starts(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'agent', 'lab', 100)", account)
    dead, alive = (start(shop, account, "lab") for _ in range(2))
    shop.done("extend_hold", account, alive["hold_id"], "1 hour")
    shop.after(minutes=20)
    start(shop, account, "lab")
    assert shop.call("start_job", account, "lab")["error_code"] == "DEDUCTION_FAILED"
    assert shop.scalar("select spent from pgsaas.spend_caps") == 100
    late = shop.call("complete_job", account, dead["job_id"], 7, p_shortfall="refuse")
    assert (late["success"], late["error_code"]) == (False, "DEDUCTION_FAILED")
    assert late["error_message"] == "the spend caps leave room for 0 credits, not for 7"
    late = shop.done("complete_job", account, dead["job_id"], 7)
    assert (late["cost"], late["seq"]) == (0, None)  # there is no room for it any more
    assert shop.scalar("select spent from pgsaas.spend_caps") == 100


@pytest.mark.parametrize(
    ("shortfall", "charged", "left"),
    [("partial", 60, 0), ("debt", 90, 0), ("refuse", None, 10)],
)
def test_what_a_job_comes_to_stays_within_the_caps(
    shop: Ledger, shortfall: str, charged: int | None, left: int
) -> None:
    account = subscribed(shop, "pro")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 60, 'day')", account)
    shop.scalar("select pgsaas.set_spend_cap(%s, 'agent', 'lab', 1000, 'day')", account)
    job_id = start(shop, account, "lab")["job_id"]
    assert shop.call("complete_job", account, job_id, 40)["cost"] == 40
    job_id = start(shop, account, "lab", p_cost=10)["job_id"]
    answer = shop.call("complete_job", account, job_id, 50, p_shortfall=shortfall)
    if charged is None:
        assert answer["error_code"] == "DEDUCTION_FAILED"
        assert job(shop, account, job_id)["job_status"] == "running"
    else:
        assert answer["cost"] == charged - 40
        again = shop.call("complete_job", account, job_id, 50, p_shortfall=shortfall)
        assert (again["replayed"], again["cost"]) == (True, charged - 40)
    assert caps(shop, account)[0] == ("account", "", 60 - left if charged != 90 else 90, left)


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_cap_binds_what_comes_beyond_what_was_held_before_it(shop: Ledger, seconds: int) -> None:
    account = subscribed(shop, "pro")
    jobs = [start(shop, account, "lab")["job_id"] for _ in range(2)]
    shop.after(seconds=seconds)
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 7)", account)
    assert shop.done("complete_job", account, jobs[0], 70)["cost"] == 57
    assert caps(shop, account) == [("account", "", 7, 0)]
    shop.done("complete_job", account, jobs[1], 20)  # less than it held; the cap never counted it
    assert caps(shop, account) == [("account", "", 7, 0)]
    shop.done("fail_job", account, jobs[0])
    assert caps(shop, account) == [("account", "", 0, 7)]


def test_what_a_job_comes_to_after_midnight_is_bound_by_the_new_day(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 60, 'day')", account)
    shop.scalar("select pgsaas.set_spend_cap(%s, 'agent', 'lab', 200)", account)
    jobs = [start(shop, account, "lab", p_cost=25, p_ttl="1 day")["job_id"] for _ in range(2)]
    shop.after(hours=13)
    assert caps(shop, account) == [("account", "", 0, 60), ("agent", "lab", 50, 150)]
    assert shop.done("complete_job", account, jobs[0], 900)["cost"] == 25 + 60
    assert caps(shop, account) == [("account", "", 60, 0), ("agent", "lab", 110, 90)]
    shop.done("complete_job", account, jobs[1], 5)
    assert caps(shop, account) == [("account", "", 60, 0), ("agent", "lab", 90, 110)]
    shop.done("fail_job", account, jobs[0])  # what was held yesterday is nobody's today
    assert caps(shop, account) == [("account", "", 0, 60), ("agent", "lab", 5, 195)]


@pytest.mark.parametrize("minutes", [0, 20])
def test_a_member_does_not_pass_a_cap_by_debt(shop: Ledger, minutes: int) -> None:
    account = shop.account(p_external_id="ada")
    shop.call("start_subscription", account, "pro")
    job_id = start(shop, account)["job_id"]
    shop.after(minutes=minutes)
    shop.conn.execute("select pgsaas.act_as('ada')")
    with shop.raises("PT403"):
        shop.call("complete_job", account, job_id, 900, p_shortfall="debt")


@pytest.mark.parametrize("was", [None, "day"])
def test_a_cap_gets_nothing_back_of_what_began_before_it(shop: Ledger, was: str | None) -> None:
    account = subscribed(shop, "pro")
    cap = "select pgsaas.set_spend_cap(%s, 'account', '', 60, %s)"
    if was is not None:
        shop.scalar(cap, account, was)
    early = start(shop, account, "lab")["job_id"]
    shop.after(seconds=1)
    shop.scalar(cap, account, "month")
    start(shop, account, "lab")
    shop.done("fail_job", account, early)
    assert shop.scalar("select spent from pgsaas.spend_caps") == 50
    assert shop.call("start_job", account, "lab")["error_code"] == "DEDUCTION_FAILED"


def test_statistics_tell_agents_plans_and_types_apart(shop: Ledger) -> None:
    one, two = shop.account(), subscribed(shop, "pro")
    for account, agent, cost in ((one, "chat", 3), (one, "music", 9), (two, "chat", 5)):
        shop.done("complete_job", account, start(shop, account, agent)["job_id"], cost)
    shop.done("fail_job", two, start(shop, two, "chat")["job_id"])
    rows = shop.call_all("job_stats")
    assert [(r["agent_id"], r["jobs"], r["success_rate"], r["credits"]) for r in rows] == [
        ("music", 1, 1, 9), ("chat", 3, Decimal("0.6667"), 8)]  # fmt: skip
    rows = shop.call_all("job_stats", p_group_by=["agent", "plan"])
    assert [(r["agent_id"], r["plan_id"], r["credits"]) for r in rows] == [
        ("music", "free", 9), ("chat", "pro", 5), ("chat", "free", 3)]  # fmt: skip
    assert shop.call("job_stats", one, p_group_by=[])["credits"] == 12
    with shop.raises("22023"):
        shop.call("job_stats", p_group_by=["moon"])


@pytest.mark.parametrize(
    "named",
    [
        {"p_cost": -1}, {"p_cost": Decimal("NaN")}, {"p_cost": Decimal("0.0000001")},
        {"p_required_plan": "gold"}, {"p_ttl": "25 hours"}, {"p_ttl": "0"}, {"p_key_name": ""},
        {"p_input": {"a": "x" * 20_000}}, {"p_idempotency_key": ""}, {"p_type": "x" * 5000},
    ],
)  # fmt: skip
def test_what_can_be_no_job(shop: Ledger, named: dict[str, object]) -> None:
    account = shop.account()
    with shop.raises("22023"):
        shop.call("start_job", account, "music", **named)


def test_there_is_no_such_job(shop: Ledger) -> None:
    account, other = shop.account(), shop.account()
    theirs = start(shop, other)["job_id"]
    for job_id in (uuid4(), theirs):
        for function in ("complete_job", "fail_job"):
            with shop.raises("PT404"):
                shop.call(function, account, job_id)
    for wrong in ({"p_status": "done"}, {"p_limit": 0}):
        with shop.raises("22023"):
            shop.call_all("list_jobs", account, **wrong)


def test_a_hold_that_was_captured_counts_for_the_caps_at_what_it_took(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 100)", account)
    shop.after(seconds=1)
    first = start(shop, account, "lab", p_cost=10)
    shop.done("capture_hold", account, first["hold_id"], 95, "partial")
    assert shop.call("start_job", account, "lab", p_cost=60)["error_code"] == "DEDUCTION_FAILED"
    last = start(shop, account, "lab", p_cost=1)["job_id"]
    assert shop.done("complete_job", account, last, 200)["cost"] == 5
    assert caps(shop, account) == [("account", "", 100, 0)]


def test_a_job_that_died_leaves_its_room_to_who_completes(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 100)", account)
    shop.after(seconds=1)
    start(shop, account, "lab", p_cost=60, p_ttl="1 minute")
    alive = start(shop, account, "lab", p_cost=40, p_ttl="1 hour")["job_id"]
    shop.after(minutes=5)
    assert shop.done("complete_job", account, alive, 90)["cost"] == 90
    assert caps(shop, account) == [("account", "", 90, 10)]


def test_a_completion_that_is_refused_says_no_cost(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    job_id = start(shop, account, "lab")["job_id"]
    shop.after(minutes=20)
    shop.call("freeze_account", account, "odd")
    refused = shop.call("complete_job", account, job_id, 80)
    assert (refused["error_code"], refused["cost"]) == ("ACCOUNT_FROZEN", None)


def capture(shop: Ledger, account: UUID, amount: int, **named: object) -> UUID:
    """Start a job of 10 credits; the host captures more by itself, twelve minutes later."""
    answer = start(shop, account, "lab", p_cost=10)
    shop.after(minutes=12)
    shop.done("capture_hold", account, answer["hold_id"], amount)
    job_id: UUID = answer["job_id"]
    return job_id


def test_what_a_host_captures_beyond_the_hold_counts_for_the_time_of_that(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.at(START.replace(day=31, hour=23, minute=50))
    for interval, subject in (("month", ("account", "")), ("day", ("agent", "lab"))):
        shop.scalar("select pgsaas.set_spend_cap(%s, %s, %s, 100, %s)", account, *subject, interval)
    capture(shop, account, 90)  # after midnight
    assert caps(shop, account) == [("account", "", 80, 20), ("agent", "lab", 80, 20)]
    assert shop.call("start_job", account, "lab", p_cost=21)["error_code"] == "DEDUCTION_FAILED"
    start(shop, account, "lab", p_cost=20)


def test_what_a_host_captured_yesterday_is_not_of_today(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.at(START.replace(hour=23, minute=40))
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 100, 'day')", account)
    shop.scalar("select pgsaas.set_spend_cap(%s, 'agent', 'lab', 200)", account)
    job_id = capture(shop, account, 90)
    assert caps(shop, account) == [("account", "", 90, 10), ("agent", "lab", 90, 110)]
    shop.after(minutes=15)
    assert caps(shop, account) == [("account", "", 0, 100), ("agent", "lab", 90, 110)]
    start(shop, account, "lab", p_cost=60)
    shop.done("fail_job", account, job_id)
    assert caps(shop, account) == [("account", "", 60, 40), ("agent", "lab", 60, 140)]


def test_a_cap_does_not_count_what_was_captured_before_it(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    job_id = capture(shop, account, 60)
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 100, 'day')", account)
    assert caps(shop, account) == [("account", "", 0, 100)]
    start(shop, account, "lab", p_cost=60)
    shop.done("fail_job", account, job_id)
    assert caps(shop, account) == [("account", "", 60, 40)]


def test_work_that_costs_nothing_passes_a_cap_that_is_used_up(shop: Ledger) -> None:
    account = subscribed(shop, "pro")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 50)", account)
    start(shop, account, "lab")
    shop.scalar("select pgsaas.set_spend_cap(%s, 'account', '', 5)", account)
    start(shop, account, "gift")
