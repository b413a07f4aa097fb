-- Resets: the ends of periods of many accounts at once.
--
-- Nothing depends on this: an account whose period has ended is settled by whoever touches it, and
-- shown as settled to whoever looks. The job keeps that work away from people who wait, and makes
-- the tables true for everybody else. It may be called as often as one likes, by several at once,
-- and be killed at any moment: each period of an account ends once.
--
-- Accounts where the end of one period is all that is due are done in one statement, which does
-- what end_period (29_settlement) and store_balance (30_ledger) would do with each; a test holds it
-- to that. All others are settled one by one. Lock rule: rows of account_balances, passing over
-- those that somebody holds. A call that finds nobody else waits for one of them: an account that
-- is never idle is not passed over for good.

create or replace function pgsaas.reset_plain(
    p_limit integer, out p_others uuid[], out p_count bigint, out p_granted numeric,
    out p_expired numeric, out p_rolled numeric)
language plpgsql volatile set plan_cache_mode = 'force_custom_plan' set jit = off
as $$
declare
    v_now constant timestamptz := pgsaas.now();
begin
    with locked as materialized (
        select * from pgsaas.account_balances b where b.next_reset_at <= v_now
         order by b.next_reset_at limit p_limit for no key update skip locked),
    grants as materialized (
        select g.account_id, g.grant_id, g.source, g.priority, g.source_rank, g.expires_at,
               g.acquired_at, g.is_pending, g.amount - g.revoked - g.moved - g.expired as own,
               case when g.root_grant_id is null then g.account_id else g.root_account_id end
                   as root_account_id,
               coalesce(g.root_grant_id, g.grant_id) as root_grant_id,
               case when g.grant_id = b.head_grant_id then b.head_left else g.remaining end as free,
               g.is_open and g.expires_at = b.next_reset_at
                   and g.source in ('allowance', 'rollover') as is_ending
          from locked b
          join pgsaas.credit_grants g
            on g.account_id = b.account_id and (g.is_open or g.is_pending)),
    ending as materialized (    -- the newest roll over first, and are numbered last
        select g.*, count(*) over (partition by g.account_id) as n,
               case when b.rollover_limit is null then g.free
                   else least(g.free, greatest(0, b.rollover_limit + g.free
                       - sum(g.free) over (partition by g.account_id
                           order by g.acquired_at desc, g.grant_id desc))) end as roll
          from grants g join locked b using (account_id)
         where g.is_ending),
    summed as (
        select e.account_id, sum(e.free) as free, sum(e.roll) as roll, max(e.n) as n,
               count(*) filter (where e.roll > 0) as rolls, bool_or(e.free > e.own) as is_odd
          from ending e group by e.account_id),
    kept as (
        select g.account_id, bool_or(g.is_pending) as has_pending, min(g.expires_at) as expires_at
          from grants g where not g.is_ending group by g.account_id),
    due as materialized (
        select b.account_id, b.seq, b.balance, b.allowance, b.burn_order, b.grant_count,
               b.head_grant_id, b.low_balance_at, greatest(b.next_reset_at, b.last_at) as at,
               n.next_at, coalesce(s.roll, 0) as roll, coalesce(s.rolls, 0) as rolls,
               coalesce(s.free - s.roll, 0) as gone, c.after,
               b.next_change_at = b.next_reset_at and b.held = 0 and b.owed = 0
                   and n.next_at > v_now
                   and coalesce(b.terms_end_at > b.next_reset_at, true)
                   and coalesce(not k.has_pending and k.expires_at > v_now, true)
                   and coalesce(s.n <= 12 and not s.is_odd, true)
                   and (b.balance >= b.low_balance_at and c.after < b.low_balance_at) is not true
                   as is_plain
          from locked b
         cross join lateral (
               select pgsaas.period_end(b.period_anchor, b.period_count + 2) as next_at) n
          left join summed s using (account_id)
          left join kept k using (account_id)
         cross join lateral (
               select b.balance + b.allowance - coalesce(s.free - s.roll, 0) as after) c),
    made as materialized (
        select d.account_id, d.grant_count + row_number() over (
                   partition by d.account_id order by e.acquired_at, e.grant_id) as grant_id,
               'rollover' as source, e.roll as amount, e.acquired_at, d.at, d.next_at,
               e.root_account_id, e.root_grant_id
          from due d join ending e using (account_id)
         where d.is_plain and e.roll > 0
        union all
        select d.account_id, d.grant_count + d.rolls + 1, 'allowance', d.allowance, d.at, d.at,
               d.next_at, null, null
          from due d where d.is_plain and d.allowance > 0),
    open as materialized (
        select x.*, row_number() over (partition by x.account_id order by x.priority,
                   case when x.burn_order = 'expiring_first' then x.expires_at end, x.source_rank,
                   x.expires_at, x.grant_id) as place
          from (select d.account_id, d.burn_order, g.grant_id, g.source, g.priority,
                       g.source_rank, g.expires_at, g.free
                  from due d join grants g using (account_id)
                 where d.is_plain and not g.is_ending and g.free > 0
                union all
                select d.account_id, d.burn_order, m.grant_id, m.source, 0,
                       pgsaas.source_rank(m.source), m.next_at, m.amount
                  from due d join made m using (account_id)) x),
    heads as (
        select o.account_id, max(o.grant_id) filter (where o.place = 1) as grant_id,
               max(o.source) filter (where o.place = 1) as source,
               max(o.free) filter (where o.place = 1) as free, min(o.expires_at) as expires_at
          from open o group by o.account_id),
    others as (
        select o.account_id, jsonb_object_agg(o.source, trim_scale(o.free)) as free
          from (select x.account_id, x.source, sum(x.free) as free from open x
                 where x.place > 1 group by x.account_id, x.source) o
         group by o.account_id),
    closed as (
        update pgsaas.credit_grants g
           set remaining = 0, is_open = false, moved = g.moved + e.roll,
               expired = g.expired + e.free - e.roll
          from due d join ending e using (account_id)
         where d.is_plain and g.account_id = e.account_id and g.grant_id = e.grant_id),
    put_back as (    -- the former head, where another burns first now
        update pgsaas.credit_grants g set remaining = o.free
          from due d join open o using (account_id)
         where d.is_plain and o.grant_id = d.head_grant_id and o.place > 1
           and g.account_id = o.account_id and g.grant_id = o.grant_id and g.remaining <> o.free),
    opened as (
        insert into pgsaas.credit_grants (account_id, grant_id, effective_at, expires_at,
            acquired_at, root_account_id, root_grant_id, is_open, source_rank, amount, remaining,
            source)
        select m.account_id, m.grant_id, m.at, m.next_at, m.acquired_at, m.root_account_id,
               m.root_grant_id, true, pgsaas.source_rank(m.source), m.amount, m.amount, m.source
          from made m),
    written as (
        insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id,
            transaction_type, amount, balance_after)
        select d.account_id, d.seq + x.place, d.at, x.grant_id, x.type, x.amount, x.after
          from due d
         cross join lateral (values
               (1, null::bigint, 'expiry', -d.gone, d.balance - d.gone),
               (1 + (d.gone > 0)::integer, d.grant_count + d.rolls + 1, 'grant', d.allowance,
                d.after)) x (place, grant_id, type, amount, after)
         where d.is_plain and x.amount <> 0),
    moved as (
        update pgsaas.account_balances b
           set seq = b.seq + (d.gone > 0)::integer + (d.allowance > 0)::integer,
               last_at = greatest(d.at, v_now), next_reset_at = d.next_at,
               next_expiry_at = coalesce(h.expires_at, 'infinity'),
               next_change_at = least(d.next_at, h.expires_at),
               period_count = b.period_count + 1, period_granted = b.allowance,
               period_raises = null,
               grant_count = b.grant_count + d.rolls + (d.allowance > 0)::integer,
               balance = d.after, not_spent = b.not_spent + d.allowance - d.gone,
               lifetime_earned = b.lifetime_earned + d.allowance,
               head_grant_id = h.grant_id, head_source = h.source,
               head_left = coalesce(h.free, 0), other_free = coalesce(o.free, '{}'),
               head_floor = case when d.after >= b.low_balance_at then
                   greatest(0, coalesce(h.free, 0) - (d.after - b.low_balance_at)) else 0 end
          from due d
          left join heads h using (account_id)
          left join others o using (account_id)
         where d.is_plain and b.account_id = d.account_id)
    select array_agg(d.account_id) filter (where not d.is_plain),
           count(*) filter (where d.is_plain),
           coalesce(sum(d.allowance) filter (where d.is_plain), 0),
           coalesce(sum(d.gone) filter (where d.is_plain), 0),
           coalesce(sum(d.roll) filter (where d.is_plain), 0)
      into p_others, p_count, p_granted, p_expired, p_rolled
      from due d;
    p_others := coalesce(p_others, '{}');
end $$;
comment on function pgsaas.reset_plain(integer) is
    'Ends the period of up to so many accounts (null: all) that nobody holds, those where nothing '
    'else is due; p_others are locked, too, and left to be settled.';

create or replace function pgsaas.reset_one(
    p_account_id uuid, out p_is_reset boolean, out p_granted numeric, out p_expired numeric,
    out p_rolled numeric)
language plpgsql volatile set lock_timeout = '2s'
as $$
declare
    v_was constant pgsaas.account_balances := pgsaas.lock_account(p_account_id);
    v_is constant pgsaas.account_balances := pgsaas.settle_account(v_was);
begin
    perform pgsaas.store_balance(v_is);
    p_is_reset := v_is.next_reset_at > v_was.next_reset_at;
    select coalesce(sum(g.amount) filter (where g.source = 'allowance'), 0),
           coalesce(sum(g.amount) filter (where g.source = 'rollover'), 0)
      into p_granted, p_rolled
      from pgsaas.credit_grants g
     where g.account_id = p_account_id and g.grant_id > v_was.grant_count;
    select coalesce(-sum(t.amount), 0) into p_expired from pgsaas.credit_transactions t
     where t.account_id = p_account_id and t.seq > v_was.seq and t.transaction_type = 'expiry';
end $$;
comment on function pgsaas.reset_one(uuid) is
    'Settles an account, and says whether a period has ended and what that did. 55P03 where '
    'somebody holds the account for too long.';

create or replace function pgsaas.reset_monthly_credits(p_limit integer default null)
returns table (accounts_reset bigint, credits_granted numeric, credits_expired numeric,
    credits_rolled_over numeric, remaining bigint)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_plain record;
    v_one record;
    v_id uuid;
begin
    perform pgsaas.check_system();
    perform pgsaas.check_limit(p_limit);
    v_plain := pgsaas.reset_plain(p_limit);
    accounts_reset := v_plain.p_count;
    credits_granted := v_plain.p_granted;
    credits_expired := v_plain.p_expired;
    credits_rolled_over := v_plain.p_rolled;
    if accounts_reset = 0 and v_plain.p_others = '{}' then    -- passed over again: wait for one
        v_plain.p_others := array(
            select b.account_id from pgsaas.account_balances b
             where b.next_reset_at <= pgsaas.now() order by b.next_reset_at limit 1);
    end if;
    foreach v_id in array v_plain.p_others loop
        begin
            v_one := pgsaas.reset_one(v_id);
            accounts_reset := accounts_reset + v_one.p_is_reset::integer;
            credits_granted := credits_granted + v_one.p_granted;
            credits_expired := credits_expired + v_one.p_expired;
            credits_rolled_over := credits_rolled_over + v_one.p_rolled;
        exception
            when lock_not_available then
                raise exception 'somebody holds the account %: call again', v_id
                    using errcode = '55P03';
            when serialization_failure or deadlock_detected then raise;
            when others then    -- one that cannot be settled keeps nobody else waiting
                raise warning 'the account % cannot be settled: %', v_id, sqlerrm;
        end;
    end loop;
    -- counted up to 1,000: an exact count would read every due entry of the index in every step
    select count(*) into remaining from (
        select from pgsaas.account_balances b where b.next_reset_at <= pgsaas.now() limit 1000) x;
    return next;
end $$;
comment on function pgsaas.reset_monthly_credits(integer) is
    'Ends the periods that are over, of up to p_limit accounts (null: all): unused credits roll '
    'over as far as the plan lets them, the rest expires, the new allowance is granted; packs and '
    'gifts are not touched. Each period ends once, however often and by however many this is '
    'called; months that were missed are made up for. Accounts that somebody holds are passed '
    'over; a call that finds only such waits two seconds for one (55P03). remaining counts up to '
    '1,000. Only the system: PT403. 22023 for a limit below 1.';
