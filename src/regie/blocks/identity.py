"""Blocks about people's accounts."""

from __future__ import annotations

from regie.core.block import Context, block
from regie.core.capabilities import identity


@block("identity.list_access", needs=(identity.LIST_ACCESS,))
async def list_access(ctx: Context, user: str) -> identity.Access:
    """Look up a person's account and the groups it is in.

    `groups` holds the groups somebody put the person into; `rule_groups` those that a rule of the directory decides,
    which end by themselves.

    Example:
        uses: identity.list_access
        with: { user: jan.janssen@example.com }
    """
    return await ctx.call(identity.LIST_ACCESS, identity.UserQuery(user=user))


@block("identity.find_manager", needs=(identity.FIND_MANAGER,))
async def find_manager(ctx: Context, user: str) -> identity.Manager:
    """Find who somebody reports to.

    Example:
        uses: identity.find_manager
        with: { user: jan.janssen@example.com }
    """
    return await ctx.call(identity.FIND_MANAGER, identity.UserQuery(user=user))


@block("identity.disable_account", needs=(identity.DISABLE_ACCOUNT,))
async def disable_account(ctx: Context, user: str) -> identity.AccountState:
    """Switch an account off so that nobody can sign in with it.

    Example:
        uses: identity.disable_account
        with: { user: jan.janssen@example.com }
    """
    return await ctx.change(identity.DISABLE_ACCOUNT, identity.UserQuery(user=user))


@block("identity.enable_account", needs=(identity.ENABLE_ACCOUNT,))
async def enable_account(ctx: Context, user: str) -> identity.AccountState:
    """Switch an account on again.

    Example:
        uses: identity.enable_account
        with: { user: jan.janssen@example.com }
    """
    return await ctx.change(identity.ENABLE_ACCOUNT, identity.UserQuery(user=user))


@block("identity.revoke_sessions", needs=(identity.REVOKE_SESSIONS,))
async def revoke_sessions(ctx: Context, user: str) -> identity.SessionState:
    """End every sign-in session of an account.

    The directory takes minutes over it; the step waits until it shows. Switch the account off first, or the person
    can sign in again.

    Example:
        uses: identity.revoke_sessions
        with: { user: jan.janssen@example.com }
    """
    return await ctx.change(identity.REVOKE_SESSIONS, identity.UserQuery(user=user))


@block("identity.remove_from_group", needs=(identity.REMOVE_FROM_GROUP,))
async def remove_from_group(ctx: Context, user: str, group: str) -> identity.MembershipState:
    """Take a person out of a group. `group` is the directory's id, as `identity.list_access` gives it.

    Example:
        uses: identity.remove_from_group
        with: { user: jan.janssen@example.com, group: 3f0c7c1e-5d0e-4c43-9a37-5f2f9d1f0001 }
    """
    return await ctx.change(identity.REMOVE_FROM_GROUP, identity.Membership(user=user, group=group))


@block("identity.add_to_group", needs=(identity.ADD_TO_GROUP,))
async def add_to_group(ctx: Context, user: str, group: str) -> identity.MembershipState:
    """Put a person into a group. `group` is the directory's id.

    Example:
        uses: identity.add_to_group
        with: { user: jan.janssen@example.com, group: 3f0c7c1e-5d0e-4c43-9a37-5f2f9d1f0001 }
    """
    return await ctx.change(identity.ADD_TO_GROUP, identity.Membership(user=user, group=group))
