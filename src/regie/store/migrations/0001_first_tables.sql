-- Rows that belong to a tenant have keys and indexes that begin with (tenant, domain), foreign keys included, so that no
-- constraint can tell one tenant that another tenant's row exists. Exceptions say why.
-- Columns of type bytea hold what the sealer made, if nothing else is said.

create schema audit;

-- One row: the name of this deployment, part of the name of each of its logs.
-- No tenant: it is about the deployment.
create table regie.deployment (
    name text primary key default 'regie-' || substr(gen_random_uuid()::text, 1, 8)
);
create unique index deployment_is_one on regie.deployment ((true));
insert into regie.deployment default values;

-- Proof that a key file belongs to this database: a known text, sealed.
-- No tenant: keys belong to the deployment.
create table regie.sealing_key (
    key_id smallint primary key,
    proof bytea not null
);

-- No tenant: a release holds the definitions and values of all of them.
create table regie.release (
    digest text primary key check (digest ~ '^[0-9a-f]{64}$'),
    content bytea not null,
    loaded_at timestamptz not null default clock_timestamp()
);

-- Which release new runs get: the last row. No tenant, as for releases.
create table regie.release_activation (
    n bigint generated always as identity primary key,
    digest text not null references regie.release,
    activated_by text not null,
    at timestamptz not null default clock_timestamp()
);

-- No tenant: accounts of the operator's own people; what they may see is a matter of their roles.
create table regie.account (
    address text primary key check (address = lower(address)),
    display_name text not null,
    password_hash text not null,
    roles text[] not null,
    added_at timestamptz not null default clock_timestamp()
);

-- No tenant: a worker serves all tenants of its domains. The number names its advisory lock.
create table regie.worker (
    id uuid primary key,
    number integer generated always as identity unique,
    name text not null,
    domains text[] not null,
    started_at timestamptz not null default clock_timestamp(),
    beat_at timestamptz not null default clock_timestamp()
);

-- The run row is the queue: ready_at says that it wants a worker, owner that it has one. Each claim raises the fence, each
-- commit the seq. audit_n and audit_head are the length and the last leaf hash of the run's chain (not sealed).
-- There is no foreign key to the worker: a dead one is deleted, and its runs are found by that.
create table regie.run (
    tenant text not null,
    domain text not null,
    id uuid not null,
    workflow text not null,
    release text not null references regie.release,
    definition_digest text not null,
    trigger_key text not null,
    ticket text not null,
    corr text not null,
    started_by jsonb not null,
    requester text not null,
    dry boolean not null,
    prio integer not null,
    status text not null check (status in ('running', 'waiting', 'done', 'refused', 'failed')),
    state bytea not null,
    seq bigint not null default 0,
    ready_at timestamptz default clock_timestamp(),
    owner uuid,
    fence bigint not null default 0,
    inbox_n bigint not null default 0,
    audit_n integer not null default 0,
    audit_head bytea not null default ''::bytea,
    started_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    primary key (tenant, domain, id),
    unique (tenant, domain, trigger_key),
    check ((ended_at is not null) = (status in ('done', 'refused', 'failed'))),
    check (ended_at is null or (owner is null and ready_at is null))
) with (fillfactor = 70);

-- A worker takes runs of its domains whatever their tenant, the most urgent first.
create index run_ready on regie.run (domain, prio, ready_at) where owner is null and ready_at is not null;
-- Owned runs of all tenants, to find those whose worker is gone.
create index run_owned on regie.run (owner) where owner is not null;
create index run_newest on regie.run (tenant, domain, started_at desc, id desc);
-- The operator's list over all tenants, and a run looked up by its id alone; neither is unique.
create index run_newest_of_all on regie.run (started_at desc, id desc);
create index run_by_id on regie.run (id);

create table regie.step (
    tenant text not null,
    domain text not null,
    run uuid not null,
    place text not null,
    attempt integer not null,
    n bigint generated always as identity,
    seq bigint not null,
    uses text not null,
    status text not null,
    input_sha256 text not null,
    output bytea,
    failure bytea,
    queued_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    primary key (tenant, domain, run, place, attempt),
    foreign key (tenant, domain, run) references regie.run
);

create table regie.inbox (
    tenant text not null,
    domain text not null,
    run uuid not null,
    key text not null,
    n bigint not null,
    payload bytea not null,
    arrived_at timestamptz not null default clock_timestamp(),
    consumed_seq bigint,
    primary key (tenant, domain, run, key),
    unique (tenant, domain, run, n),
    foreign key (tenant, domain, run) references regie.run
);

-- set_seq tells one setting of a timer from the next.
create table regie.timer (
    tenant text not null,
    domain text not null,
    run uuid not null,
    timer text not null,
    set_seq bigint not null,
    due_at timestamptz not null,
    primary key (tenant, domain, run, timer),
    foreign key (tenant, domain, run) references regie.run
);
-- Any worker of a domain fires the timers of all its tenants.
create index timer_due on regie.timer (domain, due_at);

-- The second pair of eyes is checked here too, whatever the code above believes.
create table regie.approval (
    tenant text not null,
    domain text not null,
    id uuid not null,
    run uuid not null,
    place text not null,
    rung integer not null,
    rungs integer not null,
    question bytea not null,
    plan bytea not null,
    plan_sha256 text not null,
    changes text[] not null,
    requester text not null,
    approvers text[] not null,
    status text not null default 'open' check (status in ('open', 'approved', 'refused', 'timeout')),
    asked_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,
    reminded_at timestamptz,
    decided_by text,
    decided_at timestamptz,
    comment bytea,
    primary key (tenant, domain, id),
    unique (tenant, domain, run, place),
    foreign key (tenant, domain, run) references regie.run,
    constraint four_eyes check (decided_by is null or lower(decided_by) is distinct from lower(requester)),
    check ((status in ('approved', 'refused')) = (decided_by is not null)),
    check ((status = 'open') = (decided_at is null))
);
create index approval_newest on regie.approval (tenant, domain, asked_at desc, id desc);
-- What waits for a person, over all tenants.
create index approval_open on regie.approval (asked_at desc, id desc) where status = 'open';
-- An approval looked up by its id alone, from a link; not unique.
create index approval_by_id on regie.approval (id);

-- The effect ledger: what was meant before each call to the outside, and what came of it.
create table regie.effect (
    tenant text not null,
    domain text not null,
    attempt_key text not null,
    run uuid not null,
    place text not null,
    effect_key text not null,
    capability text not null,
    target text not null,
    change_digest text not null,
    change bytea,
    state text not null
        check (state in ('intended', 'pending', 'received', 'unchanged', 'failed', 'unknown')),
    fence bigint not null,
    tries integer not null default 1,
    receipt bytea,
    handle bytea,
    observed bytea,
    intended_at timestamptz not null default clock_timestamp(),
    settled_at timestamptz,
    primary key (tenant, domain, attempt_key),
    foreign key (tenant, domain, run) references regie.run
);
create index effect_by_meaning on regie.effect (tenant, domain, effect_key);
create index effect_of_run on regie.effect (tenant, domain, run);

-- One log for each tenant and domain, and one (both empty) for the deployment itself.
create table audit.log (
    log_id integer generated always as identity primary key,
    tenant text not null,
    domain text not null,
    origin text not null unique,
    created_at timestamptz not null default clock_timestamp(),
    unique (tenant, domain)
);

-- Leaves until the notary takes them into their log; they are not sealed, they hold no personal payload.
-- log_id stands for tenant and domain. The keys begin with random identifiers of our own making, which nobody can guess.
create table audit.intake (
    entry_id uuid primary key,
    log_id integer not null references audit.log,
    run_id uuid,
    run_seq integer,
    leaf bytea not null check (octet_length(leaf) <= 65535),
    at timestamptz not null default clock_timestamp(),
    unique (run_id, run_seq),
    check ((run_id is null) = (run_seq is null))
);
-- The newest facts outside runs, for people.
create index intake_outside on audit.intake (log_id, at desc) where run_id is null;
