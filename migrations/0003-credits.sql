-- The ledger's tables. One row per account in account_balances is the only thing that is ever locked.
-- Longest lock: none beyond the new tables' own; nothing that exists is touched.
-- depends: 0002-accounts

set local role pgsaas_owner;

-- No index names a column that a deduction changes, so that every charge is a HOT update. The two hot
-- tables (this one and credit_transactions) carry no check constraint and no foreign key: each check is
-- parsed back from its text by every statement that writes the table. The functions hold these rules,
-- and verify_ledger() proves them. What a charge changes stands together: an update logs a row from the
-- first byte that changes to the last.
create table if not exists pgsaas.account_balances (
    account_id uuid not null,
    archived_seq bigint not null default 0,
    debt_count bigint not null default 0,
    grant_count bigint not null default 0,
    next_reset_at timestamptz not null default 'infinity',
    next_expiry_at timestamptz not null default 'infinity',
    next_change_at timestamptz not null default 'infinity',
    hold_count bigint not null default 0,
    head_grant_id bigint,
    period_anchor timestamptz,
    period_count integer not null default 0,
    is_frozen boolean not null default false,
    seq bigint not null default 0,
    last_at timestamptz not null,
    balance numeric not null default 0,
    head_left numeric not null default 0,
    held numeric not null default 0,
    head_floor numeric not null default 0,
    other_free jsonb not null default '{}',
    head_source text,
    not_spent numeric not null default 0,
    lifetime_earned numeric not null default 0,
    period_granted numeric not null default 0,
    owed numeric not null default 0,
    overdraft_limit numeric not null default 0,
    low_balance_at numeric,
    allowance numeric not null default 0,
    rollover_limit numeric default 0,
    burn_order text not null default 'purchased_first',
    period_raises jsonb,
    constraint account_balances_pkey primary key (account_id)
) with (fillfactor = 50);
create index if not exists account_balances_next_reset_idx on pgsaas.account_balances (next_reset_at)
    where next_reset_at < 'infinity';
alter table pgsaas.account_balances enable row level security;
comment on table pgsaas.account_balances is
    'One row per account: the lock, the running totals, and the cached head of its grants. Read credit_balances.';
comment on column pgsaas.account_balances.last_at is
    'Account time: the time of the last decision. Decisions use greatest(pgsaas.now(), last_at).';
comment on column pgsaas.account_balances.next_change_at is
    'Earliest expiry, admission, lapse or reset; -infinity while frozen. May be too early, never too late.';
comment on column pgsaas.account_balances.head_grant_id is
    'The grant that burns next. What is left of it is head_left; its own row is stale.';
comment on column pgsaas.account_balances.head_floor is
    'As far as head_left may fall before the alert of a low balance is due.';
comment on column pgsaas.account_balances.other_free is 'Free credits by source, the head''s not counted.';
comment on column pgsaas.account_balances.not_spent is
    'Sum of all rows that are neither deduction, capture nor refund: lifetime spent = not_spent - balance.';
comment on column pgsaas.account_balances.period_granted is
    'The highest allowance of this period, granted since its start unless period_raises says otherwise.';
comment on column pgsaas.account_balances.period_raises is
    'What raises did in this period: start, units, is_replaced, and steps, each upto so many credits since a time.';
comment on column pgsaas.account_balances.archived_seq is
    'Rows up to this one have been archived; their keys are in archived_keys.';

create table if not exists pgsaas.credit_grants (
    account_id uuid not null,
    grant_id bigint not null,
    effective_at timestamptz not null,
    expires_at timestamptz not null default 'infinity',
    acquired_at timestamptz not null,
    root_account_id uuid,
    root_grant_id bigint,
    is_open boolean not null,
    is_pending boolean not null default false,
    priority smallint not null default 0,
    source_rank smallint not null,
    amount numeric not null,
    remaining numeric not null,
    revoked numeric not null default 0,
    unrecovered numeric not null default 0,
    moved numeric not null default 0,
    expired numeric not null default 0,
    source text not null,
    constraint credit_grants_pkey primary key (account_id, grant_id),
    constraint credit_grants_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint credit_grants_remaining_check check (remaining >= 0 and remaining <= amount),
    constraint credit_grants_revoked_check check (revoked >= 0 and unrecovered >= 0 and moved >= 0
        and expired >= 0 and unrecovered <= revoked and revoked + moved + expired <= amount),
    constraint credit_grants_open_check check (is_open = (remaining > 0 and not is_pending)),
    constraint credit_grants_time_check check (expires_at > effective_at or not is_pending),
    constraint credit_grants_source_check check (source in ('allowance', 'rollover', 'trial', 'purchase',
        'bonus', 'referral', 'refund', 'transfer'))
) with (fillfactor = 80);
create index if not exists credit_grants_open_idx on pgsaas.credit_grants (account_id, expires_at) where is_open;
create index if not exists credit_grants_pending_idx on pgsaas.credit_grants (account_id, effective_at)
    where is_pending;
create index if not exists credit_grants_root_idx on pgsaas.credit_grants (root_account_id, root_grant_id)
    where root_grant_id is not null;
alter table pgsaas.credit_grants enable row level security;
comment on table pgsaas.credit_grants is
    'Lots of credits, numbered per account. remaining is stale for an account''s head: read open_credit_grants.';
comment on column pgsaas.credit_grants.acquired_at is
    'When the credits first took effect anywhere; a transfer keeps it.';
comment on column pgsaas.credit_grants.root_grant_id is
    'The grant of root_account_id that these credits were first part of, before a transfer, rollover or late refund.';
comment on column pgsaas.credit_grants.revoked is 'Taken back in all, unrecovered credits included.';
comment on column pgsaas.credit_grants.unrecovered is
    'Taken back but already gone, and not owed: the next credits that return to this grant pay it.';
comment on column pgsaas.credit_grants.expired is
    'Credits of this grant that nobody had spent when it ended, less what of them was revoked.';
comment on column pgsaas.credit_grants.moved is
    'Gone on, by transfer, rollover or a late refund, in grants that name this one, or its root, as root.';

-- What is owed, debt by debt: the oldest is paid first, and credits that come back find their own.
create table if not exists pgsaas.credit_debts (
    account_id uuid not null,
    debt_id bigint not null,
    created_at timestamptz not null,
    amount numeric not null,
    unpaid numeric not null,
    paid_by jsonb not null default '[]',
    constraint credit_debts_pkey primary key (account_id, debt_id),
    constraint credit_debts_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint credit_debts_unpaid_check check (unpaid >= 0 and unpaid <= amount)
) with (fillfactor = 80);
create index if not exists credit_debts_unpaid_idx on pgsaas.credit_debts (account_id, debt_id)
    where unpaid > 0;
alter table pgsaas.credit_debts enable row level security;
comment on table pgsaas.credit_debts is
    'What overdrafts, captures by debt and revocations took beyond what was free, numbered per account.';
comment on column pgsaas.credit_debts.unpaid is
    'Still owed. What is neither unpaid nor in paid_by was given back to the account.';
comment on column pgsaas.credit_debts.paid_by is
    '[[grant_id, amount, time in UTC], …]: the credits that have paid this debt, in that order.';

create table if not exists pgsaas.credit_holds (
    account_id uuid not null,
    hold_id bigint not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    closed_at timestamptz,
    job_id uuid,
    state text not null default 'open',
    amount numeric not null,
    balance_after numeric not null,
    allocations jsonb not null,
    agent_id text,
    description text,
    idempotency_key text,
    request_hash bytea,
    metadata jsonb,
    constraint credit_holds_pkey primary key (account_id, hold_id),
    constraint credit_holds_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint credit_holds_amount_check check (amount > 0),
    constraint credit_holds_state_check check (state in ('open', 'captured', 'released', 'lapsed')),
    constraint credit_holds_closed_check check ((state = 'open') = (closed_at is null))
) with (fillfactor = 80);
create index if not exists credit_holds_open_idx on pgsaas.credit_holds (account_id, expires_at)
    where state = 'open';
create unique index if not exists credit_holds_key_idx on pgsaas.credit_holds (account_id, idempotency_key)
    where idempotency_key is not null;
alter table pgsaas.credit_holds enable row level security;
comment on table pgsaas.credit_holds is 'Credits reserved for running work, numbered per account.';
comment on column pgsaas.credit_holds.allocations is
    '[[grant_id, amount], …] in burn order; [-debt_id, amount] is what no grant covered.';

create table if not exists pgsaas.credit_transactions (
    account_id uuid not null,
    seq bigint not null,
    created_at timestamptz not null,
    grant_id bigint,
    ref_seq bigint,
    hold_id bigint,
    job_id uuid,
    key_scope "char",
    transaction_type text not null,
    amount numeric not null,
    balance_after numeric not null,
    agent_id text,
    description text,
    idempotency_key text,
    request_hash bytea,
    allocations jsonb,
    metadata jsonb,
    constraint credit_transactions_pkey primary key (account_id, seq)
);
create unique index if not exists credit_transactions_key_idx
    on pgsaas.credit_transactions (account_id, idempotency_key, key_scope) where idempotency_key is not null;
create index if not exists credit_transactions_ref_idx on pgsaas.credit_transactions (account_id, ref_seq)
    where ref_seq is not null;
alter table pgsaas.credit_transactions enable row level security;
comment on table pgsaas.credit_transactions is
    'The ledger: append-only, rows 1, 2, 3 … per account without gaps.';
comment on column pgsaas.credit_transactions.key_scope is
    'The function that took the key: d deduct, a add, r refund, v revoke, c capture, t transfer, j adjust.';
comment on column pgsaas.credit_transactions.request_hash is
    '16 bytes over the arguments that the row itself does not hold; null where it holds them all.';
comment on column pgsaas.credit_transactions.allocations is
    '[[grant_id, amount], …] where not just one grant is concerned; [-debt_id, amount] is what became owed.';

-- What archiving leaves behind: the totals up to and including row seq, and the keys of the rows that went.
create table if not exists pgsaas.credit_checkpoints (
    account_id uuid not null,
    seq bigint not null,
    created_at timestamptz not null,
    balance_after numeric not null,
    not_spent numeric not null,
    lifetime_earned numeric not null,
    archived_at timestamptz not null,
    constraint credit_checkpoints_pkey primary key (account_id, seq),
    constraint credit_checkpoints_account_fkey foreign key (account_id) references pgsaas.accounts (account_id)
);
alter table pgsaas.credit_checkpoints enable row level security;
comment on table pgsaas.credit_checkpoints is 'The totals of an archived prefix of an account''s ledger.';

create table if not exists pgsaas.archived_keys (
    account_id uuid not null,
    idempotency_key text not null,
    key_scope "char" not null,
    seq bigint not null,
    grant_id bigint,
    job_id uuid,
    amount numeric not null,
    balance_after numeric not null,
    agent_id text,
    request_hash bytea,
    constraint archived_keys_pkey primary key (account_id, idempotency_key, key_scope)
);
alter table pgsaas.archived_keys enable row level security;
comment on table pgsaas.archived_keys is
    'Keys of archived rows with what a replay must answer: a key has one effect, ever.';
