"""Run on a host: `make FOLDER` fills it with every oddity a file can have, `show FOLDER` prints all of it as JSON."""

import hashlib
import json
import os
import subprocess
import sys


def make(folder):
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    for number, mode in enumerate((0o000, 0o400, 0o644, 0o777, 0o600)):
        put(f"mode-{mode:03o}", b"content %d" % number)
        os.chown(f"mode-{mode:03o}", 40_000 + number, 60_000 + number)  # ids that no /etc/passwd knows
        os.chmod(f"mode-{mode:03o}", mode)
    os.mkdir("sticky-and-setgid")
    os.chown("sticky-and-setgid", 1234, 4321)
    os.chmod("sticky-and-setgid", 0o3775)
    put("linked", b"two names")
    os.link("linked", "sticky-and-setgid/other-name")
    with open("sparse", "wb") as file:
        file.truncate(50_000_000)
        file.seek(20_000_000)
        file.write(b"x" * 4096)
    for name in (
        b"new\nline",
        b"tab\tand space ",
        b"-rf",
        b"*",
        b"[glob]?",
        b"back\\slash",
        b"'quotes\"",
        b"latin\xe9",
        "ünï日本".encode(),
        b"$(id)",
        b"n" * 255,
    ):
        put(name, b"named " + name)
    os.symlink("linked", "to-a-file")
    os.symlink("/nowhere/at all", "to-nothing")
    os.mkfifo("fifo")
    os.mkdir("empty")
    put("old", b"of long ago")
    os.utime("old", ns=(1, 981_173_106_123_456_789))
    os.utime("to-nothing", ns=(1, 981_173_106_000_000_001), follow_symlinks=False)
    os.setxattr("linked", "user.comment", "größe".encode())
    os.setxattr("mode-400", "user.binary", bytes(range(256)))
    os.setxattr("sparse", "trusted.overseer", b"root only")
    run("setfacl", "-m", "u:4242:rwx,g:4343:r,m::rwx", "mode-644")
    run("setfacl", "-m", "u:4242:rx", "-d", "-m", "u:4242:rw,g::r", "empty")
    put("empty/inherits", b"the default ACL of its folder")


def put(name, content):
    with open(name, "wb") as file:
        file.write(content)


def run(*argv):
    subprocess.run(argv, check=True)


def show(folder):
    os.chdir(folder)
    inodes = {}
    rows = {}
    for base, folders, files in os.walk(b"."):
        for name in sorted([*folders, *files]):
            path = os.path.join(base, name)
            rows[path.hex() if not text(path) else path.decode()] = row(path, inodes)
    rows["."] = row(b".", inodes)
    print(json.dumps(rows, sort_keys=True))


def text(path):
    try:
        path.decode()
    except ValueError:
        return False
    return True


def row(path, inodes):
    info = os.lstat(path)
    found = {"mode": oct(info.st_mode), "owner": [info.st_uid, info.st_gid], "mtime": info.st_mtime_ns}
    if os.path.islink(path):
        return {**found, "to": os.readlink(path).decode()}
    xattrs = {name: os.getxattr(path, name).hex() for name in os.listxattr(path)}
    found["xattrs"] = xattrs  # ACLs are among them: system.posix_acl_access and _default
    if not os.path.isfile(path):
        return found
    first = inodes.setdefault(info.st_ino, path.hex())
    with open(path, "rb") as file:
        sha = hashlib.sha256(file.read()).hexdigest()
    return {
        **found,
        "size": info.st_size,
        "links": info.st_nlink,
        "same-as": first,
        "sha": sha,
        "sparse": info.st_blocks * 512 < info.st_size,
    }


{"make": make, "show": show}[sys.argv[1]](sys.argv[2])
