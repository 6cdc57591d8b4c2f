-- A run can be paused; it can have a time by which it should be finished; it can repeat another run from some step on:
-- then first_run is the first of that line, which stands for what all of them were asked for.
-- set_aside is the class of the error for which nobody goes on with it until somebody has woken it; woken_seq says at
-- which commit a sweeper made it ready, so that it does so once.
alter table regie.run
    drop constraint run_status_check,
    add constraint run_status_check
        check (status in ('running', 'waiting', 'paused', 'done', 'refused', 'failed', 'cancelled')),
    add column finish_by timestamptz,
    add column rerun_of uuid,
    add column first_run uuid,
    add column set_aside text,
    add column woken_seq bigint,
    add constraint run_is_first check ((rerun_of is null) = (first_run is null));
create index run_repeated on regie.run (tenant, domain, rerun_of) where rerun_of is not null;
-- What a ticket has under way, when people close it.
create index run_of_ticket on regie.run (tenant, domain, ticket) where ended_at is null and ticket <> '';
-- Every run that is not over, for the look at those that nothing would wake; workers look for all tenants of a domain.
create index run_unfinished on regie.run (domain) where ended_at is null;
-- Which tickets we have closed ourselves. Without the domain: another domain of the tenant may have closed it.
create index effect_of_closing on regie.effect (tenant, target) where capability = 'ticket.close';
