\set account random(1, :accounts)
\set key random(1, 9000000000000000000)
with taken as (
    update baseline.balances set balance = balance - 1 where account_id = :account and balance >= 1
    returning account_id, balance)
insert into baseline.keyed_ledger (account_id, amount, balance_after, idempotency_key)
select account_id, -1, balance, :key::text from taken;
