"""Every class of the fault table is told in words, and no other."""

from rowmill.core.fault_words import UNKNOWN, WORDS, words_of
from rowmill.transport.faults import TABLE


def test_every_class_has_its_words_and_no_other() -> None:
    assert list(WORDS) == list(TABLE)
    assert words_of("of_another_version") is UNKNOWN
    for words in WORDS.values():
        assert words.meaning[0].isupper()
        assert not (words.meaning + words.advice).endswith(".")
