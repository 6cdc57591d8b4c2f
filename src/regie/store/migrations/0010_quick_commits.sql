-- A commit writes the attempts and the leaves of a run while it holds the run's row, whose key it has just read; a leaf is
-- inserted by joining its log. So these two checks can find nothing, and they were three quarters of what a commit of many
-- runs costs the server: one query for each row, and a shared lock on the one row of a log for each leaf.
alter table regie.step drop constraint step_tenant_domain_run_fkey;
alter table audit.intake drop constraint intake_log_id_fkey;
