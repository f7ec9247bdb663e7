from __future__ import annotations

import pytest

from understudy.agent.owner.record import Malformed, Ownership, claim_name, owner_name, parse, text

RECORD = Ownership("critical", "lemongrab", 3, "9f3c", "standby:2:118")


def test_a_record_reads_back_as_it_was_written() -> None:
    assert text(RECORD) == (
        "understudy=1 group=critical owner=lemongrab epoch=3 nonce=9f3c base=standby:2:118"
    )
    assert parse(text(RECORD)) == RECORD
    assert parse(f'"{text(RECORD)}"') == RECORD


def test_the_first_owner_has_no_base() -> None:
    first = Ownership("rest", "lemongrab", 1, "00")
    assert "base" not in text(first) and parse(text(first)) == first


def test_names() -> None:
    assert owner_name("critical", "example.org") == "*._understudy-owner-critical.example.org"
    assert owner_name("critical", "example.org", "x7").startswith("x7._understudy-owner-")
    assert claim_name("critical", "example.org") == "_understudy-claim-critical.example.org"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "v=spf1 -all",
        "understudy=2 group=a owner=b epoch=1 nonce=c",
        "understudy=1 group=a owner=b nonce=c",
        "understudy=1 group=a owner=b epoch=0 nonce=c",
        "understudy=1 group=a owner=b epoch=-1 nonce=c",
        "understudy=1 group=a owner=b epoch=two nonce=c",
        "understudy=1 group=a owner= epoch=1 nonce=c",
    ],
)
def test_what_is_no_record_is_no_answer(content: str) -> None:
    with pytest.raises(Malformed):
        parse(content)


@pytest.mark.parametrize("owner", ["two words", "x" * 250])
def test_what_does_not_fit_is_refused(owner: str) -> None:
    with pytest.raises(Malformed):
        text(Ownership("critical", owner, 1, "c"))
