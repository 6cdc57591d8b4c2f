-- A run can be cancelled, and with it what it had asked people.
alter table regie.run
    drop constraint run_status_check,
    drop constraint run_check,
    add constraint run_status_check check (status in ('running', 'waiting', 'done', 'refused', 'failed', 'cancelled')),
    add constraint run_check check ((ended_at is not null) = (status in ('done', 'refused', 'failed', 'cancelled')));

alter table regie.approval
    drop constraint approval_status_check,
    add constraint approval_status_check
        check (status in ('open', 'approved', 'refused', 'timeout', 'cancelled'));
