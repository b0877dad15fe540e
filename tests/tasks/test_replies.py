"""What the replies of all APIs have in common: an error beside an answer, and a body that is compressed unsaid."""

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
    for packed in (gzip.compress(body), gzip.compress(gzip.compress(body)), parts):
        assert Chat.parse(packed).output == b'"fine"'
    with pytest.raises(BadReply, match="no chat completion"):
        Chat.parse(gzip.compress(body)[:-9])
    monkeypatch.setattr(mended, "_MOST", len(body) - 1)
    with pytest.raises(DeepReply):
        Chat.parse(gzip.compress(body))
