"""What goes over a connection to Redis: every word arrives, and no reply is taken for another command's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager

import pytest

from tests.support.redis_links import ECHO, link_to
from tests.support.servers import RedisServer


@pytest.mark.parametrize("word", ["é", "\u2028", b"\xff\r\n", "a\r\nb", ""])
def test_every_word_arrives(redis_server: RedisServer, namespace: str, word: str | bytes) -> None:
    """Every word arrives, however it is packed."""
    with link_to(redis_server.url) as link:
        assert link.run(ECHO, [namespace], [word]) == [
            namespace.encode(),
            word if isinstance(word, bytes) else word.encode(),
            7,
        ]


@contextmanager
def answering(*answers: bytes) -> Generator[tuple[str, list[int]]]:
    """A server that gives each command the next of these answers; its URL, and the connection of each command."""
    asked: list[int] = []

    def serve() -> None:
        for number in range(len(answers)):
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            with connected:
                while connected.recv(65536):
                    asked.append(number)
                    connected.sendall(answers[len(asked) - 1])

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", asked
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize("length", [1, 3000, 5000, 70_000])
def test_a_reply_that_nobody_waits_for_is_not_taken_for_the_next_commands(length: int) -> None:
    """Whether it was read with the previous one or is in the socket, the next command has its own connection."""
    extra = b"$%d\r\n%b\r\n" % (length, b"x" * length)
    with answering(b":1\r\n" + extra, b":2\r\n", b":3\r\n") as (url, asked), link_to(url) as link:
        assert [link.run(ECHO, ["k"], ["x"]) for _ in range(3)] == [1, 2, 3]
        assert asked == [0, 1, 1]
