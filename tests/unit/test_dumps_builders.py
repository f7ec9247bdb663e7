"""Dumps of database servers: the exact commands, and the formats by bytes that real servers wrote."""

from __future__ import annotations

import base64
import hmac
import subprocess
from pathlib import Path
from typing import Any

import pytest

from understudy.agent.data import engine
from understudy.agent.data.plan import Database
from understudy.agent.dumps import (
    common,
    kinds,
    mariadb_sql,
    postgres,
    postgres_format,
    postgres_sql,
    redis,
    redis_format,
)
from understudy.agent.errors import AgentError
from understudy.agent.root import Root

TARGET = "/var/lib/understudy/stage/rest/shop/dumps"

# --- the seam to Docker


def test_exec() -> None:
    assert engine.exec_argv("c1", ["id"]) == ["docker", "exec", "c1", "id"]
    assert engine.exec_argv("c1", ["id"], "www-data", True) == [
        "docker", "exec", "--interactive", "--user", "www-data", "c1", "id",
    ]  # fmt: skip


def test_stop_and_start() -> None:
    compose = ["docker", "compose", "--project-name", "x"]
    assert engine.stop_argv(compose, ["app"], 60) == [*compose, "stop", "--timeout", "60", "app"]
    assert engine.stop_argv(compose) == [*compose, "stop"]
    assert engine.start_argv(compose) == [*compose, "up", "--detach"]
    assert engine.start_argv(compose, ["db"], wait=True, recreate=False) == [
        *compose, "up", "--detach", "--no-deps", "--wait", "--no-recreate", "db",
    ]  # fmt: skip


# --- PostgreSQL


def tail(argv: list[str]) -> list[str]:
    """The command that the shell runs at last, and what comes before it must be the shell."""
    assert argv[:2] == ["sh", "-c"] and argv[3] == "understudy"
    return argv[4:]


def test_pg_dump() -> None:
    assert tail(postgres_sql.dump_argv("", "understudy-7", "my'db", "00000003-1B-1", 90)) == [
        "90", "", "understudy-7", "pg_dump", "--format=custom", "--compress=0", "--snapshot=00000003-1B-1",
        "--lock-wait-timeout=60s", "--no-password", r"--dbname=dbname='my\'db'",
    ]  # fmt: skip


def test_psql_restore_check_and_globals() -> None:
    assert tail(postgres_sql.psql_argv("root", "a", "x", 5)) == [
        "5", "root", "a", "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-password",
        "--set=ON_ERROR_STOP=1", "--dbname=dbname='x'",
    ]  # fmt: skip
    assert tail(postgres_sql.restore_argv("root", "a", "x__new", 5))[3:] == [
        "pg_restore", "--exit-on-error", "--no-tablespaces", "--no-password", "--dbname=dbname='x__new'",
    ]  # fmt: skip
    assert tail(postgres_sql.check_argv("root", "a", 5))[3:] == ["pg_restore", "--file=/dev/null"]
    argv = postgres_sql.globals_argv("root", "a", 5)
    assert tail(argv)[3:] == ["pg_dumpall", "--globals-only", "--no-password"]
    assert "--restrict-key=understudydump" in argv[2]


# The program at the end of each shell is ours here: what it gets as arguments and environment is printed.
PRINTED = 'printf "%s|" "$@" "$PGUSER" "$PGPASSWORD" "$PGAPPNAME"'


@pytest.mark.parametrize(
    ("user", "environment", "said"),
    [
        ("", {}, "a b|postgres||app|"),
        ("", {"POSTGRES_USER": "cloud", "POSTGRES_PASSWORD": "s'3 cret"}, "a b|cloud|s'3 cret|app|"),
        ("boss", {"POSTGRES_USER": "cloud", "POSTGRES_PASSWORD_FILE": "{file}"}, "a b|boss|from file|app|"),
    ],
)
def test_the_containers_own_variables_give_user_and_password(
    tmp_path: Path, user: str, environment: dict[str, str], said: str
) -> None:
    (tmp_path / "secret").write_text("from file\n")
    values = {k: v.format(file=tmp_path / "secret") for k, v in environment.items()}
    argv = postgres_sql._program(user, "app", 9, ["sh", "-c", PRINTED, "x", "a b"])
    out = subprocess.run(
        argv, env={"PATH": "/usr/bin:/bin", **values}, capture_output=True, text=True, check=True
    )
    assert out.stdout == said and out.stderr == ""


def test_a_program_inside_ends_by_itself() -> None:
    argv = postgres_sql._program("", "app", 1, ["sleep", "60"])
    assert subprocess.run(argv, env={"PATH": "/usr/bin:/bin"}, timeout=20, check=False).returncode == 124


PG15 = bytes.fromhex(
    "5047444d50010e000408010000000000003a0000000036000000000b0000000018000000000a000000007e00000000"
    "00000000000100000078001e00000031352e3138202844"
)
PG15_PACKED = bytes.fromhex("5047444d50010e000408010101000000") + PG15[16:]
PG17 = bytes.fromhex(
    "5047444d500110000408010000220000000035000000000b0000000018000000000a000000007e000000000000000000"
    "05000000636c6f7564001e00000031372e31322028446562"
)
PG17_PACKED = bytes.fromhex("5047444d5001100004080101") + PG17[12:]


@pytest.mark.parametrize(
    ("start", "version", "moment", "packed"),
    [
        (PG15, (1, 14, 0), (16, 51), False), (PG15_PACKED, (1, 14, 0), (16, 51), True),
        (PG17, (1, 16, 0), (12, 47), False), (PG17_PACKED, (1, 16, 0), (12, 47), True),
    ],
)  # fmt: skip
def test_the_header_of_a_dump(start: bytes, version: Any, moment: Any, packed: bool) -> None:
    found = postgres_format.header(start)
    assert (found.version, found.moment, found.compressed) == (version, moment, packed)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"", "empty"),
        (b"-- PostgreSQL" * 9, "begin"),
        (PG17[:20], "begin"),
        (PG17[:10] + b"\2" * 60, "known"),
    ],
)
def test_what_is_no_dump(start: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        postgres_format.header(start)


def test_only_the_time_of_creation_may_differ(tmp_path: Path) -> None:
    one, later, other = tmp_path / "one", tmp_path / "later", tmp_path / "other"
    one.write_bytes(PG17 + b"rows" * 1000)
    later.write_bytes(PG17[:13] + b"\x3b" + PG17[14:] + b"rows" * 1000)
    other.write_bytes(PG17 + b"rows" * 999 + b"cows")
    assert one.read_bytes() != later.read_bytes() and postgres._same(str(one), str(later))
    assert not postgres._same(str(one), str(other))
    other.write_bytes(PG17[:60])
    assert not postgres._same(str(one), str(other))


GLOBALS = """\
--
-- PostgreSQL database cluster dump
--

\\restrict understudydump

SET default_transaction_read_only = off;

CREATE ROLE cloud;
ALTER ROLE cloud WITH SUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS PASSWORD 'SCRAM-SHA-256$4096:Z==$C=:J=';
CREATE ROLE grp;
ALTER ROLE grp WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;
CREATE ROLE "odd; ""name";
ALTER ROLE "odd; ""name" WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;
COMMENT ON ROLE grp IS 'it''s; a
reader';
ALTER ROLE grp SET work_mem TO '1MB';
GRANT grp TO "odd; ""name" WITH ADMIN OPTION, INHERIT TRUE GRANTED BY cloud;
GRANT grp TO cloud GRANTED BY cloud;
CREATE TABLESPACE fast OWNER cloud LOCATION '/fast';
\\unrestrict understudydump

--
-- PostgreSQL database cluster dump complete
--

"""


def test_roles_of_a_globals_dump() -> None:
    found = postgres_format.roles(GLOBALS)
    assert list(found) == ["cloud", "grp", 'odd; "name']
    assert found['odd; "name'].statements == [
        'CREATE ROLE "odd; ""name";',
        'ALTER ROLE "odd; ""name" WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;',
        'GRANT grp TO "odd; ""name" WITH ADMIN OPTION, INHERIT TRUE;',
    ]
    assert found["grp"].statements[2:] == [
        "COMMENT ON ROLE grp IS 'it''s; a\nreader';",
        "ALTER ROLE grp SET work_mem TO '1MB';",
        'GRANT grp TO "odd; ""name" WITH ADMIN OPTION, INHERIT TRUE;',
        "GRANT grp TO cloud;",
    ]
    assert "PASSWORD 'SCRAM-SHA-256$4096:Z==$C=:J=';" in found["cloud"].statements[1]


def test_globals_are_the_same_but_for_the_random_word(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text(GLOBALS)
    other.write_text(GLOBALS.replace("restrict understudydump", "restrict hS6DDi3H"))
    assert postgres_format.same_globals(str(one), str(other))
    other.write_text(GLOBALS.replace("1MB", "2MB"))
    assert not postgres_format.same_globals(str(one), str(other))


EXTRA: dict[str, Any] = {
    "database": "cloud", "owner": 'o"wner', "encoding": "UTF8", "comment": "it's\\",
    "acl": [["", "CONNECT", False], ["reader", "TEMPORARY", True]],
    "settings": [["", "search_path=a, b"], ["reader", "TimeZone=UTC"]],
    "properties": {"datcollate": "C.UTF-8", "datctype": "C", "datlocprovider": "i", "datlocale": "und", "datconnlimit": 5},
}  # fmt: skip


def test_the_new_database_is_made_like_the_dumped_one() -> None:
    assert postgres_sql.create_database(EXTRA, "cloud__new") == [
        'CREATE DATABASE "cloud__new" TEMPLATE template0 OWNER "o""wner" ENCODING \'UTF8\' LC_COLLATE \'C.UTF-8\' '
        "LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'und' CONNECTION LIMIT 5;",
        "COMMENT ON DATABASE \"cloud__new\" IS  E'it''s\\\\';",
        'REVOKE ALL ON DATABASE "cloud__new" FROM PUBLIC;',
        'REVOKE ALL ON DATABASE "cloud__new" FROM "o""wner";',
        'REVOKE ALL ON DATABASE "cloud__new" FROM "reader";',
        'GRANT CONNECT ON DATABASE "cloud__new" TO PUBLIC;',
        'GRANT TEMPORARY ON DATABASE "cloud__new" TO "reader" WITH GRANT OPTION;',
        'ALTER DATABASE "cloud__new" SET search_path = a, b;',
        'ALTER ROLE "reader" IN DATABASE "cloud__new" SET TimeZone = \'UTC\';',
    ]


def test_the_swap_is_one_transaction() -> None:
    lines = postgres_sql.swap("cloud", "t1", True).splitlines()
    begin, commit = lines.index("BEGIN;"), lines.index("COMMIT;")
    assert [line for line in lines[begin:commit] if line.startswith("ALTER")] == [
        'ALTER DATABASE "cloud" RENAME TO "cloud__old";',
        "ALTER DATABASE \"cloud__old\" SET understudy.token = 't1';",
        'ALTER DATABASE "cloud__new" RENAME TO "cloud";',
    ]
    back = postgres_sql.unswap("cloud", True).splitlines()
    assert [line for line in back if line.startswith("ALTER")] == [
        'ALTER DATABASE "cloud" RENAME TO "cloud__new";',
        'ALTER DATABASE "cloud__old" RESET understudy.token;',
        'ALTER DATABASE "cloud__old" RENAME TO "cloud";',
    ]


def test_a_password_is_sent_as_its_hash() -> None:
    # The example of RFC 7677: the server's signature there can be made from what we store.
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    said = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
    stored = postgres.scram("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert stored.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    server_key = base64.b64decode(stored.rpartition(":")[2])
    signature = base64.b64encode(hmac.digest(server_key, said.encode(), "sha256"))
    assert signature == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert postgres._fits(stored, "pencil") and not postgres._fits(stored, "pencils")
    assert not postgres._fits("", "pencil") and not postgres._fits("md5abc", "pencil")
    assert "pencil" not in postgres_sql.set_password("r", stored)


# --- MariaDB


def test_mariadb_dump() -> None:
    assert tail(mariadb_sql.dump_argv("", "blog", 60)) == [
        "60", "", "-dump", "--single-transaction", "--skip-dump-date", "--no-tablespaces",
        "--default-character-set=utf8mb4", "--skip-extended-insert", "--no-autocommit", "--routines", "--events",
        "--triggers", "--hex-blob", "blog",
    ]  # fmt: skip
    assert tail(mariadb_sql.client_argv("root", 60, "blog__new"))[3:] == [
        "--batch", "--skip-column-names", "--binary-mode", "--default-character-set=utf8mb4", "--database=blog__new",
    ]  # fmt: skip


CLIENT = """\
#!/bin/sh
for word; do case $word in --user=*) user=${word#--user=};; --version) echo "mysqldump Ver 8.4"; exit;; esac; done
case "$user:$MYSQL_PWD" in LOGINS) ;; *) echo "ERROR 1045 (28000): Access denied for user '$user'" >&2; exit 1;; esac
case "$*" in *--execute*) ;; *) printf '%s|' "${0##*/}" "$@";; esac
"""


@pytest.mark.parametrize(
    ("user", "logins", "code", "said"),
    [
        ("", "root:r00t", 0, "mysqldump|--set-gtid-purged=OFF|--user=root|"),
        ("", "blog:it\\'s", 0, "mysqldump|--set-gtid-purged=OFF|--user=blog|"),
        ("", "nobody:x", 1, "Access denied for user 'blog'"),
        ("root", "root:r00t", 0, "--user=root|"),
        ("blog", "blog:it\\'s", 0, "--user=blog|"),
    ],
)
def test_root_then_the_units_own_user(tmp_path: Path, user: str, logins: str, code: int, said: str) -> None:
    for name in ("mysql", "mysqldump"):
        (tmp_path / name).write_text(CLIENT.replace("LOGINS", logins))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "root").write_text("r00t\n")
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "MYSQL_ROOT_PASSWORD_FILE": str(tmp_path / "root"),
        "MARIADB_USER": "blog", "MARIADB_PASSWORD": "it's",
    }  # fmt: skip
    argv = mariadb_sql.dump_argv(user, "blog", 20)
    out = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert out.returncode == code and said in out.stdout + out.stderr
    assert "r00t" not in out.stdout + out.stderr and "it's" not in out.stdout + out.stderr


MARIADB = """\
/*M!999999\\- enable the sandbox mode */
-- MariaDB dump 10.20-11.8.9-MariaDB, for debian-linux-gnu (x86_64)
--
-- Dumping data for table `child`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `child` WRITE;
/*!40000 ALTER TABLE `child` DISABLE KEYS */;
INSERT INTO `child` VALUES (1,1,0x00FF);
INSERT INTO `child` VALUES (2,2,NULL);
/*!40000 ALTER TABLE `child` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 trigger tr before insert on child for each row begin
INSERT INTO `child` VALUES (99,'x');
end
*/;;
DELIMITER ;
LOCK TABLES `odd``name` WRITE;
INSERT INTO `odd``name` (`a`, `b`) VALUES (3,'INSERT INTO `x` VALUES\\n');
INSERT INTO `odd``namesake` VALUES (1);
UNLOCK TABLES;
LOCK TABLES `empty` WRITE;
UNLOCK TABLES;
-- Dump completed
"""


def test_rows_are_counted_from_a_dump() -> None:
    lines = MARIADB.encode().splitlines(keepends=True)
    assert mariadb_sql.count_rows(lines) == ({"child": 2, "odd`name": 1, "empty": 0}, True)
    assert mariadb_sql.count_rows([*lines, b"\n"])[1]


@pytest.mark.parametrize("cut", [1, 4, 12, 27])
def test_a_dump_without_its_end_is_truncated(cut: int) -> None:
    assert not mariadb_sql.count_rows(MARIADB.encode().splitlines(keepends=True)[:-cut])[1]


def test_tables_move_in_one_statement() -> None:
    moves = [
        ("a`b", "blog", "blog__old"),
        ("a`b", "blog__new", "blog"),
        ("understudy__swap", "blog__new", "blog__old"),
    ]
    assert mariadb_sql.rename(moves) == (
        "RENAME TABLE `blog`.`a``b` TO `blog__old`.`a``b`, `blog__new`.`a``b` TO `blog`.`a``b`, "
        "`blog__new`.`understudy__swap` TO `blog__old`.`understudy__swap`;\n"
    )


def test_users_go_to_a_file_and_back() -> None:
    printed = [
        "-- user 6f635f61646d696e 25",
        "CREATE USER `oc_admin`@`%` IDENTIFIED BY PASSWORD '*2C'",
        "GRANT ALL ON `c`.* TO x",
    ]
    text = mariadb_sql.users_text(printed)
    assert mariadb_sql.users_of(text) == {("oc_admin", "%"): [f"{line};" for line in printed[1:]]}
    assert "SHOW GRANTS FOR 'o''x'@'%';" in mariadb_sql.show_users([("o'x", "%")])
    with pytest.raises(ValueError, match="truncated"):
        mariadb_sql.users_of(text[:-3])


# --- Redis

RDB = bytes.fromhex(
    "524544495330303132fa0972656469732d76657205382e302e32fa0a72656469732d62697473c040fa056374696d65c26a72056bfa087573"
    "65642d6d656dc2c0e10c00fa0e7265706c2d73747265616d2d6462c000fa077265706c2d6964286166306332666236303164393161313337"
    "38306137653338316532663330643061633334373262 37fa0b7265706c2d6f6666736574c010fa08616f662d62617365c000fe00fb010000"
    "01610162fe03fb0101fc971f560da20100000001630164ff1b590c49ccb14a76".replace(" ", "")
)
MARK = b"5e0749b7219ccaf3970bb6f04b1c6d74e0f45abc"


def test_a_real_rdb(tmp_path: Path) -> None:
    file = tmp_path / "dump.rdb"
    file.write_bytes(RDB + MARK)
    with open(file, "r+b") as stream:
        assert redis_format.trimmed(stream) == 200
        assert redis_format.trimmed(stream) == 200
    assert file.read_bytes() == RDB
    found = redis_format.facts(str(file))
    assert found.first == (0, 1) and found.size == 200 and found.skip[-1] == (192, 200)


def test_times_and_memory_are_no_change_and_a_value_is(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(RDB)
    later = RDB.replace(bytes.fromhex("c26a72056b"), bytes.fromhex("c26b72056b"))
    later = later.replace(bytes.fromhex("c2c0e10c00"), bytes.fromhex("c17fff")).replace(b"af0c2f", b"000000")
    other.write_bytes(later[:-8] + b"checksum")
    assert redis_format.same(str(one), str(other))
    other.write_bytes(RDB.replace(b"\x01a\x01b", b"\x01a\x01c"))
    assert not redis_format.same(str(one), str(other))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"-ERR unknown", "begin"), (RDB[:-1], "truncated"), (RDB[:30], "truncated")],
)
def test_what_is_no_rdb(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        redis_format.facts(str(tmp_path / "x"))


INFO = """\
# Server\r
redis_version:8.0.2\r
# Keyspace\r
db0:keys=1,expires=0,avg_ttl=0,subexpiry=0\r
db3:keys=12,expires=4,avg_ttl=969216,subexpiry=0\r
config:appendonly=yes
config:dir=/data/sub
config:dbfilename=
config:owner=999 1000
"""


def test_what_a_redis_server_tells() -> None:
    told = redis.parse(INFO)
    assert (told["version"], told["product"], told["keyspace"]) == ("8.0.2", "redis", {0: (1, 0), 3: (12, 4)})
    assert (told["appendonly"], told["dir"], told["dbfilename"], told["owner"]) == (
        "yes",
        "/data/sub",
        "dump.rdb",
        "999 1000",
    )
    with pytest.raises(ValueError, match="NOAUTH: give its password to the container"):
        redis.parse("NOAUTH Authentication required.\n")


def test_where_the_redis_password_is() -> None:
    assert redis._login_of(["docker-entrypoint.sh", "redis-server", "--requirepass", "x y"]) == ("", "x y")
    assert redis._login_of(["redis-server", "/etc/redis.conf"]) == ("/etc/redis.conf", "")
    assert redis._login_of(["redis-server", "--requirepass"]) == ("", "")


def test_the_servers_folder_in_its_mount() -> None:
    assert redis.folder_of("/data", ["/data", "/run"]) == ""
    assert redis.folder_of("/data/sub", ["/data", "/"]) == "sub"
    assert redis.folder_of("/data2", ["/data"]) is None


@pytest.mark.parametrize(
    ("product", "version", "appendonly", "files"),
    [
        ("redis", "8.0.2", "no", ["dump.rdb"]),
        ("redis", "6.2.1", "yes", ["appendonly.aof", "dump.rdb"]),
        (
            "valkey",
            "8.1.0",
            "yes",
            ["aof", "aof/appendonly.aof.1.base.rdb", "aof/appendonly.aof.manifest", "dump.rdb"],
        ),
    ],
)
def test_a_redis_dump_is_placed(
    tmp_path: Path, product: str, version: str, appendonly: str, files: list[str]
) -> None:
    root = Root(str(tmp_path))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/r.rdb").write_bytes(RDB)
    extra = {
        "folder": "sub", "product": product, "appendonly": appendonly, "dbfilename": "dump.rdb",
        "appendfilename": "appendonly.aof", "appenddirname": "aof",
    }  # fmt: skip
    facts = {
        "kind": "redis", "sha256": common.sha256_of(str(tmp_path / "in/r.rdb")), "bytes": 200, "rows": {"db0": 1},
        "version": version, "owner": None, "extra": extra,
    }  # fmt: skip
    for _ in range(2):
        kinds.load(root, Database("r", "redis"), facts, "/in/r.rdb", "/new")
    base = tmp_path / "new/sub"
    assert sorted(str(p.relative_to(base)) for p in base.rglob("*")) == files
    assert (base / "dump.rdb").read_bytes() == RDB
    if len(files) == 4:
        assert (
            base / "aof/appendonly.aof.manifest"
        ).read_text() == "file appendonly.aof.1.base.rdb seq 1 type b\n"
    with pytest.raises(AgentError) as error:
        kinds.load(root, Database("r", "redis"), facts | {"sha256": "0"}, "/in/r.rdb", "/new")
    assert error.value.kind == "mismatch"


# --- what is kept


def place(tmp_path: Path) -> common.Place:
    made = common.Place(Root(str(tmp_path)), TARGET, Database("db", "postgres"))
    made.ready()
    return made


def written(made: common.Place, content: bytes) -> str:
    path = made.temp("db.x")
    Path(path).write_bytes(content)
    return path


def test_a_dump_that_fails_its_check_never_replaces_the_kept_one(tmp_path: Path) -> None:
    made = place(tmp_path)
    sha, size = made.keep(written(made, b"good"), "db.x", lambda: None)
    assert size == 4

    def bad() -> None:
        raise made.failed("it is torn")

    with pytest.raises(AgentError, match="shop: no dump of the postgres database db: it is torn") as error:
        made.keep(written(made, b"torn"), "db.x", bad)
    assert error.value.details == {"service": "shop", "database": "db"}
    kept = tmp_path / TARGET[1:] / "db.x"
    assert kept.read_bytes() == b"good" and common.sha256_of(str(kept)) == sha
    assert [p.name for p in kept.parent.iterdir()] == ["db.x"]


def test_equal_content_keeps_the_file(tmp_path: Path) -> None:
    made = place(tmp_path)
    made.keep(written(made, b"good"), "db.x", lambda: None)
    before = (tmp_path / TARGET[1:] / "db.x").stat()

    def never() -> None:
        raise AssertionError("an equal dump needs no second check")

    made.keep(written(made, b"good"), "db.x", never)
    after = (tmp_path / TARGET[1:] / "db.x").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_leftovers_of_a_killed_run_go(tmp_path: Path) -> None:
    made = place(tmp_path)
    folder = tmp_path / TARGET[1:]
    for name in (".db.x.1.new", ".db.x.copy.1.new-wal", "db.x", ".keep"):
        (folder / name).touch()
    made.ready()
    assert sorted(p.name for p in folder.iterdir()) == [".keep", "db.x"]


def test_names_never_meet() -> None:
    names = {
        common.file_name("a", "b", ".x"),
        common.file_name("a@b", "", ".x"),
        common.file_name("a/b", "", ".x"),
    }
    assert names == {"a@b.x", "a%40b.x", "a%2Fb.x"}


def test_ranges_are_left_out_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "_CHUNK", 4)
    (tmp_path / "a").write_bytes(b"0123456789abcdef")
    (tmp_path / "b").write_bytes(b"012xxxxx89abcdef")
    assert common.same_bytes(str(tmp_path / "a"), str(tmp_path / "b"), [(3, 8)])
    assert not common.same_bytes(str(tmp_path / "a"), str(tmp_path / "b"), [(3, 7)])
    assert not common.same_bytes(str(tmp_path / "a"), str(tmp_path / "b"))


def test_a_kind_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="kind 'oracle' is not known"):
        kinds.dump(Root(str(tmp_path)), Database("x", "oracle"), None, TARGET)
