"""The object store: SeaweedFS behind its S3 face, with versions kept and a key per host that cannot remove them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lab import tools
from lab.shell import LabError
from lab.storage.daemons import Daemon
from lab.storage.place import ADMIN, LOOPBACK, READER, Keys, Place, write_private
from lab.storage.s3 import Client, Key

FIRST_BUCKET, SECOND_BUCKET = "lemongrab-backups", "second-site"
BUCKETS = (FIRST_BUCKET, SECOND_BUCKET)
LEASES = "leases"  # keeps no versions: of a lease only the newest counts
PORTS = (
    "master",
    "master.port.grpc",
    "volume",
    "volume.port.grpc",
    "filer",
    "filer.port.grpc",
    "s3",
    "s3.port.grpc",
)
S3_PORT = PORTS.index("s3")
ADMIN_PORT = len(PORTS)
START_SECONDS = 30
ACCOUNT = "000000000000"  # SeaweedFS's own number for the account of configured identities

# What a stolen key must not be able to do: remove a version, or stop the bucket from keeping versions.
FORBIDDEN = (
    "s3:DeleteObjectVersion*",
    "s3:PutBucket*",
    "s3:DeleteBucket*",
    "s3:PutLifecycle*",
    "s3:PutObjectRetention",
    "s3:PutObjectLegalHold",
    "s3:BypassGovernanceRetention",
)


def identities(keys: Keys) -> dict[str, Any]:
    """SeaweedFS's configuration of keys: the owner may everything, hosts may read, write, list and hide."""
    return {"identities": [identity(key) for _, key in sorted(keys.s3.items())]}


def identity(key: Key) -> dict[str, Any]:
    host = [*allowed("Read", "Write", "List"), f"Read:{LEASES}", f"Write:{LEASES}"]
    rights = {ADMIN: ["Admin"], READER: allowed("Read", "List")}.get(key.name) or host
    pair = {"accessKey": key.key_id, "secretKey": key.secret}
    return {"name": key.name, "credentials": [pair], "actions": rights}


def allowed(*actions: str) -> list[str]:
    return [f"{action}:{bucket}" for action in actions for bucket in BUCKETS]


def policy(bucket: str, hosts: list[str]) -> dict[str, Any]:
    """The bucket policy that takes away from hosts what SeaweedFS's right to write includes."""
    everything = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    principals = [f"arn:aws:iam::{ACCOUNT}:user/{host}" for host in hosts]
    statement = {
        "Effect": "Deny",
        "Principal": {"AWS": principals},
        "Action": list(FORBIDDEN),
        "Resource": everything,
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def command(place: Place, data: Path, config: Path) -> list[str]:
    """The command line. Sockets lie in the working folder; what would call out or listen elsewhere is off."""
    ports = [
        f"-{name if '.' in name else name + '.port'}={place.port(number)}"
        for number, name in enumerate(PORTS)
    ]
    return [
        str(tools.weed()), "-logtostderr=true", "mini", f"-dir={data}",
        f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", *ports,
        f"-admin.port={place.port(ADMIN_PORT)}", f"-admin.port.grpc={place.port(ADMIN_PORT + 1)}",
        "-admin.ui=false", "-webdav=false", "-master.telemetry=false",
        "-master.volumeSizeLimitMB=256", "-volume.max=500", "-volume.preStopSeconds=0",
        f"-s3.config={config}", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock",
    ]  # fmt: skip


def daemon(place: Place, keys: Keys) -> Daemon:
    """The store as a background program; its configuration is written here."""
    config = place.folder / "identities.json"
    write_private(config, json.dumps(identities(keys), indent=2) + "\n")
    data = place.folder / "objects"
    data.mkdir(exist_ok=True)
    client = Client(address(place), keys.s3[ADMIN], timeout=5)
    return Daemon("objects", place.folder, command(place, data, config), client.answers, (config,))


def address(place: Place) -> str:
    """Where the store itself listens, past the relay."""
    return f"{LOOPBACK}:{place.port(S3_PORT)}"


def ensure(place: Place, keys: Keys) -> bool:
    """The store with its buckets, versions and policies; returns whether it had to be started."""
    started = daemon(place, keys).ensure()
    admin = Client(address(place), keys.s3[ADMIN])
    hosts = sorted(name for name in keys.s3 if name not in (ADMIN, READER))
    for bucket in BUCKETS:
        prepare_bucket(admin, bucket, policy(bucket, hosts))
        if started:
            wait_for_content(admin, bucket)
    admin.make_bucket(LEASES, versions=False)
    return started


def wait_for_content(admin: Client, bucket: str) -> None:
    """After a start the store lists objects seconds before the part of it that holds their bytes has joined."""
    path = next(iter(admin.paths(bucket)), None)
    deadline = time.monotonic() + START_SECONDS
    while path and admin.ask("GET", bucket, path).status >= 500:
        if time.monotonic() > deadline:
            raise LabError(f"the object store lists {bucket}/{path} but does not serve it")
        time.sleep(0.1)


def prepare_bucket(admin: Client, bucket: str, wanted: dict[str, Any]) -> None:
    """Versions and policy; the policy comes last, so that a bucket that has it is done."""
    present = admin.ask("GET", bucket, query={"policy": ""})
    if present.status == 200 and json.loads(present.body) == wanted:
        return
    admin.make_bucket(bucket, versions=True)
    admin.must("PUT", bucket, ".ready", body=b"")  # the first write is the one that waits for a volume
    for version in admin.versions(bucket, ".ready"):
        admin.delete_version(bucket, version.path, version.id)
    admin.set_policy(bucket, wanted)


def sockets(place: Place) -> list[Path]:
    """Sockets SeaweedFS leaves in the temporary folder, named after its ports."""
    folder = Path("/tmp")  # noqa: S108 - where the program insists on them
    ports = range(place.first_port, place.first_port + ADMIN_PORT + 2)
    return [path for port in ports for path in folder.glob(f"seaweedfs-*-{port}.sock")]
