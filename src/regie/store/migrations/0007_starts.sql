-- When each schedule of each tenant is due next. The row says what is planned; the release says what is meant.
-- `start` names one schedule among those of its workflow by a digest, so that another order changes nothing.
create table regie.schedule (
    tenant text not null,
    domain text not null,
    workflow text not null,
    start text not null,
    next_at timestamptz not null,
    due_at timestamptz not null,
    last_at timestamptz,
    last_run uuid,
    primary key (tenant, domain, workflow, start)
);
-- Any worker of a domain starts what is due for all its tenants.
create index schedule_due on regie.schedule (domain, due_at);

-- Where each poll of each tenant stands. A worker that asks holds the row under a fence for a limited time; the gateway
-- looks up in `release` what it may ask.
create table regie.poll (
    tenant text not null,
    domain text not null,
    workflow text not null,
    start text not null,
    release text references regie.release,
    cursor bytea,
    next_at timestamptz not null default clock_timestamp(),
    fence bigint not null default 0,
    held_until timestamptz,
    polled_at timestamptz,
    failures integer not null default 0,
    failing_since timestamptz,
    failure bytea,
    primary key (tenant, domain, workflow, start),
    check ((failures > 0) = (failing_since is not null))
);
-- Any worker of a domain asks for all its tenants.
create index poll_due on regie.poll (domain, next_at);
