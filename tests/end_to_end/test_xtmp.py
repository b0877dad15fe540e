import signal, json
from random import Random
import pytest
from tests.end_to_end.conftest import *
from tests.end_to_end.test_sharing import texts, assert_each_has_its_own_answer, SHARED
@pytest.mark.parametrize("n",range(3))
@pytest.mark.parametrize("kind",["int","sup","all"])
def test_x(place, simulator, texts, kind, n):
    witness = simulator(latency_ms=100, latency_sigma=0)
    place.configure(witness.url)
    three = (*SHARED, "--set", "workers.count=3", "--set", "workers.concurrency=6", "--set", "checkpoint.commit_ms=1")
    started = place.start(*three)
    until(lambda: witness.stats()["requests"] >= 80, "requests")
    if kind=="all": started.kill_all()
    else:
        started.signal(signal.SIGINT if kind=="int" else signal.SIGKILL); started.wait()
    a=witness.stats()
    done = place.run(*three)
    assert done.code == 0, done.err
    assert_each_has_its_own_answer(place, texts)
    s=witness.stats()
    print("\nRES", kind, a["answered_twice"], s["answered_twice"], s["requests"], s["no_answer"])
