-- Locks: an account is locked before anything of it is decided.
--
-- One row per account in account_balances is the only thing of the ledger that is ever locked, `for
-- no key update`, so that foreign keys may point to the account meanwhile, and always first;
-- several accounts in the order of their ids. So no two single calls deadlock; a host that charges
-- several accounts in one transaction calls lock_accounts, or a batch. The lock lasts until the
-- transaction ends. Nothing depends on the advisory lock of a hot account.

create or replace function pgsaas.queue_if_hot(p_account_id uuid) returns void
language plpgsql volatile
as $$
begin
    if current_setting('pgsaas.hot_accounts', true) <> ''
       and strpos(current_setting('pgsaas.hot_accounts', true), p_account_id::text) > 0 then
        perform pg_advisory_xact_lock(hashtextextended(p_account_id::text, 7));
    end if;
end $$;
comment on function pgsaas.queue_if_hot(uuid) is
    'Queues on an advisory lock, which is cheaper to wait for than a row, if the account is listed '
    'in pgsaas.hot_accounts. Nothing depends on that lock.';

create or replace function pgsaas.lock_account(p_account_id uuid) returns pgsaas.account_balances
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances;
begin
    perform pgsaas.queue_if_hot(p_account_id);
    select * into v_b from pgsaas.account_balances b where b.account_id = p_account_id
        for no key update;
    return v_b;
end $$;
comment on function pgsaas.lock_account(uuid) is
    'Locks the account until the transaction ends and returns its row; a row of nulls if there is '
    'none.';

create or replace function pgsaas.lock_for(p_account_id uuid,
    p_act text) returns pgsaas.account_balances
language plpgsql volatile
as $$
begin
    if not pgsaas.may(p_account_id, p_act) then
        return null;
    end if;
    return pgsaas.lock_account(p_account_id);
end $$;
comment on function pgsaas.lock_for(uuid, text) is
    'lock_account for a caller who may do this to the account; nulls where they may not know of '
    'it, PT403 where they may not.';

create or replace function pgsaas.lock_in_order(p_account_ids uuid[]) returns integer
language plpgsql volatile
as $$
declare
    v_locked integer;
begin
    perform pgsaas.queue_if_hot(x.id) from (select distinct i.id from unnest(p_account_ids) i (id)
        order by i.id) x
      where current_setting('pgsaas.hot_accounts', true) <> '';
    with locked as (
        select b.account_id from pgsaas.account_balances b where b.account_id = any (p_account_ids)
         order by b.account_id for no key update)
    select count(*) into v_locked from locked;
    return v_locked;
end $$;
comment on function pgsaas.lock_in_order(uuid[]) is
    'Locks several accounts in the order of their ids, the one order everybody uses; returns how '
    'many there are.';

create or replace function pgsaas.lock_accounts(p_account_ids uuid[]) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_id uuid;
begin
    if not pgsaas.acts_as_system() then
        foreach v_id in array coalesce(p_account_ids, '{}') loop
            if not pgsaas.may(v_id, 'spend') then
                p_account_ids := array_remove(p_account_ids, v_id);
            end if;
        end loop;
    end if;
    return pgsaas.lock_in_order(p_account_ids);
end $$;
comment on function pgsaas.lock_accounts(uuid[]) is
    'Locks several accounts until the transaction ends, in the one order that cannot deadlock: '
    'call it first in a transaction that charges several. Returns how many there are that the '
    'caller may know of.';
