-- Sign-ins of people in a browser. The cookie's value is not kept, only its SHA-256.
-- No tenant: an account is the operator's; what it may see is decided at each request.
create table regie.session (
    token_sha256 text primary key check (token_sha256 ~ '^[0-9a-f]{64}$'),
    address text not null references regie.account on delete cascade,
    created_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp()
);
create index session_seen on regie.session (seen_at);

-- Tells those who watch a run that it has changed, and nobody when nobody watches: every NOTIFY makes the commits of all
-- runs wait for each other. Whoever watches holds this lock shared, so whoever gets it alone has nobody to tell.
create function regie.tell_watchers() returns trigger language plpgsql as $$
begin
    if not pg_try_advisory_xact_lock(hashtextextended(new.id::text, 7238415003)) then
        perform pg_notify('regie_run', new.id::text);
    end if;
    return null;
end
$$;
create trigger run_tells_watchers after update of seq, audit_n on regie.run
    for each row execute function regie.tell_watchers();
