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
