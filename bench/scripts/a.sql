\set account random(1, :accounts)
with taken as (
    update baseline.balances set balance = balance - 1 where account_id = :account and balance >= 1
    returning account_id, balance)
insert into baseline.ledger (account_id, amount, balance_after) select account_id, -1, balance from taken;
