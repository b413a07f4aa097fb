-- Views of the read API that show what is due as done.
--
-- Each looks with the reader's rights (security_invoker), so row security decides which accounts
-- there are. Accounts where nothing is due are plain rows; only the others are worked out
-- (29_settlement).

create or replace view pgsaas.credit_balances with (security_invoker = true) as
select b.account_id, s.balance, s.held,
       greatest(0, s.balance - s.held + s.overdraft_limit) as available, s.owed, s.overdraft_limit,
       s.allowance as monthly_allowance, nullif(s.next_expiry_at, 'infinity') as next_expiry_at,
       nullif(s.next_reset_at, 'infinity') as next_reset_at, s.lifetime_earned,
       s.not_spent - s.balance as lifetime_spent, s.is_frozen, s.low_balance_at, s.burn_order,
       s.seq, s.last_at
  from pgsaas.account_balances b
 cross join lateral pgsaas.project_account(b) s;
comment on view pgsaas.credit_balances is
    'The balance of each account now, with lifetime totals; what is due is shown as done.';

create or replace view pgsaas.open_credit_grants with (security_invoker = true) as
select g.account_id, g.grant_id, g.source, g.priority, g.amount, g.remaining, g.effective_at,
       nullif(g.expires_at, 'infinity') as expires_at, g.is_pending, g.revoked, g.moved,
       g.unrecovered
  from pgsaas.account_balances b
 cross join lateral unnest((
       select case when b.next_change_at > greatest(pgsaas.now(),
           b.last_at) then pgsaas.grants_to_settle(b, '{}')
              else (pgsaas.plan_settlement(b, greatest(pgsaas.now(), b.last_at))).grants end)) g
 where (g.is_open and g.remaining > 0) or g.is_pending;
comment on view pgsaas.open_credit_grants is
    'Grants with free or pending credits now, with what is left of them; what is due is shown as '
    'done.';

create or replace view pgsaas.open_credit_holds with (security_invoker = true) as
select h.account_id, h.hold_id, h.amount, h.created_at, h.expires_at, h.job_id, h.agent_id,
       h.description, h.metadata
  from pgsaas.credit_holds h join pgsaas.account_balances b using (account_id)
 where h.state = 'open' and h.expires_at > greatest(pgsaas.now(), b.last_at);
comment on view pgsaas.open_credit_holds is
    'Holds that still hold credits now; one whose time has passed is not among them.';
