-- Users and groups that a provisioning service keeps here (SCIM 2.0, RFC 7643), for one tenant each. A user is an account;
-- whose service brought it may change it, and no other. A group counts where that tenant's file gives it a role.
create table regie.provisioned_user (
    scope_tenant text not null,
    id uuid not null,
    address text not null unique references regie.account on update cascade on delete cascade,
    user_name text not null,
    external_id text not null,
    content jsonb not null,
    version int not null default 1,
    made_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp(),
    primary key (scope_tenant, id)
);
create unique index provisioned_user_by_name on regie.provisioned_user (scope_tenant, lower(user_name));
create index provisioned_user_made on regie.provisioned_user (scope_tenant, made_at, id);

create table regie.provisioned_group (
    scope_tenant text not null,
    id uuid not null,
    display_name text not null,
    external_id text not null,
    version int not null default 1,
    made_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp(),
    primary key (scope_tenant, id)
);
create unique index provisioned_group_by_name on regie.provisioned_group (scope_tenant, lower(display_name));
create index provisioned_group_made on regie.provisioned_group (scope_tenant, made_at, id);

create table regie.provisioned_member (
    scope_tenant text not null,
    in_group uuid not null,
    member uuid not null,
    primary key (scope_tenant, in_group, member),
    foreign key (scope_tenant, in_group) references regie.provisioned_group on delete cascade,
    foreign key (scope_tenant, member) references regie.provisioned_user on delete cascade
);
create index provisioned_member_of on regie.provisioned_member (scope_tenant, member);
