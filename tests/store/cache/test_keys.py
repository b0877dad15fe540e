import msgspec
import pytest

from rowmill.core.config import Config
from rowmill.store.cache.keys import keying, salt

BASE = {
    "input": {"path": "in.jsonl"},
    "task": {"model": "m", "prompt": "{text}"},
    "output": {"path": "out.jsonl", "format": "jsonl"},
    "provider": [{"name": "a", "base_url": "https://a.test/v1"}, {"name": "b", "base_url": "https://b.test/v1"}],
}


def config(**sections: object) -> Config:
    merged = {
        name: {**BASE.get(name, {}), **value} if isinstance(value, dict) else value  # type: ignore[dict-item]  # sections
        for name, value in sections.items()
    }
    return msgspec.convert({**BASE, **merged}, Config)


@pytest.mark.parametrize(
    "other",
    [
        config(task={"api": "responses"}),
        config(task={"model": "n"}),
        config(task={"schema": {"type": "object"}}),
        config(task={"rows_per_request": 20}),
        config(output={"format": "batch"}),
        config(output={"include": ["reasoning"]}),
        config(task={"params": {"n": 2}}),
        config(provider=[{"base_url": "https://a.test/v1"}]),
        config(provider=[{"base_url": "https://a.test/v1"}, {"name": "b", "base_url": "https://c.test/v1"}]),
        config(provider=[{"base_url": "https://a.test/v1", "model": "n"}, BASE["provider"][1]]),  # type: ignore[index]
    ],
)
def test_what_determines_a_reply_beside_the_body_makes_another_key(other: Config) -> None:
    assert keying(salt(other))(b"body") != keying(salt(config()))(b"body")


@pytest.mark.parametrize(
    "other",
    [
        config(provider=list(reversed(BASE["provider"]))),  # type: ignore[call-overload]  # it is a list
        config(task={"prompt": "{other}"}),  # stands in the body
        config(workers={"count": 7}),
        config(output={"include": ["input", "meta"]}),
        config(output={"path": "elsewhere.csv", "format": "csv"}),
        config(input={"path": "other.jsonl", "id": "id"}),
    ],
)
def test_what_does_not_leaves_the_key(other: Config) -> None:
    assert keying(salt(other))(b"body") == keying(salt(config()))(b"body")


@pytest.mark.parametrize("packed", [{"rows_per_request": 20}, {"api": "embeddings"}])
@pytest.mark.parametrize("told", [{"system": "Be brief."}, {"params": {"temperature": 0.5}}, {"prompt": "{other}"}])
def test_what_a_pack_says_beside_its_rows_counts_too(packed: dict[str, object], told: dict[str, object]) -> None:
    assert salt(config(task={**packed, **told})) != salt(config(task=packed))


def test_packs_of_any_size_ask_the_same() -> None:
    assert salt(config(task={"rows_per_request": 20})) == salt(config(task={"rows_per_request": 10}))


def test_the_order_of_a_schemas_members_does_not_matter() -> None:
    one = config(task={"schema": {"type": "object", "required": ["a"]}})
    other = config(task={"schema": {"required": ["a"], "type": "object"}})
    assert salt(one) == salt(other)


def test_bodies_that_differ_have_keys_that_differ() -> None:
    key = keying(salt(config()))
    keys = {key(b"body %d" % number) for number in range(1000)}
    assert len(keys) == 1000
    assert {len(each) for each in keys} == {16}
    assert key(b"body 7") in keys
