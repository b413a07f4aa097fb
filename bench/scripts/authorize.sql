\set account random(1, :accounts)
select * from pgsaas.authorize_agent(lpad(to_hex(:account::int), 32, '0')::uuid, 'music-studio.generate');
