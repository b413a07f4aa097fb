-- Previews: what another plan would do, before anybody decides.
--
-- A preview asks the functions that the act itself asks (58_subscribing, raise_allowance of
-- 36_periods), of the account as it would be if it were settled now. It writes and locks nothing:
-- the act may find something else a moment later, such as credits used, or another change.

create or replace function pgsaas.free_of_plan(p_b pgsaas.account_balances) returns numeric
language sql stable
as $$
    select coalesce(sum(f.value::numeric), 0) from jsonb_each_text(pgsaas.free_by_source(p_b)) f
     where f.key in ('allowance', 'rollover', 'trial')
$$;
comment on function pgsaas.free_of_plan(pgsaas.account_balances) is
    'Free credits of a settled account that its plan gave.';

create or replace function pgsaas.preview_change_plan(
    p_account_id uuid, p_plan_id text default null, p_interval text default null,
    p_quantity integer default null, p_allowance numeric default null,
    p_unit_amount bigint default null, p_at_period_end boolean default null)
returns table (is_upgrade boolean, change_at timestamptz, credits_now numeric,
    credits_expired numeric, monthly_allowance numeric, amount_now bigint, amount_next bigint,
    currency text)
language plpgsql stable security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_s pgsaas.subscriptions;
    v_new pgsaas.subscriptions;
    v_b pgsaas.account_balances;
    v_at timestamptz;
    v_terms record;
    v_period record;
    v_unused numeric;
    v_units integer;
    v_raised record;
begin
    if pgsaas.may(p_account_id, 'read') then
        select * into v_b from pgsaas.account_balances b where b.account_id = p_account_id;
    end if;
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    end if;
    v_at := greatest(pgsaas.now(), v_b.last_at);
    v_b := pgsaas.project_account(v_b);
    v_b.last_at := v_at;
    v_s := pgsaas.subscription_at(p_account_id, v_at);
    if pgsaas.is_default(v_s) and p_plan_id is not null and p_at_period_end is not true then
        v_new := pgsaas.chosen_plan(v_s, p_plan_id, coalesce(p_interval, 'month'),
            coalesce(p_quantity, 1), p_allowance, null, p_unit_amount, false);
        v_terms := pgsaas.plan_terms(v_new);
        is_upgrade := true;
        change_at := v_at;
        monthly_allowance := v_terms.allowance;
        currency := v_new.currency;
        amount_next := v_new.unit_amount * v_new.quantity;
        amount_now := amount_next;
        if pgsaas.goes_on(v_b, v_at) then
            v_raised := pgsaas.raise_allowance(v_b, v_terms.allowance,
                v_terms.on_upgrade = 'replace', v_terms.allowance, v_new.quantity,
                v_s.started_at);
        else    -- a period of its own
            select v_terms.allowance as p_granted, v_terms.on_upgrade = 'replace' as p_is_replaced
              into v_raised;
        end if;
        credits_now := v_raised.p_granted;
        credits_expired := case when v_raised.p_is_replaced then pgsaas.free_of_plan(v_b) else 0
            end;
        return next;
        return;
    end if;
    v_new := pgsaas.changed_subscription(v_s, p_plan_id, p_interval, p_quantity, p_allowance,
        p_unit_amount);
    v_terms := pgsaas.plan_terms(v_new);
    select c.p_is_upgrade, c.p_change_at into is_upgrade, change_at
      from pgsaas.plan_change(v_s, v_at, v_new, p_at_period_end) c;
    monthly_allowance := v_terms.allowance;
    currency := v_new.currency;
    amount_next := v_new.unit_amount * v_new.quantity;
    credits_now := 0;
    credits_expired := 0;
    amount_now := 0;
    if change_at = v_at then
        v_units := pgsaas.units_in_full(v_b, v_s.quantity);
        v_raised := pgsaas.raise_allowance(v_b, v_terms.allowance,
            pgsaas.is_replacing(v_s, v_new), pgsaas.granted_in_full(v_s, v_new, v_units),
            v_units, v_s.started_at);
        credits_now := v_raised.p_granted;
        if v_raised.p_is_replaced then
            credits_expired := pgsaas.free_of_plan(v_b);
        end if;
        if v_s.status <> 'trialing' then
            v_period := pgsaas.subscription_period(v_s, v_at);
            v_unused := extract(epoch from v_period.period_end - v_at)
                / extract(epoch from v_period.period_end - v_period.period_start);
            amount_now := greatest(0, round(case
                when v_new.billing_interval = v_s.billing_interval
                then (amount_next - coalesce(v_s.unit_amount * v_s.quantity, 0)) * v_unused
                else amount_next - coalesce(v_s.unit_amount * v_s.quantity, 0) * v_unused end));
        end if;
    end if;
    return next;
end $$;
comment on function pgsaas.preview_change_plan(uuid, text, text, integer, numeric, bigint,
    boolean) is
    'What change_plan() would do: when, the credits it grants at once and those of the old plan '
    'that go, the allowance from then on, and money in the smallest unit: prorated now, and per '
    'interval afterwards (null where no price is known). PT404, PT409, PT422, 22023 as there.';
