"""What is read out of ChatGPT's and Open WebUI's files, and what is counted as left out."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.porting import chatgpt, everturn, openwebui
from service.domain.porting.talks import Node, Talk, UnreadableError, moment_of, name_of
from tests.porting import samples
from tests.porting.samples import AT, Shape, message, tree

MOMENT = datetime(2023, 11, 14, 22, 13, 20, 250_000, tzinfo=UTC)


def nodes(talk: Talk) -> dict[str, Node]:
    return {node.source_id: node for node in talk.nodes}


def read(*links: Any) -> Talk:
    return chatgpt.read(samples.chatgpt(mapping=tree(*links)))


def test_chatgpts_tree_is_read_whole() -> None:
    talk = chatgpt.read(samples.chatgpt())
    assert (talk.source, talk.source_id, talk.title, talk.leaf) == ("chatgpt", "c-1", "Blue sky", "q2")
    assert (talk.created_at, talk.active_at) == (MOMENT, MOMENT.replace(second=24))
    assert {name: (one.parent, one.role, one.content) for name, one in nodes(talk).items()} == {
        "q": ("sys", "user", "Why is the sky blue?"),
        "a1": ("q", "assistant", "Because."),
        "a2": ("q", "assistant", "Rayleigh scattering."),
        "q2": ("a2", "user", "Thanks"),
    }
    assert talk.dropped == {"client-created-root": None, "sys": "client-created-root"}
    assert (nodes(talk)["a1"].model, nodes(talk)["q"].model) == ("gpt-4o", None)
    assert nodes(talk)["a1"].metadata == {}
    assert not talk.left_out


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ({"content_type": "text", "parts": ["a", "b"]}, "a\nb", None),
        ({"content_type": "code", "language": "python", "text": "1+1"}, "```python\n1+1\n```", None),
        ({"content_type": "code", "language": "unknown", "text": "x"}, "```\nx\n```", None),
        ({"content_type": "execution_output", "text": "2"}, "```\n2\n```", None),
        ({"content_type": "tether_quote", "url": "u", "title": "t", "text": "x"}, "t\n\nu\n\nx", None),
        ({"content_type": "tether_browsing_display", "result": "r", "summary": "s"}, "r\n\ns", None),
        ({"content_type": "system_error", "name": "E", "text": "went wrong"}, "E\n\nwent wrong", None),
        ({"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "c"}]}, "", "s\nc"),
        ({"content_type": "reasoning_recap", "content": "Thought for 3s"}, "", "Thought for 3s"),
        ({"content_type": "user_editable_context", "user_profile": "p", "user_instructions": "i"}, "p\n\ni", None),
        ({"content_type": "brand_new", "parts": ["p"], "odd": 1}, "p", None),
        (
            {"content_type": "multimodal_text", "parts": [{"content_type": "audio_transcription", "text": "hi"}]},
            "hi",
            None,
        ),
        ("plain", "plain", None),
        ({"content_type": "text", "parts": ["nul \x00, lone \ud800"]}, "nul \ufffd, lone \ufffd", None),
    ],
)
def test_each_content_keeps_its_text(content: Any, text: str, reasoning: str | None) -> None:
    talk = read(("m", None, message("m", "assistant", content)))
    [node] = talk.nodes
    assert (node.content, node.reasoning) == (text, reasoning)
    assert not talk.left_out


def test_what_is_no_text_is_counted_and_noted() -> None:
    image = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x", "size_bytes": 5}
    talk = read(
        ("m", None, message("m", "user", {"content_type": "multimodal_text", "parts": [image, "Look"]})),
        ("n", "m", message("n", "user", {"content_type": "multimodal_text", "parts": [image]})),
        ("o", "n", message("o", "assistant", {"content_type": "video", "frames": [1]})),
        ("p", "o", message("p", "assistant", {"content_type": "video", "frames": ["x" * 9000]})),
    )
    assert talk.left_out == {"image_asset_pointer": 2, "video": 2, "metadata": 1}
    made = nodes(talk)
    assert (made["m"].content, made["n"].content) == ("Look", "")
    assert made["n"].metadata["chatgpt"]["parts"] == [image]
    assert made["o"].metadata["chatgpt"]["content"] == {"content_type": "video", "frames": [1]}


def test_tools_speak_for_the_models_side_and_are_named() -> None:
    talk = read(
        ("t", None, message("t", "tool", {"content_type": "execution_output", "text": "2"}, author_name="python"))
    )
    [node] = talk.nodes
    assert (node.role, node.model) == ("assistant", None)
    assert node.metadata["chatgpt"]["author"] == {"role": "tool", "name": "python"}


def test_an_answer_that_was_stopped_is_incomplete() -> None:
    stopped = message("a", "assistant", "So", metadata={"finish_details": {"type": "interrupted"}})
    late = message("b", "assistant", "So", status="in_progress")
    assert [node.status for node in read(("a", None, stopped), ("b", "a", late)).nodes] == ["incomplete"] * 2


def test_a_parent_is_found_in_the_children_where_the_node_does_not_name_it() -> None:
    mapping = tree(("q", None, message("q", "user", "?")), ("a", "q", message("a", "assistant", "!")))
    del mapping["a"]["parent"]
    assert nodes(chatgpt.read(samples.chatgpt(mapping=mapping)))["a"].parent == "q"


def test_a_text_that_is_too_long_is_cut_and_counted() -> None:
    talk = read(("m", None, message("m", "user", "x" * 1_000_010)))
    assert (len(talk.nodes[0].content), talk.left_out) == (1_000_000, {"characters": 10})


def test_open_webuis_branches_are_read() -> None:
    talk = openwebui.read(samples.openwebui())
    assert (talk.source_id, talk.title, talk.model, talk.system_prompt) == ("w-1", "Whys", "llama3:8b", "Be brief.")
    assert (talk.tags, talk.archived, talk.pinned, talk.leaf) == (("a", "b"), True, True, "a")
    made = nodes(talk)
    assert {name: (one.parent, one.role, one.content, one.status) for name, one in made.items()} == {
        "q": (None, "user", "Why?", "completed"),
        "a": ("q", "assistant", "Because.", "completed"),
        "bb": ("q", "assistant", "So.", "incomplete"),
    }
    assert made["bb"].model == "qwen"
    assert talk.left_out == {"file": 1}
    assert made["q"].metadata == {"openwebui": {"files": [{"type": "image", "name": "x.png"}]}}


def test_an_old_open_webui_chat_is_one_branch() -> None:
    lines = [{"role": "user", "content": "1"}, {"id": "x", "role": "assistant", "content": "2"}]
    talk = openwebui.read({"id": "w", "chat": {"messages": lines}})
    assert [(node.source_id, node.parent) for node in talk.nodes] == [("0", None), ("x", "0")]
    assert talk.leaf == "x"


@pytest.mark.parametrize("item", [{"mapping": {}}, {"chat": {}}])
def test_nothing_at_all_cannot_be_read(item: Shape) -> None:
    shape = chatgpt if "mapping" in item else openwebui
    with pytest.raises(UnreadableError):
        shape.read(item)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["id", "parent", "message", "content", "parts", "author", "role", "metadata", "children",
                         "content_type", "text", "thoughts", "history", "messages", "currentId", "tags", "files",
                         "create_time", "timestamp", "parentId", "finish_details"]), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(JUNK, JUNK, JUNK)
@settings(max_examples=300, deadline=None)
def test_no_value_in_any_field_breaks_the_reader(one: Any, two: Any, three: Any) -> None:
    fields = {"id": "x", "title": one, "create_time": two, "current_node": three, "meta": two, "archived": one}
    for mapping in ({"a": one, "b": two, "": three}, {"a": {"message": one, "parent": "b", "children": two}}):
        chatgpt.read({**fields, "mapping": mapping})
    for chat in (
        {"history": {"messages": {"a": one, "b": two}, "currentId": three}},
        {"messages": [one, two]},
        {"history": one, "models": two, "files": three},
    ):
        openwebui.read({**fields, "chat": chat})
    gatherer = everturn.Gatherer(10_000)
    for line in (
        {**fields, "type": "conversation", "source": "x", "tags": three, "metadata": one},
        {"type": "message", "id": two, "role": "user", "metadata": three, "content": one, "created_at": two},
    ):
        gatherer.add(line, 10)
    gatherer.finish()


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (AT, MOMENT),
        (1_700_000_000, MOMENT.replace(microsecond=0)),
        (1_700_000_000_250, MOMENT),
        (1_700_000_000_250_000, MOMENT),
        (1_700_000_000_250_000_000, MOMENT),
        ("2023-11-14T22:13:20.250000Z", MOMENT),
        ("2023-11-14T23:13:20.25+01:00", MOMENT),
        (None, None),
        (True, None),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        (2**80, None),
        ("yesterday", None),
        ("0001-01-01T00:00:00+23:00", None),
    ],
)
def test_moments_are_read_in_any_unit(value: object, moment: datetime | None) -> None:
    assert moment_of(value) == moment


def test_names_are_short() -> None:
    assert name_of("x" * 200) == "x" * 200
    assert len(name_of("x" * 201) or "") == 71
    assert name_of(12) == "12"
    nothing: list[object] = [None, "", True, 1.5, []]
    assert [name_of(one) for one in nothing] == [None] * 5
