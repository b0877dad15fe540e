"""What an answer says beside its content holds none of the run's secrets."""

from rowmill.core.wire import Answer
from rowmill.worker.echoes import cleared

KEY = "sk-echo-0123456789"


def answer(model: bytes = b'"m"', finish: bytes = b'"stop"', usage: bytes = b'{"prompt_tokens":1}') -> Answer:
    return Answer(b'"sk-echo-0123456789 as it is"', finish, model, usage, 1, 1)


def test_what_holds_none_is_the_same_object_and_its_model_is_known_from_then_on() -> None:
    plain: set[bytes] = set()
    for usual in (answer(), answer(model=b"null", usage=b"null")):
        assert cleared(usual, (KEY,), plain) is usual
    assert plain == {b'"m"', b'"stop"', b"null"}
    plain.clear()
    for usage in (b'{"tier":"flex"}', b'{"a":1,"b":["x"]}', b'{"a" : [1, "x" ]}'):
        cleared(answer(usage=usage), (KEY,), plain)
        assert plain == set(), "texts in a usage are looked at each time"


def test_secrets_are_taken_out_wherever_they_stand_but_in_the_content() -> None:
    plain: set[bytes] = set()
    found = cleared(
        answer(
            b'"of sk-echo-0123456789"', b'"SK-ECHO-0123456789"', b'{"sk-echo-0123456789":["sk-echo-0123456789",1.50]}'
        ),
        (KEY,),
        plain,
    )
    assert (found.model, found.finish_reason) == (b'"of [redacted]"', b'"[redacted]"')
    assert found.usage == b'{"[redacted]": ["[redacted]", 1.5]}'
    assert found.output == answer().output
    assert plain == set()


def test_what_python_cannot_read_is_kept_unless_it_holds_one() -> None:
    number = b"1" * 5000
    assert cleared(answer(usage=number), (KEY,), set()).usage == number
    assert cleared(answer(usage=b'{"%b":%b}' % (KEY.encode(), number)), (KEY,), set()).usage == b"null"
