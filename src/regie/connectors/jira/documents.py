"""Atlassian documents (ADF) and plain text: what Jira wants descriptions and comments written in, and back again.

Contract: developer.atlassian.com/cloud/jira/platform/apis/document/structure.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import JsonValue

LONGEST_TEXT = 32_000
"""Characters of a comment or description we write. Jira takes 32,767 (support.atlassian.com, "character limit"); the
rest is room for our marker."""

LONGEST_TITLE = 255
"""Characters of a summary (Jira's own message: "Summary can't exceed 255 characters.")."""

_CUT = "... (cut: the text was longer than Jira takes)"


def _cut(text: str, most: int) -> str:
    """The text, or as much of it as fits with a note that it was cut. Jira counts UTF-16 units, as Java does."""
    raw = text.encode("utf-16-le", "surrogatepass")
    if len(raw) <= 2 * most:
        return text
    return raw[: 2 * (most - len(_CUT))].decode("utf-16-le", "ignore") + _CUT


def fitting(text: str) -> str:
    """A comment or description, not too long."""
    return _cut(text, LONGEST_TEXT)


def one_line(text: str) -> str:
    """A summary: one line, not too long."""
    return _cut(" ".join(text.split()), LONGEST_TITLE)


def _paragraph(lines: list[str]) -> JsonValue:
    content: list[JsonValue] = []
    for line in lines:
        if content:
            content.append({"type": "hardBreak"})
        content.append({"type": "text", "text": line})
    return {"type": "paragraph", "content": content}


def _blocks(text: str) -> Iterator[JsonValue]:
    """The nodes of a plain text: blank lines part paragraphs, `- ` starts a list item."""
    lines: list[str] = []
    items: list[JsonValue] = []
    for line in [*text.splitlines(), ""]:
        is_item = line.startswith("- ") and line[2:].strip() != ""
        if lines and (is_item or not line.strip()):
            yield _paragraph(lines)
            lines = []
        if items and not is_item:
            yield {"type": "bulletList", "content": items}
            items = []
        if is_item:
            items.append({"type": "listItem", "content": [_paragraph([line[2:].strip()])]})
        elif line.strip():
            lines.append(line.strip())


def document(text: str, small: str = "") -> JsonValue:
    """An Atlassian document of a plain text, with a small last line if wanted."""
    content = list(_blocks(text))
    if small:
        mark: JsonValue = {"type": "subsup", "attrs": {"type": "sub"}}
        content.append({"type": "paragraph", "content": [{"type": "text", "text": small, "marks": [mark]}]})
    return {"type": "doc", "version": 1, "content": content}


def plain_text(node: JsonValue) -> str:
    """A document as the plain text that it was written from; of what has no plain form, the text in it."""
    return "\n\n".join(filter(None, (_plain_block(each) for each in _children(node))))


def _plain_block(node: JsonValue) -> str:
    kind = node.get("type") if isinstance(node, dict) else None
    if kind == "bulletList":
        return "\n".join(f"- {plain_text(item)}" for item in _children(node))
    if kind in {"paragraph", "heading", "codeBlock"}:
        return "".join(_plain_inline(each) for each in _children(node))
    # Somebody's panel or table: its frame is lost, what it says is not.
    return plain_text(node)


def _plain_inline(node: JsonValue) -> str:
    if not isinstance(node, dict):
        return ""
    text = node.get("text")
    return "\n" if node.get("type") == "hardBreak" else text if isinstance(text, str) else ""


def _children(node: JsonValue) -> list[JsonValue]:
    content = node.get("content") if isinstance(node, dict) else None
    return content if isinstance(content, list) else []


def texts(node: JsonValue) -> Iterator[str]:
    """Every text in a document, however deep."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, dict):
            text = each.get("text")
            if isinstance(text, str):
                yield text
            waiting.append(each.get("content"))
