"""Jinja2 prompts: what they see of a row, what they put in, and what a row or a template that is wrong is told."""

from typing import Any

import pytest

from rowmill.core.errors import ConfigError, InvalidRow
from rowmill.tasks.jinja import JinjaTemplate


def rendered(text: str, **row: Any) -> str:
    return JinjaTemplate(text, "task.prompt").render(row)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is <&'\">\n%s {{x}}", "as it is <&'\">\n%s {{x}}"),
        (None, ""),
        (True, "true"),
        (3, "3"),
        (1.5, "1.5"),
        ([1, "two", None], '[1,"two",null]'),
        ({"a": {"b": "é"}}, '{"a":{"b":"é"}}'),
    ],
)
def test_a_value_is_put_in_as_format_templates_do(value: Any, text: str) -> None:
    assert rendered("<{{ column }}>", column=value) == f"<{text}>"


def test_a_template_can_loop_and_branch_and_leaves_no_lines_behind_for_its_blocks() -> None:
    loop = "{% for tag in tags %}\n  - {{ tag|upper }}\n{% endfor %}\n"
    text = f"Tags:\n{loop}{{% if note %}}\nNote: {{{{ note }}}}\n{{% endif %}}\n"
    assert rendered(text, tags=["a", "b"], note=None) == "Tags:\n  - A\n  - B\n"
    assert rendered(text, tags=[], note="n") == "Tags:\nNote: n\n"


def test_json_is_written_for_a_model_and_not_for_a_web_page() -> None:
    assert rendered("{{ v|tojson }}", v={"a": "<é>"}) == '{"a": "<é>"}'
    assert rendered("{{ v|tojson(indent=1) }}", v=[1]) == "[\n 1\n]"


def test_objects_of_the_language_itself_can_be_put_in() -> None:
    assert rendered("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(a) }}{{ range(2) }}", a="v") == "[v]range(0, 2)"


def test_the_whole_row_is_there_for_columns_whose_names_are_no_identifiers() -> None:
    template = JinjaTemplate("{{ row['a b'] }} {{ row.items()|length }}", "k")
    assert template.whole
    assert template.render({"a b": "x", "c": 1}) == "x 2"
    assert rendered("{{ row }}", row="a column of that name") == "a column of that name"


def test_the_columns_are_found_and_those_that_may_be_missing_are_not_insisted_on() -> None:
    template = JinjaTemplate(
        "{% set s = a %}{{ s }}{% if b is defined %}{{ b }}{% endif %}{{ c|default('-') }}"
        "{% for i in range(2) %}{{ i }}{% endfor %}",
        "k",
    )
    assert {use.column: use.expected for use in template.named} == {"a": True, "b": False, "c": False, "range": False}
    assert not any(use.required for use in template.named)
    assert not template.whole
    assert template.render({"a": "x"}) == "x-01"
    assert rendered("{{ range }}", range="a column of that name") == "a column of that name"


def test_a_column_in_a_branch_that_is_not_taken_may_be_missing() -> None:
    assert rendered("{% if a %}{{ b }}{% endif %}.", a=0) == "."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ b }}", "task.prompt: the row has no column 'b'"),
        ("{% if b %}x{% endif %}", "task.prompt: the row has no column 'b'"),
        ("{{ a.deep }}{{ b is defined }}", "task.prompt: column 'a': 'str object' has no attribute 'deep'"),
        ("{{ a + 1 }}", "task.prompt: column 'a': TypeError: "),
        ("{{ a|int // 0 }}", "task.prompt: column 'a': ZeroDivisionError: "),
        ("{{ a.__class__.__mro__ }}", "task.prompt: column 'a': SecurityError: "),
        ("{{ a.__class__ }}", "task.prompt: column 'a': SecurityError: "),
        ("{{ a['__class__'] }}", "task.prompt: column 'a': SecurityError: "),
        ("{{ a|attr('__class__') }}", "task.prompt: column 'a': SecurityError: "),
        ("{{ [a]|map(attribute='__class__')|first }}", "task.prompt: column 'a': SecurityError: "),
        ("{{ '{0.__class__}'.format(a) }}", "task.prompt: column 'a': SecurityError: "),
        ("{{ ''.__class__.__mro__ }}", "task.prompt: SecurityError: "),
        ("{{ ''.format.__globals__ }}", "task.prompt: SecurityError: "),
        ("{{ cycler.__init__.__globals__ }}", "task.prompt: SecurityError: "),
        ("{{ range(10**9) }}", "task.prompt: OverflowError: "),
        ("{% for n in range(10**9) %}{% endfor %}{{ a }}", "task.prompt: column 'a': OverflowError: "),
        ("{{ a * 10**10 }}", "task.prompt: column 'a': TooMuch: it makes a value of more than"),
        ("{{ 10**10 * [a] }}", "task.prompt: column 'a': TooMuch: it makes a value of more than"),
        ("{{ 9 ** (9 ** 9) }}", "task.prompt: TooMuch: it makes a value of more than"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "task.prompt: RecursionError: "),
        ("{{ range(10000000)|length }}{{ a }}", "task.prompt: column 'a': OverflowError: "),
    ],
)
def test_a_row_that_does_not_fit_is_told_the_key_the_column_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidRow) as error:
        rendered(text, a="text")
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\n{{ b", "line 2: "),
        ("{% if %}", "line 1: "),
        ("{{ a|nothing }}", "line 1: No filter named 'nothing'"),
        ("{% include 'x' %}", "cannot include"),
        ("{% from a import b %}", "cannot include"),
        ("{% import 'os' as o %}{{ o }}", "cannot include"),
        ("{% extends '/etc/passwd' %}", "cannot include"),
        ("{% include ['a', 'b'] ignore missing %}", "cannot include"),
        ("{{ a|random }}", "line 1: No filter named 'random'"),
        ("{{ " + "(" * 5000, ""),
    ],
)
def test_what_is_no_template_is_refused_by_its_key(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=r"^task\.system: ") as error:
        JinjaTemplate(text, "task.system")
    assert reason in str(error.value)


def test_a_template_cannot_change_what_a_row_holds() -> None:
    with pytest.raises(InvalidRow, match="SecurityError"):
        rendered("{{ a.append(1) }}", a=[])


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 10 ** 10 }}",
        "{{ 10 ** 10 * [0] }}",
        "{{ 2 ** (10 ** 10) }}",
        "{{ 'x'|center(10 ** 10) }}",
        "{{ 'x'.ljust(10 ** 10) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%*d'|format(10 ** 10, 1) }}",
        "{{ '{:>10000000000}'.format(1) }}",
        "{{ 'a\nb'|indent(width=10 ** 10) }}",
        "{{ [1]|slice(10 ** 10)|list }}",
        "{% set x = 'x' * 9 ** 8 %}{{ x + x }}",
        "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    ],
)
def test_what_would_take_the_machine_with_it_fails_its_row(text: str) -> None:
    with pytest.raises(InvalidRow, match=r"task.prompt: TooMuch: it makes a value of more than 67,108,864"):
        JinjaTemplate(text, "task.prompt").render({})


def test_what_is_bounded_still_does_its_work() -> None:
    text = (
        "{{ 'x'|center(5) }}{{ 'y' * 3 }}{{ 2 ** 10 }}{{ '%05.2f' % 3.1 }}{{ '%s'|format(a) }}{{ '{0:>3}'.format(a) }}"
    )
    assert JinjaTemplate(text, "task.prompt").render({"a": 1}) == "  x  yyy102403.101  1"
