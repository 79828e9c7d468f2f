"""HTTP to servers that users name: one POST, to public addresses, with one deadline over all.

The name is resolved once, every address it has must be public (or inside a network that the
operator allows, which may be private and speak http), and the connection goes to the address
that was checked. Redirects are not followed, proxies not asked, answers bounded. A server that
the operator named may be anywhere: `allowed` is None then.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class GuardedError(Exception):
    """There is no answer; another attempt may have one."""


class BlockedError(GuardedError):
    """There is no answer, and no attempt will have one: the URL leads where we do not go."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The networks that may be private: the environment's `variable`, `10.0.0.0/8,127.0.0.1`."""

    variable: str

    def __contains__(self, address: Address) -> bool:
        """Whether the operator allows it. Raises BlockedError when the variable is no list."""
        text = os.environ.get(self.variable, "")
        networks = [part.strip() for part in text.split(",") if part.strip()]
        try:
            return any(address in ipaddress.ip_network(part, strict=False) for part in networks)
        except ValueError as error:
            raise BlockedError(f"{self.variable}: {error}") from None


class Answer(NamedTuple):
    """What a server said. The body is cut behind one byte more than was asked for."""

    status: int
    body: bytes
    retry_after_s: float
    """Seconds after which it wants to be asked again, 0 when it does not say."""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    deadline: float,
    allowed: Allowed | None,
    max_answer: int,
) -> Answer:
    """The answer, its body cut behind `max_answer` + 1 bytes.

    `deadline` is a moment of the monotonic clock. Raises GuardedError.
    """
    parts = urlsplit(url)
    sock = _connect(parts, deadline, allowed)
    # One watch over handshake and exchange: a peer that sends a byte now and then is late too.
    # It has a descriptor of its own: TLS takes the socket's away.
    handle = sock.dup()
    watch = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, (handle,))
    watch.daemon = True
    watch.start()
    connection: http.client.HTTPConnection | None = None
    try:
        connection = _connection(parts, sock)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        answer = response.read(max_answer + 1)
    except ssl.SSLCertVerificationError as error:
        raise BlockedError(f"no TLS with {parts.hostname}: {error}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        late = time.monotonic() >= deadline
        raise GuardedError("the deadline passed" if late else f"no answer: {error!r}") from None
    finally:
        watch.cancel()
        if connection is not None:
            connection.close()
        sock.close()
        handle.close()
    if time.monotonic() >= deadline:
        raise GuardedError("the deadline passed")
    pause = response.headers.get("Retry-After", "")
    return Answer(response.status, answer, float(pause) if pause.isdecimal() else 0.0)


def check(url: str, *, deadline: float, allowed: Allowed | None) -> None:
    """Raise BlockedError for a URL that `post` would not go to, by the addresses it has now."""
    _addresses(urlsplit(url), deadline, allowed)


def _cut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was closed already


def _addresses(url: SplitResult, deadline: float, allowed: Allowed | None) -> list[Address]:
    """Every address of the URL's host, when all of them may be spoken to."""
    host = url.hostname or ""
    addresses = _resolve(host, _port(url), deadline)
    if allowed is None:
        return addresses
    for address in addresses:
        if address not in allowed and (_private(address) or url.scheme != "https"):
            reason = "is private" if _private(address) else "is spoken to in clear text"
            raise BlockedError(
                f"{host} has the address {address}, which {reason}; "
                f"an operator may allow it in {allowed.variable}"
            )
    return addresses


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _connect(url: SplitResult, deadline: float, allowed: Allowed | None) -> socket.socket:
    """A connection to one of the name's addresses, after all of them were checked."""
    host, port = url.hostname or "", _port(url)
    addresses = _addresses(url, deadline, allowed)
    failure = "the deadline passed"
    for tried, address in enumerate(addresses):
        left = (deadline - time.monotonic()) / (len(addresses) - tried)
        if left <= 0:
            break
        try:
            sock = socket.create_connection((str(address), port), timeout=left)
        except OSError as error:
            failure = f"no connection to {host}: {error}"
            continue
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        return sock
    raise GuardedError(failure)


def _connection(url: SplitResult, sock: socket.socket) -> http.client.HTTPConnection:
    """HTTP over the socket, which is wrapped in TLS for https."""
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    connection.sock = sock
    if url.scheme == "https":
        connection.sock = _tls().wrap_socket(sock, server_hostname=url.hostname)
    return connection


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _resolve(host: str, port: int, deadline: float) -> list[Address]:
    """Every address of a name. The resolver has no deadline of its own: it gets a thread."""
    found: list[Address] = []
    failure: list[OSError | UnicodeError] = []

    def look_up() -> None:
        try:
            for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append(ipaddress.ip_address(str(address[0]).partition("%")[0]))
        except (OSError, UnicodeError) as error:
            failure.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if thread.is_alive():
        raise GuardedError(f"the name {host} was not resolved in time")
    if failure or not found:
        raise GuardedError(f"the name {host} has no address: {failure[0] if failure else ''}")
    return list(dict.fromkeys(found))


def _private(address: Address) -> bool:
    """Whether an address is anything but public: IPv6 is public where addresses are handed out,
    less what stands for an IPv4 address that is not."""
    if isinstance(address, ipaddress.IPv4Address):
        return not address.is_global or address.is_multicast or address in _IETF
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return _private(inner)
    return not (address in _UNICAST and address.is_global) or address in _DOCUMENTATION


_IETF = ipaddress.ip_network("192.0.0.0/24")
_UNICAST = ipaddress.ip_network("2000::/3")
_DOCUMENTATION = ipaddress.ip_network("3fff::/20")
