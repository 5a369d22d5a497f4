"""Number of bytes of a call to Redis on the wire, in RESP 2, without TCP and TLS.

Redis counts the same in `total_net_input_bytes` and `total_net_output_bytes`; tests compare the two.
"""

from __future__ import annotations

from flagcache.stores.base import Ask, Meta, Notice, Reply
from flagcache.stores.redis.store import Keys
from flagcache.stores.redis.wire import poll_arguments

__all__ = ["call_size", "notice_size", "poll_size", "poll_words", "reply_size"]

_SHA1 = 40


def call_size(*words: object) -> int:
    """Return the number of bytes of a script's call by its digest; `words` are its keys and arguments."""
    fixed = len(f"*{3 + len(words)}\r\n") + _bulk(len("EVALSHA")) + _bulk(_SHA1) + _bulk(len("2"))
    return fixed + sum(_bulk(len(str(word))) for word in words)


def poll_words(keys: Keys, ask: Ask) -> tuple[str | int, ...]:
    """Keys and arguments of a poll, as `flagcache.stores.redis.store` sends them."""
    return keys.hash, keys.lease, ask.me, *poll_arguments(ask, database=0, forget_after=0)


def poll_size(keys: Keys, ask: Ask) -> int:
    """Return the number of bytes of a poll."""
    return call_size(*poll_words(keys, ask))


def reply_size(reply: Reply, payload: int) -> int:
    """Return the number of bytes of the reply to a poll; `payload` is the size of the payload, if it has one."""
    bits = (
        int(reply.unchanged)
        + 2 * int(reply.republish)
        + 4 * int(reply.deputy)
        + 8 * int(reply.fetching)
        + 16 * int(reply.exhausted)
        + 32 * int(reply.too_large)
    )
    size = len("*10\r\n") + sum(
        _number(n) for n in (reply.clock, int(reply.leads), reply.lease_left, reply.granted_at, bits)
    )
    size += _array(*(_number(n) for n in reply.grant)) if reply.grant else _number(0)
    noted = reply.backoff_status or reply.backoff_left
    note = (_number(reply.backoff_status), _number(reply.backoff_left), _bulk(len(reply.backoff_stamp)))
    size += _array(*note) if noted else _number(0)
    size += _meta(reply.meta) if reply.meta else _number(0)
    size += _number(0) if reply.leader is None else _bulk(len(reply.leader))
    return size + (_number(0) if reply.payload is None else _bulk(payload))


def notice_size(channel: str, notice: Notice) -> int:
    """Return the number of bytes of a notice to one subscriber."""
    body = f"{notice.kind} {notice.epoch} {notice.version}"
    return _array(_bulk(len("message")), _bulk(len(channel)), _bulk(len(body)))


def _meta(meta: Meta) -> int:
    texts = (meta.version, meta.etag, meta.writer, meta.project)
    numbers = (meta.epoch, meta.as_of, meta.changed_at, meta.confirmed_at)
    return _array(*(_bulk(len(text)) for text in texts), *(_number(n) for n in numbers), _bulk(len(meta.stamp)))


def _array(*sizes: int) -> int:
    return len(f"*{len(sizes)}\r\n") + sum(sizes)


def _bulk(length: int) -> int:
    return len(f"${length}\r\n") + length + 2


def _number(n: int) -> int:
    return len(f":{n}\r\n")
