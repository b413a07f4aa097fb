-- A ledger of many deductions: pgsaas_bench.rows_each rows for each of the 10,000 accounts, with keys.
-- The indexes are built as they would have grown: nothing is dropped first.
set synchronous_commit = off;
set maintenance_work_mem = '256MB';
insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, key_scope, transaction_type, amount,
    balance_after, idempotency_key)
select b.account_id, b.seq + n, b.last_at, 1, 'd', 'deduction', -1, b.balance - n, md5(n || '/' || b.account_id)
  from pgsaas.account_balances b
 cross join lateral generate_series(1, current_setting('pgsaas_bench.rows_each')::integer) n;
update pgsaas.account_balances
   set seq = seq + current_setting('pgsaas_bench.rows_each')::integer,
       balance = balance - current_setting('pgsaas_bench.rows_each')::integer,
       head_left = head_left - current_setting('pgsaas_bench.rows_each')::integer;
vacuum (full, analyze) pgsaas.account_balances;
vacuum (analyze) pgsaas.credit_transactions;
