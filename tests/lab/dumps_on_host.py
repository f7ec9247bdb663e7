"""The part of test_dumps.py that runs on the lab host, beside the servers, with the agent as it is shipped there.

``python3 dumps_on_host.py SCENARIO ARGUMENTS``: arguments and result are JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = "/srv/dumps-test"
sys.path.insert(0, f"{FOLDER}/agent.pyz")

from agent.data import engine, execs  # noqa: E402
from agent.data.plan import Database  # noqa: E402
from agent.dumps import kinds  # noqa: E402
from agent.dumps.common import sha256_of  # noqa: E402
from agent.errors import AgentError  # noqa: E402
from agent.root import Root  # noqa: E402

ROOT, TARGET = Root(), f"{FOLDER}/stage/g/shop/dumps"
BASES = {
    "pg": Database("pg", "postgres", project="dumpstest", container="pg", database="cloud"),
    "pgall": Database("pgall", "postgres", project="dumpstest", container="pg"),
    "pg2": Database("pg", "postgres", project="dumpstest", container="pg2", database="cloud"),
    "maria": Database("maria", "mariadb", project="dumpstest", container="maria", database="blog"),
    "maria2": Database("maria2", "mariadb", project="dumpstest", container="maria2", database="blog"),
    "redis": Database("redis", "redis", project="dumpstest", container="redis", data_mount="files/redis"),
}


def inside(service: str, argv: list[str], text: str = "", check: bool = True) -> str:
    ended = subprocess.run(
        ["docker", "exec", "-i", f"dumpstest-{service}-1", *argv], input=text, text=True, capture_output=True
    )
    assert not check or ended.returncode == 0, ended.stderr
    return ended.stdout


def psql(text: str, at: str = "cloud", service: str = "pg") -> list[str]:
    argv = ["psql", "-qAtU", "cloud", "-v", "ON_ERROR_STOP=1", "-d", at]
    return inside(service, argv, text).splitlines()


def sql(text: str, at: str = "", service: str = "maria") -> list[str]:
    argv = ["sh", "-c", 'MYSQL_PWD="root-secret-1" exec mariadb -N -uroot "$@"', "x", *([at] if at else [])]
    return inside(service, argv, text).splitlines()


def dump(name: str, timeout: float = 60) -> Any:
    return kinds.dump(ROOT, BASES[name], None, TARGET, timeout)


def path_of(one: Any) -> str:
    return f"{TARGET}/{os.path.basename(one.file)}"


def load(name: str, one: Any, **more: Any) -> Any:
    return kinds.load(ROOT, BASES[name], {**one.facts(), **more}, path_of(one), "", 60)


def kept() -> dict[str, Any]:
    """Each file of the dumps' folder: hash, inode, time, mode."""
    found = {}
    for entry in os.listdir(TARGET):
        info = os.stat(f"{TARGET}/{entry}")
        content = hashlib.sha256(Path(f"{TARGET}/{entry}").read_bytes()).hexdigest()
        found[entry] = [content, info.st_ino, info.st_mtime_ns, info.st_mode & 0o777]
    return found


def on_fill() -> None:
    psql(
        "CREATE TABLE a (id serial PRIMARY KEY, t text); INSERT INTO a (t) SELECT 'row ' || g FROM generate_series(1, 3000) g;"
        'CREATE TABLE "odd ""name\nx" (b bytea); CREATE VIEW v AS SELECT * FROM a; CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1;'
        "CREATE ROLE reader LOGIN PASSWORD 'reader-secret'; CREATE ROLE grp; GRANT grp TO reader; GRANT SELECT ON a TO reader;"
        "ALTER TABLE s.t OWNER TO reader; REVOKE CONNECT ON DATABASE cloud FROM PUBLIC; GRANT CONNECT ON DATABASE cloud TO reader;"
        "COMMENT ON DATABASE cloud IS 'it''s ours'; ALTER DATABASE cloud SET timezone = 'Asia/Tokyo';"
    )
    psql("CREATE DATABASE neighbour;", "postgres")
    psql("CREATE TABLE n AS SELECT 42 x;", "neighbour")
    sql(
        "CREATE TABLE parent (id int PRIMARY KEY AUTO_INCREMENT, n varchar(50));"
        "CREATE TABLE child (id int PRIMARY KEY, p int, b blob, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE);"
        "INSERT INTO parent (n) VALUES ('a'), ('b\\nline'), ('INSERT INTO `x` VALUES'); INSERT INTO child VALUES (1, 1, x'00ff');"
        "CREATE FUNCTION twice(x int) RETURNS int RETURN x * 2;"
        "CREATE VIEW v AS SELECT n, twice(id) FROM parent; CREATE SEQUENCE seq; CREATE DATABASE other; CREATE TABLE other.o (x int);"
        "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM child WHERE id = 77;"
        "CREATE USER 'second'@'%' IDENTIFIED BY 'second-secret'; GRANT SELECT ON blog.* TO 'second'@'%';",
        "blog",
    )
    sql(
        "DELIMITER //\nCREATE TRIGGER tr BEFORE INSERT ON child FOR EACH ROW BEGIN\nINSERT INTO `parent` VALUES (99, 'x');\nEND//\n",
        "blog",
    )
    redis = ["env", "REDISCLI_AUTH=redis secret", "redis-cli"]
    inside("redis", [*redis, "set", "a", "b"])
    inside("redis", [*redis, "-n", "3", "rpush", "list", "1", "2", "3"])


def on_two_dumps() -> Any:
    names = ["pg", "pgall", "maria", "maria2", "redis"]
    first = [one for name in names for one in dump(name)]
    before = kept()
    time.sleep(1.2)
    second = [one for name in names for one in dump(name)]
    assert first == second
    kinds.drop_others(ROOT, TARGET, second)
    return {"before": before, "after": kept(), "facts": {one.name: one.facts() for one in first}}


def on_listed() -> Any:
    servers = {"postgres": "pg", "mariadb": "maria", "redis": "redis"}
    found = {kind: kinds.listed(kind, "dumpstest", service) for kind, service in servers.items()}
    return {kind: [one.version, sorted(one.databases)] for kind, one in found.items()}


def on_writer(name: str) -> Any:
    """Insert as fast as it goes; every row acknowledged before a dump begins must be in it."""
    make = "CREATE TABLE IF NOT EXISTS w (id int PRIMARY KEY);"
    argv = {
        "pg": ["psql", "-qAtU", "cloud", "-d", "cloud"],
        "maria": ["sh", "-c", 'MYSQL_PWD="root-secret-1" exec mariadb -N --unbuffered -uroot blog'],
    }[name]
    psql(make) if name == "pg" else sql(make, "blog")
    writer = subprocess.Popen(
        ["docker", "exec", "-i", f"dumpstest-{name}-1", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    seen, stop = [0], threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            writer.stdin.write(f"INSERT INTO w VALUES ({number}); SELECT {number};\n")
            writer.stdin.flush()
            seen[0] = int(writer.stdout.readline())

    thread = threading.Thread(target=write)
    thread.start()
    pairs: list[Any] = []
    while len(pairs) < 3:
        before, until = pairs[-1][0] if pairs else 0, time.monotonic() + 60
        while (
            seen[0] <= before and time.monotonic() < until
        ):  # a busy machine: each dump has newer rows to hold
            time.sleep(0.2)
        acknowledged = seen[0]
        (one,) = dump(name)
        rows = one.rows["public.w" if name == "pg" else "w"]
        loaded = load(name, one).rows
        pairs.append([acknowledged, rows, one.rows == loaded])
    stop.set()
    thread.join()
    writer.stdin.close()
    writer.wait()
    kinds.undo(BASES[name], one.facts(), "none")
    psql("DROP TABLE w") if name == "pg" else sql("DROP TABLE w", "blog")
    return pairs


def on_postgres_round() -> Any:
    database = BASES["pg"]
    (one,) = dump("pg")
    facts = one.facts()
    shape = (
        "SELECT datacl, shobj_description(oid, 'pg_database'), pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'cloud';"
        "SHOW timezone; SELECT count(*) FROM a; SELECT count(*) FROM v; SELECT tableowner FROM pg_tables WHERE tablename = 't';"
        "SELECT relacl FROM pg_class WHERE relname = 'a'"
    )
    before = psql(shape)
    beside = "SELECT oid, datfrozenxid FROM pg_database WHERE datname = 'neighbour'"
    neighbour = psql(beside)
    psql("DELETE FROM a WHERE id > 10; CREATE TABLE later (x int); COMMENT ON DATABASE cloud IS 'wrong';")
    # A client that stays connected must not be in the way.
    client = subprocess.Popen(
        [
            "docker",
            "exec",
            "dumpstest-pg-1",
            "psql",
            "-U",
            "cloud",
            "-d",
            "cloud",
            "-c",
            "SELECT pg_sleep(60)",
        ]
    )
    loaded = load("pg", one)
    assert psql("SELECT count(*) FROM a") == ["10"]
    kinds.swap(database, facts, "t1")
    kinds.swap(database, facts, "t1")
    after, state = psql(shape), kinds.state(database, facts)
    kinds.undo(database, facts, "another")
    assert kinds.state(database, facts) == state
    kinds.undo(database, facts, "t1")
    kinds.undo(database, facts, "t1")
    undone = psql(
        "SELECT count(*) FROM a; SELECT count(*) FROM later; SELECT setconfig FROM pg_db_role_setting"
    )
    left = psql("SELECT datname FROM pg_database ORDER BY 1", "postgres")
    load("pg", one)
    kinds.swap(database, facts, "t2")
    load("pg", one)
    kinds.swap(database, facts, "t3")  # the old one of t2 is given up for this one's
    again = kinds.state(database, facts)
    kinds.discard_old(database, facts)
    client.kill()
    client.wait()
    return {
        "before": before, "after": after, "state": state, "undone": undone, "left": left, "again": again,
        "end": kinds.state(database, facts), "rows": loaded.rows == one.rows,
        "neighbour": [neighbour == psql(beside), psql("SELECT x FROM n", "neighbour")],
    }  # fmt: skip


def on_mariadb_round() -> Any:
    database = BASES["maria"]
    (one,) = dump("maria")
    facts = one.facts()
    shape = (
        "SELECT n FROM blog.v ORDER BY 1; SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'blog';"
        "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'blog';"
        "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS;"
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'blog' ORDER BY 1;"
        "SELECT UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS "
        "WHERE CONSTRAINT_SCHEMA = 'blog';"
        "SELECT NEXTVAL(blog.seq) > 0;"
    )
    before = sql(shape)
    sql(
        "INSERT INTO parent (n) VALUES ('later'); DROP TRIGGER tr; DROP VIEW v; CREATE VIEW w AS SELECT 1; CREATE TABLE later (x int);",
        "blog",
    )
    loaded = load("maria", one)
    kinds.swap(database, facts, "t1")
    kinds.swap(database, facts, "t1")
    after, state = sql(shape), kinds.state(database, facts)
    kinds.undo(database, facts, "another")
    assert kinds.state(database, facts) == state
    kinds.undo(database, facts, "t1")
    kinds.undo(database, facts, "t1")
    undone = sql(
        "SELECT n FROM parent WHERE n = 'later'; SELECT * FROM w; SELECT COUNT(*) FROM later; SHOW TRIGGERS",
        "blog",
    )
    left = sql("SHOW DATABASES")
    load("maria", one)
    kinds.swap(database, facts, "t2")
    load("maria", one)
    kinds.swap(database, facts, "t3")
    again = kinds.state(database, facts)
    kinds.discard_old(database, facts)
    (last,) = dump("maria")
    return {
        "before": before, "after": after, "state": state, "undone": undone, "left": left, "again": again,
        "end": kinds.state(database, facts), "rows": loaded.rows == one.rows == last.rows,
    }  # fmt: skip


class Cut(BaseException):
    """The moment at which a run is killed."""


@contextlib.contextmanager
def cutting(at: int, before: bool) -> Iterator[None]:
    """The command number ``at`` inside a container is the last: it is not run any more, or it was."""
    real, left = engine.run_in, [at]

    def run_in(*arguments: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and before:
            raise Cut
        ended = real(*arguments, **more)
        if left[0] == 0:
            raise Cut
        return ended

    engine.run_in = run_in
    try:
        yield
    finally:
        engine.run_in = real


def shape(name: str) -> Any:
    """What a database and its server hold: tables, objects, and databases of restores."""
    ours = "LIKE '%\\_\\_%'"
    if name == "pg":
        tables = psql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return [tables, psql(f"SELECT datname FROM pg_database WHERE datname {ours} ORDER BY 1", "postgres")]
    objects = (
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'blog';"
        "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'blog';"
        "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS"
    )
    return sql(f"SHOW TABLES; {objects}; SHOW DATABASES {ours}", "blog")


def loading(name: str, one: Any) -> Callable[[], Any]:
    """Loads the dump each time it is called. MariaDB's takes some fifteen commands: what the first made is made again by one."""
    load(name, one)
    if name == "pg":
        return lambda: load(name, one)
    argv = ["sh", "-c", 'MYSQL_PWD="root-secret-1" exec mariadb-dump -uroot --hex-blob --databases blog__new']
    made = inside(name, argv)
    assert made.rstrip().rpartition("\n")[2].startswith("-- Dump completed")
    return lambda: sql(f"DROP DATABASE IF EXISTS blog__new;\n{made}")


def on_cut_short(name: str, what: str, before: bool) -> Any:
    """Each command of a swap (or of its undo) is once the last one; then the restore is finished, or undone."""
    database, (one,) = BASES[name], dump(name)
    facts = one.facts()
    run = psql if name == "pg" else lambda text: sql(text, "blog")
    run("CREATE TABLE live (x int)")
    live = shape(name)
    again = loading(name, one)
    kinds.swap(database, facts, "cut")
    swapped = shape(name)
    kinds.undo(database, facts, "cut")
    bad, at, more = [] if shape(name) == live else ["undo"], 0, True
    while more and at < 80:
        at += 1
        then = "undo" if what == "undo" or (at % 2 == 0) == before else "swap"
        again()
        if what == "undo":
            kinds.swap(database, facts, "cut")
        more = False
        try:
            with cutting(at, before):
                getattr(kinds, what)(database, facts, "cut")
        except Cut:
            more = True
        getattr(kinds, then)(database, facts, "cut")
        if shape(name) != (live if then == "undo" else swapped):
            bad.append([what, then, at, shape(name)])
        if then == "swap":
            kinds.undo(database, facts, "cut")
    run("DROP TABLE live")
    return {"bad": bad[:3], "cuts": at - 1}


def on_lost(name: str) -> Any:
    """What reports the ends of programs in the server's container to Docker stands still, until one was given up."""
    execs.LOOK, execs.LOOKS, execs.BEGIN = 0.5, 6, 2
    (one,) = dump(name)
    pid = engine.inspect(engine.container_of("dumpstest", name) or "")["State"]["Pid"]
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    real, given_up = execs.Mark.lost, []

    def lost(mark: execs.Mark) -> bool:
        if real(mark):
            os.kill(shim, signal.SIGCONT)
            given_up.append(mark.value)
            return True
        return False

    execs.Mark.lost = lost  # type: ignore[method-assign]
    os.kill(shim, signal.SIGSTOP)
    try:
        loaded = load(name, one)
    finally:
        os.kill(shim, signal.SIGCONT)
        execs.Mark.lost = real  # type: ignore[method-assign]
    time.sleep(3)  # what was given up could begin now
    state = kinds.state(BASES[name], one.facts())
    kinds.undo(BASES[name], one.facts(), "none")
    return {"given_up": len(given_up), "rows": loaded.rows == one.rows, "new": state["new"]}


@contextlib.contextmanager
def commands_seen() -> Iterator[set[str]]:
    """Every command line that runs on this host meanwhile, as far as looking all the time shows."""
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    seen.add(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def on_other_server(password: str) -> Any:
    """The dump on a server that has neither its roles nor its data; passwords from a credential file."""
    os.makedirs("/etc/understudy/secrets/backup", mode=0o700, exist_ok=True)
    Path("/etc/understudy/secrets/backup/dumps-test").write_text(password + "\n")
    ours = Path("/proc/self/cmdline").read_bytes().decode()
    postgres = dataclasses.replace(BASES["pg2"], roles={"grp": "dumps-test"})
    maria = dataclasses.replace(BASES["maria"], roles={"second": "dumps-test"})
    sql("DO 0")
    with commands_seen() as seen:
        (one,), (other,) = dump("pg"), dump("maria")
        kinds.load(ROOT, postgres, one.facts(), path_of(one), "", 60)
        kinds.swap(postgres, one.facts(), "t")
        again = kinds.set_passwords(ROOT, postgres)
    sql("DROP USER 'second'@'%'")
    with commands_seen() as more:
        kinds.load(ROOT, maria, other.facts(), path_of(other), "", 60)
        kinds.undo(maria, other.facts(), "t")
    psql("ALTER ROLE grp LOGIN", service="pg2")
    client = ["psql", "-h", "127.0.0.1", "-Atc"]
    secrets = (password, "pg-secret-1", "root-secret-1", "own'secret", "SCRAM-SHA-256$")
    return {
        "login": inside(
            "pg2", ["env", "PGPASSWORD=reader-secret", *client, "SELECT 1", "-U", "reader", "cloud"]
        ),
        "changed": inside(
            "pg2", ["env", f"PGPASSWORD={password}", *client, "SELECT 2", "-U", "grp", "postgres"]
        ),
        "again": again,
        "member": psql("SELECT pg_has_role('reader', 'grp', 'member')", service="pg2"),
        "rows": psql("SELECT count(*) FROM a", service="pg2"),
        "second": inside(
            "maria",
            [
                "env",
                f"MYSQL_PWD={password}",
                "mariadb",
                "-h127.0.0.1",
                "-usecond",
                "-Ne",
                "SELECT 3 FROM blog.child",
            ],
        ),
        "seen": len(seen | more),
        "leaked": [
            line for line in seen | more if line != ours and any(secret in line for secret in secrets)
        ],
    }


def refused(work: Callable[[], Any]) -> list[str]:
    """[kind, sentence] of the error it must raise."""
    try:
        work()
    except AgentError as error:
        return [error.kind, error.sentence]
    return ["", "no error"]


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Somebody holds a table of the PostgreSQL database for themselves."""
    argv = ["docker", "exec", "-i", "dumpstest-pg-1", "psql", "-qAtU", "cloud", "-d", "cloud"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin and holder.stdout
        holder.stdin.write("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE; SELECT 1;\n")
        holder.stdin.flush()
        holder.stdout.readline()
        yield
        holder.stdin.close()


def on_refused_dumps() -> Any:
    """Dumps that cannot be: each with its sentence; the kept files are the same afterwards."""
    for name in ("pg", "maria", "redis"):
        dump(name)
    before = kept()

    def of(name: str, **changes: str) -> list[str]:
        wrong = dataclasses.replace(BASES[name], **changes)
        return refused(lambda: kinds.dump(ROOT, wrong, None, TARGET, 20))

    said = {
        "pg missing": of("pg", database="nosuch"),
        "pg user": of("pg", user="nobody"),
        "maria missing": of("maria", database="nosuch"),
        "maria user": of("maria", user="nobody"),
    }
    started = time.monotonic()
    with locked():
        said["pg locked"] = refused(lambda: dump("pg", 3))
    took = time.monotonic() - started
    subprocess.run(["docker", "stop", "-t", "1", "dumpstest-redis-1"], check=True, capture_output=True)
    said["redis stopped"] = refused(lambda: dump("redis"))
    subprocess.run(["docker", "start", "dumpstest-redis-1"], check=True, capture_output=True)
    return {"said": said, "took": took, "same": kept() == before}


def on_killed() -> Any:
    """kill -9 while pg_dump waits for a lock: nothing torn is kept, and the next run ends what stayed on the server."""
    dump("pg")
    before = kept()
    with locked():
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                dump("pg", 60)
            os._exit(0)
        time.sleep(2)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        after = kept()
    dump("pg")
    time.sleep(1)
    sessions = psql("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'understudy%'")
    left = [name for name in after if name.startswith(".")]
    same = {name: facts for name, facts in after.items() if name not in left} == before
    return {"left": left, "same": same, "end": kept() == before, "sessions": sessions}


def on_refused_loads(name: str) -> Any:
    """Dumps that are not what their manifest says: each with its sentence; no database of ours stays."""
    (one,) = dump(name)
    content = Path(path_of(one)).read_bytes()
    cut = Path(f"{TARGET}/cut")
    cut.write_bytes(content[: len(content) * 2 // 3])
    facts = {**one.facts(), "sha256": sha256_of(str(cut))}
    said = {
        "sha": refused(lambda: load(name, one, sha256="0")),
        "rows": refused(lambda: load(name, one, rows={**one.rows, "public.a": 1})),
        "cut": refused(lambda: kinds.load(ROOT, BASES[name], facts, str(cut), "", 60)),
        "nothing": refused(lambda: kinds.swap(BASES[name], one.facts(), "t")),
    }
    cut.unlink()
    return {"said": said, "state": kinds.state(BASES[name], one.facts())}


def on_strange_old(name: str) -> Any:
    """A database that happens to be called so is not ours to drop."""
    (one,) = dump(name)
    run = (lambda text: psql(text, "postgres")) if name == "pg" else sql
    run(f"CREATE DATABASE {one.extra['database']}__old")
    if name == "maria":
        sql("CREATE TABLE precious (x int)", "blog__old")
    load(name, one)
    said = [
        refused(lambda: kinds.swap(BASES[name], one.facts(), "t")),
        refused(lambda: kinds.discard_old(BASES[name], one.facts())),
    ]
    kinds.undo(BASES[name], one.facts(), "t")
    state = kinds.state(BASES[name], one.facts())
    run(f"DROP DATABASE {one.extra['database']}__old")
    return {"said": said, "state": state}


def on_redis_back(folder: str) -> Any:
    (one,) = dump("redis")
    kinds.load(ROOT, BASES["redis"], one.facts(), path_of(one), f"{folder}/redis2", 60)
    subprocess.run(
        ["docker", "compose", "--profile", "later", "up", "-d", "redis2"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    redis = ["env", "REDISCLI_AUTH=redis secret", "redis-cli"]
    for _ in range(50):
        if "PONG" in inside("redis2", [*redis, "ping"], check=False):
            break
        time.sleep(0.2)
    values = [
        inside("redis2", [*redis, "get", "a"]),
        inside("redis2", [*redis, "-n", "3", "lrange", "list", "0", "-1"]),
    ]
    inside("redis2", [*redis, "set", "more", "1"])
    subprocess.run(["docker", "restart", "-t", "5", "dumpstest-redis2-1"], check=True, capture_output=True)
    time.sleep(1)
    again = kinds.listed("redis", "dumpstest", "redis2").databases
    return {"values": values, "again": again, "rows": one.rows}


def on_own_user() -> Any:
    (one,) = dump("maria2")
    return one.facts()


if __name__ == "__main__":
    print("result", json.dumps(globals()[f"on_{sys.argv[1]}"](*json.loads(sys.argv[2]))))
