"""The claims of workers that do not see them, asked in their names."""

import os
from pathlib import Path

import psutil

from rowmill.cluster.shared_requests import SharedRequests
from rowmill.core.wire import Answer
from rowmill.ipc.messages import ClaimsAnswer, ClaimsAsk
from rowmill.store.cache import claims
from rowmill.store.cache.shared_results import encode

WORKERS = 30


def test_all_find_what_each_has_published_and_files_are_open_once_and_not_once_for_each(tmp_path: Path) -> None:
    directory = tmp_path / "claims"
    claims.begin_session(directory)
    requests = SharedRequests(directory)
    keys = [bytes([worker + 1]) * 16 for worker in range(WORKERS)]
    results = [encode(Answer(b'"%d"' % worker, b"null", b"null", b"null", 1, 1, 0)) for worker in range(WORKERS)]
    before = psutil.Process().num_fds()
    for worker, key in enumerate(keys):
        answer = requests.ask(worker, ClaimsAsk(keys=[key]))
        assert answer == ClaimsAnswer(held=[key], results=[])
        assert requests.ask(worker, ClaimsAsk(published=[(key, results[worker])])) is None
    late = [b"\xff" * 16]
    for worker in range(WORKERS):
        answer = requests.ask(worker, ClaimsAsk(keys=[*keys, *late]))
        assert answer is not None
        assert answer.results == list(zip(keys, results, strict=True))
        assert answer.held == (late if worker == 0 else [])
    assert psutil.Process().num_fds() - before <= 5 * WORKERS
    for worker in range(WORKERS):
        requests.forget(worker)
        requests.forget(worker)
    assert psutil.Process().num_fds() == before


def test_what_was_given_back_or_was_held_by_one_that_is_gone_is_the_next_ones(tmp_path: Path) -> None:
    directory = tmp_path / "claims"
    claims.begin_session(directory)
    requests = SharedRequests(directory)
    first, second = os.urandom(16), os.urandom(16)
    requests.ask(0, ClaimsAsk(keys=[first, second]))
    requests.ask(0, ClaimsAsk(released=[first]))
    assert requests.ask(1, ClaimsAsk(keys=[first, second])) == ClaimsAnswer(held=[first], results=[])
    requests.forget(0)
    claims.forget(directory, 0)  # by the supervisor
    assert requests.ask(1, ClaimsAsk(keys=[second])) == ClaimsAnswer(held=[second], results=[])
    requests.forget(1)


def test_an_answer_has_as_many_results_as_there_is_room_for_and_holds_no_more_keys_than_it_says(tmp_path: Path) -> None:
    """Results of any size: two thousand of some MB would be more than one message may have."""
    directory = tmp_path / "claims"
    claims.begin_session(directory)
    requests = SharedRequests(directory)
    keys = [number.to_bytes(16) for number in range(1, 401)]
    large = encode(Answer(b'"%b"' % (b"x" * 20_000), b"null", b"null", b"null", 1, 1, 0))
    requests.ask(0, ClaimsAsk(keys=keys[:200]))
    requests.ask(0, ClaimsAsk(published=[(key, large) for key in keys[:200]]))
    left, held, rounds = keys, list[bytes](), 0
    while left:
        answer = requests.ask(1, ClaimsAsk(keys=left))
        assert answer is not None
        assert sum(len(result) for _, result in answer.results) < (1 << 20) + 16 * len(large)
        held += answer.held
        settled = {*answer.held, *(key for key, _ in answer.results)}
        assert settled
        left = [key for key in left if key not in settled]
        rounds += 1
    assert held == keys[200:]
    assert rounds > 2
    requests.forget(0)
    requests.forget(1)
