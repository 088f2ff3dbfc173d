"""Templates cut into their top-level parts, so that what never changes is rendered once.

Most of a prompt is instructions and worked examples, which depend on no more than a switch; only
its last turn differs from request to request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, Template, nodes
from jinja2.meta import find_undeclared_variables

from autointerp.llm.client import Message, Role

ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_APART = (nodes.Output, nodes.CallBlock, nodes.If, nodes.For)
_LASTING = (nodes.Assign, nodes.AssignBlock)  # what an If sets is set after it too


@dataclass(frozen=True)
class Rendered:
    """The turns of a part, and the text outside them."""

    messages: list[Message]
    rest: str


@dataclass
class Part:
    """A part of a template. ``names`` are the values it reads; None if that is not known.

    With a ``role`` the part is one turn, and ``template`` what is said in it.
    """

    template: Template
    names: tuple[str, ...] | None
    role: Role | None = None
    kept: dict[tuple[Any, ...], Rendered] = field(default_factory=dict)

    def rendered(self, values: Mapping[str, Any]) -> Rendered:
        """The part with these values; kept where it reads nothing but switches.

        Raises:
            jinja2.TemplateError: if a value is missing.
        """
        key = self._key(values)
        if key is None:
            return self._render(values)
        if key not in self.kept:
            self.kept[key] = self._render(values)
        return self.kept[key]

    def _key(self, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        if self.names is None:
            return None
        read = tuple(values.get(name) for name in self.names)
        return read if all(isinstance(value, bool) for value in read) else None

    def _render(self, values: Mapping[str, Any]) -> Rendered:
        if self.role is not None:
            return Rendered([_turn(self.role, self.template.render(values))], "")
        messages: list[Message] = []
        rest = self.template.render({**values, **_turns(messages)})
        return Rendered(messages, rest)


def split(environment: Environment, file: str) -> list[Part]:
    """The parts of a template in their order: one alone if a part may change what others see.

    Raises:
        jinja2.TemplateError: if the template is missing or broken.
    """
    assert environment.loader is not None
    source, path, _ = environment.loader.get_source(environment, file)
    tree = environment.parse(source, file, path)
    lasting = next(tree.find_all(_LASTING), None)
    if lasting is not None or not all(isinstance(node, _APART) for node in tree.body):
        return [Part(environment.get_template(file), None)]
    return [_part(environment, node, file, path) for node in tree.body]


def _part(environment: Environment, node: nodes.Node, file: str, path: str | None) -> Part:
    role = _role(node)
    body = node.body if isinstance(node, nodes.CallBlock) and role is not None else [node]
    tree = nodes.Template(body, lineno=node.lineno)
    tree.set_environment(environment)
    names = find_undeclared_variables(tree) - set(ROLES) - set(environment.globals)
    code = environment.compile(tree, file, path)
    # The chain of dicts that make_globals gives is copied at every rendering, and slowly.
    template = Template.from_code(environment, code, dict(environment.globals))
    return Part(template, tuple(sorted(names)), role)


def _role(node: nodes.Node) -> Role | None:
    """Whose turn a part is, if it is one and holds no other."""
    if not isinstance(node, nodes.CallBlock) or any(node.find_all(nodes.CallBlock)):
        return None
    call = node.call
    if call.args or call.kwargs or call.dyn_args or call.dyn_kwargs or node.args:
        return None
    called = call.node.name if isinstance(call.node, nodes.Name) else ""
    return next((role for role in ROLES if role == called), None)


def _turns(messages: list[Message]) -> dict[str, Callable[..., str]]:
    def turn(role: Role) -> Callable[..., str]:
        def add(caller: Callable[[], str]) -> str:
            messages.append(_turn(role, caller()))
            return ""

        return add

    return {role: turn(role) for role in ROLES}


def _turn(role: Role, text: str) -> Message:
    return Message(role, text.strip("\n"))
