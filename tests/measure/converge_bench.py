"""No-op converge of the lab's lemongrab beside ansible-core on the same host: `make bench`, prints one table.

Both tools manage the same packages, files, users, units, stacks and probes of one converged host, over SSH with a warm
disk cache, three times each in turn; the median counts. Understudy's commands on the host are counted by its own
sessions (a lab test compares that count with sshd's log).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from understudy import project  # noqa: E402
from understudy.desired import Desired  # noqa: E402
from understudy.switchover.through import TOKEN  # noqa: E402

HOST = "lemongrab"
WORK = ROOT / ".lab" / "bench"
ANSIBLE = ROOT / ".lab" / "ansible"
PLAYBOOK = ROOT / "tests" / "measure" / "ansible"
ROUNDS = 3
BAR_RATIO, BAR_COMMANDS = 25.0, 10


def ensure_ansible() -> Path:
    """ansible-core in an environment of its own, never in requirements/."""
    program = ANSIBLE / "bin" / "ansible-playbook"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ANSIBLE)], check=True)
        pip = [str(ANSIBLE / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "ansible-core==2.19.*"], check=True)
    return program


def variables(desired: Desired) -> dict[str, Any]:
    """The host as the playbook's variables; contents go to files below WORK."""
    (WORK / "files").mkdir(parents=True, exist_ok=True)
    os.chmod(WORK, 0o700)
    directories, files = [], []
    for number, entry in enumerate(desired.tree):
        if entry.path == TOKEN:  # what Cloudflare hands out, not what the project holds
            continue
        item = {
            "path": entry.path,
            "mode": f"{entry.mode:04o}",
            "owner": str(entry.user),
            "group": str(entry.group),
        }
        if entry.kind == "dir":
            directories.append(item)
        elif entry.kind == "file":
            source = WORK / "files" / str(number)
            source.write_bytes(entry.content)
            files.append({**item, "source": str(source), "secret": entry.secret})
    return {
        "packages": desired.packages,
        "users": desired.users,
        "directories": sorted(directories, key=lambda item: item["path"]),
        "files": files,
        "units": [
            {"name": unit.name, **({"state": "started"} if unit.running and not unit.may_be_skipped else {})}
            for unit in desired.units
        ],
        "stacks": [
            {"name": name, "argv": stack.compose("up", "--detach", "--remove-orphans")}
            for name, stack in desired.stacks.items()
        ],
        "probes": [probe(wish.request) for wish in desired.probes],
    }


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """One of our probes in the words of Ansible's uri module."""
    headers = {**request["headers"], **({"Host": request["host"]} if request["host"] else {})}
    found = {key: request[key] for key in ("name", "url", "method", "status", "text")}
    return {**found, "headers": headers, **({"body": request["body"]} if request["body"] else {})}


def inventory(data: dict[str, Any]) -> Path:
    """Ansible's inventory of the one host, with the lab's key and pinned host key."""
    path = WORK / "hosts.ini"
    common = f"-o UserKnownHostsFile={data['ssh_known_hosts_file']} -o StrictHostKeyChecking=yes"
    path.write_text(
        f"{HOST} ansible_host={data['ssh_hostname']} ansible_user=root ansible_ssh_private_key_file={data['ssh_key']} "
        f"ansible_ssh_common_args='{common}'\n"
    )
    return path


def timed(argv: list[str], **more: Any) -> tuple[float, subprocess.CompletedProcess[str]]:
    begun = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800, **more)
    return time.monotonic() - begun, done


def ours(may_change: bool = False) -> tuple[float, int]:
    """Seconds and commands of one no-op converge. Raises SystemExit when it was none."""
    report = WORK / "report.jsonl"
    report.unlink(missing_ok=True)
    environment = {**os.environ, "UNDERSTUDY_REPORT": str(report), "PYINFRA_PROGRESS": "off"}
    argv = [sys.executable, "-m", "pyinfra", "inventory/lab.py", "deploy.py", "-y", "--limit", HOST]
    seconds, done = timed(argv, env=environment)
    facts = json.loads(report.read_text().splitlines()[-1])
    changed = any((facts.get("changed") or {}).values())
    if done.returncode or (changed and not may_change):
        sys.exit(f"not a no-op converge: {facts.get('changed')} {facts.get('error')}\n{done.stdout[-500:]}")
    return seconds, int(facts["commands"])


def theirs(program: Path, hosts: Path, may_change: bool = False) -> float:
    """Seconds of one no-op run of the playbook. Raises SystemExit when it failed or changed something."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PLAYBOOK / "ansible.cfg"), "LC_ALL": "C.UTF-8"}
    argv = [str(program), "-i", str(hosts), "-e", f"@{WORK / 'vars.json'}", str(PLAYBOOK / "site.yml")]
    seconds, done = timed(argv, env=environment)
    summary = next((line for line in done.stdout.splitlines() if line.startswith(HOST)), done.stderr[-500:])
    if done.returncode or ("changed=0" not in summary.replace(" ", "") and not may_change):
        changed = "\n".join(
            line for line in done.stdout.splitlines() if line.startswith(("changed", "fatal", "TASK"))
        )
        sys.exit(f"not a no-op playbook: {summary}\n{changed[:1500]}")
    return seconds


def main() -> int:
    program = ensure_ansible()
    data = next(data for name, data in project.hosts("inventory/lab.py") if name == HOST)
    desired = project.desired_for(HOST, data)
    values = variables(desired)
    (WORK / "vars.json").write_text(json.dumps(values))
    hosts = inventory(data)
    ours(may_change=True)
    theirs(program, hosts, may_change=True)
    pairs = [(ours(), theirs(program, hosts)) for _ in range(ROUNDS)]
    mine = statistics.median(seconds for (seconds, _), _ in pairs)
    other = statistics.median(seconds for _, seconds in pairs)
    commands = max(count for (_, count), _ in pairs)
    counted = {key: len(value) for key, value in values.items()}
    print(f"one host, nothing to change: {', '.join(f'{count} {key}' for key, count in counted.items())}")
    print(f"  Understudy     {mine:7.2f} s   {commands} commands on the host (bar {BAR_COMMANDS})")
    print(f"  ansible-core   {other:7.2f} s   pipelining, one connection kept")
    print(f"  ratio          {other / mine:7.1f} x   (bar {BAR_RATIO:.0f})   load {os.getloadavg()[0]:.1f}")
    return 0 if commands <= BAR_COMMANDS and other / mine >= BAR_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
