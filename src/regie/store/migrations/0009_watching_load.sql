-- The context of the trace that a run belongs to: a W3C traceparent, made of random numbers (not sealed).
alter table regie.run add column trace text not null default '';

-- What has ended lately and what has not ended yet, for figures. Neither index touches a column that changes while a run
-- moves, so commits cost what they did.
create index run_ended on regie.run (tenant, domain, ended_at) where ended_at is not null;
create index run_open on regie.run (tenant, domain, started_at) where ended_at is null;
