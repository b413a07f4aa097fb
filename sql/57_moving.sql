-- Moving in: balances that a host kept in a column of its own.
--
-- An attached table may hold what its users had before pgsaas came. Each such balance becomes one
-- grant, under a key, so it comes once however often it is brought in. While the host still keeps
-- its own column (the setting shadow: nothing is refused for lack of credits), host_balances shows
-- where the two differ.
--
-- Both functions read the host's table with the caller's own rights. Lock rule: import_balances
-- locks the accounts that it grants to, in the order of their ids.

create or replace function pgsaas.host_balances(p_table regclass, p_column text)
returns table (account_id uuid, external_id text, theirs numeric, ours numeric)
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
declare
    v_realm text;
    v_id text;
begin
    select a.realm, c.p_id into v_realm, v_id
      from pgsaas.attachments a
     cross join lateral pgsaas.attached_columns(a.realm, a.relation::oid) c
     where a.relation = p_table;
    if v_id is null then
        raise exception 'table % is not attached', p_table using errcode = '22023',
            hint = 'Its rows have no accounts: pgsaas attach gives them theirs.';
    elsif not exists (
            select from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
             where a.attrelid = p_table and a.attname = p_column and a.attnum > 0
               and not a.attisdropped and t.typcategory = 'N') then
        raise exception 'table % has no column "%" of numbers', p_table, p_column
            using errcode = '22023';
    end if;
    return query execute format($query$
        select x.account_id, x.external_id, coalesce(t.%1$I::numeric, 0), b.balance
          from %2$s t
          join pgsaas.account_external_ids x
            on x.realm = $1 and x.external_id = format('%%s', t.%3$I)
          join pgsaas.credit_balances b on b.account_id = x.account_id
         order by x.account_id $query$, p_column, p_table, v_id) using v_realm;
end $$;
comment on function pgsaas.host_balances(regclass, text) is
    'What the rows of an attached table say their users have, in a column of numbers (null: '
    'nothing), beside what pgsaas says. 22023 for a table that is not attached and for no such '
    'column. Owner only.';

create or replace function pgsaas.import_balances(
    p_table regclass, p_column text, p_source text default 'purchase',
    p_limit integer default null, p_idempotency_key text default 'imported-balance')
returns table (imported bigint, credits numeric, imported_before bigint, remaining bigint)
language plpgsql volatile set search_path = ''
as $$
#variable_conflict use_column
declare
    v_wrong record;
begin
    if octet_length(p_idempotency_key) between 1 and 255 is not true then
        raise exception 'an idempotency key has 1 to 255 bytes' using errcode = '22023';
    end if;
    select h.* into v_wrong from pgsaas.host_balances(p_table, p_column) h
     where h.theirs <> round(h.theirs, 6) or not h.theirs between 0 and 1000000000000 limit 1;
    if found then
        raise exception 'the balance of % cannot be a grant: %', v_wrong.external_id,
            v_wrong.theirs using errcode = '22023',
            hint = 'It must be 0 to 10^12, with at most 6 decimals.';
    end if;
    with found as materialized (
        select h.account_id, h.theirs, exists (
               select from pgsaas.credit_transactions t
                where t.account_id = h.account_id and t.idempotency_key = p_idempotency_key
                  and t.key_scope = 'a')
               or exists (
               select from pgsaas.archived_keys k
                where k.account_id = h.account_id and k.idempotency_key = p_idempotency_key
                  and k.key_scope = 'a') as is_there
          from pgsaas.host_balances(p_table, p_column) h
         where h.theirs > 0),
    todo as (select f.account_id, f.theirs from found f where not f.is_there),
    done as (
        select a.seq, t.theirs
          from (select * from todo order by account_id limit p_limit) t
         cross join lateral pgsaas.add_credits(t.account_id, t.theirs,
             format('brought from %s, %s', p_table, p_column), p_source,
             p_idempotency_key => p_idempotency_key) a
         where a.success)
    select count(*), coalesce(sum(d.theirs), 0), (select count(*) from found f where f.is_there),
           (select count(*) from todo) - count(*)
      into imported, credits, imported_before, remaining
      from done d;
    return next;
end $$;
comment on function pgsaas.import_balances(regclass, text, text, integer, text) is
    'Grants each user of an attached table what a column of it says they have, once: a grant of '
    'p_source with a key, which another column needs one of its own of; imported_before counts '
    'whom it had been granted to. With p_limit at most so many per call: call again. '
    '22023 for a balance that cannot be a grant: then nothing is granted. Owner only.';
