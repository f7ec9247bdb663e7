"""All stores of one lab: brought up, taken down, and described for an inventory and for tests."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import tools
from lab.facts import Facts
from lab.settings import DEFAULT_HOSTS, Settings
from lab.shell import Done, LabError, run
from lab.storage import daemons, objectstore, restserver
from lab.storage.faults import SOCKET, FaultRelay
from lab.storage.place import ADMIN, LOOPBACK, Keys, Place, find_place, load_keys
from lab.storage.s3 import Client
from lab.storage.sshstore import NAME, RCLONE_USER, SFTP_FOLDER, SFTP_USER, SshStore

REPOSITORIES = ("offsite", "second", "nas", "rsyncnet", "sftp")
BUCKET_OF = {"offsite": objectstore.FIRST_BUCKET, "second": objectstore.SECOND_BUCKET}
SSH_ADDRESS = 5  # of the lab's network; hosts begin at 10
FIRST_OUTSIDE = 12  # ports of the place from here on are the relay's
ENDPOINTS = ("offsite", "second", "nas", "nas-admin", "ssh")
OWNER_OF_ALL = "lemongrab"  # whose name the repositories carry


def storage_folder(settings: Settings) -> Path:
    return settings.state / "storage"


@dataclass(frozen=True)
class Store:
    """The stores as tests see them. Endpoints of the relay: offsite, second, nas, nas-admin, ssh."""

    place: Place
    keys: Keys
    ssh: SshStore
    ssh_ip: str

    @property
    def relay(self) -> FaultRelay:
        return FaultRelay(self.place.folder)

    @property
    def admin(self) -> Client:
        """The object store past the relay, with the owner's key."""
        return self.client(ADMIN)

    def client(self, owner: str) -> Client:
        """The object store past the relay, with the key of a host, `reader` or `admin`."""
        return Client(objectstore.address(self.place), self.keys.s3[owner])

    def port(self, endpoint: str) -> int:
        """The port of an endpoint on the lab's gateway address."""
        return self.place.port(FIRST_OUTSIDE + ENDPOINTS.index(endpoint))

    def outside(self, endpoint: str) -> str:
        """host:port as hosts reach it."""
        return f"{self.place.outside}:{self.port(endpoint)}"

    def rclone_environment(self, owner: str = ADMIN) -> dict[str, str]:
        """The environment in which rclone knows the object store as the remote `lab:`."""
        key = self.keys.s3[owner]
        values = {
            "TYPE": "s3", "PROVIDER": "Other", "ACCESS_KEY_ID": key.key_id, "SECRET_ACCESS_KEY": key.secret,
            "ENDPOINT": f"http://{objectstore.address(self.place)}", "REGION": "us-east-1",
        }  # fmt: skip
        return {"RCLONE_CONFIG": "", **{f"RCLONE_CONFIG_LAB_{name}": value for name, value in values.items()}}

    def rclone(self, *arguments: str, timeout: float = 120, check: bool = True) -> Done:
        """rclone with the owner's key: `store.rclone("lsf", "lab:lemongrab-backups")`."""
        words = [f"{name}={value}" for name, value in self.rclone_environment().items()]
        return run(["env", *words, str(tools.rclone()), *arguments], timeout=timeout, check=check)

    def kill_objects(self) -> None:
        """A power cut for the object store."""
        daemons.kill(objectstore.daemon(self.place, self.keys).note)

    def start_objects(self) -> None:
        objectstore.ensure(self.place, self.keys)

    def stop_objects(self) -> None:
        daemons.stop(objectstore.daemon(self.place, self.keys).note)

    def reset(self) -> None:
        """No faults, nothing counted, everything running; what is stored stays."""
        ensure_programs(self)
        self.relay.clear()
        self.relay.reset()

    def clear(self, folder: str) -> None:
        """One folder of every store gone, with all versions. What others stored is not touched."""
        for bucket in objectstore.BUCKETS:
            for version in self.admin.versions(bucket, f"{folder}/"):
                self.admin.delete_version(bucket, version.path, version.id)
        for owner in (self.place.folder / restserver.REST).iterdir():
            shutil.rmtree(owner / folder, ignore_errors=True)
        owners = (f"/srv/store/{RCLONE_USER}", f"/srv/store/chroot{SFTP_FOLDER}")
        self.ssh.run("rm -rf " + " ".join(f"{owner}/*/{folder}" for owner in owners))

    def settings(self) -> dict[str, dict[str, Any]]:
        """The repositories in the form an inventory gives them."""
        offsite = {"tamper": "versions"}
        return {
            **{
                name: {"url": f"s3:http://{self.outside(name)}/{bucket}", **offsite}
                for name, bucket in BUCKET_OF.items()
            },
            "nas": {
                "url": f"rest:http://{self.outside('nas')}/{OWNER_OF_ALL}",
                "admin_url": f"rest:http://{self.outside('nas-admin')}/{OWNER_OF_ALL}",
                "tamper": "append-only",
            },
            "rsyncnet": {
                "url": f"rclone:{OWNER_OF_ALL}",
                "ssh": f"{RCLONE_USER}@{self.outside('ssh')}",
                "tamper": "append-only",
            },
            "sftp": {
                "url": f"sftp://{SFTP_USER}@{self.outside('ssh')}/{SFTP_FOLDER}/{OWNER_OF_ALL}",
                "tamper": "none",
            },
        }

    def secrets(self, owner: str) -> dict[str, str]:
        """Secret name to value for a host, `admin`, or `reader`, named as understudy/protection/secrets.py does.

        The reader's key opens the object store alone: for a replica that only restores.
        """
        key = self.keys.s3[owner]
        known_hosts = self.ssh.known_hosts(self.place.outside, self.port("ssh"))
        values = {f"{name.upper()}_PASSWORD": word for name, word in self.keys.restic.items()}
        for name in BUCKET_OF:
            values |= {f"{name.upper()}_KEY_ID": key.key_id, f"{name.upper()}_KEY": key.secret}
        user = ADMIN if owner == ADMIN else OWNER_OF_ALL  # a private repository opens to the user of its name
        values["NAS_REST"] = f"{user}:{self.keys.rest[user]}"
        for name in ("RSYNCNET", "SFTP") if self.ssh.key(owner).exists() else ():
            values[f"{name}_SSH_KEY"] = self.ssh.key(owner).read_text()
            values[f"{name}_KNOWN_HOSTS"] = known_hosts
        return values


def find_store(settings: Settings, facts: Facts) -> Store:
    """The lab's stores as noted; secrets and ports are made on first use, nothing is started."""
    folder = storage_folder(settings)
    place = find_place(folder, facts.gateway)
    hosts = sorted({*facts.hosts, *DEFAULT_HOSTS})
    ssh = SshStore(folder / "ssh", settings.project, settings.label)
    ssh.make_keys(hosts)
    return Store(place, load_keys(folder, hosts, REPOSITORIES), ssh, facts.address(SSH_ADDRESS))


def relay_daemon(store: Store) -> daemons.Daemon:
    """The relay as a background program."""
    place = store.place
    rest, admin = (place.port(number) for number in (restserver.HOST_PORT, restserver.ADMIN_PORT))
    behind = {
        "offsite": f"{objectstore.address(place)}:http",
        "second": f"{objectstore.address(place)}:http",
        "nas": f"{LOOPBACK}:{rest}:http",
        "nas-admin": f"{LOOPBACK}:{admin}:http",
        "ssh": f"{store.ssh_ip}:22:tcp",
    }
    ways = [f"{name}:{store.port(name)}:{behind[name]}" for name in ENDPOINTS]
    argv = [sys.executable, "-m", "lab.storage.relay", str(place.folder), place.outside, *ways]
    source = Path(__file__).resolve().parent
    inputs = tuple(source / name for name in ("relay.py", "http.py", "faults.py"))

    def ready() -> bool:
        return (place.folder / SOCKET).exists() and answering(store)

    root = str(source.parent.parent)
    return daemons.Daemon("relay", place.folder, argv, ready, inputs, {"PYTHONPATH": root})


def answering(store: Store) -> bool:
    try:
        return store.relay.endpoints() == sorted(ENDPOINTS)
    except LabError:
        return False


def ensure_programs(store: Store) -> list[str]:
    """Every program of the stores running; returns the names of those that had to be started."""
    programs = [*restserver.daemons(store.place, store.keys), relay_daemon(store)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        objects = pool.submit(objectstore.ensure, store.place, store.keys)
        started = list(pool.map(daemons.Daemon.ensure, programs))
        names = [program.name for program, new in zip(programs, started, strict=True) if new]
        return [*(["objects"] if objects.result() else []), *names]


def up(settings: Settings, facts: Facts, image: str) -> list[str]:
    """All stores of the lab running; returns what had to be started. `image` is that of lab hosts."""
    store = find_store(settings, facts)
    hosts = sorted(owner for owner in store.keys.rest if owner in facts.hosts or owner in DEFAULT_HOSTS)
    with ThreadPoolExecutor(max_workers=2) as pool:
        programs = pool.submit(ensure_programs, store)
        made = store.ssh.ensure(settings.network, store.ssh_ip, image, hosts)
        return [*programs.result(), *([NAME] if made else [])]


def down(settings: Settings) -> None:
    """Ends every program and throws away what is stored; ports and secrets stay what they are."""
    folder = storage_folder(settings)
    if not folder.is_dir():
        return
    daemons.stop_all(folder)
    note = folder / "first-port"
    if note.exists():
        for path in objectstore.sockets(Place(folder, LOOPBACK, int(note.read_text()))):
            path.unlink(missing_ok=True)
    for name in ("objects", restserver.REST):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in [*folder.glob("*.log"), *folder.glob("*.sock")]:
        path.unlink(missing_ok=True)
