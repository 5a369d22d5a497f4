"""Tags for Django's templates: `{% load flagcache %}`.

{% flag "new-checkout" %}new{% else %}old{% endflag %}
{% flag "price" "b" %}only for this variant{% endflag %}
{% flag_value "price" default="a" as price %}
{% flag_payload "price" as amount %}
"""

from __future__ import annotations

from django import template
from django.template.base import FilterExpression, NodeList, Parser, Token
from django.template.context import Context

from flagcache_posthog.django.flags import HttpRequestFlags, flags_in_template
from flagcache_posthog.django.views import is_on

__all__ = ["flag", "flag_payload", "flag_value", "register"]

register = template.Library()


@register.tag
def flag(parser: Parser, token: Token) -> template.Node:
    """`{% flag KEY [VALUE] %}...{% else %}...{% endflag %}`: rendered only if the flag is on for the user."""
    name, *words = token.split_contents()
    if not 1 <= len(words) <= 2:
        raise template.TemplateSyntaxError(f"{{% {name} %}} takes the key of a flag, and perhaps a value")
    on = parser.parse(("else", "endflag"))
    off = NodeList()
    if parser.next_token().contents == "else":
        off = parser.parse(("endflag",))
        parser.delete_first_token()
    return _FlagNode([parser.compile_filter(word) for word in words], on, off)


@register.simple_tag(takes_context=True)
def flag_value(context: Context, key: str, default: bool | str | None = None) -> bool | str | None:  # noqa: FBT001
    """`{% flag_value KEY default=... as name %}`: True, False or the key of a variant."""
    return _flags(context).get(key, default)


@register.simple_tag(takes_context=True)
def flag_payload(context: Context, key: str, default: object = None) -> object:
    """`{% flag_payload KEY default=... as name %}`: the payload of a flag's value."""
    return _flags(context).payload(key, default)


class _FlagNode(template.Node):
    child_nodelists = ("on", "off")

    def __init__(self, words: list[FilterExpression], on: NodeList, off: NodeList) -> None:
        self._words = words
        self.on = on
        self.off = off

    def render(self, context: Context) -> str:
        key, *value = (word.resolve(context) for word in self._words)
        return (self.on if is_on(_flags(context), key, *(value or [None])) else self.off).render(context)


def _flags(context: Context) -> HttpRequestFlags:
    return flags_in_template(context.get("request") or getattr(context, "request", None))
