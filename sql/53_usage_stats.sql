-- Statistics of use: what an account used, by day, event and dimensions.
--
-- daily_usage_stats holds what the writers have added up (50_usage); what came since is counted
-- from the records themselves, at most 99 of them. A row is found by its key (account, day), so a
-- year of use costs what its days cost, however many records there are. Takes no lock, and looks
-- with the reader's rights: row security decides which accounts there are.

create or replace function pgsaas.get_usage_stats(
    p_account_id uuid, p_from date default null, p_to date default null,
    p_group_by text[] default '{event}')
returns table (period date, event_name text, category text, dimensions jsonb, records bigint,
    quantity numeric, cost numeric)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    v_to constant date := coalesce(p_to, (pgsaas.now() at time zone 'UTC')::date);
    v_from constant date := coalesce(p_from, v_to - 29);
    v_step constant text := (
        select min(g) from unnest(p_group_by) g where g in ('day', 'week', 'month'));
    v_names constant text[] := array(
        select g from unnest(p_group_by) g
         where g not in ('day', 'week', 'month', 'event', 'category') order by g);
begin
    if p_group_by is null or v_from > v_to
       or (select count(*) from unnest(p_group_by) g where g in ('day', 'week', 'month')) > 1 then
        raise exception 'statistics need days in order and one of day, week and month at most'
            using errcode = '22023';
    elsif exists (select from unnest(v_names) n (name)
                   where not exists (select from pgsaas.credit_events e
                                      where n.name = any (e.dimensions))
                     and not exists (select from pgsaas.daily_usage_stats d
                                      where d.account_id = p_account_id
                                        and d.dimensions ? n.name)) then
        raise exception 'there is nothing to group by called %', array_to_string(v_names, ' or ')
            using errcode = '22023',
            hint = 'Group by day, week or month, event, category and names of dimensions.';
    end if;
    return query
        with days as (
            select d.day, d.event_name, d.dimensions, d.records, d.quantity, d.cost
              from pgsaas.daily_usage_stats d
             where d.account_id = p_account_id and d.day between v_from and v_to
            union all    -- what the writers have not added yet
            select (u.occurred_at at time zone 'UTC')::date, u.event_name,
                   coalesce(u.dimensions, '{}'), 1, u.quantity, u.cost
              from pgsaas.usage_records u
             where u.account_id = p_account_id
               and u.usage_id > coalesce((select r.usage_id from pgsaas.usage_rollups r
                                           where r.account_id = p_account_id), 0)
               and u.occurred_at >= v_from::timestamp at time zone 'UTC'
               and u.occurred_at < (v_to + 1)::timestamp at time zone 'UTC')
        select case when v_step is not null then date_trunc(v_step, d.day::timestamp)::date end,
               case when 'event' = any (p_group_by) then d.event_name end,
               case when 'event' = any (p_group_by) or 'category' = any (p_group_by)
                   then e.category end,
               n.named, sum(d.records)::bigint,
               case when 'event' = any (p_group_by) then sum(d.quantity) end, sum(d.cost)
          from days d
          left join pgsaas.credit_events e on e.event_name = d.event_name
         cross join lateral (
               select coalesce(jsonb_object_agg(x.name, d.dimensions -> x.name)
                   filter (where d.dimensions ? x.name), '{}') as named
                 from unnest(v_names) x (name)) n
         group by 1, 2, 3, 4
         order by 1, 2, 3, 4;
end $$;
comment on function pgsaas.get_usage_stats(uuid, date, date, text[]) is
    'What an account used from p_from to p_to (days of UTC, both included; null: the last 30): '
    'records, quantity (only by event: quantities of different events do not add up) and cost, by '
    'day, week or month, event, category and dimensions, each where p_group_by names it. Counts '
    'every record, also those of a moment ago; a refund takes nothing away from what was used. '
    '22023 for days out of order and names that no event has.';
