"""Something between a client and a simulated server: TLS, a proxy, or what answers on its own."""

import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from urllib.parse import urlsplit

Answer = Callable[[str], bytes | None]
"""What it says to the head of a request; None hands the request on."""


def page(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer, after which the connection ends."""
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def silence(head: str) -> bytes | None:
    """Opens the event socket, and says nothing on it (RFC 6455, section 4.2.2)."""
    if not head.split(" ")[1].startswith("/ws"):
        return None
    key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
    accept = b64encode(sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()  # noqa: S324  # RFC 6455 says so
    said = [
        "HTTP/1.1 101 Said",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept}",
    ]
    return "\r\n".join([*said, "", ""]).encode()


def at(path: str, answer: bytes) -> Answer:
    """That answer for requests whose path begins so; everything else is handed on."""
    return lambda head: answer if head.split(" ")[1].startswith(path) else None


@contextmanager
def gate(url: str, answer: Answer = lambda head: None, *, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """An address before `url`. In the answer's place, what it hands on reaches `url`."""
    server = urlsplit(url)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                taken = self.request if tls is None else tls.wrap_socket(self.request, server_side=True)
                with taken:
                    _serve(taken, (str(server.hostname), int(server.port or 80)), answer)

    with _listening(Handler) as address:
        yield f"http{'s' if tls else ''}://{address}"


def _serve(client: socket.socket, server: tuple[str, int], answer: Answer) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        if not (more := client.recv(65536)):
            return
        head += more
    said = answer(head.decode("latin-1"))
    if said is not None:
        client.sendall(said)
        while said.startswith(b"HTTP/1.1 101") and client.recv(65536):
            pass  # an event socket that stays open, and silent
        client.close()
        return
    with socket.create_connection(server) as onward:
        if b"\r\nUpgrade:" not in head:  # one request for each connection, so that each is seen
            head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        onward.sendall(head)
        back = Thread(target=_pump, args=(onward, client), daemon=True)
        back.start()
        _pump(client, onward)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def tunnel() -> Iterator[str]:
    """A proxy that opens tunnels (CONNECT)."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    letter = self.request.recv(1)
                    if not letter:
                        return  # it was only a knock
                    head += letter
                host, _, port = head.split(b" ")[1].decode().partition(":")
                with socket.create_connection((host, int(port))) as onward:
                    self.request.sendall(b"HTTP/1.1 200 Open\r\n\r\n")
                    back = Thread(target=_pump, args=(onward, self.request), daemon=True)
                    back.start()
                    _pump(self.request, onward)
                    back.join()

    with _listening(Handler) as address:
        yield f"http://{address}"


@contextmanager
def _listening(handler: type[BaseRequestHandler]) -> Iterator[str]:
    class Server(ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
