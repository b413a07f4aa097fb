-- Accounts beside the 10,000 whose month has ended a minute ago: a third with a half-spent pack as head, the others with
-- a partly spent allowance as head. The head's own row is stale, as it is in life. verify_ledger() must find nothing.
set synchronous_commit = off;
insert into pgsaas.accounts (account_id, kind, created_at)
select lpad(to_hex(g), 32, '0')::uuid, 'user', now()
  from generate_series(1000001, 1000000 + current_setting('pgsaas_bench.accounts')::integer) g;
insert into pgsaas.account_balances (account_id, seq, last_at, balance, head_left, head_grant_id, head_source, other_free,
    grant_count, not_spent, lifetime_earned, allowance, period_granted, rollover_limit, period_anchor, next_reset_at,
    next_expiry_at, next_change_at)
select lpad(to_hex(g), 32, '0')::uuid, 2 + 2 * f.packs, p.start_at, f.allowance_left + 50 * f.packs,
       case f.packs when 1 then 50 else f.allowance_left end, 1 + f.packs,
       case f.packs when 1 then 'purchase' else 'allowance' end,
       case f.packs when 1 then jsonb_build_object('allowance', f.allowance_left) else '{}' end, 1 + f.packs,
       1000 + 100 * f.packs, 1000 + 100 * f.packs, 1000, 1000, 500, p.start_at, p.end_at, p.end_at, p.end_at
  from (select date_trunc('minute', now()) - interval '1 month' as start_at,
               pgsaas.period_end(date_trunc('minute', now()) - interval '1 month', 1) as end_at) p
 cross join generate_series(1000001, 1000000 + current_setting('pgsaas_bench.accounts')::integer) g
 cross join lateral (select (g::bigint * 7919) % 999 + 1 as allowance_left, (g % 3 = 1)::integer as packs) f;
create temporary table resets as
select b.*, (b.grant_count - 1)::integer as packs, b.balance - 50 * (b.grant_count - 1) as allowance_left
  from pgsaas.account_balances b
 where b.account_id > lpad(to_hex(1000000), 32, '0')::uuid;
insert into pgsaas.credit_grants (account_id, grant_id, effective_at, expires_at, acquired_at, is_open, source_rank, amount,
    remaining, source)
select r.account_id, 1, r.last_at, r.next_reset_at, r.last_at, true, 6, 1000,
       case r.packs when 1 then r.allowance_left else 1000 end, 'allowance' from resets r
union all
select r.account_id, 2, r.last_at, 'infinity', r.last_at, true, 1, 100, 100, 'purchase' from resets r where r.packs = 1;
insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, transaction_type, amount, balance_after)
select r.account_id, x.seq, r.last_at, x.grant_id, x.type, x.amount, x.after
  from resets r
 cross join lateral (values (1, 1, 'grant', 1000, 1000), (2, 1, 'deduction', r.allowance_left - 1000, r.allowance_left),
           (3, 2, 'grant', 100, r.allowance_left + 100), (4, 2, 'deduction', -50, r.allowance_left + 50))
       x (seq, grant_id, type, amount, after)
 where x.seq <= r.seq;
vacuum analyze;
