"""Blocks about chat messages."""

from __future__ import annotations

from regie.core.block import Context, block
from regie.core.capabilities import message


@block("message.send", needs=(message.SEND,))
async def send(
    ctx: Context, *, to: str, text: str, link: str = "", key: str = "", approval: str = ""
) -> message.MessageState:
    """Tell people something in chat.

    `to` is a person's e-mail address, or a channel by the name that the tenant's connection gives it. With a `key`
    there is one message for all runs that use the same key in this channel: it is brought up to date instead of sent
    again. A chat tells nobody that a message was edited, so send a new one, with another key, when people should look.
    Without a key a repeat of the same step finds the message it sent instead of sending another.

    With an `approval`, the id of a `people.approve` step that runs beside this one (`parallel`), the message has
    buttons to decide it where the tenant's connection allows that. Send the same `key` again afterwards, and they are
    gone.

    Example:
        uses: message.send
        with: { to: certificates, text: www.example.com expires in 7 days., key: "www.example.com 2026" }
    """
    return await ctx.change(message.SEND, message.NewMessage(to=to, text=text, link=link, key=key, approval=approval))
