"""ChatGPT's export: conversations.json, a list of conversations with a `mapping` of nodes, and the same shape written.

OpenAI has no page about it. What is read here is what public readers of such files describe; a content type that is not
known keeps the text that it has, and is counted.
"""

import json
from collections.abc import Mapping
from typing import Any

from service.domain.porting.talks import ROLES, Node, Shape, Talk, UnreadableError, moment_of, name_of

SOURCE = "chatgpt"
LONGEST_EXTRA = 4_000
# What an unfinished message says about itself.
UNFINISHED = ("in_progress", "finished_partial_completion")
INTERRUPTED = ("max_tokens", "interrupted")
# Where a content keeps its text: the user's own instructions, and anything else.
CONTEXT = ("user_profile", "user_instructions", "model_set_context", "repository")
TOLD = ("title", "url", "name", "text", "result", "summary", "content")
THOUGHTS = ("thoughts", "reasoning_recap")
# Keys of a message's own metadata that say something to people, and are short.
TELLING = ("is_visually_hidden_from_conversation", "model_slug", "finish_details", "attachments", "citations")


def recognise(item: Shape) -> bool:
    return isinstance(item.get("mapping"), dict)


def read(item: Shape) -> Talk:
    """A conversation with its whole tree. Raises UnreadableError."""
    mapping = item["mapping"]
    found = name_of(item.get("conversation_id")) or name_of(item.get("id"))
    first = next(iter(mapping), None)
    if found is None and first is None:
        raise UnreadableError("It has neither an id nor messages.")
    talk = Talk(SOURCE, found or f"node:{first}"[:200])
    talk.title = talk.short(item.get("title"), 300)
    talk.model = talk.short(item.get("default_model_slug"), 200)
    talk.archived = item.get("is_archived") is True
    talk.pinned = item.get("is_starred") is True or bool(item.get("pinned_time"))
    talk.created_at = moment_of(item.get("create_time"))
    talk.updated_at = talk.active_at = moment_of(item.get("update_time"))
    talk.leaf = name_of(item.get("current_node"))
    kept = {"gizmo_id": item.get("gizmo_id"), "voice": item.get("voice")}
    talk.metadata = talk.extras({key: value for key, value in kept.items() if value})
    above = _parents(mapping)
    for key, node in mapping.items():
        _add(talk, name_of(key) or "", node, above)
    return talk


def _parents(mapping: Mapping[str, Any]) -> dict[str, str | None]:
    """Each node's parent: as it says itself, else as the node says that lists it among its children."""
    listed: dict[str, str] = {}
    for key, node in mapping.items():
        children = node.get("children") if isinstance(node, dict) else None
        for child in children if isinstance(children, list) else ():
            if (name := name_of(child)) is not None:
                listed.setdefault(name, name_of(key) or "")
    found: dict[str, str | None] = {}
    for key, node in mapping.items():
        name = name_of(key) or ""
        said = name_of(node.get("parent")) if isinstance(node, dict) else None
        found[name] = said or listed.get(name)
    return found


def _add(talk: Talk, name: str, node: object, above: Mapping[str, str | None]) -> None:
    """Keep a node that says something; of the others only where they stand is remembered."""
    message = node.get("message") if isinstance(node, dict) else None
    if not isinstance(message, dict):
        talk.dropped[name] = above[name]
        return
    content = message.get("content")
    content = content if isinstance(content, dict) else {"content_type": "text", "parts": [content]}
    author = message.get("author")
    author = author if isinstance(author, dict) else {}
    extra: Shape = {}
    text, reasoning = _text(talk, content, extra)
    if not text and not reasoning and not extra:
        talk.dropped[name] = above[name]
        return
    notes = message.get("metadata")
    notes = notes if isinstance(notes, dict) else {}
    role = str(author.get("role") or "")
    extra |= _telling(notes)
    if role not in ROLES:
        # A tool's words: nobody but the model's side can have said them.
        extra |= {"author": {key: author[key] for key in ("role", "name") if author.get(key)}}
    if message.get("recipient") not in (None, "all"):
        extra["recipient"] = message["recipient"]
    talk.nodes.append(
        Node(
            source_id=name,
            parent=above[name],
            role=role if role in ROLES else "assistant",
            content=text,
            reasoning=reasoning or None,
            status="incomplete" if _unfinished(message, notes) else "completed",
            model=talk.short(notes.get("model_slug"), 200) if role == "assistant" else None,
            metadata=talk.extras({SOURCE: _bounded(talk, extra)}) if extra else {},
            created_at=moment_of(message.get("create_time")),
        )
    )


def _text(talk: Talk, content: Shape, extra: Shape) -> tuple[str, str]:
    """The text and the reasoning of a content; `extra` gets its type and what is no text, which is counted."""
    kind = str(content.get("content_type") or "text")
    thoughts = content.get("thoughts")
    reasoning = [_thought(one) for one in thoughts] if isinstance(thoughts, list) else []
    if kind in ("text", "multimodal_text"):
        return talk.text(_parts(talk, content, extra)), talk.text("\n\n".join(filter(None, reasoning)))
    if kind in THOUGHTS:
        reasoning += [_string(content.get("content")), _joined(content)]
        return "", talk.text("\n\n".join(filter(None, reasoning)))
    if kind == "code":
        text = talk.text(content.get("text"))
        language = str(content.get("language") or "")
        text = f"```{'' if language == 'unknown' else language[:40]}\n{text}\n```" if text else ""
    elif kind == "execution_output":
        text = talk.text(content.get("text"))
        text = f"```\n{text}\n```" if text else ""
    elif kind.endswith("editable_context"):
        text = talk.text("\n\n".join(filter(None, (_string(content.get(name)) for name in CONTEXT))))
    else:
        told = [_string(content.get(name)) for name in TOLD]
        text = talk.text("\n\n".join(filter(None, [*told, _joined(content)])))
        if not text:
            if len(content) > 1:
                talk.left_out[kind[:64]] += 1
                extra["content"] = content
            return "", ""
    if text:
        extra["content_type"] = kind[:64]
    return text, ""


def _parts(talk: Talk, content: Shape, extra: Shape) -> str:
    parts = content.get("parts")
    texts: list[str] = []
    others: list[Shape] = []
    for part in parts if isinstance(parts, list) else [content.get("text")]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            # What was spoken, or a page that was read.
            texts.append(part["text"])
        elif isinstance(part, dict):
            others.append(part)
            talk.left_out[str(part.get("content_type") or "part")[:64]] += 1
    if others:
        extra["parts"] = others
    return "\n".join(text for text in texts if text)


def _thought(thought: object) -> str:
    if isinstance(thought, str):
        return thought
    if not isinstance(thought, dict):
        return ""
    return "\n".join(filter(None, (_string(thought.get(name)) for name in ("summary", "content"))))


def _joined(content: Shape) -> str:
    parts = content.get("parts")
    return "\n".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else ""


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _telling(notes: Shape) -> Shape:
    found = {name: notes[name] for name in TELLING if notes.get(name)}
    found.pop("model_slug", None)
    if found.get("finish_details", {}) == {"type": "stop"}:
        del found["finish_details"]
    return found


def _unfinished(message: Shape, notes: Shape) -> bool:
    ended = notes.get("finish_details")
    kind = ended.get("type") if isinstance(ended, dict) else None
    return message.get("status") in UNFINISHED or kind in INTERRUPTED


def _bounded(talk: Talk, extra: Shape) -> Shape:
    """Extras of at most some kilobytes; the larger ones go, the largest first, and are counted."""
    sizes = {name: len(json.dumps(value)) for name, value in extra.items()}
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if sum(sizes.values()) <= LONGEST_EXTRA:
            break
        del sizes[name]
        talk.left_out["metadata"] += 1
    return {name: extra[name] for name in sizes}
