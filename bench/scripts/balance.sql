\set account random(1, :accounts)
select * from pgsaas.get_balance(lpad(to_hex(:account::int), 32, '0')::uuid);
