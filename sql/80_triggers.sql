-- Triggers: the guard of the ledger, which keeps accidents out (an owner bent on it is not stopped
-- by a trigger; privileges stop everybody else). It lets pass what erasing an account does (free
-- text becomes null, nothing else changes) and what archiving does (rows up to the account's
-- archived_seq go).
--
-- A trigger is created only where it is missing or differs: dropping one waits for every open
-- charge and makes all tenants wait behind it. Replacing its function waits for nobody.

create or replace function pgsaas.guard_ledger() returns trigger
language plpgsql set search_path = ''
as $$
begin
    if tg_op = 'UPDATE' then
        if (new.description is null or new.description = old.description)
           and (new.metadata is null or new.metadata = old.metadata)
           and to_jsonb(new) - 'description' - 'metadata'
               = to_jsonb(old) - 'description' - 'metadata' then
            return new;
        end if;
    elsif tg_op = 'DELETE' then
        if old.seq <= (select b.archived_seq from pgsaas.account_balances b
            where b.account_id = old.account_id) then
            return old;
        end if;
    end if;
    raise exception 'the ledger is append-only' using errcode = 'PT403';
end $$;
comment on function pgsaas.guard_ledger() is
    'Refuses (PT403) to change or delete rows of the ledger, but for erasing and archiving.';

do $$
declare
    v_wanted record;
    v_is text;
begin
    for v_wanted in
        select w.name, w.relation,
               format('create trigger %s %s on pgsaas.%s for each %s '
                   'execute function pgsaas.guard_ledger()', w.name, w.event, w.relation, w.level)
                   as definition
          from (values
              ('credit_transactions_guard', 'credit_transactions',
                  'before delete or update', 'row'),
              ('credit_transactions_guard_truncate', 'credit_transactions',
                  'before truncate', 'statement'))
              w (name, relation, event, level)
    loop
        select pg_catalog.pg_get_triggerdef(t.oid) into v_is from pg_catalog.pg_trigger t
         where t.tgrelid = ('pgsaas.' || v_wanted.relation)::regclass and t.tgname = v_wanted.name;
        if lower(v_is) is distinct from v_wanted.definition then
            if v_is is not null then
                execute format('drop trigger %I on pgsaas.%I', v_wanted.name, v_wanted.relation);
            end if;
            execute v_wanted.definition;
        end if;
        if exists (select from pg_catalog.pg_trigger t
                    where t.tgrelid = ('pgsaas.' || v_wanted.relation)::regclass
                      and t.tgname = v_wanted.name and t.tgenabled not in ('O', 'A')) then
            execute format('alter table pgsaas.%I enable trigger %I', v_wanted.relation,
                v_wanted.name);    -- somebody switched it off
        end if;
        insert into pg_temp.pgsaas_declared (kind, name, relation) values ('trigger',
            v_wanted.name, v_wanted.relation);
    end loop;
end $$;
