"""Prompts: Jinja2 files that render to the turns of a conversation, and typed replies to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel

from autointerp.latents import AutointerpError
from autointerp.llm.client import LLMClient, Message, Reply, Request
from autointerp.llm.parts import Part, split

BUILT_IN = Path(__file__).parents[1] / "prompts"

T = TypeVar("T", bound=BaseModel)


class _Sandbox(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        # Asked for at every line of a list; whether it is safe costs more than all else there.
        if attribute == "index" and type(obj) is LoopContext:
            return obj.index
        return super().getattr(obj, attribute)


class Templates:
    """The prompts of the package, each of which a file of the same name in ``folder`` replaces.

    A template writes each turn as ``{% call system() %}…{% endcall %}``, with ``user`` and
    ``assistant`` likewise, in loops too. The values are plain text to it: nothing in them is
    read as Jinja2, or as a turn.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise AutointerpError(f"there is no prompt folder {folder}")
        folders = [BUILT_IN] if folder is None else [folder, BUILT_IN]
        self._environment = _Sandbox(
            loader=ChoiceLoader([FileSystemLoader(path) for path in folders]),
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._compiled: dict[str, list[Part]] = {}

    def render(self, name: str, **values: Any) -> tuple[Message, ...]:
        """The turns of template ``name``, such as ``judge/detection``: the system's one first.

        Raises:
            AutointerpError: naming the template, if it is missing, broken, or lacks a value.
        """
        messages: list[Message] = []
        file = f"{name}.j2"
        rest: list[str] = []
        try:
            for part in self._parts(file):
                found = part.rendered(values)
                messages += found.messages
                rest.append(found.rest)
        except TemplateNotFound as error:
            raise AutointerpError(f"there is no prompt {error}") from error
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            where = f"{file}, line {line}" if line else file
            raise AutointerpError(f"prompt {where}: {error}") from error
        _check_turns(file, messages, "".join(rest))
        return tuple(messages)

    def _parts(self, file: str) -> list[Part]:
        if file not in self._compiled:
            self._compiled[file] = split(self._environment, file)
        return self._compiled[file]


def _check_turns(file: str, messages: list[Message], rest: str) -> None:
    if rest.strip():
        shown = rest.strip().splitlines()[0][:40]
        raise AutointerpError(f"prompt {file}: {shown!r} stands outside every turn")
    if not messages:
        raise AutointerpError(f"prompt {file} has no turns; write {{% call user() %}}…")
    if any(message.role == "system" for message in messages[1:]):
        raise AutointerpError(f"prompt {file}: the system's turn comes first, and once")


@cache
def _schema(reply: type[BaseModel]) -> Mapping[str, Any]:
    return reply.model_json_schema()


async def ask(
    client: LLMClient,
    templates: Templates,
    name: str,
    reply: type[T],
    values: Mapping[str, Any],
    *,
    context: Mapping[str, Any] | None = None,
    **request: Any,
) -> tuple[T, Reply]:
    """Render ``name`` with ``values``, ask, and read the answer as ``reply``.

    ``request`` are further fields of the request. What the model ``reply`` refuses goes through
    the repair round like any reply that does not fit the schema; its validators get ``context``.

    Raises:
        LLMFailure, BudgetExhausted: as ``LLMClient.complete``.
    """
    messages = templates.render(name, **values)
    del values  # the answer may be long in coming, and thousands wait at a time
    check = partial(reply.model_validate, context=context)
    asked = client.complete(Request(messages, schema=_schema(reply), check=check, **request))
    del messages
    answer = await asked
    return check(answer.data), answer
