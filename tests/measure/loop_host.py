"""Runs on a lab host: writes through every service without pause while all of them are backed up and restored, again and again.

`loop_host.py ROUNDS`: prints one JSON line a round and service. What a row has to survive: acknowledged before its service's
dump began, it must be there after the restore; sent after the backup had ended and before the restore began, it must not.
"""

import base64
import glob
import json
import os
import pathlib
import select
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

AGENT = ["python3", "-IB", "/usr/lib/understudy/agent.pyz"]
PLAN = json.loads(pathlib.Path("/etc/understudy/backup.json").read_text())
SECRETS = "/etc/understudy/secrets"
PAUSE = 0.3
STANDINS = {
    "vaultwarden": 8082, "nextcloud": 8081, "jellyfin": 8096, "kitchenowl": 8092, "travelsync": 8000, "goatcounter": 8088,
    "uptime-kuma": 3001, "portainer": 9000, "gokapi": 8091, "planning-poker": 3000,
}  # fmt: skip


def http(url, method="GET", body=None, headers=None, timeout=5):
    request = urllib.request.Request(url, method=method, data=body, headers=headers or {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read()


def output(*argv, stdin=None, timeout=120):
    return subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=True
    ).stdout


class Writer(threading.Thread):
    """Writes rows one after the other. ``log``: (number, sent, acknowledged), acknowledged 0 while or when it was not."""

    numbered_by_us = True

    def __init__(self, service):
        super().__init__(daemon=True)
        self.service, self.log, self.errors, self.lock = service, [], 0, threading.Lock()
        self.next = int(time.time() - 1.7e9) * 10  # numbers that no earlier run has used

    def run(self):
        while True:
            number, sent = self.next, time.time()
            self.next += 1
            row = [number, sent, 0.0]
            with self.lock:
                self.log.append(row)
            try:
                row[0] = self.write(number)
                row[2] = time.time()
            except Exception:
                self.errors += 1
                self.reset()
            time.sleep(PAUSE)

    def reset(self):
        pass

    def acknowledged_since(self, moment):
        with self.lock:
            return [row for row in self.log if row[2] and row[1] > moment]

    def judge(self, started, ended, begun, over):
        """(rows looked at, missing, newer) after a restore that began at ``begun`` and replied at ``over``."""
        found = self.found()
        with self.lock:
            old = {n for n, sent, acked in self.log if acked and acked < started}
            new = {n for n, sent, acked in self.log if sent > ended and acked and acked < begun}
            # What this restore took away is no part of the next round.
            self.log = [row for row in self.log if row[1] > over or row[0] in found]
        return len(old), sorted(old - found), sorted(new & found)


class Standin(Writer):
    """Numbers come from the application, and fall back with its data: the first one after a restore tells what it had."""

    def __init__(self, service, port):
        super().__init__(service)
        self.base = f"http://127.0.0.1:{port}/_lab"

    def write(self, number):
        file = "?file" if number % 10 == 0 else ""
        return json.loads(http(f"{self.base}/commit{file}", "POST"))["n"]

    def judge(self, started, ended, begun, over):
        rows = json.loads(http(f"{self.base}/rows", timeout=30))
        with self.lock:
            log = [row for row in self.log if row[2]]
            old = [n for n, sent, acked in log if acked < started]
            new = [n for n, sent, acked in log if sent > ended and acked < begun]
            back = [
                index
                for index in range(1, len(log))
                if log[index][0] <= log[index - 1][0] and log[index][1] > begun
            ]
            if not back:
                raise RuntimeError("no row was written after the restore, or nothing went back")
            restored = log[back[0]][0] - 1
            self.log = [row for row in log if row[0] <= restored and row[1] < begun] + log[back[0] :]
        missing = [n for n in old if n > restored] + rows["missing"] + ["duplicate"] * rows["duplicates"]
        for key in ("files_missing", "missing_files"):
            missing += list(rows.get(key) or [])
        return len(old), missing, [n for n in new if n <= restored]


class Miniflux(Writer):
    """The real program's own interface."""

    def write(self, number):
        secret = pathlib.Path(f"{SECRETS}/miniflux/ADMIN_PASSWORD").read_text().strip()
        login = base64.b64encode(f"admin:{secret}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        http(
            "http://127.0.0.1:8099/v1/categories",
            "POST",
            json.dumps({"title": f"n-{number}"}).encode(),
            headers,
        )
        return number

    def found(self):
        query = "SELECT substr(title, 3) FROM categories WHERE title LIKE 'n-%'"
        return {int(n) for n in output(*psql("miniflux-db-1", "miniflux", "miniflux"), "-c", query).split()}


class WordPress(Writer):
    """Posts as a logged-in owner's browser sends them, written by PHP into MariaDB."""

    base = "http://127.0.0.1:8086"
    nonce = None

    def install(self):
        form = {
            "weblog_title": "Lab", "user_name": "owner", "admin_password": "of-the-lab-1", "admin_password2": "of-the-lab-1",
            "pw_weak": "on", "admin_email": "owner@example.org", "blog_public": "0",
        }  # fmt: skip
        http(
            f"{self.base}/wp-admin/install.php?step=2",
            "POST",
            urllib.parse.urlencode(form).encode(),
            timeout=120,
        )

    def login(self):
        """A session as a browser has it, and the word that its requests must carry."""
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        form = {"log": "owner", "pwd": "of-the-lab-1"}
        self.opener.open(
            f"{self.base}/wp-login.php", urllib.parse.urlencode(form).encode(), timeout=20
        ).read()
        self.nonce = (
            self.opener.open(f"{self.base}/wp-admin/admin-ajax.php?action=rest-nonce", timeout=20)
            .read()
            .decode()
        )

    def write(self, number):
        if self.nonce is None:
            self.login()
        post = {"title": f"n-{number}", "status": "publish", "content": "x" * 200}
        headers = {"X-WP-Nonce": self.nonce, "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.base}/?rest_route=/wp/v2/posts", json.dumps(post).encode(), headers
        )
        self.opener.open(request, timeout=20).read()
        return number

    def reset(self):
        self.nonce = None

    def found(self):
        query = "SELECT DISTINCT substr(post_title, 3) FROM wp_posts WHERE post_title LIKE 'n-%'"
        return {int(n) for n in maria("-N", "wordpress", "-e", query).split()}


class Talking(Writer):
    """A program in a container that answers a line for each line."""

    child = None

    def ask(self, line):
        if self.child is None or self.child.poll() is not None:
            self.child = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
            )
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        if not select.select([self.child.stdout], [], [], 5)[0]:
            raise RuntimeError("no answer")
        return self.child.stdout.readline().strip()

    def reset(self):
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None


class Postgres(Talking):
    """Rows straight into a database of PostgreSQL, its own service's or one on a shared server."""

    def __init__(self, service, container, user, database):
        super().__init__(service)
        self.argv = psql(container, user, database)
        output(*self.argv, "-c", "CREATE TABLE IF NOT EXISTS proof (n int PRIMARY KEY, text text)")

    def write(self, number):
        if self.ask(f"INSERT INTO proof VALUES ({number}, repeat('x', 300)) RETURNING n;") != str(number):
            raise RuntimeError("not inserted")
        return number

    def found(self):
        return {int(n) for n in output(*self.argv, "-c", "SELECT n FROM proof").split()}


class Redis(Talking):
    argv = ["docker", "exec", "-i", "sessions-redis-1", "redis-cli"]

    def write(self, number):
        if self.ask(f"SET row:{number} {'x' * 100}") != "OK":
            raise RuntimeError("not set")
        return number

    def found(self):
        return {int(key[4:]) for key in output(*self.argv, "--scan", "--pattern", "row:*").split()}


def psql(container, user, database):
    return ["docker", "exec", "-i", "-u", "postgres", container, "psql", "-qAt", "-U", user, "-d", database]


def maria(*words):
    script = 'exec mariadb -uroot -p"$(cat /run/secrets/db_root_password)" "$@"'
    return output("docker", "exec", "wordpress-db-1", "sh", "-c", script, "sh", *words)


class Bench(threading.Thread):
    """pgbench beside it all, in Miniflux's database; begun again whenever a restore has thrown it out."""

    inside = ["docker", "exec", "-u", "postgres", "miniflux-db-1"]

    def __init__(self):
        super().__init__(daemon=True)
        self.program = output(*self.inside, "sh", "-c", "ls /usr/lib/postgresql/*/bin/pgbench").split()[-1]
        self.transactions = 0
        output(*self.inside, self.program, "-q", "-i", "-s", "2", "-U", "miniflux", "miniflux")

    def run(self):
        argv = [
            *self.inside,
            self.program,
            "-n",
            "-c",
            "2",
            "-R",
            "60",
            "-T",
            "3600",
            "-U",
            "miniflux",
            "miniflux",
        ]
        while True:
            subprocess.run(argv, capture_output=True)
            time.sleep(0.5)

    def wrong(self):
        """What pgbench's own invariant says: every transaction adds the same amount in four tables."""
        sums = [
            "SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts", "SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers",
            "SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches", "SELECT coalesce(sum(delta), 0) FROM pgbench_history",
        ]  # fmt: skip
        query = " UNION ALL ".join(f"({one})" for one in sums)
        values = output(*psql("miniflux-db-1", "miniflux", "miniflux"), "-c", query).split()
        self.transactions = int(
            output(
                *psql("miniflux-db-1", "miniflux", "miniflux"), "-c", "SELECT count(*) FROM pgbench_history"
            )
        )
        return [] if len(set(values)) == 1 else [f"pgbench sums {values}"]


def integrity(service, bench):
    """What each kind of database says of itself."""
    wrong = list(bench.wrong()) if service == "miniflux" else []
    spec = PLAN["services"][service]
    sources = {mount["key"]: mount for mount in spec["mounts"]}
    for database in spec["databases"]:
        if database["kind"] == "sqlite":
            mount = sources[database["mount"]]
            base = mount["source"] if mount["kind"] == "bind" else volume(mount["source"])
            files = (
                glob.glob(os.path.join(base, database["path"]))
                if database["path"] not in ("", ".")
                else [base]
            )
            wrong += [f"no {database['path']}"] if not files else []
            for file in files:
                said = (
                    sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=20)
                    .execute("PRAGMA integrity_check")
                    .fetchall()
                )
                wrong += [] if said == [("ok",)] else [f"{file}: {said[:2]}"]
        elif database["kind"] == "mariadb":
            script = 'exec mariadb-check -uroot -p"$(cat /run/secrets/db_root_password)" wordpress'
            lines = output("docker", "exec", "wordpress-db-1", "sh", "-c", script).splitlines()
            wrong += [line for line in lines if not line.rstrip().endswith("OK")]
        elif database["kind"] == "postgres":
            amcheck = output(
                "docker",
                "exec",
                "-u",
                "postgres",
                f"{database['project']}-{database['container']}-1",
                "sh",
                "-c",
                "ls /usr/lib/postgresql/*/bin/pg_amcheck",
            ).split()[-1]
            user = {"reader": "nextcloud"}.get(service, service)
            done = subprocess.run(
                ["docker", "exec", "-u", "postgres", f"{database['project']}-{database['container']}-1", amcheck, "--install-missing",
                 "-U", user, database["database"]], capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            wrong += (
                [] if done.returncode == 0 else [f"pg_amcheck: {(done.stdout + done.stderr).strip()[:300]}"]
            )
    return wrong


def volume(name):
    return output("docker", "volume", "inspect", "-f", "{{.Mountpoint}}", name).strip()


def agent(verb, **request):
    done = subprocess.run(
        [*AGENT, verb, "-"], input=json.dumps(request), capture_output=True, text=True, timeout=1800
    )
    line = next(line for line in reversed(done.stdout.splitlines()) if line.startswith('{"understudy"'))
    return json.loads(line)["reply"]


def writers():
    found = [Standin(name, port) for name, port in STANDINS.items()]
    found += [Miniflux("miniflux"), Postgres("miniflux", "miniflux-db-1", "miniflux", "miniflux")]
    wordpress = WordPress("wordpress")
    wordpress.install()
    found.append(wordpress)
    if "reader" in PLAN["services"]:
        found.append(Postgres("reader", "nextcloud-db-1", "nextcloud", "reader"))
    if "sessions" in PLAN["services"]:
        found.append(Redis("sessions"))
    return found


def wait(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.1)


def one_round(number, everyone, bench):
    services = sorted({writer.service for writer in everyone})
    begun = time.monotonic()
    saved = agent("backup", services=services, confirm=True)
    ended, backup_seconds = time.time(), time.monotonic() - begun
    started = {row["service"]: row["started"] for row in saved["services"] if row["ok"]}
    bad = [row["error"] for row in saved["services"] if not row["ok"]]
    if bad:
        raise RuntimeError(f"backup: {bad}")
    for writer in everyone:
        wait(lambda w=writer: len(w.acknowledged_since(ended)) >= 2, f"newer rows of {writer.service}")
    restoring, begun = time.time(), time.monotonic()
    reply = agent("restore", services=services, confirm_loss=True, keep_old_days=0)
    over, restore_seconds = time.time(), time.monotonic() - begun
    rows = {row["service"]: row for row in reply["services"]}
    for writer in everyone:
        wait(
            lambda w=writer: len(w.acknowledged_since(over)) >= 1,
            f"rows of {writer.service} after its restore",
        )
        looked, missing, newer = writer.judge(started[writer.service], ended, restoring, over)
        row = rows[writer.service]
        phases = row["phases"]
        down = sum(phases.get(name, 0) for name in ("stop", "swap", "databases", "start", "probe"))
        line = {
            "round": number, "service": writer.service, "writer": type(writer).__name__, "rows": looked, "missing": missing,
            "newer": newer, "ok": row["ok"], "error": row["error"], "wrong": integrity(writer.service, bench) + row["wrong"]["paths"],
            "down": round(down, 2), "all": round(sum(v for k, v in phases.items()), 2), "errors": writer.errors,
            "backup": round(backup_seconds, 1), "restore": round(restore_seconds, 1), "snapshot": row["snapshot"],
            "transactions": bench.transactions,
        }  # fmt: skip
        print(json.dumps(line), flush=True)


def main():
    everyone, bench = writers(), Bench()
    for thread in [*everyone, bench]:
        thread.start()
    for writer in everyone:
        wait(lambda w=writer: len(w.acknowledged_since(0)) >= 3, f"the first rows of {writer.service}", 120)
    for number in range(1, int(sys.argv[1]) + 1):
        one_round(number, everyone, bench)
    print(json.dumps({"done": True}), flush=True)


main()
