"""The judge that asks an HTTP grader of the user's own.

    POST <url>
    Strop-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">
    {"completion": "...", "item": ...}

    200 {"score": 0.5, "evidence": "..."}          score in [0, 1]; 1 is correct

The signing key comes from the environment (STROP_GRADER_SECRET_<NAME>), never from a task.
The name is resolved once, every address it has must be public (or inside a network listed
in STROP_GRADER_ALLOW, like `10.0.0.0/8,127.0.0.1`), and the connection goes to the address
that was checked. Redirects are not followed, proxies not asked, answers bounded. Whatever
goes wrong there is never the completion's fault: `infra_error`, no score.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

from verifiers import strict_json
from verifiers.remote_spec import RemoteSpec
from verifiers.verdict import Verdict, clip

SECRET_PREFIX = "STROP_GRADER_SECRET_"
ALLOW = "STROP_GRADER_ALLOW"
MAX_ANSWER = 2**16
FIRST_PAUSE_S = 0.1
_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class GraderError(Exception):
    """The grader gave no usable answer."""


class _PassingError(GraderError):
    """What another attempt may mend."""


def judge(spec: RemoteSpec, completion: str) -> Verdict:
    """The grader's score of a completion."""
    evidence: dict[str, object] = {"grader": spec.url}
    try:
        score, said = _ask(spec, completion)
    except GraderError as error:
        return Verdict(None, "infra_error", evidence | {"reason": clip(str(error))})
    if said is not None:
        evidence["evidence"] = clip(said if isinstance(said, str) else strict_json.dumps(said))
    return Verdict(score, "correct" if score == 1.0 else "wrong", evidence)


def _ask(spec: RemoteSpec, completion: str) -> tuple[float, Any]:
    deadline = time.monotonic() + spec.deadline_s
    body = _body(spec, completion)
    key = _key(spec.secret)
    pause = FIRST_PAUSE_S
    for attempt in range(spec.retries + 1):
        try:
            return _attempt(urlsplit(spec.url), body, key, deadline)
        except _PassingError as error:
            last = attempt == spec.retries
            if last or time.monotonic() + pause >= deadline:
                raise GraderError(f"{error} (attempt {attempt + 1})") from None
        time.sleep(pause)
        pause *= 2
    raise AssertionError("the last attempt returns or raises")


def _body(spec: RemoteSpec, completion: str) -> bytes:
    text = strict_json.dumps({"completion": completion, "item": spec.item})
    return text.encode("utf-8", "replace")  # a lone surrogate becomes a question mark


def _key(name: str) -> bytes:
    key = os.environ.get(SECRET_PREFIX + name.upper())
    if not key:
        raise GraderError(f"the environment has no {SECRET_PREFIX}{name.upper()} to sign with")
    return key.encode()


def sign(key: bytes, body: bytes, at: int) -> str:
    """The signature header's value: proof of who sent the body, and when."""
    digest = hmac.new(key, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _attempt(url: SplitResult, body: bytes, key: bytes, deadline: float) -> tuple[float, Any]:
    sock = _connect(url, deadline)
    # One watch over handshake and exchange: a peer that sends a byte now and then is late too.
    # It has a descriptor of its own: TLS takes the socket's away.
    handle = sock.dup()
    watch = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, (handle,))
    watch.daemon = True
    watch.start()
    connection: http.client.HTTPConnection | None = None
    try:
        connection = _connection(url, sock)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request(
            "POST",
            target,
            body,
            {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Strop-Signature": sign(key, body, int(time.time())),
                "Strop-Request-Id": hashlib.sha256(body).hexdigest()[:32],
                "Connection": "close",
            },
        )
        response = connection.getresponse()
        answer = response.read(MAX_ANSWER + 1)
    except ssl.SSLCertVerificationError as error:
        raise GraderError(f"no TLS with {url.hostname}: {error}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        late = time.monotonic() >= deadline
        raise _PassingError("the deadline passed" if late else f"no answer: {error!r}") from None
    finally:
        watch.cancel()
        if connection is not None:
            connection.close()
        sock.close()
        handle.close()
    if time.monotonic() >= deadline:
        raise _PassingError("the deadline passed")
    return _read(response.status, answer)


def _cut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was closed already


def _read(status: int, answer: bytes) -> tuple[float, Any]:
    if status in _RETRIED:
        raise _PassingError(f"status {status}")
    if status != 200:
        moved = " (redirects are not followed)" if 300 <= status < 400 else ""
        raise GraderError(f"status {status}{moved}")
    if len(answer) > MAX_ANSWER:
        raise GraderError(f"an answer of more than {MAX_ANSWER} bytes")
    try:
        data = strict_json.loads(answer.decode())
    except (UnicodeDecodeError, strict_json.StrictJsonError) as error:
        raise GraderError(f"an answer that is no JSON: {error}") from None
    score = data.get("score") if isinstance(data, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise GraderError(f"an answer without a score in [0, 1]: {clip(answer.decode())}")
    return float(score), data.get("evidence") if isinstance(data, dict) else None


def _connect(url: SplitResult, deadline: float) -> socket.socket:
    """A connection to one of the name's addresses, after all of them were checked."""
    host = url.hostname or ""
    port = url.port or (443 if url.scheme == "https" else 80)
    addresses = _resolve(host, port, deadline)
    for address in addresses:
        if not _allowed(address) and (_private(address) or url.scheme != "https"):
            reason = "is private" if _private(address) else "is spoken to in clear text"
            raise GraderError(
                f"{host} has the address {address}, which {reason}; "
                f"an operator may allow it in {ALLOW}"
            )
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
    raise _PassingError(failure)


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
        raise GraderError(f"the name {host} was not resolved in time")
    if failure or not found:
        raise _PassingError(f"the name {host} has no address: {failure[0] if failure else ''}")
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


def _allowed(address: Address) -> bool:
    networks = [part.strip() for part in os.environ.get(ALLOW, "").split(",") if part.strip()]
    try:
        return any(address in ipaddress.ip_network(part, strict=False) for part in networks)
    except ValueError as error:
        raise GraderError(f"{ALLOW}: {error}") from None
