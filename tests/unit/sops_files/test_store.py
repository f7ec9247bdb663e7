"""Made, kept, read: secrets with the real sops and real age keys."""

from __future__ import annotations

import re
import stat
import threading
from pathlib import Path

import pytest
import yaml

from understudy import secrets
from understudy.secrets import SecretsError, Store, init, sops, weakness
from understudy.spec import SecretSpec

from .project import OWN, PASSWORD, SPECS, fresh, put


def test_init_makes_a_key_and_a_rule(tmp_path: Path, key: Path) -> None:
    done = init(tmp_path / "p" / "secrets")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert re.search(r"^AGE-SECRET-KEY-1[0-9A-Z]+$", key.read_text(), re.MULTILINE)
    rules = yaml.safe_load((tmp_path / "p" / ".sops.yaml").read_text())["creation_rules"]
    assert rules == [{"path_regex": r"(^|/)secrets/[^/]+\.yaml$", "age": done.recipient}]
    spoken = " ".join(done.sentences())
    assert str(key) in spoken
    assert "Keep a copy" in spoken
    assert "AGE-SECRET-KEY" not in spoken


def test_init_overwrites_nothing(tmp_path: Path, key: Path) -> None:
    init(tmp_path / "p" / "secrets")
    before = (key.read_bytes(), (tmp_path / "p" / ".sops.yaml").read_bytes())
    again = init(tmp_path / "p" / "secrets")
    assert (key.read_bytes(), (tmp_path / "p" / ".sops.yaml").read_bytes()) == before
    assert (again.made_key, again.made_config, again.in_config) == (False, False, True)


def test_init_says_when_somebody_elses_rule_does_not_name_us(tmp_path: Path, key: Path) -> None:
    (tmp_path / "p").mkdir()
    other = "creation_rules:\n  - age: age1tju5z5zvxf6z03tzr96xju0mtz6rf7lnmtaaskvz577ea2yv0gzqdwtq0w\n"
    (tmp_path / "p" / ".sops.yaml").write_text(other)
    done = init(tmp_path / "p" / "secrets")
    assert (tmp_path / "p" / ".sops.yaml").read_text() == other
    assert f"ask its owner to add {done.recipient}" in done.sentences()[-1]


def test_init_finds_the_default_place_of_sops(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOPS_AGE_KEY_FILE")
    folder = tmp_path / "p" / "secrets"
    assert init(folder).key_file == tmp_path / "home/.config/sops/age/keys.txt"
    Store(folder).ensure("db", {"PASSWORD": PASSWORD})
    assert len(Store(folder).load("db")["PASSWORD"]) == 32


def test_a_damaged_key_file_is_named_without_its_content(tmp_path: Path, key: Path) -> None:
    key.parent.mkdir(parents=True)
    key.write_text("AGE-SECRET-KEY-1DAMAGED\n")
    with pytest.raises(SecretsError, match="holds a damaged age key") as error:
        init(tmp_path / "p" / "secrets")
    assert "DAMAGED" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("alnum32", r"[A-Za-z0-9]{32}"),
        ("hex32", r"[0-9a-f]{32}"),
        ("hex64", r"[0-9a-f]{64}"),
        ("base64-32", r"[A-Za-z0-9+/]{43}="),
    ],
)
def test_kinds_of_random_values(kind: str, shape: str) -> None:
    made = {secrets.generate(kind) for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(shape, value) for value in made)
    assert all(weakness("DB_PASSWORD", value, kind) == "" for value in made)


def test_ensure_makes_what_is_missing_and_keeps_what_is_there(store: Store) -> None:
    assert store.ensure("app", SPECS) == ["DB_PASSWORD", "SALT"]
    first = fresh(store).load("app")
    assert set(first) == {"DB_PASSWORD", "SALT"}
    assert store.ensure("app", SPECS) == []
    assert fresh(store).ensure("app", {**SPECS, "SESSION": SecretSpec(generate="hex64")}) == ["SESSION"]
    second = fresh(store).load("app")
    assert {name: second[name] for name in first} == first
    assert len(second["SESSION"]) == 64


def test_adding_a_secret_leaves_comments_and_other_ciphertexts(store: Store) -> None:
    path = store.path("app")
    config = store.folder.parent / ".sops.yaml"
    path.write_bytes(sops.encrypt(path, b'# from the console\nAPI_KEY: "owner-4711-value"\n', config, "yaml"))
    line = next(line for line in path.read_text().splitlines() if line.startswith("API_KEY"))
    store.ensure("app", SPECS)
    assert line in path.read_text().splitlines()
    assert "type:comment]" in path.read_text()
    assert fresh(store).load("app")["API_KEY"] == "owner-4711-value"


def test_values_made_elsewhere_are_kept_unchanged(store: Store) -> None:
    assert store.add("tunnel", {"TOKEN": "from-the-provider-1"}) == ["TOKEN"]
    assert store.add("tunnel", {"TOKEN": "another-one-2", "ID": "4711"}) == ["ID"]
    assert fresh(store).load("tunnel") == {"TOKEN": "from-the-provider-1", "ID": "4711"}


def test_optional_and_own_secrets_are_not_invented(store: Store) -> None:
    assert store.ensure("app", {"A": OWN, "B": SecretSpec(generate="hex32", optional=True)}) == []
    assert not store.path("app").exists()


def test_values_survive_whatever_they_hold(store: Store) -> None:
    values = {
        "A": "007",
        "B": "true",
        "C": "line 1\nline 2\n",
        "D": "ü \"q\" 'q' $x \\ #",
        "E": "1e5",
        "F": "- x: y",
    }
    put(store, "odd", values)
    assert fresh(store).load("odd") == values


def test_no_file_and_empty_values_count_as_not_given(store: Store) -> None:
    put(store, "some", {"A": "", "B": None, "C": "a real value"})
    assert fresh(store).load("some") == {"C": "a real value"}
    assert store.load("none") == {}


def test_load_all_reads_every_file_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        put(store, f"svc{number}", {"A": f"value-of-{number}-abc"})
    calls: list[Path] = []
    real = sops.decrypt

    def counted(path: Path) -> bytes:
        calls.append(path)
        return real(path)

    monkeypatch.setattr(sops, "decrypt", counted)
    assert store.load_all() == {f"svc{n}": {"A": f"value-of-{n}-abc"} for n in range(4)}
    assert store.load_all(["svc1", "absent"]) == {"svc1": {"A": "value-of-1-abc"}, "absent": {}}
    assert len(calls) == 4
    put(store, "svc1", {"A": "another-value-1"})
    assert store.load("svc1") == {"A": "another-value-1"}, "a changed file is read again"


def test_two_writers_agree_on_one_value(store: Store) -> None:
    stores = [fresh(store) for _ in range(4)]
    threads = [threading.Thread(target=one.ensure, args=("app", {"P": PASSWORD})) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.load("app")["P"] for one in [*stores, fresh(store)]}) == 1
    assert [path.name for path in store.folder.iterdir()] == ["app.yaml"], (
        "no leftover of an unfinished write"
    )


def test_names_that_sops_would_leave_in_clear_are_refused(store: Store) -> None:
    for name in ("TOKEN_unencrypted", "sops", "A B"):
        with pytest.raises(SecretsError, match="cannot be the name of a secret"):
            store.ensure("app", {name: PASSWORD})
    assert not store.path("app").exists()


def test_a_service_name_is_no_path(store: Store) -> None:
    with pytest.raises(SecretsError, match="not the name of a service"):
        store.load("../other")


def test_the_store_shows_no_value(store: Store) -> None:
    put(store, "app", {"A": "a-very-secret-value"})
    store.load_all()
    assert "very-secret" not in f"{store!r} {store}"
