"""DNS over HTTPS against real sockets: what is an answer, and that everything else is none."""

from __future__ import annotations

import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from understudy.agent.owner import doh
from understudy.agent.owner.record import Ownership, text

from .doh_server import Answer, Resolver, message

NAMED = Ownership("critical", "standby", 7, "9f3c", "lemongrab:6:41")


@pytest.fixture
def resolvers() -> Iterator[list[Resolver]]:
    made: list[Resolver] = []
    yield made
    for one in made:
        one.close()


def heard(resolvers: list[Resolver], *answers: Answer, timeout: float = 2.0) -> doh.Heard:
    resolvers += [Resolver(answer) for answer in answers]
    return doh.ask([one.url for one in resolvers], "critical", "example.org", timeout=timeout)


def record(ownership: Ownership = NAMED) -> Answer:
    return lambda asked: message(asked, [[text(ownership)]])


def test_the_record_is_read_and_a_fresh_label_is_asked_each_time(resolvers: list[Resolver]) -> None:
    assert heard(resolvers, record()).answer == NAMED
    doh.ask([resolvers[0].url], "critical", "example.org")
    names = {asked[12:] for asked in resolvers[0].asked}
    assert len(names) == 2
    assert all(b"\x1a_understudy-owner-critical\x07example\x03org\x00" in name for name in names)


def test_a_record_in_several_strings_is_one(resolvers: list[Resolver]) -> None:
    whole = text(NAMED)
    assert heard(resolvers, lambda asked: message(asked, [[whole[:20], whole[20:]]])).answer == NAMED


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda asked: message(asked, [], rcode=3), "NXDOMAIN"),
        (lambda asked: message(asked, [], rcode=2), "SERVFAIL"),
        (lambda asked: message(asked, []), "0 ownership records"),
        (lambda asked: message(asked, [["v=spf1 -all"]]), "0 ownership records"),
        (lambda asked: message(asked, [["understudy=1 group=critical owner=x"]]), "lacks"),
        (
            lambda asked: message(asked, [[text(NAMED)], [text(Ownership("critical", "x", 8, "n"))]]),
            "2 ownership",
        ),
        (lambda asked: message(asked, [[text(Ownership("rest", "x", 8, "n"))]]), "rest's"),
        (lambda asked: message(asked, [[text(NAMED)]], flags=0x8380), "truncated"),
        (lambda asked: message(asked, [[text(NAMED)]], flags=0x0100), "no DNS answer"),
        (lambda asked: message(asked, [[text(NAMED)]])[:-9], "malformed"),
        (lambda asked: message(asked[:12] + b"\x01x" + asked[12:], [[text(NAMED)]]), "another question"),
        (lambda asked: b"", "malformed"),
        (lambda asked: b"<html>captive portal</html>", ""),
    ],
)
def test_what_is_not_a_whole_record_is_no_answer(resolvers: list[Resolver], answer: Answer, why: str) -> None:
    found = heard(resolvers, answer)
    assert found.answer is None
    assert why in found.silent[resolvers[0].url]


def test_a_server_error_and_a_closed_port_are_no_answer(resolvers: list[Resolver]) -> None:
    resolvers.append(Resolver(lambda asked: message(asked, [[text(NAMED)]]), status=502))
    found = doh.ask([resolvers[0].url, "http://127.0.0.1:9/dns-query"], "critical", "example.org")
    assert found.answer is None and len(found.silent) == 2


def test_a_hanging_resolver_costs_its_timeout_and_the_other_is_heard(resolvers: list[Resolver]) -> None:
    began = time.monotonic()
    found = heard(resolvers, lambda asked: None, record(), timeout=1.0)
    assert found.answer == NAMED and time.monotonic() - began < 2.5
    assert list(found.silent) == [resolvers[0].url]


def test_the_higher_epoch_wins_and_two_owners_of_one_epoch_are_none(resolvers: list[Resolver]) -> None:
    old = Ownership("critical", "lemongrab", 6, "aaaa")
    assert heard(resolvers, record(old), record()).answer == NAMED
    resolvers.pop().close()
    resolvers.pop().close()
    assert heard(resolvers, record(Ownership("critical", "lemongrab", 7, "bbbb")), record()).answer is None


def test_a_certificate_that_is_not_trusted_is_no_answer(resolvers: list[Resolver], tmp_path: Path) -> None:
    def certificate(name: str) -> tuple[str, str]:
        key, cert = str(tmp_path / f"{name}.key"), str(tmp_path / f"{name}.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "1",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
        return key, cert

    key, cert = certificate("resolver")
    _, stranger = certificate("stranger")
    resolvers.append(Resolver(record()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = resolvers[0].server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = resolvers[0].url.replace("http://", "https://")
    assert doh.ask([url], "critical", "example.org", cert).answer == NAMED
    refused = doh.ask([url], "critical", "example.org", stranger)
    assert refused.answer is None and "TLS" in refused.silent[url]


def test_compressed_names_and_other_records_before_the_text_are_passed_over() -> None:
    asked = doh._question("a.example.org")
    alias = struct.pack("!HHHIH", 0xC00C, 5, 1, 60, 2) + b"\xc0\x0e"
    whole = message(asked, [["hello"]])
    head, tail = whole[: 12 + len(asked) - 12], whole[12 + len(asked) - 12 :]
    both = struct.pack("!6H", 0, 0x8180, 1, 2, 0, 0) + head[12:] + alias + tail
    assert doh.strings(both, asked) == ["hello"]
