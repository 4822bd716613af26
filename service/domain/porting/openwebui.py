"""Open WebUI's export: a list of chats, each with its messages by id under `chat.history`."""

from typing import Any

from service.domain.porting.talks import LONGEST_PROMPT, ROLES, Node, Shape, Talk, UnreadableError, moment_of, name_of

SOURCE = "openwebui"


def recognise(item: Shape) -> bool:
    return isinstance(item.get("chat"), dict)


def read(item: Shape) -> Talk:
    """A chat with all its branches. Raises UnreadableError."""
    chat = item["chat"]
    messages, leaf = _messages(chat)
    found = name_of(item.get("id")) or name_of(chat.get("id"))
    first = next(iter(messages), None)
    if found is None and first is None:
        raise UnreadableError("It has neither an id nor messages.")
    talk = Talk(SOURCE, found or f"node:{first}"[:200])
    talk.title = talk.short(item.get("title") or chat.get("title"), 300)
    models = chat.get("models")
    talk.model = talk.short(models[0], 200) if isinstance(models, list) and models else None
    talk.system_prompt = talk.short(chat.get("system") or _nested(chat, "params", "system"), LONGEST_PROMPT)
    talk.tags = talk.labels(_nested(item, "meta", "tags") or chat.get("tags"))
    talk.archived, talk.pinned = item.get("archived") is True, item.get("pinned") is True
    talk.created_at = moment_of(item.get("created_at")) or moment_of(chat.get("timestamp"))
    talk.updated_at = talk.active_at = moment_of(item.get("updated_at"))
    talk.leaf = leaf
    files = chat.get("files")
    if isinstance(files, list) and files:
        talk.left_out["file"] += len(files)
    for name, message in messages.items():
        _add(talk, name, message)
    return talk


def _messages(chat: Shape) -> tuple[dict[str, Any], str | None]:
    """The messages by name, and the active leaf; old chats have only a list, which is one branch."""
    history = chat.get("history")
    mapped = history.get("messages") if isinstance(history, dict) else None
    if isinstance(history, dict) and isinstance(mapped, dict) and mapped:
        named = {name_of(key) or "": message for key, message in mapped.items()}
        return named, name_of(history.get("currentId"))
    listed = chat.get("messages")
    found: dict[str, Any] = {}
    above: str | None = None
    for index, message in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(message, dict):
            name = name_of(message.get("id")) or str(index)
            found[name] = {"parentId": above, **message}
            above = name
    return found, above


def _add(talk: Talk, name: str, message: object) -> None:
    if not isinstance(message, dict):
        talk.dropped[name] = None
        return
    parent = name_of(message.get("parentId"))
    text = talk.text(_content(talk, message.get("content")))
    reasoning = talk.text(message.get("reasoning") or message.get("reasoning_content"))
    extra = {key: message[key] for key in ("annotation", "favorite", "error") if message.get(key)}
    files = message.get("files")
    if isinstance(files, list) and files:
        talk.left_out["file"] += len(files)
        extra["files"] = [_file(one) for one in files[:32]]
    if not text and not reasoning and not extra:
        talk.dropped[name] = parent
        return
    role = message.get("role")
    if role not in ROLES:
        extra["role"] = str(role)[:100]
    status = "failed" if message.get("error") else "incomplete" if message.get("done") is False else "completed"
    talk.nodes.append(
        Node(
            source_id=name,
            parent=parent,
            role=role if role in ROLES else "assistant",
            content=text,
            reasoning=reasoning or None,
            status=status if role == "assistant" else "completed",
            model=talk.short(message.get("model"), 200) if role == "assistant" else None,
            metadata=talk.extras({SOURCE: extra}) if extra else {},
            created_at=moment_of(message.get("timestamp")),
        )
    )


def _content(talk: Talk, content: object) -> object:
    """The text of a content that is a string, or a list of parts as OpenAI's wire has them."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict):
            talk.left_out[str(part.get("type") or "part")[:64]] += 1
    return "\n".join(texts)


def _file(one: object) -> Shape:
    names = ("type", "name", "id", "size")
    return {key: one[key] for key in names if isinstance(one.get(key), str | int)} if isinstance(one, dict) else {}


def _nested(item: Shape, outer: str, inner: str) -> Any:
    found = item.get(outer)
    return found.get(inner) if isinstance(found, dict) else None
