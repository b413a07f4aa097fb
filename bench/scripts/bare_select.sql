\set account random(1, :accounts)
select balance, held, owed, next_change_at, next_reset_at, allowance from pgsaas.account_balances where account_id = lpad(to_hex(:account::int), 32, '0')::uuid;
