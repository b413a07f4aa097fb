-- 200 accounts more: 10001 to 10100 have one spent grant behind them, 10101 to 10200 have 1,000. Each has
-- one open purchase grant left.
set synchronous_commit = off;
create temporary table counts as
select g as number, lpad(to_hex(g), 32, '0')::uuid as account_id, case when g <= 10100 then 1 else 1000 end as spent
  from generate_series(10001, 10200) g;
insert into pgsaas.accounts (account_id, kind, created_at) select account_id, 'user', now() from counts;
insert into pgsaas.credit_grants (account_id, grant_id, effective_at, expires_at, acquired_at, is_open, source_rank,
    amount, remaining, source)
select c.account_id, n, now(), 'infinity', now(), n > c.spent, 1, case when n > c.spent then 1000000 else 10 end,
       case when n > c.spent then 1000000 else 0 end, 'purchase'
  from counts c cross join lateral generate_series(1, c.spent + 1) n;
insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, transaction_type, amount, balance_after)
select c.account_id, 2 * n - 1 + x.is_spent, now(), n, case x.is_spent when 0 then 'grant' else 'deduction' end,
       case when n > c.spent then 1000000 when x.is_spent = 0 then 10 else -10 end,
       case when n > c.spent then 1000000 when x.is_spent = 0 then 10 else 0 end
  from counts c cross join lateral generate_series(1, c.spent + 1) n cross join (values (0), (1)) x (is_spent)
 where n <= c.spent or x.is_spent = 0;
insert into pgsaas.account_balances (account_id, seq, last_at, balance, head_left, head_grant_id, head_source,
    grant_count, not_spent, lifetime_earned)
select c.account_id, 2 * c.spent + 1, now(), 1000000, 1000000, c.spent + 1, 'purchase', c.spent + 1,
       1000000 + 10 * c.spent, 1000000 + 10 * c.spent
  from counts c;
vacuum (analyze) pgsaas.credit_grants, pgsaas.credit_transactions, pgsaas.account_balances;
