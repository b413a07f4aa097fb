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

create or replace function pgsaas.exact_interval(p_interval interval) returns interval
language sql immutable parallel safe
as $$ select pg_catalog.make_interval(secs => extract(epoch from p_interval)::double precision) $$;
comment on function pgsaas.exact_interval(interval) is
    'The same length in seconds (a day is 24 hours): adding it does not depend on the session''s '
    'time zone.';
