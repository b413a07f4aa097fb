with items as materialized (
    select (random() * 9999)::bigint + 1 as account_id from generate_series(1, 1000)),
folded as (select account_id, count(*) as n from items group by account_id),
taken as (
    update baseline.balances b set balance = b.balance - f.n from folded f
     where b.account_id = f.account_id and b.balance >= f.n returning b.account_id, b.balance)
insert into baseline.keyed_ledger (account_id, amount, balance_after, idempotency_key)
select i.account_id, -1, t.balance, gen_random_uuid()::text from items i join taken t using (account_id);
