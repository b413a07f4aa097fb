-- 10,000 accounts, each with a pack as head, a rollover grant and an allowance. Written straight into the tables, so
-- that it is quick; verify_ledger() must find nothing afterwards.
set synchronous_commit = off;
insert into pgsaas.accounts (account_id, kind, created_at)
select lpad(to_hex(g), 32, '0')::uuid, 'user', now() from generate_series(1, 10000) g;
insert into pgsaas.account_balances (account_id, seq, last_at, balance, head_left, head_grant_id, head_source,
    other_free, grant_count, not_spent, lifetime_earned, allowance, rollover_limit, period_anchor, next_reset_at,
    next_expiry_at, next_change_at, low_balance_at)
select lpad(to_hex(g), 32, '0')::uuid, 3, now(), 1e9 + 1500, 1e9, 1, 'purchase',
       '{"rollover": 500, "allowance": 1000}', 3, 1e9 + 1500, 1e9 + 1500, 1000, 500, now(),
       now() + interval '1 month', now() + interval '1 month', now() + interval '1 month', 100
  from generate_series(1, 10000) g;
insert into pgsaas.credit_grants (account_id, grant_id, effective_at, expires_at, acquired_at, is_open, source_rank,
    amount, remaining, source)
select b.account_id, x.grant_id, b.last_at, case when x.grant_id = 1 then 'infinity' else b.next_reset_at end, b.last_at,
       true, x.source_rank, x.amount, x.amount, x.source
  from pgsaas.account_balances b
 cross join (values (1, 1::smallint, 1e9, 'purchase'), (2, 5::smallint, 500, 'rollover'), (3, 6::smallint, 1000, 'allowance'))
       x (grant_id, source_rank, amount, source);
insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, transaction_type, amount, balance_after)
select g.account_id, g.grant_id, g.effective_at, g.grant_id, 'grant', g.amount, sum(g.amount) over w
  from pgsaas.credit_grants g window w as (partition by g.account_id order by g.grant_id);
select pgsaas.set_credit_event('llm_tokens', '[
    {"model": "package", "unit": 1, "size": 1000, "dimensions": {"kind": "prompt"}},
    {"model": "package", "unit": 2, "size": 1000, "dimensions": {"kind": "completion"}}]', p_dimensions => '{kind}');
vacuum (full, analyze) pgsaas.account_balances;
vacuum analyze;
