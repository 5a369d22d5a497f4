"""Documents as bytes, in pieces of some hundred kilobytes.

Definitions of 20,000 flags are 16 MB of JSON. If a text, its bytes and the packed form exist at one time, they are
several blocks of that size, which the allocator keeps for the life of the process. Joined, the pieces are what
`json.dumps` and
`msgpack.packb` return.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from operator import itemgetter
from typing import TypeVar, cast

import msgpack

__all__ = ["TEXT", "json_pieces", "msgpack_pieces"]

TEXT = "surrogatepass"
"""The error handler on both sides: JSON may hold half of a surrogate pair, UTF-8 may not."""

_ITEMS = 128
"""Items of a list or dict that are encoded at a time. Most flags have a kilobyte or less."""

_T = TypeVar("_T")


def json_pieces(document: object, *, ordered: bool = False) -> Iterator[bytes]:
    """Write a container as compact JSON in UTF-8; `ordered` sorts the keys."""
    # Escapes would be wrong: two adjacent halves of a pair, which are not one character, would become one.
    encoder = json.JSONEncoder(sort_keys=ordered, separators=(",", ":"), ensure_ascii=False)
    for text in _json_texts(document, encoder):
        yield text.encode("utf-8", TEXT)


def msgpack_pieces(version: str, document: dict[str, object]) -> Iterator[bytes]:
    """Write the list `[version, document]` in msgpack.

    Raises:
        OverflowError: the document holds an integer of more than 64 bits.
    """
    packer = msgpack.Packer(use_bin_type=True, unicode_errors=TEXT, autoreset=False)
    packer.pack_array_header(2)
    packer.pack(version)
    packer.pack_map_header(len(document))
    for key, value in document.items():
        packer.pack(key)
        for _ in _packing(packer, value):
            yield packer.bytes()
            packer.reset()
    yield packer.bytes()


def _json_texts(node: object, encoder: json.JSONEncoder, *, top: bool = True) -> Iterator[str]:
    if type(node) is dict:
        yield from _json_dict(cast("dict[str, object]", node), encoder, top=top)
    elif type(node) is list:
        yield from _json_list(cast("list[object]", node), encoder, top=top)
    else:
        yield encoder.encode(node)


def _json_dict(node: dict[str, object], encoder: json.JSONEncoder, *, top: bool) -> Iterator[str]:
    members = sorted(node.items(), key=itemgetter(0)) if encoder.sort_keys else node.items()
    opening = "{"
    if top:
        for key, value in members:
            yield f"{opening}{encoder.encode(key)}:"
            yield from _json_texts(value, encoder, top=False)
            opening = ","
    else:
        for some in _batches(members):
            yield opening + encoder.encode(dict(some))[1:-1]
            opening = ","
    yield "}" if node else "{}"


def _json_list(node: list[object], encoder: json.JSONEncoder, *, top: bool) -> Iterator[str]:
    opening = "["
    if top:
        for value in node:
            yield opening
            yield from _json_texts(value, encoder, top=False)
            opening = ","
    else:
        for some in _batches(node):
            yield opening + encoder.encode(some)[1:-1]
            opening = ","
    yield "]" if node else "[]"


def _packing(packer: msgpack.Packer, node: object) -> Iterator[None]:
    """Pack a container piece by piece; the caller removes what is packed after each step."""
    if type(node) is dict:
        packer.pack_map_header(len(cast("dict[str, object]", node)))
        items: Iterable[object] = chain.from_iterable(cast("dict[str, object]", node).items())
    elif type(node) is list:
        packer.pack_array_header(len(cast("list[object]", node)))
        items = cast("list[object]", node)
    else:
        packer.pack(node)
        return
    for some in _batches(items):
        for item in some:
            packer.pack(item)
        yield


def _batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    left = iter(items)
    while some := list(islice(left, _ITEMS)):
        yield some
