"""Exports as the products write them, small."""

import io
import json
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

Shape = dict[str, Any]
AT = 1_700_000_000.25


def message(name: str, role: str, content: Shape | str, **more: Any) -> Shape:
    """A message of ChatGPT's, with the fields that its files have."""
    if isinstance(content, str):
        content = {"content_type": "text", "parts": [content]}
    notes = more.pop("metadata", {})
    return {
        "id": name,
        "author": {"role": role, "name": more.pop("author_name", None), "metadata": {}},
        "create_time": more.pop("create_time", AT),
        "update_time": None,
        "content": content,
        "status": "finished_successfully",
        "end_turn": True,
        "weight": 1.0,
        "metadata": notes,
        "recipient": "all",
        **more,
    }


def tree(*links: tuple[str, str | None, Shape | None]) -> Shape:
    """A mapping of (name, parent, message)."""
    mapping: Shape = {name: {"id": name, "message": one, "parent": above, "children": []} for name, above, one in links}
    for name, above, _ in links:
        if above in mapping:
            mapping[above]["children"].append(name)
    return mapping


def chatgpt(name: str = "c-1", **more: Any) -> Shape:
    """A conversation with a hidden start, a question, an answer, and the answer regenerated."""
    notes = {"model_slug": "gpt-4o", "finish_details": {"type": "stop"}}
    mapping = tree(
        ("client-created-root", None, None),
        ("sys", "client-created-root", message("sys", "system", "", create_time=None)),
        ("q", "sys", message("q", "user", "Why is the sky blue?", create_time=AT + 1)),
        ("a1", "q", message("a1", "assistant", "Because.", create_time=AT + 2, metadata=notes)),
        ("a2", "q", message("a2", "assistant", "Rayleigh scattering.", create_time=AT + 3, metadata=notes)),
        ("q2", "a2", message("q2", "user", "Thanks", create_time=AT + 4)),
    )
    talk = {"title": "Blue sky", "create_time": AT, "update_time": AT + 4, "mapping": mapping, "current_node": "q2"}
    return {**talk, "conversation_id": name, "id": name, "is_archived": False, **more}


def openwebui(name: str = "w-1", **more: Any) -> Shape:
    """A chat with two answers to one question."""

    def one(key: str, parent: str | None, children: list[str], role: str, text: str, **extra: Any) -> Shape:
        links = {"id": key, "parentId": parent, "childrenIds": children}
        return {**links, "role": role, "content": text, "timestamp": int(AT) + len(key), **extra}

    messages = {
        "q": one("q", None, ["a", "bb"], "user", "Why?", files=[{"type": "image", "url": "data:…", "name": "x.png"}]),
        "a": one("a", "q", [], "assistant", "Because.", model="llama3:8b", done=True),
        "bb": one("bb", "q", [], "assistant", "So.", model="qwen", done=False),
    }
    history = {"messages": messages, "currentId": "a"}
    chat = {"title": "Inner", "models": ["llama3:8b"], "params": {"system": "Be brief."}, "history": history}
    talk = {"id": name, "user_id": "u", "title": "Whys", "chat": chat, "created_at": int(AT), "updated_at": int(AT) + 9}
    return {**talk, "archived": True, "pinned": True, "meta": {"tags": ["b", "a"]}, **more}


def file_of(*items: Shape) -> bytes:
    return json.dumps(list(items)).encode()


def archive(files: dict[str, bytes]) -> bytes:
    """A zip archive of files by name."""
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return packed.getvalue()
