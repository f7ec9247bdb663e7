"""The practice world's stores as its hosts meet them."""

from __future__ import annotations

import pytest
from conftest import Lab, LabHost

from lab import world
from lab.ssh import on_host
from lab.storage.faults import Faults

GROUP = "stores-test"


@pytest.fixture(scope="module")
def host(lab: Lab) -> LabHost:
    """A host with restic, and with the secrets of the lab in files."""
    host = lab.host()
    host.run("apt-get -qq update && apt-get -qq -y install restic >/dev/null 2>&1", check=True)
    for owner, values in world.storage_secrets().items():
        for name, value in values.items():
            script = f"mkdir -p /root/{owner} && umask 077 && cat >/root/{owner}/{name}"
            on_host(host.settings, host.ip, script, stdin=value)
    host.run("mkdir -p /root/data && head -c 300000 /dev/urandom >/root/data/file", check=True)
    return host


def restic(host: LabHost, repository: str, words: str, owner: str = "backup", seconds: int = 60) -> int:
    """Runs restic on the host with the credentials of host or owner; its exit status, 124 when it took too long."""
    settings = world.storage_settings()[repository]
    folder, name = f"/root/{owner}", repository.upper()
    url = settings.get("admin_url", settings["url"]) if owner == "backup-admin" else settings["url"]
    login = (
        f"-i {folder}/{name}_SSH_KEY -o UserKnownHostsFile={folder}/{name}_KNOWN_HOSTS "
        "-o StrictHostKeyChecking=yes -o BatchMode=yes"
    )
    before = f"export RESTIC_PASSWORD_FILE={folder}/{name}_PASSWORD; "
    options = ""
    if url.startswith("s3:"):
        before += (
            f"export AWS_ACCESS_KEY_ID=$(cat {folder}/{name}_KEY_ID) "
            f"AWS_SECRET_ACCESS_KEY=$(cat {folder}/{name}_KEY); "
        )
    elif url.startswith("rest:"):
        url = url.replace("://", f"://$(cat {folder}/{name}_REST)@")
    elif url.startswith("sftp:"):
        options = f'-o sftp.args="{login}"'
    else:
        user, _, port = settings["ssh"].rpartition(":")
        options = (
            f'-o rclone.program="ssh -p {port} {login} {user} rclone" -o rclone.args="serve restic --stdio"'
        )
    done = host.run(f'{before}cd /root && timeout {seconds} restic -q {options} -r "{url}/{GROUP}" {words}')
    return done.returncode


@pytest.mark.parametrize("repository", ["offsite", "nas", "rsyncnet", "sftp"])
def test_host_backs_up_to_every_store(lab: Lab, host: LabHost, repository: str) -> None:
    lab.store.reset()
    lab.store.clear(GROUP)
    for words in ("init", "backup data", "backup data", "check --read-data"):
        assert restic(host, repository, words) == 0, words
    assert restic(host, repository, "forget --keep-last 1 --prune", owner="backup-admin") == 0
    assert restic(host, repository, "check --read-data") == 0


def test_append_only_by_ssh(lab: Lab, host: LabHost) -> None:
    lab.store.reset()
    lab.store.clear(GROUP)
    for words in ("init", "backup data", "backup data"):
        assert restic(host, "rsyncnet", words) == 0, words
    count = f"ls /srv/store/rsyncnet/lemongrab/{GROUP}/snapshots | wc -l"
    restic(host, "rsyncnet", "forget --keep-last 1")
    assert lab.store.ssh.run(count) == "2"
    assert restic(host, "rsyncnet", "forget --keep-last 1", owner="backup-admin") == 0
    assert lab.store.ssh.run(count) == "1"


def test_only_the_relay_is_reachable_from_hosts(lab: Lab, host: LabHost) -> None:
    store = lab.store
    probe = "timeout 3 bash -c 'exec 3<>/dev/tcp/{}/{}'"
    open_ports = [
        number
        for number in range(20)
        if host.run(probe.format(store.place.outside, store.place.port(number))).returncode == 0
    ]
    assert open_ports == [12, 13, 14, 15, 16]


def test_request_counts_of_an_idle_backup(lab: Lab, host: LabHost) -> None:
    lab.store.reset()
    lab.store.clear(GROUP)
    for words in ("init", "backup data"):
        assert restic(host, "offsite", words) == 0
    with lab.store.relay.counting("offsite") as idle:
        assert restic(host, "offsite", "backup data") == 0
    with lab.store.relay.counting("offsite") as listing:
        assert restic(host, "offsite", "snapshots --no-lock") == 0
    assert 0 < idle.total <= 15
    assert 0 < listing.total <= 8
    assert "PUT" not in listing.kinds


def test_a_store_that_hangs_is_noticed_and_comes_back(lab: Lab, host: LabHost) -> None:
    lab.store.reset()
    lab.store.clear(GROUP)
    assert restic(host, "offsite", "init") == 0
    with lab.store.relay.faulty("offsite", Faults(hang=True)):
        assert restic(host, "offsite", "snapshots --no-lock", seconds=4) == 124
    assert restic(host, "offsite", "snapshots --no-lock") == 0


def test_usb_disk_by_label(lab: Lab) -> None:
    host, disk = lab.host(), lab.disk("LAB-USB")
    disk.make(32)
    device = disk.attach(host.facts)
    try:
        assert host.output("blkid -L LAB-USB") == device
        host.run("mkdir -p /mnt/usb && mount LABEL=LAB-USB /mnt/usb && echo kept >/mnt/usb/file", check=True)
        disk.detach(host.facts)
        assert host.run("findmnt /mnt/usb").returncode != 0
        assert host.run("mount LABEL=LAB-USB /mnt/usb").returncode != 0
        disk.attach(host.facts)
        assert host.output("mount LABEL=LAB-USB /mnt/usb && cat /mnt/usb/file") == "kept"
    finally:
        disk.detach(host.facts)
    assert disk.minor() is None


def test_full_disk(lab: Lab) -> None:
    host, disk = lab.host(), lab.disk("LAB-FULL")
    disk.make(16)
    disk.mount(host.facts, "/mnt/small")
    try:
        disk.fill(host.facts, "/mnt/small", leave=100_000)
        done = host.run("head -c 500000 /dev/zero >/mnt/small/more")
        assert done.returncode != 0
        assert "No space left" in done.stderr
    finally:
        disk.detach(host.facts)
