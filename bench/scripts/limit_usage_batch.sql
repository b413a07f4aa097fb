with items as materialized (
    select (random() * 9999)::bigint + 1 as account_id, 'llm_tokens' as event, 1000 as quantity, gen_random_uuid()::text as key
      from generate_series(1, 1000)),
priced as (select i.*, i.quantity * p.unit_price as cost from items i join baseline.prices p using (event)),
folded as (select account_id, sum(cost) as cost from priced group by account_id),
taken as (
    update baseline.balances b set balance = b.balance - f.cost from folded f
     where b.account_id = f.account_id and b.balance >= f.cost returning b.account_id, b.balance),
written as (
    insert into baseline.ledger (account_id, amount, balance_after)
    select p.account_id, -p.cost, t.balance from priced p join taken t using (account_id))
insert into baseline.keyed_usage (account_id, ledger_id, event, quantity, cost, idempotency_key)
select p.account_id, 0, p.event, p.quantity, p.cost, p.key from priced p join taken t using (account_id);
