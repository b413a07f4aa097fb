-- Verification: recomputes everything that can be recomputed and names what does not agree.
--
-- It shares no code with the writers (its burn order is its own), trusts no cached figure and takes
-- no lock: one statement, one snapshot, so it may run beside any load. A row per violation; no row
-- means that the invariants hold for the accounts looked at.

-- Compiled (jit), this statement would wait for seconds for its compiler before it looks at a row.
create or replace function pgsaas.verify_ledger(p_account_id uuid default null)
returns table (account_id uuid, rule text, detail text)
language plpgsql stable security definer set search_path = '' set jit = off
as $$
#variable_conflict use_column
begin
    perform pgsaas.check_administers();
    return query
    with b as materialized (
        select * from pgsaas.account_balances x where p_account_id is null
            or x.account_id = p_account_id),
    c as (
        select distinct on (k.account_id) k.* from pgsaas.credit_checkpoints k
            join b using (account_id)
         order by k.account_id, k.seq desc),
    g as materialized (
        select o.account_id, o.grant_id, o.is_open, o.is_pending, o.priority, o.source,
            o.expires_at, o.effective_at,
               o.amount, o.revoked, o.unrecovered, o.moved, o.expired, o.root_grant_id,
               case when o.grant_id = b.head_grant_id then b.head_left else o.remaining end
                   as remaining
          from pgsaas.credit_grants o join b using (account_id)),
    d as materialized (
        select o.* from pgsaas.credit_debts o join b using (account_id)),
    owed as (
        select d.account_id, sum(d.unpaid) as owed, max(d.debt_id) as last_id, count(*) as n
          from d group by 1),
    paid as (
        select d.account_id, d.debt_id, (x ->> 0)::bigint as grant_id, (x ->> 1)::numeric as amount
          from d cross join lateral jsonb_array_elements(d.paid_by) x),
    gs as (
        select g.account_id, coalesce(sum(g.remaining) filter (where not g.is_pending), 0) as free,
               max(g.grant_id) as last_id, count(*) as n,
               bool_or(g.is_open and g.is_pending or (not g.is_open and not g.is_pending
                   and g.remaining > 0)
                   or (g.is_pending and g.remaining <> g.amount - g.revoked)) as is_odd,
               min(g.expires_at) filter (where g.is_open and g.remaining > 0) as next_expiry,
               min(g.effective_at) filter (where g.is_pending) as next_pending
          from g group by 1),
    others as (
        select s.account_id, jsonb_object_agg(s.source, s.free) as free
          from (select g.account_id, g.source, trim_scale(sum(g.remaining)) as free
                  from g join b using (account_id)
                 where g.is_open and g.grant_id is distinct from b.head_grant_id
                 group by 1, 2) s group by 1),
    firsts as (
        select distinct on (g.account_id) g.account_id, g.grant_id
          from g join b using (account_id)
         where g.is_open
         order by g.account_id, g.priority,
               case when b.burn_order = 'expiring_first' then g.expires_at else 'infinity' end,
               array_position(array['purchase', 'bonus', 'refund', 'trial', 'rollover',
                   'allowance'],
                   case when g.source in ('referral', 'transfer') then 'bonus'
                       else g.source end), g.expires_at, g.grant_id),
    elsewhere as (    -- what is left of a grant where transfers took it
        select o.root_account_id as account_id, o.root_grant_id as grant_id,
               sum(o.amount - o.moved) as amount
          from pgsaas.credit_grants o
         where o.root_grant_id is not null
           and (p_account_id is null or o.root_account_id = p_account_id)
         group by 1, 2),
    h as (
        select o.account_id, coalesce(sum(o.amount) filter (where o.state = 'open'), 0) as held,
            max(o.hold_id) as last_id,
               min(o.expires_at) filter (where o.state = 'open') as next_lapse,
               bool_or(o.amount <> (select sum((x ->> 1)::numeric)
                   from jsonb_array_elements(o.allocations) x)) as is_split
          from pgsaas.credit_holds o join b using (account_id) group by 1),
    t as (
        select o.account_id, o.seq, o.amount, o.balance_after, o.created_at, o.allocations,
            o.grant_id,
            o.transaction_type, o.ref_seq, o.hold_id, o.idempotency_key,
               lag(o.seq) over w as seq0, lag(o.balance_after) over w as balance0,
                   lag(o.created_at) over w as at0
          from pgsaas.credit_transactions o join b using (account_id)
        window w as (partition by o.account_id order by o.seq)),
    l as (
        select t.account_id, sum(t.amount) as total, max(t.seq) as seq,
            max(t.created_at) as last_at,
               coalesce(sum(t.amount) filter (where t.transaction_type not in ('deduction',
                   'capture', 'refund')), 0) as not_spent,
               coalesce(sum(t.amount) filter (where t.transaction_type = 'grant'), 0) as earned
          from t group by 1),
    parts as (    -- what each row and each hold took, or gave back, by grant or (below 0) debt
        select t.account_id, 'seq ' || t.seq as place, t.transaction_type as what,
               (x ->> 0)::bigint as id, (x ->> 1)::numeric as amount
          from t cross join lateral jsonb_array_elements(t.allocations) x
        union all
        select t.account_id, 'seq ' || t.seq, t.transaction_type, t.grant_id, abs(t.amount)
          from t where t.grant_id is not null and t.allocations is null
        union all
        select o.account_id, 'hold ' || o.hold_id, 'hold ' || o.state, (x ->> 0)::bigint,
               (x ->> 1)::numeric
          from pgsaas.credit_holds o join b using (account_id)
         cross join lateral jsonb_array_elements(o.allocations) x),
    spent as (    -- and has not given back
        select p.account_id, p.id, sum(case p.what when 'refund' then -p.amount else p.amount end)
                   as amount, bool_or(p.what <> 'refund') as is_there
          from (select * from parts
                 where what in ('deduction', 'capture', 'refund', 'hold open')
                union all    -- of these the grant is the object, the parts are what paid for it
                select t.account_id, null, t.transaction_type, (x ->> 0)::bigint,
                       (x ->> 1)::numeric
                  from t cross join lateral jsonb_array_elements(t.allocations) x
                 where t.transaction_type in ('adjustment', 'revoke') and t.amount < 0
                union all
                select t.account_id, null, t.transaction_type, t.grant_id, -t.amount
                  from t
                 where t.transaction_type = 'adjustment' and t.amount < 0
                   and t.allocations is null) p
         group by 1, 2),
    refunds as (
        select t.account_id, t.ref_seq, sum(t.amount) as amount from t
         where t.transaction_type = 'refund' group by 1, 2)
    select b.account_id, 'balance is the sum of the ledger',
           format('balance %s, ledger %s, seq %s, last row %s', b.balance,
               coalesce(c.balance_after, 0) + coalesce(l.total, 0),
               b.seq, coalesce(l.seq, c.seq, 0))
      from b left join l using (account_id) left join c using (account_id)
     where b.balance <> coalesce(c.balance_after, 0) + coalesce(l.total, 0)
        or b.seq <> coalesce(l.seq, c.seq, 0)
        or b.not_spent <> coalesce(c.not_spent, 0) + coalesce(l.not_spent, 0)
        or b.lifetime_earned <> coalesce(c.lifetime_earned, 0) + coalesce(l.earned, 0)
    union all
    select b.account_id, 'balance is free + held - owed',
           format('balance %s, free %s, held %s, owed %s', b.balance, coalesce(gs.free, 0), b.held,
               b.owed)
      from b left join gs using (account_id)
     where b.balance <> coalesce(gs.free, 0) + b.held - b.owed
    union all
    select b.account_id, 'grants are open, pending or spent',
           format('last grant %s, counted %s', gs.last_id, b.grant_count)
      from b left join gs using (account_id)
     where gs.is_odd or coalesce(gs.last_id, 0) <> b.grant_count
        or coalesce(gs.n, 0) <> b.grant_count
    union all
    select b.account_id, 'nothing is negative, and free and owed never coexist',
           format('head %s, held %s, owed %s, free %s', b.head_left, b.held, b.owed, gs.free)
      from b left join gs using (account_id)
     where b.head_left < 0 or b.held < 0 or b.owed < 0 or (b.owed > 0 and gs.free > 0)
        or b.overdraft_limit not between 0 and 1000000000000
    union all
    select t.account_id, 'amounts have at most 6 decimals', format('seq %s, amount %s', t.seq,
        t.amount)
      from t where (scale(t.amount) <= 6 and abs(t.amount) < 'infinity') is not true
    union all
    select p.account_id, 'parts come from grants and debts of the account',
           format('%s, grant or -debt %s', p.place, p.id)
      from (select parts.account_id, parts.place, parts.id, parts.amount from parts
             where parts.place like 'hold%' or parts.what <> 'grant' and parts.what <> 'revoke'
            union all
            select t.account_id, 'seq ' || t.seq, t.grant_id, 1 from t where t.grant_id is not null
            union all
            select paid.account_id, 'debt ' || paid.debt_id, paid.grant_id, paid.amount from paid) p
      join b using (account_id)
     where p.id not between -b.debt_count and b.grant_count or p.id = 0
        or (p.amount > 0) is not true
    union all
    select b.account_id, 'owed is what of the debts is unpaid',
           format('owed %s, debts %s, last %s of %s', b.owed, coalesce(owed.owed, 0), owed.last_id,
               b.debt_count)
      from b left join owed using (account_id)
     where b.owed <> coalesce(owed.owed, 0) or b.debt_count <> coalesce(owed.last_id, 0)
        or b.debt_count <> coalesce(owed.n, 0)
    union all
    -- the row that made it may have been archived
    select d.account_id, 'a debt is what was taken, less what was given back',
           format('debt %s, unpaid %s, paid %s, taken %s', d.debt_id, d.unpaid, p.amount, s.amount)
      from d join b using (account_id)
      left join (select paid.account_id, paid.debt_id, sum(paid.amount) as amount from paid
                  group by 1, 2) p using (account_id, debt_id)
      left join spent s on s.account_id = d.account_id and s.id = -d.debt_id
     where (b.archived_seq = 0 or s.is_there)
           and d.unpaid + coalesce(p.amount, 0) <> coalesce(s.amount, 0)
        or d.unpaid + coalesce(p.amount, 0) > d.amount
    union all
    select d.account_id, 'the oldest debt is paid first', format('debt %s, debt %s', o.debt_id,
        d.debt_id)
      from d join (select d.account_id, min(d.debt_id) as debt_id from d where d.unpaid > 0
                    group by 1) o using (account_id)
     where d.debt_id > o.debt_id and d.paid_by <> '[]'
    union all
    select g.account_id, 'a grant is free, spent, moved, expired or has paid a debt',
           format('grant %s, amount %s, free %s, spent %s, moved %s, expired %s, paid %s',
               g.grant_id, g.amount, g.remaining, s.amount, g.moved, g.expired, p.amount)
      from g join b using (account_id)
      left join (select paid.account_id, paid.grant_id, sum(paid.amount) as amount from paid
                  group by 1, 2) p using (account_id, grant_id)
      left join spent s on s.account_id = g.account_id and s.id = g.grant_id
     where b.archived_seq = 0 and g.revoked = 0 and g.amount
         <> g.remaining + coalesce(s.amount, 0) + g.moved + g.expired + coalesce(p.amount, 0)
    union all
    select o.account_id, 'a hold is captured when a row says so',
           format('hold %s, %s, captures %s', o.hold_id, o.state, count(t.seq))
      from pgsaas.credit_holds o join b using (account_id)
      left join t on t.account_id = o.account_id and t.hold_id = o.hold_id
                 and t.transaction_type = 'capture'
     group by o.account_id, o.hold_id, o.state, b.archived_seq
    having count(t.seq) > (o.state = 'captured')::integer
        or count(t.seq) < (o.state = 'captured' and b.archived_seq = 0)::integer
    union all
    select g.account_id, 'what was transferred is where it went',
           format('grant %s, moved %s, elsewhere %s', g.grant_id, g.moved, e.amount)
      from g left join elsewhere e using (account_id, grant_id)
     where g.root_grant_id is null and g.moved <> coalesce(e.amount, 0)
    union all
    select g.account_id, 'what was revoked is on the grant',
           format('grant %s, revoked %s, of that unrecovered %s, rows %s', g.grant_id, g.revoked,
               g.unrecovered, r.amount)
      from g join (select t.account_id, t.grant_id, sum(t.amount) as amount from t
                    where t.transaction_type = 'revoke' group by 1, 2) r
        using (account_id, grant_id)
     where g.revoked < g.unrecovered - r.amount
    union all
    select g.account_id, 'free credits pay what is unrecovered',
           format('grant %s, remaining %s, unrecovered %s', g.grant_id, g.remaining, g.unrecovered)
      from g where g.is_open and g.remaining > 0 and g.unrecovered > 0
    union all
    select b.account_id, 'held is the sum of open holds', format('held %s, holds %s', b.held,
        coalesce(h.held, 0))
      from b left join h using (account_id)
     where b.held <> coalesce(h.held, 0) or h.is_split or coalesce(h.last_id, 0) <> b.hold_count
    union all
    select t.account_id, 'row follows row', format('seq %s', t.seq)
      from t left join c using (account_id)
     where t.seq <> coalesce(t.seq0, c.seq, 0) + 1
        or t.balance_after <> coalesce(t.balance0, c.balance_after, 0) + t.amount
        or t.created_at < coalesce(t.at0, c.created_at, '-infinity')
    union all
    select t.account_id, 'a charge is the sum of its parts', format('seq %s', t.seq)
      from t
     where t.transaction_type in ('deduction', 'capture', 'refund')
       and (t.amount >= 0 and t.transaction_type <> 'refund'
            or (t.allocations is null and t.grant_id is null)
            or (t.allocations is not null
            and abs(t.amount) is distinct from (select sum((x ->> 1)::numeric)
                from jsonb_array_elements(t.allocations) x)))
    union all
    select t.account_id, 'a charge is refunded at most once over',
        format('seq %s, refunded %s of %s', t.seq, r.amount, -t.amount)
      from t join refunds r on r.account_id = t.account_id and r.ref_seq = t.seq
     where r.amount > -t.amount
    union all
    select b.account_id, 'account time is not behind the ledger', format('last_at %s, last row %s',
        b.last_at, l.last_at)
      from b join l using (account_id) where b.last_at < l.last_at
    union all
    select b.account_id, 'next_change_at is not late', format('next_change_at %s', b.next_change_at)
      from b left join gs using (account_id) left join h using (account_id)
     where b.next_change_at > least(b.next_reset_at, gs.next_expiry, gs.next_pending, h.next_lapse)
        or (b.is_frozen and b.next_change_at > '-infinity')
    union all
    select b.account_id, 'the head stops where a low balance is told',
        format('head %s, floor %s', b.head_left, b.head_floor)
      from b
     where b.balance - b.held >= b.low_balance_at
       and b.balance - b.held - (b.head_left - b.head_floor) < b.low_balance_at
    union all
    select b.account_id, 'the head is the first to burn', format('head %s', b.head_grant_id)
      from b join firsts f using (account_id)
     where b.head_left > 0 and b.head_grant_id <> f.grant_id
    union all
    select b.account_id, 'free credits by source are what is free',
        format('head %s of %s, others %s', b.head_left, b.head_source, b.other_free)
      from b left join g k on k.account_id = b.account_id and k.grant_id = b.head_grant_id
      left join others on others.account_id = b.account_id
      left join gs on gs.account_id = b.account_id
     where b.head_source is distinct from k.source
        or (k.grant_id is null and b.head_left <> 0)
        or b.other_free <> coalesce(others.free, '{}')
        or b.next_expiry_at > coalesce(gs.next_expiry, 'infinity')
    union all
    select b.account_id, 'the archive ends where the checkpoint says',
        format('archived %s, checkpoint %s', b.archived_seq, c.seq)
      from b left join c using (account_id) where b.archived_seq <> coalesce(c.seq, 0)
    union all
    select o.account_id, 'every row has an account', format('ledger row %s', min(o.seq))
      from pgsaas.credit_transactions o
     where (p_account_id is null or o.account_id = p_account_id)
       and not exists (select from pgsaas.account_balances x where x.account_id = o.account_id)
     group by 1
    union all
    select x.account_id, 'every record has an account', format('record %s', min(x.usage_id))
      from pgsaas.usage_records x
     where (p_account_id is null or x.account_id = p_account_id)
       and not exists (select from pgsaas.account_balances y where y.account_id = x.account_id)
     group by 1
    union all
    select a.account_id, 'every account has a balance', 'no row in account_balances'
      from pgsaas.accounts a
     where (p_account_id is null or a.account_id = p_account_id)
       and not exists (select from pgsaas.account_balances x where x.account_id = a.account_id)
    union all
    select u.account_id, 'use that cost something has its row',
           format('record %s, cost %s, seq %s', u.usage_id, u.cost, u.seq)
      from pgsaas.usage_records u join b using (account_id)
      left join t on t.account_id = u.account_id and t.seq = u.seq
     where case when u.cost = 0 then u.seq is not null
                when u.seq > b.archived_seq then t.amount is distinct from -u.cost
                    or t.balance_after <> u.balance_after or t.idempotency_key is not null
                    or t.transaction_type not in ('deduction', 'capture')
                else u.seq is null end
    union all
    select u.account_id, 'use has an event, a quantity and a cost',
           format('record %s, %s of %s, cost %s', u.usage_id, u.quantity, u.event_name, u.cost)
      from pgsaas.usage_records u join b using (account_id)
     where not (u.quantity > 0 and u.quantity < 'infinity' and u.cost >= 0)
        or u.priced_at is not null and not exists (
               select from pgsaas.credit_prices p
                where p.event_name = u.event_name and p.effective_at = u.priced_at)
    union all
    select account_id, 'tiers of periods count their records',
           format('%s %s: %s counted, %s used', event_name, dimensions, s.quantity, r.quantity)
      from (select x.account_id, x.event_name, x.dimensions, sum(x.quantity) as quantity
              from pgsaas.usage_periods x join b using (account_id) group by 1, 2, 3) s
      full join (
           select u.account_id, u.event_name, p.dimensions, sum(u.quantity) as quantity
             from pgsaas.usage_records u join b using (account_id)
             join lateral (
                  select v.* from pgsaas.credit_prices v
                   where v.event_name = u.event_name and v.effective_at = u.priced_at
                     and coalesce(u.dimensions, '{}') @> v.dimensions
                   order by v.specificity desc limit 1) p on p.tier_scope = 'period'
            group by 1, 2, 3) r using (account_id, event_name, dimensions)
     where s.quantity is distinct from r.quantity
    union all
    select b.account_id, 'records are numbered without gaps, each with a row of its own',
           format('%s records, the last %s, %s expected', count(u.usage_id), max(u.usage_id),
               b.usage_count)
      from b left join pgsaas.usage_records u using (account_id)
     group by b.account_id, b.usage_count
    having count(u.usage_id) <> b.usage_count or coalesce(max(u.usage_id), 0) <> b.usage_count
        or count(u.seq) <> count(distinct u.seq)
    union all
    select b.account_id, 'daily statistics are the sum of their records',
           format('%s, %s: %s of %s records cost %s of %s', coalesce(s.day, r.day),
               coalesce(s.event_name, r.event_name), s.records, r.records, s.cost, r.cost)
      from (select d.* from pgsaas.daily_usage_stats d join b using (account_id)) s
      full join (
           select u.account_id, (u.occurred_at at time zone 'UTC')::date as day, u.event_name,
                  coalesce(u.dimensions, '{}') as dimensions, count(*) as records,
                  sum(u.quantity) as quantity, sum(u.cost) as cost
             from pgsaas.usage_records u join b using (account_id)
             join pgsaas.usage_rollups o using (account_id)
            where u.usage_id <= o.usage_id
            group by 1, 2, 3, 4) r
        on r.account_id = s.account_id and r.day = s.day and r.event_name = s.event_name
           and r.dimensions = s.dimensions
      join b on b.account_id = coalesce(s.account_id, r.account_id)
     where (s.records, s.quantity, s.cost) is distinct from (r.records, r.quantity, r.cost)
    union all
    select b.account_id, 'the period ends when its anchor says',
        format('next reset %s, period %s', b.next_reset_at, b.period_count)
      from b
     where b.next_reset_at < 'infinity'
       and b.next_reset_at is distinct from (b.period_anchor at time zone 'UTC'
           + make_interval(months => b.period_count + 1)) at time zone 'UTC'
     order by 1, 2, 3;
end $$;
comment on function pgsaas.verify_ledger(uuid) is
    'Checks the invariants of one account, or of all: a row per violation (account, rule, '
    'figures), none if everything holds. Takes no lock. For the system and admins: PT403 for a '
    'user.';
