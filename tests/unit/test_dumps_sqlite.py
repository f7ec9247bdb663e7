"""Dumps of SQLite with the real library: concurrent writers, damage, kills, text, and the way back."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.agent.data.plan import Database
from understudy.agent.dumps import kinds, sqlite
from understudy.agent.errors import AgentError
from understudy.agent.root import Root

CLONE = Path(__file__).resolve().parents[2]
SOURCE = "/srv/shop"
TARGET = "/var/lib/understudy/stage/rest/shop/dumps"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "srv/shop").mkdir(parents=True)
    return Root(str(tmp_path))


def base(path: str = "shop.db", **more: Any) -> Database:
    return Database("shop", "sqlite", mount="files/data", path=path, **more)


def open_live(root: Root, path: str = "shop.db") -> sqlite3.Connection:
    return sqlite3.connect(root.at(f"{SOURCE}/{path}"), isolation_level=None)


def make(root: Root, rows: int = 1000, path: str = "shop.db", wal: bool = True) -> None:
    os.makedirs(os.path.dirname(root.at(f"{SOURCE}/{path}")), exist_ok=True)
    with contextlib.closing(open_live(root, path)) as live:
        live.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
        live.execute("PRAGMA user_version = 7")
        live.execute("PRAGMA application_id = 99")
        live.execute("BEGIN")
        live.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        live.execute("CREATE INDEX notes ON orders (note)")
        live.executemany("INSERT INTO orders (note) VALUES (?)", [(f"note {n}",) for n in range(rows)])
        live.execute("COMMIT")


def dumped(root: Root, database: Database | None = None, timeout: float = 60) -> list[kinds.Dump]:
    return kinds.dump(root, database or base(), SOURCE, TARGET, timeout)


def kept(root: Root, name: str = "shop.sqlite") -> Path:
    return Path(root.at(f"{TARGET}/{name}"))


def rows_in(path: Path | str, query: str = "SELECT count(*) FROM orders") -> Any:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchone()[0]


# --- dump


@pytest.mark.parametrize("wal", [True, False])
def test_a_dump_is_the_database_with_its_rows_and_settings(root: Root, wal: bool) -> None:
    make(root, 500, wal=wal)
    os.chmod(root.at(f"{SOURCE}/shop.db"), 0o640)
    (one,) = dumped(root)
    assert (one.name, one.file, one.kind) == ("shop", "dumps/shop.sqlite", "sqlite")
    assert one.rows == {"orders": 500} and one.bytes == kept(root).stat().st_size
    assert one.owner == (os.geteuid(), os.getegid(), 0o640)
    assert one.extra["pragmas"] == {
        "user_version": 7, "application_id": 99, "page_size": 4096, "encoding": "UTF-8", "auto_vacuum": 0,
        "journal_mode": "wal" if wal else "delete",
    }  # fmt: skip
    assert one.extra["path"] == "shop.db" and one.extra["mount"] == "files/data"
    assert os.listdir(kept(root).parent) == ["shop.sqlite"]
    assert kept(root).stat().st_mode & 0o777 == 0o600
    assert rows_in(kept(root)) == 500


def test_rows_that_are_only_in_the_wal_are_in_the_dump(root: Root) -> None:
    make(root, 10)
    with contextlib.closing(open_live(root)) as live:
        live.execute("PRAGMA wal_autocheckpoint = 0")
        live.execute("INSERT INTO orders (note) VALUES ('late')")
        assert os.path.getsize(root.at(f"{SOURCE}/shop.db-wal")) > 0
        assert dumped(root)[0].rows == {"orders": 11}


def test_idle_is_idle(root: Root) -> None:
    make(root)
    with contextlib.closing(open_live(root)) as live:
        live.execute("SELECT count(*) FROM orders").fetchone()
        first = dumped(root)
        before = kept(root).stat()
        assert dumped(root) == first
        after = kept(root).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        live.execute("INSERT INTO orders (note) VALUES ('one more')")
        assert dumped(root)[0].sha256 != first[0].sha256
        assert kept(root).stat().st_ino != before.st_ino


WRITER = """
import sqlite3, sys
live = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
while True:
    live.execute("INSERT INTO orders (note) VALUES ('written')")
    last = live.execute("SELECT last_insert_rowid()").fetchone()[0]
    print(last, flush=True)
"""


@contextlib.contextmanager
def writing(root: Root) -> Iterator[Any]:
    """A process that writes as fast as it can and prints each row once it is committed."""
    live = root.at(f"{SOURCE}/shop.db")
    with subprocess.Popen([sys.executable, "-c", WRITER, live], stdout=subprocess.PIPE, text=True) as writer:
        try:
            yield writer.stdout
        finally:
            writer.kill()


@pytest.mark.parametrize("wal", [True, False])
def test_every_row_acknowledged_before_the_dump_is_in_it(root: Root, wal: bool) -> None:
    make(root, 20_000, wal=wal)
    with writing(root) as said:
        for _ in range(3):
            acknowledged = int(next(said))
            (one,) = dumped(root)
            assert one.rows["orders"] >= acknowledged
            # Ids are without gaps: nothing in the middle is missing either.
            assert rows_in(kept(root), "SELECT max(id) - count(*) FROM orders") == 0
            while int(next(said)) <= one.rows["orders"]:
                pass


def test_a_transaction_that_is_open_is_not_in_the_dump(root: Root) -> None:
    make(root, 10)
    with contextlib.closing(open_live(root)) as live:
        live.execute("BEGIN IMMEDIATE")
        live.execute("INSERT INTO orders (note) VALUES ('perhaps')")
        assert dumped(root)[0].rows == {"orders": 10}
        live.execute("COMMIT")


def test_a_crash_in_the_middle_of_a_write_is_rolled_back(root: Root) -> None:
    make(root, 50_000, wal=False)
    live = root.at(f"{SOURCE}/shop.db")
    crash = (
        "import os, sqlite3, sys; live = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "live.execute('PRAGMA cache_size = 2'); live.execute('BEGIN'); live.execute(\"UPDATE orders SET note = 'torn'\")\n"
        "os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", crash, live], check=False)
    assert os.path.exists(f"{live}-journal")
    assert dumped(root)[0].rows == {"orders": 50_000}
    assert rows_in(kept(root), "SELECT count(*) FROM orders WHERE note = 'torn'") == 0


@pytest.mark.parametrize("name", ["my db#1.sqlite", "a%20b?.db"])
def test_awkward_names(root: Root, name: str) -> None:
    make(root, 3, path=name)
    (one,) = dumped(root, base(name.replace("?", "[?]")))
    assert one.rows == {"orders": 3} and rows_in(Path(root.at(f"{TARGET}/{os.path.basename(one.file)}"))) == 3


def test_a_glob_gives_a_dump_for_each_file(root: Root) -> None:
    make(root, 1, "tenants/ann.db")
    make(root, 2, "tenants/bob.db")
    with contextlib.closing(open_live(root, "tenants/bob.db")) as live:
        live.execute("INSERT INTO orders (note) VALUES ('keeps the -wal there')")
        found = {d.name: d for d in dumped(root, base("tenants/*"))}
    assert set(found) == {"shop/tenants/ann.db", "shop/tenants/bob.db"}
    assert found["shop/tenants/bob.db"].file == "dumps/shop@tenants%2Fbob.db.sqlite"
    assert found["shop/tenants/bob.db"].rows == {"orders": 3}
    gone = kinds.drop_others(root, TARGET, [found["shop/tenants/ann.db"]])
    assert gone == ["shop@tenants%2Fbob.db.sqlite"]


# --- what must be an error and never a dump


def refused(root: Root, database: Database | None = None, timeout: float = 60) -> str:
    with pytest.raises(AgentError) as error:
        dumped(root, database, timeout)
    assert error.value.kind == "dump" and error.value.details["service"] == "shop"
    assert error.value.sentence.startswith("shop: no dump of the sqlite database shop")
    return error.value.sentence


@pytest.mark.parametrize("path", ["missing.db", "none/*.db"])
def test_a_file_that_does_not_exist_is_an_error(root: Root, path: str) -> None:
    assert f"{SOURCE}/{path} does not exist" in refused(root, base(path))


def test_an_empty_file_is_an_error(root: Root) -> None:
    Path(root.at(f"{SOURCE}/shop.db")).touch()
    assert "is empty" in refused(root)


def test_a_file_of_another_kind_is_an_error(root: Root) -> None:
    Path(root.at(f"{SOURCE}/shop.db")).write_bytes(b"no database " * 1000)
    assert "not a database" in refused(root)


def test_a_link_out_of_the_folder_is_refused(root: Root) -> None:
    make(root, 5, "../other/secret.db")
    os.symlink("../other/secret.db", root.at(f"{SOURCE}/shop.db"))
    assert "leads out of its folder" in refused(root)


@pytest.mark.parametrize("text", [False, True])
def test_a_damaged_database_is_an_error_and_the_old_dump_stays(root: Root, text: bool) -> None:
    make(root, 20_000, wal=False)
    name = "shop.sql" if text else "shop.sqlite"
    dumped(root, base(text=text))
    before, content = kept(root, name).stat(), kept(root, name).read_bytes()
    with open(root.at(f"{SOURCE}/shop.db"), "r+b") as live:
        live.seek(4096 * 10)
        live.write(os.urandom(4096 * 20))
    assert "damaged" in refused(root, base(text=text)) or "malformed" in refused(root, base(text=text))
    assert kept(root, name).stat().st_mtime_ns == before.st_mtime_ns
    assert kept(root, name).read_bytes() == content
    assert os.listdir(kept(root).parent) == [name]


def test_an_index_that_disagrees_with_its_table_is_damage(root: Root) -> None:
    make(root, 50, wal=False)
    place = Path(root.at(f"{SOURCE}/shop.db"))
    before = place.read_bytes()
    with contextlib.closing(open_live(root)) as live:
        page = live.execute("SELECT rootpage FROM sqlite_master WHERE name = 'notes'").fetchone()[0]
        live.execute("INSERT INTO orders (note) VALUES ('one more')")
    # The index page of before beside the table of after: each page is sound by itself.
    with open(place, "r+b") as stream:
        stream.seek(4096 * (page - 1))
        stream.write(before[4096 * (page - 1) : 4096 * page])
    assert rows_in(place, "SELECT count(*) FROM orders NOT INDEXED") == 51
    assert "integrity_check" in refused(root)


def test_a_lock_that_stays_ends_in_an_error(root: Root) -> None:
    make(root, 10, wal=False)
    with contextlib.closing(open_live(root)) as live:
        live.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        sentence = refused(root, timeout=1)
        assert "locked" in sentence or "not done after 1 s" in sentence
        assert time.monotonic() - started < 10
        live.execute("ROLLBACK")


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from understudy.agent.data.plan import Database
from understudy.agent.dumps import kinds
from understudy.agent.root import Root
kinds.dump(Root(sys.argv[2]), Database("shop", "sqlite", path="shop.db"), sys.argv[3], sys.argv[4], 60)
print("finished")
"""


def test_killed_midway_the_kept_dump_stays_and_leftovers_go(root: Root) -> None:
    make(root, 100)
    dumped(root)
    content = kept(root).read_bytes()
    with contextlib.closing(open_live(root)) as live:
        live.execute("BEGIN")
        live.executemany("INSERT INTO orders (note) VALUES (?)", [("x" * 900,)] * 80_000)
        live.execute("COMMIT")
    argv = [sys.executable, "-c", KILLED, str(CLONE), root.base, SOURCE, TARGET]
    left = 0
    for delay in (0.0, 0.02, 0.06, 0.15):
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
            until = time.monotonic() + 30
            while (
                not [n for n in os.listdir(kept(root).parent) if n.startswith(".")]
                and time.monotonic() < until
            ):
                time.sleep(0.001)
            time.sleep(delay)
            child.send_signal(signal.SIGKILL)
            assert child.stdout is not None and "finished" not in child.stdout.read()
        assert kept(root).read_bytes() == content
        left += len(os.listdir(kept(root).parent)) - 1
    assert left > 0
    assert dumped(root)[0].rows == {"orders": 80_100}
    assert os.listdir(kept(root).parent) == ["shop.sqlite"]


def test_the_live_folder_is_only_read(root: Root) -> None:
    make(root, 100)
    before = Path(root.at(f"{SOURCE}/shop.db")).stat()
    content = Path(root.at(f"{SOURCE}/shop.db")).read_bytes()
    dumped(root)
    after = Path(root.at(f"{SOURCE}/shop.db")).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert Path(root.at(f"{SOURCE}/shop.db")).read_bytes() == content
    stamp = os.stat(root.at(SOURCE)).st_mtime_ns
    dumped(root)
    assert os.stat(root.at(SOURCE)).st_mtime_ns == stamp


def test_a_database_that_needs_its_application_is_checked_without_its_indexes(root: Root) -> None:
    with contextlib.closing(open_live(root)) as live:
        live.create_collation("house", lambda a, b: (a > b) - (a < b))
        live.execute("CREATE TABLE t (name TEXT COLLATE house)")
        live.execute("CREATE INDEX i ON t (name)")
        live.execute("INSERT INTO t VALUES ('a'), ('b')")
    (one,) = dumped(root)
    assert one.rows == {"t": 2} and one.extra["checked"] == "quick_check"


# --- text

AWKWARD = [
    (1, "plain", 1.5, b"\x00\xff"),
    (2, 'it\'s; "quoted"\r\nlines;\n-- no comment', float("inf"), b""),
    (3, "zero\x00byte", -0.1, None),
    (4, "", 1e300, b"x" * 5000),
    (5, None, 3.141592653589793, b"\n"),
    (-9223372036854775808, "ünïcødé 🎭", 2.0, b"'"),
]


def awkward(root: Root, encoding: str) -> None:
    with contextlib.closing(open_live(root)) as live:
        live.execute(f"PRAGMA encoding = '{encoding}'")
        live.execute("PRAGMA page_size = 8192")
        live.execute("PRAGMA journal_mode = WAL")
        live.execute("PRAGMA user_version = 12")
        live.execute(
            'CREATE TABLE "odd ""name" (id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT, f REAL, b BLOB) -- note'
        )
        live.execute("CREATE TABLE loose (v)")
        live.execute("CREATE TABLE keyed (a TEXT, b INT, PRIMARY KEY (b, a)) WITHOUT ROWID")
        live.execute("CREATE TABLE made (a INT, twice INT GENERATED ALWAYS AS (a * 2) STORED)")
        live.execute('CREATE VIEW v AS SELECT t FROM "odd ""name"')
        live.execute(
            "CREATE TRIGGER tr AFTER INSERT ON loose BEGIN INSERT INTO keyed VALUES ('t;', new.rowid); END"
        )
        live.execute("CREATE VIRTUAL TABLE found USING fts5 (body)")
        live.executemany('INSERT INTO "odd ""name" VALUES (?, ?, ?, ?)', AWKWARD)
        live.executemany("INSERT INTO loose VALUES (?)", [(n,) for n in (1, "1", 1.0, b"1", None)])
        live.execute("DELETE FROM loose WHERE rowid = 2")
        live.execute("INSERT INTO made (a) VALUES (4)")
        live.execute("INSERT INTO found VALUES ('a play about an understudy')")
        live.execute("ANALYZE")


def everything(path: str) -> dict[str, Any]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.text_factory = bytes
        tables = ['"odd ""name"', "keyed", "made", "sqlite_sequence", "sqlite_stat1", "v"]
        found: dict[str, Any] = {
            t: database.execute(f"SELECT * FROM {t} ORDER BY 1").fetchall() for t in tables
        }
        found["loose"] = database.execute("SELECT rowid, v, typeof(v) FROM loose").fetchall()
        found["fts"] = database.execute(
            "SELECT rowid, body FROM found WHERE found MATCH 'understudy'"
        ).fetchall()
        found["types"] = database.execute(
            'SELECT typeof(t), typeof(b), length(CAST(t AS BLOB)) FROM "odd ""name"'
        ).fetchall()
        found["schema"] = sorted(
            database.execute("SELECT type, name, sql FROM sqlite_master").fetchall(), key=repr
        )
        for pragma in ("user_version", "page_size", "encoding", "journal_mode", "integrity_check"):
            found[pragma] = database.execute(f"PRAGMA {pragma}").fetchone()
        return found


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_text_comes_back_as_the_same_database(root: Root, encoding: str) -> None:
    awkward(root, encoding)
    wanted = everything(root.at(f"{SOURCE}/shop.db"))
    (one,) = dumped(root, base(text=True))
    first = kept(root, "shop.sql").read_bytes()
    assert (
        one.file == "dumps/shop.sql"
        and b"\nINSERT INTO" in first
        and os.listdir(kept(root).parent) == ["shop.sql"]
    )
    inode = kept(root, "shop.sql").stat().st_ino
    dumped(root, base(text=True))
    assert kept(root, "shop.sql").stat().st_ino == inode
    done = kinds.load(root, base(text=True), one.facts(), f"{TARGET}/shop.sql", "/srv/new")
    assert done.path == "/srv/new/shop.db" and done.rows == one.rows
    assert everything(root.at("/srv/new/shop.db")) == wanted
    assert wanted["integrity_check"] == (b"ok",) and wanted["journal_mode"] == (b"wal",)


def test_a_small_change_is_a_small_change_of_the_text(root: Root) -> None:
    make(root, 2000)
    dumped(root, base(text=True))
    before = kept(root, "shop.sql").read_text().splitlines()
    with contextlib.closing(open_live(root)) as live:
        live.execute("UPDATE orders SET note = 'changed' WHERE id = 1000")
    dumped(root, base(text=True))
    after = kept(root, "shop.sql").read_text().splitlines()
    assert len(before) == len(after) and sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_a_truncated_text_is_refused(root: Root) -> None:
    make(root, 100)
    (one,) = dumped(root, base(text=True))
    lines = kept(root, "shop.sql").read_bytes().splitlines(keepends=True)
    kept(root, "shop.sql").write_bytes(b"".join(lines[:-2]))
    cut = one.facts() | {"sha256": sqlite.sha256_of(str(kept(root, "shop.sql")))}
    with pytest.raises(AgentError, match="truncated") as error:
        kinds.load(root, base(text=True), cut, f"{TARGET}/shop.sql", "/srv/new")
    assert error.value.kind == "mismatch" and os.listdir(root.at("/srv/new")) == []


# --- the way back


def test_placing_puts_owner_and_mode_and_removes_a_stale_wal(root: Root) -> None:
    make(root, 10)
    (one,) = dumped(root)
    # What a crash left in the tree that the dump is placed in: a log with other rows, which SQLite would replay.
    stale = (
        "import os, sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA journal_mode = WAL')\n"
        "database.execute(\"INSERT INTO orders (note) VALUES ('stale')\"); os._exit(1)"
    )
    new = Path(root.at("/srv/new"))
    new.mkdir()
    (new / "shop.db").write_bytes(kept(root).read_bytes())
    subprocess.run([sys.executable, "-c", stale, str(new / "shop.db")], check=False)
    assert (new / "shop.db-wal").stat().st_size > 0
    (new / "shop.db-journal").write_bytes(b"old")
    owner = [12345, 54321, 0o604] if os.geteuid() == 0 else [os.geteuid(), os.getegid(), 0o604]
    done = kinds.load(root, base(), one.facts() | {"owner": owner}, f"{TARGET}/shop.sqlite", "/srv/new")
    assert done.rows == {"orders": 10} and os.listdir(new) == ["shop.db"]
    info = (new / "shop.db").stat()
    assert [info.st_uid, info.st_gid, info.st_mode & 0o777] == owner
    assert rows_in(new / "shop.db", "SELECT count(*) FROM orders WHERE note = 'stale'") == 0
    assert rows_in(new / "shop.db", "PRAGMA journal_mode") == "wal"


def test_a_file_that_is_not_the_dump_is_not_placed(root: Root) -> None:
    make(root, 10)
    (one,) = dumped(root)
    content = bytearray(kept(root).read_bytes())
    content[-1] ^= 1
    kept(root).write_bytes(content)
    with pytest.raises(AgentError, match="not the dump its manifest names") as error:
        kinds.load(root, base(), one.facts(), f"{TARGET}/shop.sqlite", "/srv/new")
    assert error.value.kind == "mismatch" and not os.path.exists(root.at("/srv/new/shop.db"))


def test_rows_that_differ_from_the_manifest_are_a_mismatch(root: Root) -> None:
    make(root, 10)
    (one,) = dumped(root)
    wrong = one.facts() | {"rows": {"orders": 11}}
    with pytest.raises(AgentError, match="orders: 11 dumped, 10 loaded"):
        kinds.load(root, base(), wrong, f"{TARGET}/shop.sqlite", "/srv/new")
    assert os.listdir(root.at("/srv/new")) == []


def test_rows_of_a_placed_file(root: Root) -> None:
    make(root, 10)
    assert sqlite.rows_of(root.at(f"{SOURCE}/shop.db")) == {"orders": 10}


def test_files_need_no_swap(root: Root) -> None:
    make(root, 1)
    facts = dumped(root)[0].facts()
    assert not kinds.in_database_server("sqlite") and kinds.in_database_server("mariadb")
    assert kinds.state(base(), facts) == {}
    kinds.swap(base(), facts, "t")
    kinds.undo(base(), facts, "t")
    kinds.discard_old(base(), facts)
    assert kinds.set_passwords(root, base()) == []
