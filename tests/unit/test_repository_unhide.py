"""What a moment needs, on lists of versions alone; against a real store: tests/lab/test_unhide.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import BadInput
from understudy.repository import tamper
from understudy.repository.objects import Version, _parsed, newest_first, place
from understudy.repository.restic import AdminRepository
from understudy.repository.unhide import moment

P = "home/critical/"


def versions(key: str, *entries: tuple[float, str]) -> dict[str, list[Version]]:
    """Oldest first: (time, content), content "" for a delete marker."""
    made = [
        Version(P + key, f"{key}-{n}", time, n == len(entries) - 1, not content, len(content), content)
        for n, (time, content) in enumerate(entries)
    ]
    return {P + key: newest_first(made[::-1])}


def one(key: str, to: float, *entries: tuple[float, str], **more: bool) -> list[tuple[str, str]]:
    found = moment(versions(key, *entries), P, to, **more)
    return [(change.how, change.version.id if change.version else "") for change in found.changes]


def test_every_case_of_one_object() -> None:
    assert one("data/aa/x", 20, (10, "a")) == []
    assert one("data/aa/x", 20, (10, "a"), (30, "")) == [("show", "data/aa/x-0")]
    assert one("data/aa/x", 20, (10, "a"), (30, "b")) == [("restore", "data/aa/x-0")]
    assert one("data/aa/x", 20, (10, "a"), (30, "b"), (40, "")) == [("restore", "data/aa/x-0")]
    assert one("data/aa/x", 35, (10, "a"), (30, "b"), (40, "")) == [("show", "data/aa/x-1")]
    assert one("data/aa/x", 20, (30, "b")) == [("hide", "")]
    assert one("data/aa/x", 20, (30, "b"), keep_added=True) == []
    assert one("data/aa/x", 20, (30, "b"), (40, "")) == []
    assert one("data/aa/x", 20, (5, "a"), (10, ""), (30, "b")) == [("hide", "")]
    assert one("data/aa/x", 20, (10, "a"), (30, "b"), (40, "a")) == [], "rebuilt already"
    assert one("locks/x", 20, (30, "b")) == []
    assert one("other/x", 20, (30, "b")) == []


def test_all_markers_on_top_are_removed() -> None:
    found = moment(versions("index/x", (10, "a"), (30, ""), (31, ""), (32, "")), P, 20)
    assert [marker.id for marker in found.changes[0].markers] == ["index/x-3", "index/x-2", "index/x-1"]


def test_what_is_gone_for_good_is_said() -> None:
    found = moment(versions("data/aa/x", (30, "")), P, 20)
    assert found.lost == [P + "data/aa/x"] and found.changes == []
    assert moment(versions("data/aa/x", (10, "")), P, 20).lost == []


def test_the_whole_second_counts() -> None:
    assert one("config", 20.9, (20, "a"), (21, "")) == [("show", "config-0")]
    assert one("config", 20.0, (20, "a"), (21, "b")) == [("restore", "config-0")]


def test_counts() -> None:
    everything = {
        **versions("config", (10, "c")),
        **versions("keys/k", (10, "k"), (30, "")),
        **versions("data/aa/x", (10, "a"), (30, "b")),
        **versions("data/bb/y", (10, "a"), (30, "b")),
        **versions("snapshots/s", (30, "s")),
    }
    found = moment(everything, P, 20)
    assert found.counts() == {"show": {"keys": 1}, "restore": {"data": 2}, "hide": {"snapshots": 1}}
    assert len(found.then) == 4 and found.first == 10


history = st.lists(
    st.tuples(st.integers(0, 50), st.sampled_from(["", "a", "b", "c"])), min_size=1, max_size=8
)


@given(
    st.dictionaries(st.sampled_from(["config", "keys/k", "data/aa/x", "index/i"]), history, min_size=1),
    st.integers(0, 60),
)
def test_doing_what_is_planned_rebuilds_the_moment(keys: dict[str, list[tuple[int, str]]], to: int) -> None:
    """A model of a store: apply the changes, look again, nothing is left to do and every content is as it was."""
    store = {}
    for key, entries in keys.items():
        times = sorted({time: content for time, content in entries}.items())
        store |= versions(key, *((float(time), content) for time, content in times))
    plan = moment(store, P, float(to))
    after = {key: list(entries) for key, entries in store.items()}
    for change in plan.changes:
        entries = after[change.key]
        if change.how == "show":
            entries = [entry for entry in entries if entry not in change.markers]
        elif change.how == "restore":
            assert change.version is not None
            entries = [
                Version(change.key, "copy", 100, True, False, change.version.size, change.version.etag),
                *entries,
            ]
        else:
            entries = [Version(change.key, "hidden", 100, True, True), *entries]
        after[change.key] = [
            Version(e.key, e.id, e.time, n == 0, e.marker, e.size, e.etag) for n, e in enumerate(entries)
        ]
    assert moment(after, P, float(to)).changes == []
    for key, entries in store.items():
        past = [entry for entry in entries if entry.time <= to]
        want = past[0].etag if past and not past[0].marker else None
        have = None if after[key][0].marker else after[key][0].etag
        assert have == want or key in plan.lost


def test_the_stores_own_order_is_kept_within_a_second() -> None:
    body = b"""<?xml version="1.0"?><ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
    <DeleteMarker><Key>q/t</Key><VersionId>4</VersionId><IsLatest>true</IsLatest><LastModified>2026-11-24T11:44:18.900Z</LastModified></DeleteMarker>
    <Version><Key>q/t</Key><VersionId>3</VersionId><IsLatest>false</IsLatest><LastModified>2026-11-24T11:44:18Z</LastModified><Size>3</Size><ETag>"e"</ETag></Version>
    <DeleteMarker><Key>q/t</Key><VersionId>2</VersionId><IsLatest>false</IsLatest><LastModified>2026-11-24T11:44:18Z</LastModified></DeleteMarker>
    </ListVersionsResult>"""
    found = newest_first(list(_parsed(body)))
    assert [one.id for one in found] == ["4", "3", "2"]
    assert found[1] == Version("q/t", "3", 1795520658.0, False, False, 3, "e") and found[0].marker


def repository(url: str, *options: str, group: str = "critical") -> AdminRepository:
    return AdminRepository("b2", group, url, "pw", options=options)


@pytest.mark.parametrize(
    ("url", "options", "want"),
    [
        ("s3:https://s3.us-west-004.backblazeb2.com/b/h/c", (), ("https://s3.us-west-004.backblazeb2.com", "b", "h/c/", "us-west-004")),
        ("s3:s3.eu-west-1.amazonaws.com/b/x/", (), ("https://s3.eu-west-1.amazonaws.com", "b", "x/", "eu-west-1")),
        ("s3:http://127.0.0.1:8333/b", ("s3.region=home",), ("http://127.0.0.1:8333", "b", "", "home")),
    ],
)  # fmt: skip
def test_places(url: str, options: tuple[str, ...], want: tuple[str, ...]) -> None:
    found = place(repository(url, *options))
    assert (found.endpoint, found.bucket, found.prefix, found.region) == want


@pytest.mark.parametrize("url", ["sftp:box:/x", "/local", "b2:bucket:path", "rest:https://box/x"])
def test_other_stores_are_refused(url: str) -> None:
    with pytest.raises(BadInput, match="s3: address"):
        place(repository(url))


@pytest.mark.parametrize("group, url", [("critical", "s3:h/b/tamper"), ("tamper", "s3:h/b/critical")])
def test_the_tamper_test_touches_only_its_own_group(group: str, url: str) -> None:
    with pytest.raises(BadInput, match="only in the group 'tamper'"):
        tamper.tamper(repository(url, group=group), repository(url, group=group))
