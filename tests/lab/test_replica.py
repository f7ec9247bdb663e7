"""A replica on demand on a real machine: made, pinned, found by the inventory, refused when it is another, removed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Lab
from project import Outcome, Project

from lab.hetzner.daemon import Hetzner, find_hetzner
from lab.hetzner.faults import Fault
from understudy.replica import identity

INVENTORY = ("-i", "inventory/lab.py")


@dataclass
class Cloud:
    """The lab's Hetzner and a project that works on it."""

    project: Project
    hetzner: Hetzner

    def replica(self, *words: str) -> Outcome:
        return self.project.verb("replica", *words, *INVENTORY)

    def servers(self) -> list[dict[str, object]]:
        data = json.loads((self.hetzner.folder / "lab.json").read_text())
        return list(data["servers"].values())


@pytest.fixture(scope="module")
def cloud(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    made = Cloud(Project.copy(tmp_path_factory.mktemp("replica")), find_hetzner(lab.settings))
    made.hetzner.faults()
    yield made
    made.hetzner.faults()
    made.replica("down", "--yes=understudy", "--everything", "--force")


def pins(project: Project) -> list[Path]:
    return sorted((project.path / ".understudy" / "known_hosts").glob("understudy-*"))


def test_a_machine_with_another_host_key_is_refused_at_the_first_connection(cloud: Cloud) -> None:
    cloud.hetzner.faults(Fault("impostor", "POST", "/servers"))
    done = cloud.replica("up", "--no-converge")
    cloud.hetzner.faults()
    assert done.code == 3 and "another SSH host key than the replica has" in done.output, done.output
    assert pins(cloud.project) == []
    assert cloud.replica("down", "--yes=understudy").code == 0
    assert cloud.servers() == []


def test_a_replica_comes_up_once_and_with_a_key_of_its_own(cloud: Cloud, lab: Lab) -> None:
    done = cloud.replica("up", "--no-converge")
    assert done.code == 0, done.output
    (server,) = cloud.servers()
    told = str(server["_user_data"])
    (pin,) = pins(cloud.project)
    address, kind, key = pin.read_text().split()
    first = told.split("ed25519_public:")[1].split('"')[1]
    assert key != first.split()[1], "the key of user_data is in use no longer"
    assert server["labels"]["host-key"] == identity.mark(identity.blob(f"{kind} {key}"))  # type: ignore[index]
    words = [
        "ssh",
        "-F",
        "none",
        "-i",
        str(lab.settings.key),
        "-o",
        f"UserKnownHostsFile={pin}",
        "-o",
        "BatchMode=yes",
    ]
    look = "ls /etc/ssh/ssh_host_*; cloud-init status; passwd -S root | cut -d' ' -f2"
    seen = subprocess.run(
        [*words, "-o", "StrictHostKeyChecking=yes", f"root@{address}", look],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    assert seen[:4] == [
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_ed25519_key.pub",
        "status: done",
        "L",
    ]
    cloud.hetzner.forget()
    assert cloud.replica("up", "--no-converge").code == 0
    assert cloud.hetzner.writes() == [] and len(cloud.servers()) == 1


def test_the_inventory_finds_it_and_plan_says_what_it_costs(cloud: Cloud) -> None:
    planned = cloud.project.verb("plan", "--json", "--limit", "understudy", *INVENTORY)
    (report,) = planned.reports
    assert (report["host"], report["role"]) == ("understudy", "replica") and report["count"] > 100
    assert report["cost"]["monthly_net"] == pytest.approx(5.99)
    (row,) = json.loads(cloud.replica("list", "--json").output.split("\n")[0])
    assert (row["name"], row["state"], row["protected"]) == ("understudy", "running", True)


def test_on_a_machine_without_the_pin_the_label_vouches_for_the_key(cloud: Cloud) -> None:
    (pin,) = pins(cloud.project)
    before = pin.read_text()
    pin.unlink()
    assert cloud.replica("list").code == 0
    assert pins(cloud.project) == [pin] and pin.read_text() == before


def test_without_hetzner_the_primary_is_still_there(cloud: Cloud) -> None:
    ask = "from understudy import project; print([n for n, _ in project.hosts('inventory/lab.py')])"
    environment = {**cloud.project.environment(), "UNDERSTUDY_CLOCK_OFFSET": "0"}
    cloud.hetzner.faults(Fault("error", status=503, code="unavailable"))
    done = subprocess.run(
        [os.sys.executable, "-c", ask],
        cwd=cloud.project.path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )  # type: ignore[attr-defined]
    cloud.hetzner.faults()
    assert "'lemongrab'" in done.stdout and "'understudy'" not in done.stdout
    assert "Replicas at Hetzner are left out" in done.stderr


def test_hetzners_own_command_works(cloud: Cloud) -> None:
    """Debian's package, unpacked: nothing is installed on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        got = subprocess.run(
            ["apt-get", "-q", "download", "hcloud-cli"], cwd=folder, capture_output=True, check=False
        )
        packages = list(Path(folder).glob("hcloud-cli_*.deb"))
        if got.returncode or not packages:
            pytest.skip("Debian's hcloud-cli cannot be downloaded here")
        subprocess.run(["dpkg-deb", "-x", packages[0], folder], check=True)

        def hcloud(*words: str) -> str:
            environment = {**os.environ, **cloud.hetzner.environment()}
            argv = [f"{folder}/usr/bin/hcloud", *words]
            done = subprocess.run(
                argv, env=environment, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert "cx23" in hcloud("server-type", "list")
        assert "understudy" in hcloud("server", "list", "-l", "role=replica")
        described = json.loads(hcloud("server", "describe", "understudy", "-o", "json"))
        assert described["status"] == "running" and described["protection"]["delete"] is True
        public = Path(folder) / "key.pub"
        public.write_text(identity.new_key("mine").public)
        hcloud("ssh-key", "create", "--name", "mine", "--public-key-from-file", str(public))
        hcloud("firewall", "create", "--name", "mine")
        hcloud(
            "firewall",
            "add-rule",
            "mine",
            "--direction",
            "in",
            "--protocol",
            "tcp",
            "--port",
            "22",
            "--source-ips",
            "0.0.0.0/0",
        )
        hcloud(
            "server",
            "create",
            "--name",
            "mine",
            "--type",
            "cx23",
            "--image",
            "debian-13",
            "--location",
            "hel1",
            "--ssh-key",
            "mine",
        )
        hcloud("firewall", "apply-to-resource", "mine", "--type", "server", "--server", "mine")
        hcloud("firewall", "remove-from-resource", "mine", "--type", "server", "--server", "mine")
        hcloud("server", "delete", "mine")
        hcloud("firewall", "delete", "mine")
        hcloud("ssh-key", "delete", "mine")


def test_down_asks_for_the_name_and_removes_what_is_ours(cloud: Cloud, lab: Lab) -> None:
    assert cloud.replica("down").code == 3
    wrong = cloud.replica("down", "--yes=lemongrab")
    assert wrong.code == 3 and len([s for s in cloud.servers() if s["name"] == "understudy"]) == 1
    done = cloud.replica("down", "--yes=understudy")
    assert done.code == 0, done.output
    assert cloud.servers() == []
    left = subprocess.run(
        ["docker", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True
    )
    assert f"{lab.settings.project}-hcloud-" not in left.stdout
    again = cloud.replica("down", "--yes=understudy")
    assert again.code == 2 and "has no replica understudy" in again.output
