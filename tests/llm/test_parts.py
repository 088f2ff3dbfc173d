"""Templates rendered part by part: the same as whole, and what never changes only once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from autointerp.latents import AutointerpError
from autointerp.llm.client import Message
from autointerp.llm.templates import BUILT_IN, Templates

SWITCHED = """
{% call system() %}
Always.
{% endcall %}
{% if more %}
{% call user() %}{{ "Never changes." }}{% endcall %}
{% if loud %}{% call assistant() %}Loud.{% endcall %}{% endif %}
{% endif %}
{% call user() %}{{ text }}{% for one in some %} {{ loop.index }}{{ one["a"] }}{% endfor %}
{% endcall %}
"""
LASTING = """
{% if more %}{% set word = text %}{% else %}{% set word = "less" %}{% endif %}
{% call user() %}{{ word }}{% endcall %}
"""


def whole(source: str, **values: object) -> list[Message]:
    """What Jinja2 makes of the template in one piece."""
    messages: list[Message] = []

    def turn(role: str) -> Callable[..., str]:
        def add(caller: Callable[[], str]) -> str:
            messages.append(Message(role, caller().strip("\n")))  # type: ignore[arg-type]
            return ""

        return add

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    turns = {role: turn(role) for role in ("system", "user", "assistant")}
    environment.from_string(source).render(**values, **turns)
    return messages


@pytest.mark.parametrize("source", [SWITCHED, LASTING])
def test_parts_make_the_whole_whatever_was_rendered_before(source: str, tmp_path: Path) -> None:
    (tmp_path / "one.j2").write_text(source)
    templates = Templates(tmp_path)
    for number, (more, loud) in enumerate([(1, 0), (0, 0), (1, 1), (1, 0), (0, 1)] * 2):
        values = {
            "more": bool(more),
            "loud": bool(loud),
            "text": f"t{number}",
            "some": [{"a": letter} for letter in "xyz"[: number % 4]],
        }
        assert list(templates.render("one", **values)) == whole(source, **values)


@pytest.mark.parametrize("name", ["detection", "fuzzing", "detection_alone", "fuzzing_alone"])
@pytest.mark.parametrize("few_shot", [True, False])
def test_the_judges_prompts_are_those_of_the_whole_file(name: str, few_shot: bool) -> None:
    templates = Templates()
    source = (BUILT_IN / "judge" / f"{name}.j2").read_text(encoding="utf-8")
    for explanation in ("a", "b"):
        texts = [{"before": '""', "text": f'"{explanation} {i}"'} for i in range(3)]
        values = {"explanation": explanation, "texts": texts, "few_shot": few_shot}
        assert list(templates.render(f"judge/{name}", **values)) == whole(source, **values)


def test_a_value_that_is_missing_is_missed_every_time(tmp_path: Path) -> None:
    (tmp_path / "one.j2").write_text(SWITCHED)
    templates = Templates(tmp_path)
    templates.render("one", more=True, loud=False, text="", some=[])
    for _ in range(2):
        with pytest.raises(AutointerpError, match="'loud' is undefined"):
            templates.render("one", more=True, text="", some=[])
