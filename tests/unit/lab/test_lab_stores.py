"""The lab's stores without its hosts: the real object store and REST server, restic with the host's key."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import tools
from lab.facts import Facts
from lab.settings import Settings
from lab.storage import daemons, objectstore, restserver, stores
from lab.storage.faults import Faults
from lab.storage.place import ADMIN, READER, find_place, load_keys
from lab.storage.s3 import Client, Key
from lab.storage.sshstore import SERVE, SshStore, rclone_key
from lab.storage.stores import Store

HOST, BUCKET = "lemongrab", objectstore.FIRST_BUCKET


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("lab")
    return Settings(folder, folder / "state")


@pytest.fixture(scope="module")
def running(settings: Settings) -> Iterator[Store]:
    store = stores.find_store(settings, Facts("test", "127.0.0.0/24"))  # its gateway is loopback
    begin = time.monotonic()
    assert stores.ensure_programs(store) == ["objects", "rest", "rest-admin", "relay"]
    assert time.monotonic() - begin < 10
    yield store
    stores.down(settings)
    left = [note for note in store.place.folder.glob("*.pid")]
    assert not left
    assert not objectstore.sockets(store.place)


@pytest.fixture
def store(running: Store) -> Store:
    running.reset()
    return running


class Restic:
    """restic on one of the store's repositories, as a host or as the owner."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        (folder / "password").write_text("correct horse")

    def __call__(self, url: str, *words: str, owner: str = HOST, code: int = 0) -> str:
        key = self.store.keys.s3[owner]
        aws = self.folder / f"aws-{owner}"
        aws.write_text(f"[default]\naws_access_key_id = {key.key_id}\naws_secret_access_key = {key.secret}\n")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "RESTIC_PASSWORD_FILE": str(self.folder / "password"),
            "RESTIC_CACHE_DIR": str(self.folder / f"cache-{owner}"),
            "AWS_SHARED_CREDENTIALS_FILE": str(aws),
        }
        argv = [str(tools.restic()), "-q", "-r", url, *words]
        done = subprocess.run(
            argv, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def restic(store: Store, tmp_path: Path) -> Restic:
    (tmp_path / "data").mkdir()
    for number in range(20):
        (tmp_path / "data" / str(number)).write_bytes(os.urandom(20_000))
    return Restic(store, tmp_path)


def test_host_can_back_up_and_hide_but_not_remove(store: Store, restic: Restic) -> None:
    url = store.settings()["offsite"]["url"] + "/critical"
    restic(url, "init")
    restic(url, "backup", "data")
    with store.relay.counting("offsite") as idle:
        restic(url, "backup", "data")
    assert 0 < idle.total <= 15
    kept = store.admin.versions(BUCKET, "critical/")
    restic(url, "forget", "--keep-last", "1", "--prune")
    now = store.admin.versions(BUCKET, "critical/")
    assert {version.id for version in kept} <= {version.id for version in now}, (
        "a host's key removed a version"
    )
    assert any(version.marker for version in now), "forget hid nothing"

    host = store.client(HOST)
    pack = next(path for path in host.paths(BUCKET, "critical/") if path.startswith("critical/data/"))
    assert host.ask("PUT", BUCKET, pack, body=b"overwritten").status == 200
    assert host.ask("DELETE", BUCKET, pack).status == 204
    whole = [version for version in host.versions(BUCKET, pack) if version.size > 1000]
    for version in host.versions(BUCKET, pack):
        assert host.delete_version(BUCKET, pack, version.id).code == "AccessDenied"
    assert pack not in host.paths(BUCKET, "critical/")
    restic(url, "check", "--read-data", code=1)

    for version in store.admin.versions(BUCKET, pack):  # the owner takes back what was done to it
        if version.id not in {version.id for version in whole}:
            assert store.admin.delete_version(BUCKET, pack, version.id).status == 204
    restic(url, "check", "--read-data")


def test_host_cannot_change_the_bucket(store: Store) -> None:
    host = store.client(HOST)
    off = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    for query, body in (("versioning", off), ("policy", b"{}"), ("lifecycle", b"<LifecycleConfiguration/>")):
        assert host.ask("PUT", BUCKET, query={query: ""}, body=body).code == "AccessDenied", query
        assert host.ask("DELETE", BUCKET, query={query: ""}).code == "AccessDenied", query
    assert host.ask("DELETE", BUCKET).code == "AccessDenied"
    host.must("PUT", BUCKET, "kept", body=b"1")
    [version] = host.versions(BUCKET, "kept")
    batch = f"<Delete><Object><Key>kept</Key><VersionId>{version.id}</VersionId></Object></Delete>"
    assert b"AccessDenied" in host.ask("POST", BUCKET, query={"delete": ""}, body=batch.encode()).body
    assert b"Enabled" in store.admin.must("GET", BUCKET, query={"versioning": ""}).body
    assert host.versions(BUCKET, "kept") == [version]


def test_reader_only_reads(store: Store) -> None:
    store.client(HOST).must("PUT", BUCKET, "read/me", body=b"1")
    reader = store.client(READER)
    assert reader.must("GET", BUCKET, "read/me").body == b"1"
    assert reader.ask("PUT", BUCKET, "read/me", body=b"2").code == "AccessDenied"
    assert reader.ask("DELETE", BUCKET, "read/me").code == "AccessDenied"
    address, known = objectstore.address(store.place), store.keys.s3[HOST]
    assert Client(address, Key("?", "AAAA", "bbbb")).ask("GET", BUCKET, "read/me").status == 403
    guessed = Client(address, Key("?", known.key_id, "bbbb")).ask("GET", BUCKET, "read/me")
    assert guessed.code == "SignatureDoesNotMatch"


def test_versions_are_listed_page_by_page(store: Store) -> None:
    host = store.client(HOST)
    for number in range(7):
        host.must("PUT", BUCKET, f"pages/{number % 3}", body=str(number).encode())
    whole = host.versions(BUCKET, "pages/")
    assert len(whole) == 7
    assert [version.path for version in whole if version.latest] == ["pages/0", "pages/1", "pages/2"]
    assert host.versions(BUCKET, "pages/", page=2) == whole
    newest = [version for version in whole if version.path == "pages/0"]
    bodies = [host.must("GET", BUCKET, "pages/0", {"versionId": version.id}).body for version in newest]
    assert bodies == [b"6", b"3", b"0"]


def test_rest_is_append_only_and_private(store: Store, restic: Restic) -> None:
    repositories = store.settings()["nas"]
    user, _, password = store.secrets(HOST)["NAS_REST"].partition(":")
    url = repositories["url"].replace("://", f"://{user}:{password}@") + "/critical"
    restic(url, "init")
    restic(url, "backup", "data")
    restic(url, "backup", "data")
    restic(url, "forget", "--keep-last", "1")
    assert store.relay.counts("nas").statuses["403"] >= 1
    assert len(list((store.place.folder / "rest/lemongrab/critical/snapshots").iterdir())) == 2

    wrong = url.replace("/lemongrab/", "/standby/")
    restic(wrong, "init", code=1)
    restic(url.replace(password, "wrong"), "snapshots", code=1)

    user, _, password = store.secrets(ADMIN)["NAS_REST"].partition(":")
    admin_url = repositories["admin_url"].replace("://", f"://{user}:{password}@") + "/critical"
    restic(admin_url, "forget", "--keep-last", "1", "--prune")
    assert len(list((store.place.folder / "rest/lemongrab/critical/snapshots").iterdir())) == 1
    restic(url, "check", "--read-data")


def test_backup_gets_through_a_bad_day(store: Store, restic: Restic) -> None:
    url = store.settings()["second"]["url"] + "/rest"
    restic(url, "init")
    with store.relay.faulty("second", Faults(fail_status=503, fail_share=0.2)):
        restic(url, "backup", "data")
    assert store.relay.counts("second").faulted > 0
    with store.relay.faulty("second", Faults(cut_after=60_000, cut_times=2)):
        (restic.folder / "data" / "new").write_bytes(os.urandom(400_000))
        restic(url, "backup", "data")
    restic(url, "check", "--read-data")


def test_stored_is_stored_after_a_power_cut(store: Store) -> None:
    store.client(HOST).must("PUT", BUCKET, "safe", body=b"here")
    before = store.admin.versions(BUCKET)
    store.kill_objects()
    with pytest.raises(stores.LabError, match="does not answer"):
        store.admin.versions(BUCKET)
    store.start_objects()
    assert store.admin.versions(BUCKET) == before
    assert store.client(HOST).must("GET", BUCKET, "safe").body == b"here"


def test_started_once_and_found_again(store: Store) -> None:
    assert stores.ensure_programs(store) == []
    note = stores.relay_daemon(store).note
    daemons.kill(note)
    assert stores.ensure_programs(store) == ["relay"]
    ours = note.read_text()
    note.write_text("1 0123456789abcdef")  # a number that somebody else's program has got meanwhile
    assert daemons.noted(note) is None
    note.write_text(ours)
    assert daemons.noted(note)


def test_rclone_knows_the_store(store: Store) -> None:
    store.client(HOST).must("PUT", BUCKET, "rclone/file", body=b"1")
    assert store.rclone("lsf", f"lab:{BUCKET}/rclone").stdout == "file\n"


def test_secrets_are_made_once_and_private(store: Store) -> None:
    folder = store.place.folder
    assert load_keys(folder, [HOST], []).s3[HOST] == store.keys.s3[HOST]
    assert find_place(folder, "127.0.0.1") == store.place
    private = ["keys.json", "identities.json", "rest.htpasswd", f"ssh/id-{HOST}", "ssh/server"]
    for name in private:
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    mine, owners = store.secrets(HOST), store.secrets(ADMIN)
    same = {name for name in mine if mine[name] == owners[name]}
    assert {name.rpartition("_")[2] for name in same} == {"PASSWORD", "HOSTS"}


def test_daemon_says_why_it_stopped(tmp_path: Path) -> None:
    argv = ["sh", "-c", f"echo no such port >&2; exit 3; {tmp_path}"]
    with pytest.raises(stores.LabError, match="no such port"):
        daemons.Daemon("broken", tmp_path, argv, lambda: False).ensure()


def test_settings_and_secrets_fit_the_inventory(store: Store) -> None:
    found = store.settings()
    assert set(found) == set(stores.REPOSITORIES)
    assert found["offsite"]["url"] == f"s3:http://127.0.0.1:{store.port('offsite')}/lemongrab-backups"
    assert found["sftp"]["url"] == f"sftp://backup@127.0.0.1:{store.port('ssh')}//backups/lemongrab"
    names = store.secrets(HOST)
    assert {"OFFSITE_PASSWORD", "OFFSITE_KEY_ID", "OFFSITE_KEY", "NAS_REST", "SFTP_SSH_KEY"} <= set(names)
    assert names["SFTP_KNOWN_HOSTS"].startswith(f"[127.0.0.1]:{store.port('ssh')} ssh-ed25519 ")
    assert store.secrets(ADMIN)["OFFSITE_KEY"] != names["OFFSITE_KEY"]
    assert store.secrets(ADMIN)["OFFSITE_PASSWORD"] == names["OFFSITE_PASSWORD"]


def test_ssh_store_commands(tmp_path: Path) -> None:
    server = SshStore(tmp_path, "lab-1", "understudy.lab=lab-1")
    argv = server.create_command("net", "10.0.0.5", "image:1", "abc")
    assert argv[:2] == ["docker", "create"]
    assert "--privileged" not in argv
    assert argv[-2:] == ["image:1", "/etc/store/begin"]
    assert rclone_key(HOST, "ssh-ed25519 AAAA") == (
        'restrict,command="/etc/store/serve --append-only" ssh-ed25519 AAAA'
    )
    assert rclone_key(ADMIN, "ssh-ed25519 AAAA") == 'restrict,command="/etc/store/serve" ssh-ed25519 AAAA'


@pytest.mark.parametrize("word", ["/etc", "../other", "a/../b", "a;id", "$(id)", ""])
def test_ssh_store_serves_no_other_path(word: str, tmp_path: Path) -> None:
    environment = {"SSH_ORIGINAL_COMMAND": f"rclone serve restic --stdio {word}", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", "-c", SERVE], env=environment, capture_output=True, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stderr) == (2, "no such repository\n")


def test_rest_passwords_are_not_in_the_file() -> None:
    text = restserver.htpasswd({"lemongrab": "secret"})
    assert text == "lemongrab:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
