"""Nextcloud: /var/www/html with code, config.php and data together, and its tables in a real PostgreSQL.

Its version rules are the real image's: never back, one major version at a time.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets as random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import nextcloud_store as tables
from . import php_config
from .core import Answer, App, Place, Request, as_json, become, page, redirect, refuse, text
from .durable import secret, write_durably

HTML = "/var/www/html"
VERSION = re.compile(r"\$OC_Version = array\((\d+),(\d+),(\d+),(\d+)\)")
Version = tuple[int, ...]


def build(place: Place) -> App:
    html = place.path(HTML)
    wishes = {name: secret(place, name) for name in ("POSTGRES_PASSWORD", "NEXTCLOUD_ADMIN_PASSWORD")}
    claim(html, place)
    version = image_version(place)
    installed = data_version(html)
    check_versions(installed, version)
    place_code(html, place, version)
    if not installed:
        install(html, place, version, wishes)
    elif not (html / "config/config.php").exists():
        refuse(
            "config/config.php is missing although version.php is there: a new installation would hide the loss"
        )
    elif installed < version:
        upgrade(html, version)
    app = App("nextcloud", 80, place, Live(html))
    Cloud(app, html, version)
    return app


def claim(html: Path, place: Place) -> None:
    """What the entrypoint does as root: an empty folder goes to the web server's user. Secrets are read before."""
    user = place.environment.get("STANDIN_USER", "www-data")
    html.mkdir(parents=True, exist_ok=True)
    if user and not any(html.iterdir()):
        shutil.chown(html, user, user)
    if user:
        become(user)


def image_version(place: Place) -> Version:
    numbers = [int(number) for number in re.findall(r"\d+", place.version.split("-")[0])][:3]
    return (*[*numbers, 0, 0, 0][:3], 2)


def data_version(html: Path) -> Version:
    """The version whose code and data are in the folder; empty before the first start."""
    path = html / "version.php"
    match = VERSION.search(path.read_text()) if path.exists() else None
    return tuple(int(number) for number in match.groups()) if match else ()


def dotted(version: Version) -> str:
    return ".".join(str(number) for number in version)


def check_versions(installed: Version, image: Version) -> None:
    if installed > image:
        refuse(f"Can't start Nextcloud because the version of the data ({dotted(installed)}) is higher than the docker "
               f"image version ({dotted(image)}) and downgrading is not supported.")  # fmt: skip
    if installed and image[0] > installed[0] + 1:
        refuse(f"Can't start Nextcloud because upgrading from {dotted(installed)} to {dotted(image)} is not supported. "
               "It is only possible to upgrade one major version at a time.")  # fmt: skip


def place_code(html: Path, place: Place, version: Version) -> None:
    """The application's own files, as the image copies them into the folder."""
    for folder in ("apps", "config", "core", "custom_apps", "data", "lib", "themes"):
        (html / folder).mkdir(exist_ok=True)
    (html / "data").chmod(0o770)
    if data_version(html) == version:
        return
    for name in ("index.php", "status.php", "remote.php", "occ"):
        (html / name).write_text("<?php // the lab's stand-in answers in its place\n")


def write_version(html: Path, version: Version) -> None:
    """Last, when everything else is in place: a start that was cut short is then repeated."""
    numbers = ",".join(str(number) for number in version)
    text = f"<?php\n$OC_Version = array({numbers});\n$OC_VersionString = '{dotted(version[:3])}';\n"
    write_durably(html / "version.php", text.encode())


def install(html: Path, place: Place, version: Version, wishes: dict[str, str | None]) -> None:
    """The first start with an administrator given: database, config.php, the first user's folder."""
    environment = place.environment
    administrator, password = environment.get("NEXTCLOUD_ADMIN_USER"), wishes["NEXTCLOUD_ADMIN_PASSWORD"]
    if not (administrator and password and environment.get("POSTGRES_HOST") and wishes["POSTGRES_PASSWORD"]):
        refuse(
            "the stand-in installs by itself only: NEXTCLOUD_ADMIN_USER, NEXTCLOUD_ADMIN_PASSWORD and POSTGRES_* are needed"
        )
    path = html / "config/config.php"
    resumed = path.exists()
    config = php_config.read(path) if resumed else first_config(environment, version, administrator)
    if not resumed:
        php_config.write(path, config)
    owner = {
        "dbuser": environment.get("POSTGRES_USER", "nextcloud"),
        "dbpassword": str(wishes["POSTGRES_PASSWORD"]),
    }
    print("Starting nextcloud installation", flush=True)
    tables.wait_until_reachable(lambda: tables.install(config, owner, administrator, password, resumed))
    (html / "data" / administrator / "files").mkdir(parents=True, exist_ok=True)
    (html / f"data/appdata_{config['instanceid']}/preview").mkdir(parents=True, exist_ok=True)
    (html / "data/.ocdata").write_text("# Nextcloud data directory\n")
    php_config.write(path, config | {"installed": True})
    write_version(html, version)
    print("Nextcloud was successfully installed", flush=True)


def first_config(environment: Mapping[str, str], version: Version, administrator: str) -> dict[str, Any]:
    """The database role is the installer's own, with a password that is nowhere else."""
    domains = environment.get("NEXTCLOUD_TRUSTED_DOMAINS", "").split()
    return {
        "instanceid": "oc" + random.token_hex(5),
        "passwordsalt": random.token_urlsafe(22),
        "secret": random.token_urlsafe(36),
        "trusted_domains": ["localhost", *domains],
        "datadirectory": f"{HTML}/data",
        "dbtype": "pgsql",
        "version": dotted(version),
        "dbname": environment.get("POSTGRES_DB", "nextcloud"),
        "dbhost": environment["POSTGRES_HOST"],
        "dbtableprefix": "oc_",
        "dbuser": f"oc_{administrator}",
        "dbpassword": random.token_urlsafe(22),
        "installed": False,
    }


def upgrade(html: Path, version: Version) -> None:
    config = php_config.read(html / "config/config.php")
    config["version"] = dotted(version)
    php_config.write(html / "config/config.php", config)
    write_version(html, version)
    print(f"Updated to {dotted(version)}", flush=True)


class Live:
    """The store with the config.php of this moment: `occ` and restores change it while the server runs."""

    def __init__(self, html: Path) -> None:
        self.html = html

    @property
    def files(self) -> tables.Files:
        return tables.Files(php_config.read(self.html / "config/config.php"), self.html / "data")

    def commit(self, with_file: bool) -> dict[str, Any]:
        return self.files.commit(with_file)

    def rows(self) -> dict[str, Any]:
        return self.files.rows()

    def close(self) -> None:
        """Nothing stays open."""


class Cloud:
    """What browsers and clients ask of it."""

    def __init__(self, app: App, html: Path, version: Version) -> None:
        self.html, self.version = html, version
        app.gate = self.maintenance
        app.route("GET", "/status.php", self.status)
        app.route("GET", "/(index.php)?", lambda request: redirect("/login"))
        app.route("GET", "/login", lambda request: page("Nextcloud"))
        app.route("GET", "/remote.php/dav/files/([^/]+)/(.+)", self.download)

    def config(self) -> dict[str, Any]:
        return php_config.read(self.html / "config/config.php")

    def maintenance(self, request: Request) -> Answer | None:
        if request.path == "/status.php" or not self.config().get("maintenance"):
            return None
        return page("Maintenance mode", status=503)

    def status(self, request: Request) -> Answer:
        config = self.config()
        if not config.get("maintenance"):
            with tables.Files(config, self.html / "data").transaction() as cursor:
                cursor.execute("SELECT count(*) FROM oc_appconfig")
        return as_json(status_of(config, self.version))

    def download(self, request: Request) -> Answer:
        assert request.match
        path = (self.html / "data" / request.match[1] / "files" / request.match[2]).resolve()
        if not path.is_relative_to((self.html / "data").resolve()) or not path.is_file():
            return text("File not found\n", 404)
        content = path.read_bytes()
        return Answer(content, headers={"ETag": hashlib.sha256(content).hexdigest()[:16]})


def status_of(config: dict[str, Any], version: Version) -> dict[str, Any]:
    return {
        "installed": bool(config.get("installed")),
        "maintenance": bool(config.get("maintenance")),
        "needsDbUpgrade": config.get("version") != dotted(version),
        "version": dotted(version),
        "versionstring": dotted(version[:3]),
        "edition": "",
        "productname": "Nextcloud",
        "extendedSupport": False,
    }


def as_text(status: dict[str, Any]) -> str:
    """`occ status` as people read it."""
    return "".join(
        f"  - {key}: {json.dumps(value) if isinstance(value, bool) else value}\n"
        for key, value in status.items()
    )
