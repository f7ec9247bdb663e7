"""The cached Compose hashes: fast when nothing changed, never stale."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from understudy.agent import survey

from .fake_docker import DOCKER, calls
from .world import STATE, World


def ask(world: World, **request: Any) -> dict[str, Any]:
    return survey.run(request, world.root)


class TestStackHashes:
    STACK = {"service": "web", "project": "web", "path": "/srv/web", "files": ["/srv/web/compose.yaml"], "env_file": None,
             "profiles": []}  # fmt: skip

    @pytest.fixture(autouse=True)
    def files(self, world: World) -> None:
        world.write("/srv/web/compose.yaml", "services: {}")
        world.write("/srv/web/.env", "A=1")
        world.at(STATE).mkdir(parents=True)

    def hashes(self, world: World, **more: Any) -> Any:
        return ask(world, stacks=[{**self.STACK, **more}])["stack_hashes"]["web"]

    def test_a_second_survey_starts_no_compose(self, world: World, docker: Path) -> None:
        first = self.hashes(world)
        assert set(first) == {"app"} and calls(docker, "config --hash") == 1
        assert self.hashes(world) == first and calls(docker, "config --hash") == 1

    @pytest.mark.parametrize("change", ["compose", "dotenv", "project", "profile", "docker", "extra input"])
    def test_whatever_the_hash_depends_on_makes_it_ask_again(
        self, world: World, docker: Path, change: str
    ) -> None:
        world.write("/srv/web/extra", "1")
        self.hashes(world, inputs=["/srv/web/extra"])
        more: dict[str, Any] = {"inputs": ["/srv/web/extra"]}
        actions: dict[str, Callable[[], object]] = {
            "compose": lambda: world.write("/srv/web/compose.yaml", "services: {a: {}}"),
            "dotenv": lambda: world.write("/srv/web/.env", "A=2"),
            "project": lambda: more.update(project="other"),
            "profile": lambda: more.update(profiles=["media"]),
            "docker": lambda: docker.write_text(f"{DOCKER}# a new version\n"),
            "extra input": lambda: world.write("/srv/web/extra", "2"),
        }
        actions[change]()
        self.hashes(world, **more)
        assert calls(docker, "config --hash") == 2

    def test_time_stamps_do_not_matter(self, world: World, docker: Path) -> None:
        self.hashes(world)
        os.utime(world.at("/srv/web/compose.yaml"), (1, 1))
        self.hashes(world)
        assert calls(docker, "config --hash") == 1

    @pytest.mark.parametrize("line", ["    env_file: [x.env]", "include:", "    extends:", '  "env_file": x'])
    def test_files_that_we_do_not_know_of_are_never_cached(
        self, world: World, docker: Path, line: str
    ) -> None:
        world.write("/srv/web/compose.yaml", f"services:\n{line}\n")
        self.hashes(world)
        self.hashes(world)
        assert calls(docker, "config --hash") == 2
        self.hashes(world, inputs=[])
        self.hashes(world, inputs=[])
        assert calls(docker, "config --hash") == 3

    def test_what_compose_objects_to_is_reported_and_asked_again(self, world: World, docker: Path) -> None:
        for _ in range(2):
            assert self.hashes(world, project="broken") == {
                "error": "yaml: line 3: did not find expected key"
            }
        assert calls(docker, "config --hash") == 2

    def test_file_that_is_not_there_yet(self, world: World, docker: Path) -> None:
        found = self.hashes(world, files=["/srv/web/none.yaml"])
        assert found == {"error": "/srv/web/none.yaml: no such file or directory"} and not calls(
            docker, "config --hash"
        )

    def test_a_host_that_we_never_changed_gets_no_cache(self, world: World, docker: Path) -> None:
        world.at(STATE).rmdir()
        self.hashes(world)
        assert calls(docker, "config --hash") == 1 and not world.at(STATE).exists()

    def test_damaged_cache_only_costs_time(self, world: World, docker: Path) -> None:
        world.write(f"{STATE}/cache/compose-hashes.json", "{")
        first = self.hashes(world)
        assert self.hashes(world) == first and calls(docker, "config --hash") == 1
        assert stat.S_IMODE(world.at(f"{STATE}/cache").stat().st_mode) == 0o700
