-- In which form a run and its events, and a release, are written; up to which one a worker reads. Whoever reads only
-- earlier forms leaves a run to others, instead of losing what it does not know.
alter table regie.run add column format integer not null default 1;
alter table regie.release add column format integer not null default 1;
alter table regie.worker add column reads integer not null default 1;

-- An event may be published by a run: then `cause` names that run and what led to it. What it starts is started once, by
-- whoever gets to it; what was there before this has started nothing.
alter table regie.event
    add column cause bytea,
    add column corr text not null default '',
    add column started_at timestamptz default clock_timestamp();
alter table regie.event alter column started_at drop default;
create index event_unstarted on regie.event (domain, arrived_at) where started_at is null;

-- How many runs of a domain may begin in a length of time, and when those began or will begin that were started lately.
-- A run whose turn is later sleeps until then; its timer wakes it.
alter table regie.quota
    add column start_runs integer check (start_runs > 0),
    add column start_per_s double precision check (start_per_s > 0),
    add constraint quota_start check ((start_runs is null) = (start_per_s is null));
create table regie.start_slot (
    tenant text not null,
    domain text not null,
    run uuid not null,
    at timestamptz not null,
    primary key (tenant, domain, run),
    foreign key (tenant, domain, run) references regie.run
);
-- The latest of a domain, over all its tenants.
create index start_slot_latest on regie.start_slot (domain, at);
