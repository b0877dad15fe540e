"""What the replies of all APIs have in common: an error beside an answer, a body that is packed, or sloppy."""

import gzip
import json
from typing import Any

import pytest

from rowmill.core.errors import BadReply, DeepReply
from rowmill.tasks import mended
from rowmill.tasks.chat import Chat
from rowmill.tasks.completions import Completions
from rowmill.tasks.embeddings import Embeddings
from rowmill.tasks.moderations import Moderations
from rowmill.tasks.responses import Responses

MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "fine"}]}
WHOLE: dict[Any, dict[str, Any]] = {
    Chat: {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]},
    Completions: {"choices": [{"text": "fine", "finish_reason": "stop"}]},
    Responses: {"output": [MESSAGE], "status": "completed"},
    Embeddings: {"data": [{"index": 0, "embedding": [0.5]}]},
    Moderations: {"results": [{"flagged": False}]},
}


@pytest.mark.parametrize("api", WHOLE)
def test_an_error_beside_an_answer_is_believed_whatever_the_api(api: Any) -> None:
    errors: list[Any] = [{"code": 502, "message": "upstream"}, "crashed", True, ["boom"]]
    for error in errors:
        with pytest.raises(BadReply):
            api.parse(json.dumps({**WHOLE[api], "error": error}).encode())
    none: list[Any] = [None, {}, "", False, [], 0]
    for error in none:
        assert api.parse(json.dumps({**WHOLE[api], "error": error}).encode()).output


@pytest.mark.parametrize("api", [Chat, Completions])
def test_an_error_beside_a_choice_is_believed(api: Any) -> None:
    (choice,) = WHOLE[api]["choices"]
    with pytest.raises(BadReply, match="beside the answer"):
        api.parse(json.dumps({"choices": [{**choice, "error": {"code": 502}}]}).encode())


def test_gzip_that_no_header_declares_is_read_as_far_as_replies_are(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(WHOLE[Chat]).encode()
    parts = gzip.compress(body[:20]) + gzip.compress(body[20:])
    many = b"".join(gzip.compress(body[at : at + 1]) for at in range(len(body)))
    for packed in (gzip.compress(body), gzip.compress(gzip.compress(body)), parts, many):
        assert Chat.parse(packed).output == b'"fine"'
    inmost = body
    for _ in range(5):
        inmost = gzip.compress(inmost)
    for packed in (inmost, gzip.compress(b"") * 300_000 + gzip.compress(body)):  # a whole minute, if not given up
        with pytest.raises(BadReply, match="no chat completion"):
            Chat.parse(packed)
    with pytest.raises(BadReply, match="no chat completion"):
        Chat.parse(gzip.compress(body)[:-9])
    monkeypatch.setattr(mended, "_MOST", len(body) - 1)
    with pytest.raises(DeepReply):
        Chat.parse(gzip.compress(body))


@pytest.mark.parametrize("api", WHOLE)
@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b")]}'\n", b""),
        (b")]}',\n", b""),
        (b")]}'", b""),
        (b"while(1);", b""),
        (b"for (;;);", b""),
        (b"{}&& ", b""),
        (b"", b"\r\n \t\n"),
        (b"", b"\0" * 20),
        (b"\0\0", b"\0"),
        (b"\xef\xbb\xbf", b""),
        (b"\xef\xbb\xbf)]}'\n", b""),
        (b'/* a " b */ ', b" // c"),
        (b"// a\n", b""),
        (b"# a\n", b""),
        (b"callback(", b");"),
        (b"(", b")"),
        (b"", b";"),
        (b"[", b"]"),
        (b"Warning: deprecated in line 7\n", b""),
        (b"1a3\r\n", b"\r\n0\r\n\r\n"),
    ],
)
def test_what_stands_around_a_reply_does_not_make_it_be_paid_for_again(api: Any, before: bytes, behind: bytes) -> None:
    body = json.dumps(WHOLE[api]).encode()
    assert api.parse(before + body + behind) == api.parse(body)


@pytest.mark.parametrize("api", WHOLE)
def test_nor_do_commas_comments_and_other_names_within_it(api: Any) -> None:
    whole = {**WHOLE[api], "model": "a, } // b /* c */ None \\"}
    found = api.parse(json.dumps(whole).encode())
    body = json.dumps({"x": [1], "y": 2, **whole})
    for sloppy in (
        body[:-1] + ",}",
        body[:-1] + " , // one\n }",
        body.replace("[1]", "[1 , ]"),
        body.replace("[1]", "/* { */ [1] // }\n"),
        body.replace('"y": 2', '"y": None'),
        body.replace("2", '# two, "\n True'),
        json.dumps(body),
    ):
        assert api.parse(sloppy.encode()) == found, sloppy


@pytest.mark.parametrize("api", WHOLE)
def test_what_is_cut_off_or_of_another_shape_is_no_reply_however_long_it_is(api: Any) -> None:
    body = json.dumps(WHOLE[api])
    for cut in (body[:-1], ")]}'\n" + body[:-2], "{" + body[:-1], '"{', "/*" * 200_000, "{}", '{"' * 9):
        with pytest.raises(BadReply):
            api.parse(cut.encode())
