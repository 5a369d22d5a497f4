"""The tags of `flagcache_posthog.django.templatetags` for Jinja2.

TEMPLATES = [{
    "BACKEND": "django.template.backends.jinja2.Jinja2",
    "OPTIONS": {"extensions": ["flagcache_posthog.django.jinja.FlagsExtension"]},
}]
"""

from __future__ import annotations

from collections.abc import Callable

from jinja2 import Environment, nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context

from flagcache_posthog.django.flags import HttpRequestFlags, flags_in_template
from flagcache_posthog.django.views import is_on

__all__ = ["FlagsExtension"]


class FlagsExtension(Extension):
    """`{% flag "new-checkout" %}...{% else %}...{% endflag %}`, `flag_value("price")` and `flag_payload("price")`."""

    tags = {"flag"}  # noqa: RUF012 - as Jinja has it

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        add: Callable[..., None] = environment.globals.update
        add(flag_value=_value, flag_payload=_payload)

    def parse(self, parser: Parser) -> nodes.Node:
        """As in Jinja's extensions: the tag becomes an `if`."""
        line = next(parser.stream).lineno
        words = [nodes.ContextReference(), parser.parse_expression()]
        if parser.stream.current.type != "block_end":
            parser.stream.skip_if("comma")
            words.append(parser.parse_expression())
        on = parser.parse_statements(("name:else", "name:endflag"))
        off: list[nodes.Node] = []
        if next(parser.stream).value == "else":
            off = parser.parse_statements(("name:endflag",), drop_needle=True)
        return nodes.If(self.call_method("_is_on", words), on, [], off).set_lineno(line)

    def _is_on(self, context: Context, key: str, value: bool | str | None = None) -> bool:  # noqa: FBT001
        return is_on(_flags(context), key, value)


@pass_context
def _value(context: Context, key: str, default: bool | str | None = None) -> bool | str | None:  # noqa: FBT001
    return _flags(context).get(key, default)


@pass_context
def _payload(context: Context, key: str, default: object = None) -> object:
    return _flags(context).payload(key, default)


def _flags(context: Context) -> HttpRequestFlags:
    return flags_in_template(context.get("request"))
