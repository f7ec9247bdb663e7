"""Copies on real hosts: media by rsync to a disk of another host through a key that may only write, files by Debian's rclone."""

from __future__ import annotations

import base64
import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import Lab, LabHost

from lab.ssh import on_host
from lab.storage.objectstore import FIRST_BUCKET
from understudy import hostside

BASE = "/srv/jobs-test"
SECRETS = f"{BASE}/etc/understudy/secrets/backup"
SOURCE = f"{BASE}/mnt/ssd/media"
DISK = "/srv/jobs-disk"
FAR = DISK + "/media"
HISTORY = f"{FAR}/.history/media"
RECEIVED = f'restrict,command="/usr/bin/rrsync -wo {FAR}"'
JOB = {
    "source": "/mnt/ssd/media",
    "mounted": "/mnt/ssd",
    "tool": "rsync",
    "marker": True,
    "keep_days": 30,
    "max_delete": 3,
    "credentials": {"ssh_key": "key", "known_hosts": "known"},
}


@dataclass
class Pair:
    """A host that sends and one that receives; ``near`` and ``far`` run shell commands there."""

    sender: LabHost
    receiver: LabHost
    job: dict[str, Any] = field(default_factory=dict)

    def near(self, command: str) -> str:
        return self.sender.output(command)

    def far(self, command: str) -> str:
        return self.receiver.output(command)

    def declare(self, **changes: Any) -> None:
        """Write the sender's plan."""
        self.job = {**JOB, "to": f"root@{self.receiver.ip}:/", **changes}
        plan = {
            "format": 1,
            "host": "x",
            "services": {},
            "repositories": {},
            "tiers": {},
            "jobs": {"media": self.job},
        }
        put(self.sender, f"{BASE}/etc/understudy/backup.json", json.dumps(plan).encode())

    def run(self, **asked: Any) -> dict[str, Any]:
        """The reply of the verb, run in a unit that gets its credentials from systemd as the timer's does."""
        done = self.sender.run(command(f"jobs-test-{time.monotonic_ns()}", asked))
        reply: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return reply

    def good(self, **asked: Any) -> dict[str, Any]:
        reply = self.run(**asked)
        assert "error" not in reply, reply
        return dict(reply["jobs"][0])

    def bad(self, **asked: Any) -> str:
        reply = self.run(**asked)
        assert reply["jobs"][0]["ok"] is False and reply["kind"] == "failed"
        return str(reply["error"])

    def fill(self, count: int = 10) -> None:
        self.near(f"cd {SOURCE} && for n in $(seq {count}); do echo version 1 of $n >f$n; done")


def command(unit: str, asked: dict[str, Any]) -> str:
    program = (
        f"import json; from agent import jobs; from agent.root import Root; "
        f"print(json.dumps(jobs.run({asked!r}, Root({BASE!r}))))"
    )
    words = [
        "systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={unit}",
        f"--property=LoadCredential=backup:{SECRETS}", "--property=PrivateTmp=yes", "--property=UMask=0077",
        f"--setenv=PYTHONPATH={BASE}/agent.pyz", "python3", "-Bc", program,
    ]  # fmt: skip
    return shlex.join(words)


def put(host: LabHost, path: str, content: bytes, mode: str = "600") -> None:
    script = f"mkdir -p $(dirname {path}) && base64 -d >{path} && chmod {mode} {path}"
    on_host(host.settings, host.ip, script, stdin=base64.b64encode(content).decode())


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> Iterator[Pair]:
    """Both hosts with the programs, the key and its restriction."""
    pair = Pair(lab.host("lemongrab"), lab.host("standby"))
    for host in (pair.sender, pair.receiver):
        host.run("apt-get -qq update && apt-get -qq -y install rsync rclone acl >/dev/null 2>&1", check=True)
        host.run(f"umount {BASE}/mnt/ssd {DISK} 2>/dev/null; rm -rf {BASE} {DISK}; mkdir -p {BASE} {DISK}")
    put(pair.sender, f"{BASE}/agent.pyz", hostside.zipapp())
    pair.near(
        f"mkdir -p {SECRETS} {BASE}/mnt/ssd && ssh-keygen -q -t ed25519 -N '' -C jobs-test -f {SECRETS}/key"
    )
    public = pair.near(f"cat {SECRETS}/key.pub")
    pair.far(
        f"cp -a /root/.ssh/authorized_keys {DISK}.keys; echo '{RECEIVED} {public}' >>/root/.ssh/authorized_keys"
    )
    host_key = pair.far("cat /etc/ssh/ssh_host_ed25519_key.pub")
    put(pair.sender, f"{SECRETS}/known", f"{pair.receiver.ip} {host_key}\n".encode())
    yield pair
    pair.far(
        f"cp -a {DISK}.keys /root/.ssh/authorized_keys; umount {DISK} 2>/dev/null; rm -rf {DISK} {DISK}.keys"
    )
    pair.near(f"umount {BASE}/mnt/ssd 2>/dev/null; rm -rf {BASE}; true")


@pytest.fixture
def pair(hosts: Pair) -> Pair:
    """A mounted source with ten files, and a mounted disk with its marker and nothing else."""
    hosts.near(
        f"umount {BASE}/mnt/ssd 2>/dev/null; rm -rf {BASE}/var {BASE}/run; mount -t tmpfs none {BASE}/mnt/ssd && mkdir {SOURCE}"
    )
    hosts.far(
        f"umount {DISK} 2>/dev/null; mount -t tmpfs none {DISK} && mkdir {FAR} && touch {FAR}/.understudy-mount"
    )
    hosts.declare()
    hosts.fill()
    return hosts


def listing(pair: Pair) -> tuple[str, str]:
    """Owner, mode, links, time and content of all files at both ends."""
    files = "find . -not -path './.*' -type f"
    script = f"{files} -printf '%P %U %G %m %n %T@ %s\\n' | sort; {files} -exec sha256sum {{}} + | sort"
    return pair.near(f"cd {SOURCE} && {script}"), pair.far(f"cd {FAR} && {script}")


def test_media_arrive_with_owner_links_and_attributes(pair: Pair) -> None:
    pair.near(
        f"cd {SOURCE} && mkdir -p 'My Films/ü' && echo film >'My Films/ü/a b.mkv' && ln f1 linked && ln -s f1 soft && "
        "chown 33:44 f2 && chmod 640 f2 && setfacl -m u:1234:r f3 && touch -d 2001-02-03 f4"
    )
    row = pair.good()
    assert (row["files"], row["changed"], row["deleted"]) == (13, 11, 0) and row["sent"] > 0
    near, far = listing(pair)
    assert near == far and "f2 33 44 640" in far
    assert pair.far(f"readlink {FAR}/soft") == "f1" and "user:1234:r--" in pair.far(f"getfacl -n {FAR}/f3")
    row = pair.good()
    assert (row["changed"], row["sent"], row["deleted"]) == (0, 0, 0)


def test_b2_replaced_and_deleted_media_are_kept_and_expire(pair: Pair) -> None:
    pair.good()
    pair.near(f"cd {SOURCE} && echo encrypted by a thief >f1 && rm f9")
    assert pair.good()["deleted"] == 1
    assert pair.far(f"cat {HISTORY}/*/f1 {HISTORY}/*/f9") == "version 1 of 1\nversion 1 of 9"
    pair.near(
        f"mkdir -p {BASE}/var/lib/understudy && echo $((31*86400)) >{BASE}/var/lib/understudy/clock-offset"
    )
    pair.far(
        f"mkdir {HISTORY}/of-the-owner {FAR}/.history/other && touch {HISTORY}/of-the-owner/x {FAR}/.history/other/x"
    )
    assert pair.good()["forgotten"] >= 1
    assert pair.far(f"cd {FAR}/.history && find . -type f | sort") == "./media/of-the-owner/x\n./other/x"
    assert pair.far(f"ls {FAR} | wc -l") == "9"


def test_more_deletions_than_allowed_delete_nothing(pair: Pair) -> None:
    pair.declare(shrink_percent=90)
    pair.good()
    pair.near(f"rm {SOURCE}/f1 {SOURCE}/f2 {SOURCE}/f3 {SOURCE}/f4; echo new >{SOURCE}/new")
    assert "4 entries have gone" in pair.bad()
    assert pair.far(f"ls {FAR} | wc -l") == "10"
    assert pair.good(confirm=True)["deleted"] == 4
    assert pair.far(f"ls {FAR} | wc -l") == "7"


def test_an_unmounted_source_or_an_empty_one_sends_nothing(pair: Pair) -> None:
    pair.good()
    pair.near(f"umount {BASE}/mnt/ssd; mkdir -p {SOURCE}")
    assert "nothing is mounted at /mnt/ssd" in pair.bad(confirm=True)
    pair.declare(mounted="")
    assert "/mnt/ssd/media is empty" in pair.bad(confirm=True)
    pair.near(f"echo one >{SOURCE}/f1")
    assert "has 1 files, 10 at the last good run" in pair.bad()
    assert pair.far(f"ls {FAR} | wc -l") == "10"
    pair.near(f"rm -r {SOURCE}")


def test_an_unmounted_disk_is_not_written(pair: Pair) -> None:
    pair.good()
    pair.far(f"umount {DISK}")
    for missing in ("true", f"mkdir -p {FAR}"):
        pair.far(missing)
        assert pair.run()["jobs"][0]["ok"] is False
        assert pair.far(f"find {DISK} -type f | wc -l") == "0"
    assert "has no .understudy-mount" in pair.bad()
    pair.far(f"rm -rf {DISK}/*")


def test_a_mount_that_is_copied_cannot_be_unmounted_meanwhile(pair: Pair) -> None:
    pair.near(f"head -c 6000000 /dev/urandom >{SOURCE}/big")
    pair.declare(limit="1M")
    pair.near(f"{command('jobs-test-held', {})} >/dev/null 2>&1 & sleep 2")
    wait_for(pair.receiver, f"ls -A {FAR}/.big.* 2>/dev/null | grep -q .")
    assert pair.sender.run(f"umount {BASE}/mnt/ssd").returncode != 0
    assert "this host is busy" in pair.bad()
    wait_for(pair.sender, "! systemctl is-active -q jobs-test-held.service")
    near, far = listing(pair)
    assert near == far


def wait_for(host: LabHost, condition: str) -> None:
    host.run(f"for i in $(seq 300); do if {condition}; then exit 0; fi; sleep 0.1; done; exit 1", check=True)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0, 3.5])
def test_killed_and_run_again_is_whole(pair: Pair, seconds: float) -> None:
    pair.near(f"head -c 3000000 /dev/urandom >{SOURCE}/big")
    pair.good()
    old = pair.near(f"sha256sum <{SOURCE}/big")
    pair.near(f"cd {SOURCE} && head -c 3000000 /dev/urandom >big && rm f1 && echo 2 >f2")
    new = pair.near(f"sha256sum <{SOURCE}/big")
    pair.declare(limit="1M")
    pair.near(
        f"{command('jobs-test-killed', {})} >/dev/null 2>&1 & sleep {seconds}; systemctl kill -s KILL jobs-test-killed; true"
    )
    wait_for(pair.sender, "! systemctl is-active -q jobs-test-killed.service")
    assert pair.far(f"sha256sum <{FAR}/big") in (old, new), "never half a file under its name"
    pair.declare()
    pair.good()
    near, far = listing(pair)
    assert near == far and pair.far(f"cat {HISTORY}/*/f1 {HISTORY}/*/f2") == "version 1 of 1\nversion 1 of 2"


def test_the_key_can_read_nothing_and_reach_nothing_else(pair: Pair) -> None:
    pair.good()
    ssh = f"ssh -i {SECRETS}/key -o UserKnownHostsFile={SECRETS}/known -o BatchMode=yes -F none"
    there = f"root@{pair.receiver.ip}"
    for words in (
        f"rsync -e '{ssh}' {there}:/f1 /tmp/jobs-test-read",
        f"rsync -e '{ssh}' {there}:/",
        f"rsync -e '{ssh}' {SOURCE}/f1 {there}:/../../root/f1",
        f"{ssh} {there} cat {FAR}/f1",
        f"{ssh} -N -L 18099:127.0.0.1:22 -o ExitOnForwardFailure=yes {there} & sleep 1; "
        "timeout 3 sh -c 'exec 3<>/dev/tcp/127.0.0.1/18099; head -c 3 <&3 | grep -q SSH' ; code=$?; kill $!; exit $code",
    ):
        assert pair.sender.run(words).returncode != 0, words
    assert pair.far("ls /root/f1 2>/dev/null; true") == ""


def test_b15_an_unreadable_file_fails_by_name_and_deletes_nothing(pair: Pair) -> None:
    """Root reads everything, so the job runs without that right here, as it would on a network share."""
    pair.good()
    pair.near(f"cd {SOURCE} && rm f9 && chown 1:1 f3 && chmod 0 f3 && echo longer than before >f3")
    words = command("jobs-test-unreadable", {}).replace(
        "--property=PrivateTmp=yes", "--property=CapabilityBoundingSet=~CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH"
    )
    unit = shlex.split(words)
    start = next(i for i, word in enumerate(unit) if word.startswith("--property=CapabilityBoundingSet"))
    joined = [*unit[:start], f"{unit[start]} {unit[start + 1]}", *unit[start + 2 :]]
    done = pair.sender.run(shlex.join(joined))
    reply = json.loads(done.stdout.splitlines()[-1])
    assert "f3" in reply["error"] and "Permission denied" in reply["error"]
    assert pair.far(f"ls {FAR}/f9") == f"{FAR}/f9"


def test_files_go_to_the_object_store_by_debians_rclone(lab: Lab, pair: Pair) -> None:
    """The host's key may write and hide, and not make buckets nor remove versions."""
    key, job = lab.store.keys.s3["lemongrab"], "old-backups"
    lab.store.reset()
    mine = (job, ".history")
    for folder in mine:
        lab.store.clear(folder)
    lines = [
        "[b2]",
        "type = s3",
        "provider = Other",
        f"endpoint = http://{lab.store.outside('offsite')}",
        "region = us-east-1",
    ]
    lines += [
        "no_check_bucket = true",
        f"access_key_id = {key.key_id}",
        f"secret_access_key = {key.secret}",
        "",
    ]
    put(pair.sender, f"{SECRETS}/rclone.conf", "\n".join(lines).encode(), "400")
    pair.declare(
        to=f"b2:{FIRST_BUCKET}/{job}",
        tool="rclone",
        marker=False,
        fast_list=True,
        credentials={"config": "rclone.conf"},
    )
    assert pair.good()["changed"] == 10
    pair.near(f"cd {SOURCE} && rm f1 && for n in 2 3 4 5 6; do echo changed $n >f$n; done")
    row = pair.good()
    assert (row["files"], row["changed"], row["deleted"]) == (9, 5, 1)
    assert pair.good()["changed"] == 0
    history = f"lab:{FIRST_BUCKET}/.history/media"
    assert len(lab.store.rclone("lsf", "-R", "--files-only", history).stdout.split()) == 6
    pair.near(
        f"mkdir -p {BASE}/var/lib/understudy && echo $((31*86400)) >{BASE}/var/lib/understudy/clock-offset"
    )
    assert pair.good()["forgotten"] == 1
    versions = lab.store.admin.versions(FIRST_BUCKET, ".history/media/")
    assert any(version.path.endswith("/f1") for version in versions), "hidden, not removed"
    for folder in mine:
        lab.store.clear(folder)
