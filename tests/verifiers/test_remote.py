"""Remote graders: signed, bounded, kept away from private addresses, never a false zero."""

import hashlib
import hmac
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.verifiers.answering_server import Handler, Reply, Server, serving
from verifiers import guarded_http
from verifiers.guarded_http import Allowed, GuardedError, post
from verifiers.judge import judge
from verifiers.pool import WorkerPool
from verifiers.spec import SpecError, parse_spec
from verifiers.verdict import Verdict


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("STROP_GRADER_SECRET_TEAM", "key")
    monkeypatch.setenv("STROP_GRADER_ALLOW", "10.0.0.0/8, 127.0.0.1")
    with serving({"score": 1}) as server:
        yield server


def ask(url: str, completion: str = "so 12", **options: Any) -> Verdict:
    spec = {"kind": "remote", "url": url, "secret": "team", "deadline_s": 3.0, **options}
    return judge(parse_spec(spec), completion)


def test_the_grader_gets_a_signed_request_and_its_score_is_the_verdict(server: Server):
    server.replies = [lambda handler: handler.say({"score": 0.25, "evidence": "one of four"})]
    verdict = ask(server.url, item={"answer": 12})
    assert (verdict.score, verdict.status) == (0.25, "wrong")
    assert verdict.evidence["evidence"] == "one of four"
    (request,) = server.requests
    assert request.path == "/grade?v=1"
    assert json.loads(request.body) == {"completion": "so 12", "item": {"answer": 12}}
    stamp, _, digest = request.headers["Strop-Signature"].partition(",v1=")
    signed = stamp.removeprefix("t=").encode() + b"." + request.body
    assert digest == hmac.new(b"key", signed, hashlib.sha256).hexdigest()
    assert abs(int(stamp.removeprefix("t=")) - time.time()) < 60


def test_a_score_of_one_is_correct(server: Server):
    assert ask(server.url).status == "correct"
    assert ask(server.url, "\ud800").status == "correct"


def test_passing_faults_are_tried_again_with_one_request_id(server: Server):
    server.replies = [
        lambda handler: handler.say({}, 503),
        lambda handler: handler.connection.shutdown(socket.SHUT_RDWR),
        lambda handler: handler.say({"score": 1}),
    ]
    assert ask(server.url).status == "correct"
    assert len({request.headers["Strop-Request-Id"] for request in server.requests}) == 1
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "attempts", "says"),
    [
        (lambda handler: handler.say({}, 500), 3, "status 500"),
        (lambda handler: handler.say({}, 400), 1, "status 400"),
        (lambda handler: handler.say({"score": 2}), 1, "without a score"),
        (lambda handler: handler.say({"score": True}), 1, "without a score"),
        (lambda handler: handler.say({"score": None}), 1, "without a score"),
        (lambda handler: handler.say([1]), 1, "without a score"),
        (lambda handler: handler.say(b'{"score": NaN}'), 1, "no JSON"),
        (lambda handler: handler.say(b'{"score": 1, "score": 0}'), 1, "no JSON"),
        (lambda handler: handler.say(b"\xff"), 1, "no JSON"),
        (lambda handler: handler.say(b" " * 70_000), 1, "more than 65536 bytes"),
        (lambda handler: handler.say({}, 302, Location="/elsewhere"), 1, "not followed"),
        (lambda handler: handler.wfile.write(b"gibberish\r\n\r\n"), 3, "no answer"),
    ],
)  # fmt: skip
def test_a_grader_that_fails_is_never_a_score(
    server: Server, reply: Reply, attempts: int, says: str
):
    server.replies = [reply]
    verdict = ask(server.url)
    assert (verdict.score, verdict.status) == (None, "infra_error")
    assert says in verdict.evidence["reason"]
    assert len(server.requests) == attempts


def drip(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.1)
    except OSError:
        return


def test_the_deadline_holds_even_for_one_byte_now_and_then(server: Server):
    server.replies = [drip]
    started = time.monotonic()
    verdict = ask(server.url, deadline_s=0.5)
    assert verdict.status == "infra_error"
    assert "deadline" in verdict.evidence["reason"]
    assert time.monotonic() - started < 5


def test_a_handshake_that_never_ends_is_late_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STROP_GRADER_SECRET_TEAM", "key")
    monkeypatch.setenv("STROP_GRADER_ALLOW", "127.0.0.1")
    stop = threading.Event()

    def drip(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB, byte by byte
            while not stop.wait(0.05):
                try:
                    peer.sendall(b"\x02")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        verdict = ask(f"https://127.0.0.1:{listener.getsockname()[1]}/", deadline_s=0.5)
        stop.set()
        thread.join(timeout=10)
    assert (verdict.score, verdict.status) == (None, "infra_error")
    assert "deadline" in verdict.evidence["reason"]


def test_every_address_of_a_name_is_checked_and_tried(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    addresses = ["127.0.0.2", "127.0.0.1"]  # nobody listens at the first
    resolve = socket.getaddrinfo

    def resolved(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host == "grader.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]
        return resolve(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    url = f"http://grader.example:{server.server_port}/"
    monkeypatch.setenv("STROP_GRADER_ALLOW", "127.0.0.0/8")
    assert ask(url).status == "correct"
    monkeypatch.setenv("STROP_GRADER_ALLOW", "127.0.0.2")
    verdict = ask(url)
    assert verdict.status == "infra_error"
    assert "has the address 127.0.0.1, which is private" in verdict.evidence["reason"]


@pytest.fixture
def certificate(server: Server, tmp_path: Path) -> str:
    """The server speaks TLS from now on; the file of its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return str(certificate)


@pytest.fixture
def trusted(certificate: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    guarded_http._tls.cache_clear()  # pyright: ignore[reportPrivateUsage]
    yield
    guarded_http._tls.cache_clear()  # pyright: ignore[reportPrivateUsage]


def test_tls_is_spoken_and_its_deadline_holds_too(server: Server, trusted: None):
    url = server.url.replace("http:", "https:")
    assert ask(url).status == "correct"
    server.replies = [drip]
    started = time.monotonic()
    verdict = ask(url, deadline_s=0.5)
    assert (verdict.score, verdict.status) == (None, "infra_error")
    assert "deadline" in verdict.evidence["reason"]
    assert time.monotonic() - started < 5


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(server: Server, certificate: str):
    verdict = ask(server.url.replace("http:", "https:"))
    assert verdict.status == "infra_error"
    assert "certificate" in verdict.evidence["reason"].lower()
    assert "attempt" not in verdict.evidence["reason"], "it was not tried again"
    assert server.requests == []


def test_a_key_that_the_environment_lacks_is_named(server: Server):
    verdict = ask(server.url, secret="other")
    assert verdict.status == "infra_error"
    assert "STROP_GRADER_SECRET_OTHER" in verdict.evidence["reason"]
    assert server.requests == []


@pytest.mark.parametrize("allow", ["", "10.0.0.0/8", "::1"])
def test_a_private_address_is_refused_unless_an_operator_allows_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, allow: str
):
    monkeypatch.setenv("STROP_GRADER_ALLOW", allow)
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
        for scheme in ("http", "https"):
            verdict = ask(f"{scheme}://{host}:{server.server_port}/")
            assert verdict.status == "infra_error"
            assert "private" in verdict.evidence["reason"]
    assert server.requests == []


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("8.8.8.8", False), ("2606:4700::1111", False), ("127.0.0.1", True), ("10.1.2.3", True),
        ("169.254.169.254", True), ("0.0.0.0", True), ("100.64.0.1", True), ("224.0.0.1", True),
        ("::1", True), ("fe80::1", True), ("fd00::1", True), ("::ffff:10.0.0.1", True),
        ("64:ff9b::7f00:1", True), ("2002:7f00:1::", True), ("192.168.0.1", True),
        ("fec0::1", True), ("::7f00:1", True), ("64:ff9b:1::7f00:1", True), ("3fff::1", True),
        ("::ffff:0:7f00:1", True), ("5f00::1", True), ("192.0.0.8", True), ("240.0.0.1", True),
        ("2001:0:7f00:1::", True), ("2001:db8::1", True), ("2002:808:808::1", False),
    ],
)  # fmt: skip
def test_what_is_private(address: str, private: bool):
    import ipaddress

    assert guarded_http._private(ipaddress.ip_address(address)) is private  # pyright: ignore[reportPrivateUsage]


def test_clear_text_is_for_allowed_addresses_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STROP_GRADER_SECRET_TEAM", "key")
    verdict = ask("http://8.8.8.8/")
    assert "clear text" in verdict.evidence["reason"]


def test_the_pool_hands_the_keys_on_and_waits_as_long_as_the_spec_says(server: Server):
    def slow(handler: Handler) -> None:
        time.sleep(1.0)
        handler.say({"score": 1})

    server.replies = [slow]
    with WorkerPool(1, deadline_s=0.5) as pool:
        spec = {"kind": "remote", "url": server.url, "secret": "team"}
        assert pool.judge(spec, "so 12").status == "correct"


TRICKS = [
    "http://127.0.0.1/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://localhost/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1]/",
    "https://[fc00::1]/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fd00:ec2::254]/",
    "https://100.64.0.1/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.0.1/",
    "https://192.0.0.8/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://240.0.0.1/",
]


@pytest.mark.parametrize("url", TRICKS)
def test_no_way_of_writing_a_private_address_leads_there(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("STROP_GRADER_ALLOW", raising=False)
    opened: list[object] = []
    monkeypatch.setattr(socket, "create_connection", lambda *args, **more: opened.append(args))
    with pytest.raises(GuardedError):
        post(
            url, b"{}", {}, deadline=time.monotonic() + 5, max_answer=10,
            allowed=Allowed("STROP_GRADER_ALLOW"),
        )  # fmt: skip
    assert opened == []


def test_a_name_that_changes_its_address_between_check_and_connection_gains_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("STROP_GRADER_ALLOW")
    asked: list[str] = []
    connected: list[Any] = []
    connect = socket.create_connection

    def resolved(host: str, port: int, *args: Any, **options: Any) -> Any:
        asked.append(host)
        address = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connecting(address: tuple[str, int], *args: Any, **options: Any) -> Any:
        connected.append(address[0])
        if address[0] == "127.0.0.1":
            return connect(address, *args, **options)
        raise OSError("nobody is there")

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(socket, "create_connection", connecting)
    with pytest.raises(GuardedError):
        post(
            f"https://rebinds.example:{server.server_port}/", b"{}", {},
            deadline=time.monotonic() + 5, max_answer=10, allowed=Allowed("STROP_GRADER_ALLOW"),
        )  # fmt: skip
    assert asked == ["rebinds.example"]
    assert connected == ["93.184.215.14"]


def test_a_redirect_to_a_private_address_is_an_answer_and_no_way(server: Server):
    server.replies = [
        lambda handler: handler.say({}, 302, Location="http://169.254.169.254/latest/meta-data/")
    ]
    answer = post(
        server.url, b"{}", {}, deadline=time.monotonic() + 5, max_answer=100,
        allowed=Allowed("STROP_GRADER_ALLOW"),
    )  # fmt: skip
    assert answer.status == 302
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://user@grader.example/",
        "https://public.example@127.0.0.1/",
        "https://grader.example#@127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "https://grader.example/\r\nHost: evil",
        "https://grader.example:0/",
        "https:///path",
    ],
)
def test_a_url_that_hides_where_it_leads_is_no_spec(url: str):
    with pytest.raises(SpecError):
        parse_spec({"kind": "remote", "url": url, "secret": "team"})
