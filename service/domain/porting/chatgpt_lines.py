"""A conversation written as an element of ChatGPT's conversations.json, in pieces, on one line.

It carries the tree, roles, texts, reasoning, models, times and titles. Tags and metadata have no place in it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from service.domain.porting.chatgpt import SOURCE
from service.domain.porting.talks import EPOCH, Shape

ROOT, PROMPT = "client-created-root", "system-prompt"
STATUSES = {"completed": "finished_successfully", "in_progress": "in_progress"}


def head(talk: Mapping[str, Any], roots: Sequence[str]) -> bytes:
    """The beginning up to the first nodes: the empty root, and the system prompt where there is one."""
    fields = {
        "title": talk["title"],
        "create_time": _seconds(talk["created_at"]),
        "update_time": _seconds(talk["active_at"]),
        "is_archived": talk["archived"],
        "is_starred": talk["pinned"] or None,
        "default_model_slug": talk["model"],
        "conversation_id": talk["id"],
        "id": talk["id"],
        "current_node": talk["active_leaf"] or ROOT,
    }
    prompt = talk["system_prompt"]
    nodes: list[Shape] = [
        {"id": ROOT, "message": None, "parent": None, "children": [PROMPT] if prompt else list(roots)}
    ]
    if prompt:
        notes = {"is_visually_hidden_from_conversation": True}
        content = {"content_type": "text", "parts": [prompt]}
        message = _message(PROMPT, "system", content=content, notes=notes, at=talk["created_at"])
        nodes.append({"id": PROMPT, "message": message, "parent": ROOT, "children": list(roots)})
    return _dump(fields)[:-1] + b',"mapping":{' + b",".join(_entry(one) for one in nodes)


def node(message: Mapping[str, Any], children: Sequence[str], prompted: bool) -> bytes:
    """A message's entry, with the comma before it. `prompted`: roots stand below the system prompt."""
    extra = message["metadata"].get(SOURCE)
    extra = extra if isinstance(extra, dict) else {}
    author = extra.get("author")
    author = author if isinstance(author, dict) else {}
    notes = {"model_slug": message["model"]} if message["model"] else {}
    if message["status"] != "completed":
        notes["finish_details"] = {"type": "interrupted"}
    if extra.get("is_visually_hidden_from_conversation"):
        notes["is_visually_hidden_from_conversation"] = True
    made = _message(
        message["id"],
        str(author.get("role") or message["role"]),
        content=_content(message),
        notes=notes,
        at=message["created_at"],
    )
    made["author"]["name"] = author.get("name")
    made["status"] = STATUSES.get(message["status"], "finished_partial_completion")
    made["recipient"] = extra.get("recipient") or "all"
    parent = message["parent"] or (PROMPT if prompted else ROOT)
    return b"," + _entry({"id": message["id"], "message": made, "parent": parent, "children": list(children)})


def tail() -> bytes:
    return b"}}\n"


def _content(message: Mapping[str, Any]) -> Shape:
    thoughts = [{"summary": "", "content": message["reasoning"]}] if message["reasoning"] else []
    if not message["content"] and thoughts:
        return {"content_type": "thoughts", "thoughts": thoughts}
    content: Shape = {"content_type": "text", "parts": [message["content"]]}
    return {**content, "thoughts": thoughts} if thoughts else content


def _message(name: str, role: str, *, content: Shape, notes: Shape, at: datetime) -> Shape:
    return {
        "id": name,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": _seconds(at),
        "update_time": None,
        "content": content,
        "status": "finished_successfully",
        "end_turn": None,
        "weight": 1.0,
        "metadata": notes,
        "recipient": "all",
    }


def _entry(one: Mapping[str, Any]) -> bytes:
    return _dump(one["id"]) + b":" + _dump(one)


def _seconds(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
