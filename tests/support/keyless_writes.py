# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""What a writer without a key can write, each as one function of a `KeylessWriter`."""

from __future__ import annotations

from collections.abc import Callable

from flagcache.stores.rules.state import FAR
from tests.support.attacked_fleet import Attack, KeylessWriter

__all__ = [
    "NOTICES",
    "delete_a_field",
    "flood",
    "forge_the_epoch",
    "freeze",
    "lead_an_empty_store",
    "note",
    "plant",
    "replay",
    "roll_back",
    "spoil_a_field",
    "spoil_the_epoch",
]

_ENVELOPE = ("payload", "size", "version", "etag", "writer", "project", "stamp")

NOTICES = ("new 0 {:032x}", "free 0 ", "clear 9 ", "note 0 ", "granted 0 {}", "", "\0", "x 0 y")
"""One of each kind, and some that are not valid."""


def freeze(writer: KeylessWriter) -> None:
    """Claim that what is stored was granted and confirmed just now, and that another process leads."""
    now = writer.now()
    granted = dict.fromkeys(("granted_1", "granted_2", "granted_3"), now)
    writer.write(as_of=now, confirmed_at=now, highest=now, **granted)
    writer.lead_from_now()


def roll_back(writer: KeylessWriter) -> None:
    """Restore the envelope from before the latest change, with new times, and send a notice."""
    writer.write(**{name: writer.before.get(name.encode(), b"") for name in _ENVELOPE}, changed_at=writer.now())
    freeze(writer)
    writer.publish(b"new 0 " + writer.before[b"version"])


def replay(writer: KeylessWriter) -> None:
    """Restore all that was there before the latest change, as it was then, and send a notice."""
    writer.write(**{name.decode(): value for name, value in writer.before.items()})
    writer.publish(b"new 0 " + writer.before[b"version"])


def note(status: int, *, seconds: float) -> Attack:
    """Claim that the latest fetch failed for all, and keep them from fetching for this time."""

    def write(writer: KeylessWriter) -> None:
        length = int(seconds * 1000)
        writer.write(note_status=status, note_length=length, note_until=writer.now() + length)
        writer.publish("note 0 ")

    return write


def forge_the_epoch(writer: KeylessWriter) -> None:
    """Raise the epoch, as `clear` does, to the highest that is believed."""
    epoch = writer.now() + FAR
    writer.write(epoch=epoch)
    writer.publish(f"clear {epoch} ")


def spoil_the_epoch(writer: KeylessWriter) -> None:
    """Raise the epoch to a number that is too high to be believed."""
    writer.write(epoch=2**52)
    writer.publish(f"clear {2**52} ")


def lead_an_empty_store(writer: KeylessWriter) -> None:
    """Delete all, and give the lease to a process that does not exist."""
    writer.redis.delete(writer.keys.hash, writer.keys.lease)
    writer.lead_from_now()


def plant(size: int) -> Attack:
    """Replace the payload by this many bytes, with newer times."""
    payload = bytes(size)

    def write(writer: KeylessWriter) -> None:
        now = writer.now()
        writer.write(payload=payload, size=size, version="f" * 32, as_of=now, confirmed_at=now, highest=now)
        writer.publish("new 0 " + "f" * 32)

    return write


def delete_a_field() -> Attack:
    """Delete one field of the hash: with each write the next one."""
    return _each_in_turn(lambda writer, name: writer.redis.hdel(writer.keys.hash, name))


def spoil_a_field() -> Attack:
    """Set one field of the hash to an invalid value: with each write the next field, and the next value."""
    values = (b"", b"-1", b"9007199254740993", b"nan", b"\xff\n\x1b[31m", b"x" * 5000)
    turns = iter(range(10**6))
    return _each_in_turn(lambda writer, name: writer.write(**{name: values[next(turns) % len(values)]}))


def _each_in_turn(write: Callable[[KeylessWriter, str], object]) -> Attack:
    turns = iter(range(10**6))

    def attack(writer: KeylessWriter) -> None:
        names = sorted(writer.before)
        write(writer, names[next(turns) % len(names)].decode())

    return attack


def flood(writer: KeylessWriter) -> None:
    """Publish four notices; needs no right to write."""
    turn = writer.now()
    writer.publish(*(NOTICES[(turn + i) % len(NOTICES)].format(turn + i) for i in range(4)))
