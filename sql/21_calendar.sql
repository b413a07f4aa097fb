-- The calendar: when periods end. Pure arithmetic in UTC, independent of any session setting.
--
-- A period is counted from its anchor, never from the end before it, so a subscription of 31
-- January ends its months on 28 February, 31 March, 30 April. Intervals that came from subtracting
-- two times are turned into seconds before they are added: '1 day' would be 23 or 25 hours in a
-- session whose zone changes its clocks.

create or replace function pgsaas.period_end(p_anchor timestamptz,
    p_count integer) returns timestamptz
language sql immutable parallel safe
as $$
    select (p_anchor at time zone 'UTC' + pg_catalog.make_interval(months => p_count))
        at time zone 'UTC'
$$;
comment on function pgsaas.period_end(timestamptz, integer) is
    'End of the p_count-th month after the anchor, counted from the anchor: 31 Jan, 28 Feb, 31 '
    'Mar.';

create or replace function pgsaas.months_since(p_anchor timestamptz, p_at timestamptz)
returns integer
language plpgsql immutable parallel safe
as $$
declare
    v_anchor constant timestamp := p_anchor at time zone 'UTC';
    v_at constant timestamp := p_at at time zone 'UTC';
    v_months constant integer := (extract(year from v_at) - extract(year from v_anchor)) * 12
        + extract(month from v_at) - extract(month from v_anchor);
begin
    return v_months - (pgsaas.period_end(p_anchor, v_months) > p_at)::integer;
end $$;
comment on function pgsaas.months_since(timestamptz, timestamptz) is
    'How many months after the anchor have ended: n where period_end(anchor, n) <= p_at < '
    'period_end(anchor, n + 1); below 0 before the anchor.';

create or replace function pgsaas.next_period(
    p_anchor timestamptz, p_from timestamptz, p_interval text default 'month')
returns timestamptz
language plpgsql immutable parallel safe
as $$
declare
    v_months constant integer := case p_interval when 'month' then 1 when 'year' then 12 end;
begin
    if v_months is null then
        raise exception 'an interval is month or year, not "%"', p_interval
            using errcode = '22023';
    end if;
    return pgsaas.period_end(p_anchor, v_months
        * (1 + floor(pgsaas.months_since(p_anchor, p_from)::numeric / v_months)::integer));
end $$;
comment on function pgsaas.next_period(timestamptz, timestamptz, text) is
    'The first end of a period (month or year) after p_from, counted from the anchor in UTC: 31 '
    'Jan, 28 Feb, 31 Mar. Null for null; 22023 for another interval.';

create or replace function pgsaas.exact_interval(p_interval interval) returns interval
language sql immutable parallel safe
as $$ select pg_catalog.make_interval(secs => extract(epoch from p_interval)::double precision) $$;
comment on function pgsaas.exact_interval(interval) is
    'The same length in seconds (a day is 24 hours): adding it does not depend on the session''s '
    'time zone.';
