from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.wire import Answer, Failure
from rowmill.store.cache.shared_results import decode, encode
from rowmill.transport import faults

COUNT = st.integers(0, 10**9)
ANSWERS = st.builds(
    Answer,
    st.binary(max_size=40),
    st.binary(max_size=9),
    st.binary(max_size=9),
    st.binary(max_size=9),
    COUNT,
    COUNT,
    more=st.binary(max_size=9),
)
FAILURES = st.builds(
    Failure,
    fault=st.sampled_from(list(faults.TABLE.values())),
    message=st.text(max_size=20),
    code=st.none() | st.text(max_size=5),
    status=st.none() | st.integers(100, 599),
    reply=st.none() | st.binary(max_size=9),
    maybe_billed=st.booleans(),
    more=st.binary(max_size=9),
)


@settings(max_examples=50)
@given(ANSWERS | FAILURES)
def test_a_result_comes_back_as_it_was(result: Answer | Failure) -> None:
    assert decode(encode(result)) == result


def test_answers_without_parts_are_the_bytes_that_earlier_versions_have_kept() -> None:
    answer = Answer(b'"a"', b'"stop"', b'"m"', b"null", 3, 2, 1)
    kept = b'a\x96\xc4\x03"a"\xc4\x06"stop"\xc4\x03"m"\xc4\x04null\x03\x02'
    assert encode(answer) == kept
    assert decode(kept) == Answer(b'"a"', b'"stop"', b'"m"', b"null", 3, 2)
