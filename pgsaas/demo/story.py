"""What the demo tells, as data: a sentence, and the SQL that shows it.

The SQL is text for the reader as much as for the server: each piece runs as it is printed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A sentence and the statements that show it, run one after the other."""

    says: str
    sql: tuple[str, ...]
    #: The SQLSTATE that the last but one statement must end with; it is shown, not a failure.
    refused: str | None = None


STORY = (
    Step(
        "An application has users, and videos that they make.",
        (
            "create schema app",
            "create table app.users (id bigint primary key, email text not null)",
            "create table app.videos (id bigint generated always as identity primary key,\n"
            "    user_id bigint not null references app.users, title text not null)",
            "insert into app.users values (1, 'ada@example.com'), (2, 'bo@example.com')",
        ),
    ),
    Step(
        "Every user gets an account: those who are there now, the others when they sign up.",
        ("select * from pgsaas.attach_users('app.users', p_email => 'email')",),
    ),
    Step(
        "Ada buys 500 credits. The order number is the key, so hearing of it twice is harmless.",
        (
            "select new_balance, grant_id, seq from pgsaas.add_credits(\n"
            "    pgsaas.account_id_for('1'), 500, 'pack of 500', 'purchase',\n"
            "    p_idempotency_key => 'order-1001')",
        ),
    ),
    Step(
        "Both get a welcome bonus that expires in a week.",
        (
            "select new_balance, grant_id, seq from pgsaas.add_credits(\n"
            "    pgsaas.account_id_for('1'), 100, 'welcome', 'bonus', now() + interval '7 days')",
            "select new_balance, grant_id, seq from pgsaas.add_credits(\n"
            "    pgsaas.account_id_for('2'), 100, 'welcome', 'bonus', now() + interval '7 days')",
        ),
    ),
    Step(
        "A charge is part of the application's own transaction. This one is rolled back:\n"
        "the video is gone, and so is the charge.",
        (
            "begin",
            "insert into app.videos (user_id, title) values (1, 'Sunrise')",
            "select success, new_balance, seq from pgsaas.deduct_credits(\n"
            "    pgsaas.account_id_for('1'), 120.5, p_idempotency_key => 'video-1')",
            "rollback",
            "select (select count(*) from app.videos) as videos, available\n"
            "  from pgsaas.get_balance(pgsaas.account_id_for('1'))",
        ),
    ),
    Step(
        "The same once more, committed.",
        (
            "begin",
            "insert into app.videos (user_id, title) values (1, 'Sunrise')",
            "select success, new_balance, seq from pgsaas.deduct_credits(\n"
            "    pgsaas.account_id_for('1'), 120.5, p_idempotency_key => 'video-1')",
            "commit",
            "select (select count(*) from app.videos) as videos, available\n"
            "  from pgsaas.get_balance(pgsaas.account_id_for('1'))",
        ),
    ),
    Step(
        "The answer got lost and the request comes again, with its key: same answer, no charge.",
        (
            "select success, new_balance, seq, replayed from pgsaas.deduct_credits(\n"
            "    pgsaas.account_id_for('1'), 120.5, p_idempotency_key => 'video-1')",
        ),
    ),
    Step(
        "Work whose price is not known yet: 60 are held, 42.25 are used, the rest is free again.\n"
        "Were the worker to die, the hold would lapse by itself.",
        (
            "select hold_id, new_balance, available from pgsaas.hold_credits(\n"
            "    pgsaas.account_id_for('1'), 60, '10 minutes')",
            "select captured, new_balance, available, seq from pgsaas.capture_hold(\n"
            "    pgsaas.account_id_for('1'), 1, 42.25)",
        ),
    ),
    Step(
        "Part of the video was noise: 20.5 of row 3 go back to where they came from.",
        (
            "select new_balance, seq from pgsaas.refund_credits(\n"
            "    pgsaas.account_id_for('1'), 3, 20.5, 'noise')",
        ),
    ),
    Step(
        "A larger charge. Purchased credits burn first, and each charge can be explained.",
        (
            "select new_balance, seq from pgsaas.deduct_credits(\n"
            "    pgsaas.account_id_for('1'), 400, p_description => 'a feature film')",
            "select part, grant_id, source, amount\n"
            "  from pgsaas.explain_deduction(pgsaas.account_id_for('1'), 6)",
        ),
    ),
    Step(
        "57.75 are left. At zero the next charge is refused: an answer, not an error, so the\n"
        "transaction lives on.",
        (
            "select success, new_balance, available from pgsaas.deduct_credits(\n"
            "    pgsaas.account_id_for('1'), 57.75)",
            "select success, available, error_code, error_message from pgsaas.deduct_credits(\n"
            "    pgsaas.account_id_for('1'), 0.01)",
        ),
    ),
    Step(
        "Applications think in calls and tokens. An event has a price, and one call prices the\n"
        "use, charges it and records it: 12,000 tokens of a prompt at 1 credit per 1,000.",
        (
            "select event_name, changed from pgsaas.set_credit_event('llm_tokens', '[\n"
            '    {"model": "package", "size": 1000, "unit": 1, "dimensions": {"kind": "prompt"}},\n'
            '    {"model": "package", "size": 1000, "unit": 2,\n'
            '     "dimensions": {"kind": "completion"}}\n'
            "  ]', p_dimensions => '{kind}')",
            "select cost, new_balance, seq, usage_id from pgsaas.record_usage(\n"
            "    pgsaas.account_id_for('2'), 'llm_tokens', 12000, '{\"kind\": \"prompt\"}')",
            "select event_name, records, quantity, cost\n"
            "  from pgsaas.get_usage_stats(pgsaas.account_id_for('2'))",
        ),
    ),
    Step(
        "Bo, an end user, reads the same tables: only Bo's rows are there, and no credits move.",
        (
            "begin",
            "set local role pgsaas_user",
            """set local request.jwt.claims = '{"sub": "2"}'""",
            "select e.external_id, b.balance, b.available from pgsaas.credit_balances b\n"
            "  join pgsaas.account_external_ids e using (account_id)",
            "select * from pgsaas.add_credits(pgsaas.account_id_for('2'), 1000)",
            "rollback",
        ),
        refused="42501",
    ),
    Step(
        "This database has a test clock. Eight days later Bo's bonus has expired, by itself.",
        (
            "select pgsaas.advance_clock('8 days') > now() as is_later",
            "select balance, lifetime_earned, lifetime_spent\n"
            "  from pgsaas.get_balance(pgsaas.account_id_for('2'))",
            "select pgsaas.reset_clock() = now() as is_now",
        ),
    ),
    Step(
        "Ada's ledger: numbered without gaps, each row with the balance after it.",
        (
            "select seq, transaction_type, amount, balance_after, description\n"
            "  from pgsaas.list_transactions(pgsaas.account_id_for('1')) order by seq",
        ),
    ),
    Step(
        "Plans and agents are data, too (`pgsaas catalog` keeps them in a file). Who signs up is\n"
        "on the default plan, and has its credits.",
        (
            "select plan_id, version from pgsaas.set_plan('free',\n"
            """    '{"default": true, "allowance": 100}')""",
            "select plan_id, version from pgsaas.set_plan('pro',\n"
            """    '{"rank": 1, "allowance": 1000, "rollover": 500,\n"""
            """      "prices": [{"interval": "month", "currency": "usd", "amount": 2900}]}')""",
            "select agent_id from pgsaas.set_agent('voice-lab',\n"
            """    '{"plan": "pro", "credits": 50}')""",
            "insert into app.users values (3, 'cy@example.com')",
            "select plan_id, status, monthly_allowance\n"
            "  from pgsaas.get_subscription(pgsaas.account_id_for('3'))",
        ),
    ),
    Step(
        "Cy wants an agent that the free plan does not include: asked before any work is done.",
        (
            "select success, error_code, error_message from pgsaas.authorize_agent(\n"
            "    pgsaas.account_id_for('3'), 'voice-lab')",
        ),
    ),
    Step(
        "Cy pays for Pro. The agent's job holds 50 credits, and is charged the 42 it came to.",
        (
            "select plan_id, status, unit_amount, monthly_allowance\n"
            "  from pgsaas.start_subscription(pgsaas.account_id_for('3'), 'pro')",
            "select success, cost, available from pgsaas.start_job(\n"
            "    pgsaas.account_id_for('3'), 'voice-lab', p_idempotency_key => 'voice-1')",
            "select success, cost, new_balance from pgsaas.complete_job(\n"
            "    pgsaas.account_id_for('3'),\n"
            "    (select job_id from pgsaas.list_jobs(pgsaas.account_id_for('3'))), 42)",
        ),
    ),
    Step(
        "A month passes in a second: up to 500 unused credits roll over, the rest ends, the next\n"
        "1,000 come. The job that does this may be late, or run twice.",
        (
            "select pgsaas.advance_clock('32 days') > now() as is_later",
            "select by_source, available from pgsaas.get_balance(pgsaas.account_id_for('3'))",
            "select accounts_reset, credits_granted, credits_expired, credits_rolled_over\n"
            "  from pgsaas.reset_monthly_credits()",
            "select accounts_reset, credits_granted from pgsaas.reset_monthly_credits()",
            "select by_source, available from pgsaas.get_balance(pgsaas.account_id_for('3'))",
            "select pgsaas.reset_clock() = now() as is_now",
        ),
    ),
    Step(
        "And the proof: every figure recomputed from the rows. A row here would be a violation.",
        ("select * from pgsaas.verify_ledger()",),
    ),
)
