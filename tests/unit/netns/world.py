"""A host, a neighbour and a container in network namespaces, with the real nft."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from understudy.firewall import (
    TABLE,
    FirewallModel,
    ruleset,
)

REAL = "needs root, ip netns and nft to build network namespaces"
NFT = "/usr/sbin/nft"

# For the two systemd programs in a namespace without systemd: the timer really waits and really runs.
SYSTEMD_RUN = """#!/bin/sh
for argument; do
  case $argument in --on-active=*) seconds=${argument#*=};; --*) ;; *) break;; esac
  shift
done
exec > /dev/null 2>&1 < /dev/null
( trap 'kill $! 2>/dev/null; exit' TERM; sleep "$seconds" & wait $!; rm -f "$STATE/timer"; exec "$@" ) &
echo $! > "$STATE/timer"
"""
SYSTEMCTL = """#!/bin/sh
case " $* " in
  *" is-active "*) [ -f "$STATE/timer" ];;
  *" stop "*) [ -f "$STATE/timer" ] && kill "$(cat "$STATE/timer")"; rm -f "$STATE/timer";;
  *) echo "$*" >> "$STATE/systemctl.log";;
esac
"""


class World:
    """A host with SSH and two more listeners, a neighbour on its LAN, and a container behind a bridge."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag = f"us{os.getpid() % 100000}"
        self.host, self.lan, self.box = (f"{self.tag}{end}" for end in "hlc")
        self.listeners: list[subprocess.Popen[bytes]] = []

    def build(self) -> None:
        for name in (self.host, self.lan, self.box):
            _run("ip", "netns", "add", name)
            self.at(name, "ip link set lo up")
        self._connect()
        # What Docker does for `ports: [8097:80, 8098:80]`.
        self.nft("add table ip docker; add chain ip docker pre { type nat hook prerouting priority -100; }")
        for port in (8097, 8098):
            self.nft(f"add rule ip docker pre fib daddr type local tcp dport {port} dnat to 172.30.0.2:80")
        for namespace, ports in {
            self.host: (22, 5432, 8096, 9000),
            self.box: (80, 8097),
            self.lan: (7000,),
        }.items():
            for port in ports:
                self._listen(namespace, port)

    def _connect(self) -> None:
        links = f"""
            ip link add eth0 type veth peer name eth0 netns {self.lan}
            ip link add br-0 type bridge
            ip link add v0 type veth peer name eth0 netns {self.box}
            ip link set v0 master br-0
            ip addr add 192.168.77.1/24 dev eth0
            ip addr add 172.30.0.1/24 dev br-0
            for link in eth0 br-0 v0; do ip link set $link up; done
            echo 1 > /proc/sys/net/ipv4/ip_forward"""
        self.at(self.host, links)
        for name, address, gateway in (
            (self.lan, "192.168.77.2/24", "192.168.77.1"),
            (self.box, "172.30.0.2/24", "172.30.0.1"),
        ):
            self.at(
                name,
                f"ip addr add {address} dev eth0; ip link set eth0 up; ip route add default via {gateway}",
            )

    def _listen(self, namespace: str, port: int) -> None:
        script = (
            f"import socket,time; s=socket.create_server(('',{port})); print(1,flush=True); time.sleep(300)"
        )
        argv = ["ip", "netns", "exec", namespace, "python3", "-c", script]
        listener = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert listener.stdout and listener.stdout.readline()
        self.listeners.append(listener)

    def close(self) -> None:
        for listener in self.listeners:
            listener.kill()
            listener.wait()
            if listener.stdout:
                listener.stdout.close()
        for name in (self.host, self.lan, self.box):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def at(self, namespace: str, script: str) -> str:
        environment = {
            **os.environ,
            "PATH": f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "STATE": str(self.folder),
        }
        argv = ["ip", "netns", "exec", namespace, "sh", "-c", script]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(f"{script}: {done.stderr}")
        return done.stdout

    def nft(self, text: str) -> str:
        return self.at(self.host, f"{NFT} '{text}'")

    def load(self, model: FirewallModel) -> None:
        (self.folder / "rules.nft").write_text(ruleset(model))
        self.at(self.host, f"{NFT} -f {self.folder}/rules.nft")

    def run(self, command: str) -> str:
        """One of our commands with its two state folders moved below the test's own."""
        for place in ("/run/understudy", "/var/lib/understudy", "/etc/understudy"):
            command = command.replace(place, f"{self.folder}{place}")
        return self.at(self.host, command)

    def connects(self, namespace: str, address: str, port: int) -> bool:
        script = f"import socket; socket.create_connection(('{address}',{port}),0.7)"
        argv = ["ip", "netns", "exec", namespace, "python3", "-c", script]
        return subprocess.run(argv, check=False, capture_output=True).returncode == 0

    def table(self) -> str:
        return self.at(self.host, f"{NFT} -s list {TABLE} 2>/dev/null || true")


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def available() -> bool:
    if os.geteuid() or not shutil.which("ip", path="/usr/sbin:/usr/bin:/sbin") or not Path(NFT).exists():
        return False
    tried = subprocess.run(["unshare", "-n", NFT, "add table inet t"], check=False, capture_output=True)
    return tried.returncode == 0
