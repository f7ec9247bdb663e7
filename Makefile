# Every target is safe to run twice. `make help` lists them.
UNDERSTUDY := .venv/bin/understudy
PYTHON_TOOLS := .venv/bin
# Both hosts converged with guards, repositories made, a snapshot of what the primary owns.
MOVING_LAB := export UNDERSTUDY_LAB_RESOLVERS=lab && $(UNDERSTUDY) converge -i inventory/lab.py && $(UNDERSTUDY) repo init -i inventory/lab.py \
	&& $(UNDERSTUDY) backup -i inventory/lab.py --confirm-size
.DEFAULT_GOAL := help
VERBS := update watch backup restore status edge-check repo-check repo-prune audit import init drill switchover failover snapshots mount jobs kit
VERBS += repo-init repo-unhide repo-copy repo-schedule repo-tamper secrets-edit secrets-generate secrets-check host-footprint host-leave host-guard
.PHONY: $(VERBS) help demo test lint format unit lab-test plan converge retire measure-audit measure-compose measure-restores measure-failing measure-throughput measure-debian12 measure-farm measure-switchovers measure-failovers measure-troubles measure-auto measure-refreshes measure-idle lab-up lab-down lab-list bootstrap lock wheel clean bench replica-up replica-down replica-list measure-replica

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: bootstrap ## The whole story before your eyes on two practice hosts: converge, lose, restore, fail over, come back
	@$(UNDERSTUDY) lab down
	@$(UNDERSTUDY) lab up --hosts lemongrab,standby
	@$(UNDERSTUDY) demo

test: bootstrap ## Lint, types, unit tests, then the tests on real lab hosts
	@scripts/test.sh all

lint: bootstrap ## Style and types
	@scripts/test.sh lint

unit: bootstrap ## Unit tests alone, no Docker
	@scripts/test.sh unit

lab-test: bootstrap ## The tests on real lab hosts alone
	@scripts/test.sh lab

format: bootstrap ## Format the Python code
	@$(PYTHON_TOOLS)/ruff format -q . && $(PYTHON_TOOLS)/ruff check -q --fix .

plan: bootstrap ## What a converge would change (ARGS="...")
	@$(UNDERSTUDY) plan $(ARGS)

converge: bootstrap ## Bring the hosts to what the description says (ARGS="...")
	@$(UNDERSTUDY) converge $(ARGS)

retire: bootstrap ## Take a service away, keep its data (ARGS="SERVICE")
	@$(UNDERSTUDY) retire $(ARGS)

update: bootstrap ## Bring one service to its declared version, back if it does not serve (ARGS="SERVICE")
	@$(UNDERSTUDY) update $(ARGS)

backup: bootstrap ## Back up now (ARGS="[SERVICE...]")
	@$(UNDERSTUDY) backup $(ARGS)

restore: bootstrap ## Bring data back (ARGS="SERVICE --dry-run")
	@$(UNDERSTUDY) restore $(ARGS)

status: bootstrap ## How well everything is kept; fails when anything is overdue
	@$(UNDERSTUDY) status $(ARGS)

watch: bootstrap ## What hosts that could take over see of the owners; fails when one is not well
	@$(UNDERSTUDY) watch $(ARGS)

edge-check: bootstrap ## Measure your zone with a canary: the conditional batch, and how fast changes arrive
	@$(UNDERSTUDY) edge check $(ARGS)

repo-check: bootstrap ## Freshness and upkeep, judged from the repositories alone
	@$(UNDERSTUDY) repo check $(ARGS)

repo-prune: bootstrap ## Forget what no rule keeps, with your key
	@$(UNDERSTUDY) repo prune $(ARGS)

bench: bootstrap ## No-op converge beside ansible-core on the same lab host
	@$(PYTHON_TOOLS)/python tests/measure/converge_bench.py

measure-farm: bootstrap ## No-op converges of ten hosts beside one (ARGS="--hosts 10 --rounds 5")
	@PYTHONPATH=. .venv/bin/python tests/measure/farm.py $(ARGS)

measure-debian12: bootstrap ## The tests of import and leave on hosts that are Debian 12
	@PYTHONPATH=. .venv/bin/python tests/measure/debian12.py $(ARGS)

measure-audit: bootstrap ## Commands and wall time of an audit, with 8 and with 20 projects
	@$(PYTHON_TOOLS)/python tests/measure/audit_size.py

measure-compose: bootstrap ## Read every Compose file below a folder as the catalogue does (ARGS="FOLDER")
	@$(PYTHON_TOOLS)/python tests/measure/compose_corpus.py $(ARGS)

measure-restores: bootstrap ## Restore everything 20 times while it is written (ARGS="rounds"); takes half an hour
	@$(PYTHON_TOOLS)/python tests/measure/restore_loop.py $(ARGS)

measure-failing: bootstrap ## A service that fails for 100 days beside one that does not (ARGS="days")
	@$(PYTHON_TOOLS)/python tests/measure/failing_days.py $(ARGS)

measure-switchovers: bootstrap ## 10 planned switchovers in the practice world, written to all the time (ARGS="--moves 10 --delays 0.2,3")
	@$(UNDERSTUDY) lab up
	@$(MOVING_LAB) && PYTHONPATH=. UNDERSTUDY_LAB_RESOLVERS=lab .venv/bin/python tests/measure/switchovers.py $(ARGS)

measure-failovers: bootstrap ## 10 failovers with the primary's power cut at random moments (ARGS="--rounds 10 --seed 1")
	@$(UNDERSTUDY) lab up
	@$(MOVING_LAB) && PYTHONPATH=. UNDERSTUDY_LAB_RESOLVERS=lab .venv/bin/python tests/measure/failovers.py $(ARGS)

measure-auto: bootstrap ## Auto mode: the owner dies, is cut off, loses its line or its lease's store (ARGS="[SCENARIO...]")
	@$(UNDERSTUDY) lab up
	@export UNDERSTUDY_LAB_AUTO=$${UNDERSTUDY_LAB_AUTO:-240} && $(MOVING_LAB) && PYTHONPATH=. .venv/bin/python tests/measure/auto.py $(ARGS)

measure-troubles: bootstrap ## Moves with lost answers, two operators, killed control machines, wrong clocks, cut lines (ARGS="[SCENARIO...]")
	@$(UNDERSTUDY) lab up
	@$(MOVING_LAB) && PYTHONPATH=. UNDERSTUDY_LAB_RESOLVERS=lab .venv/bin/python tests/measure/troubles.py $(ARGS)

measure-refreshes: bootstrap ## A standby's refresh killed 10 times and fed a shrunken snapshot, then taken over (ARGS="--kills 10")
	@$(UNDERSTUDY) lab up
	@$(MOVING_LAB) && PYTHONPATH=. UNDERSTUDY_LAB_RESOLVERS=lab .venv/bin/python tests/measure/refresh_kills.py $(ARGS)

measure-idle: bootstrap ## An idle tick beside its dumps and bare restic, on 90 days of ticks (ARGS="--rounds 11 --snapshots 350")
	@PYTHONPATH=. .venv/bin/python tests/measure/idle_tick.py $(ARGS)

measure-throughput: bootstrap ## Restores of 2 GB beside bare restic (ARGS="rounds GB")
	@$(PYTHON_TOOLS)/python tests/measure/restore_throughput.py $(ARGS)

replica-up: bootstrap ## Create or complete the replica at Hetzner, then converge it (ARGS="--dry")
	@$(UNDERSTUDY) replica up $(ARGS)

replica-down: bootstrap ## Destroy the replica, after asking (ARGS="HOST")
	@$(UNDERSTUDY) replica down $(ARGS)

replica-list: bootstrap ## Replicas at Hetzner: state, age, cost
	@$(UNDERSTUDY) replica list $(ARGS)

measure-replica: bootstrap ## Measure `replica up` in the practice world: phases, kills, a wrong key, writes (minutes)
	@$(PYTHON_TOOLS)/python tests/measure/replica_up.py $(ARGS)

audit: bootstrap ## What would be lost if a machine died now; reads only (ARGS="USER@HOST")
	@$(UNDERSTUDY) audit $(ARGS)

import: bootstrap ## Take in a host that already runs (ARGS="USER@HOST")
	@$(UNDERSTUDY) import $(ARGS)

init: bootstrap ## Write a project of your own (ARGS="DIR --host root@server --domain example.org")
	@$(UNDERSTUDY) init $(ARGS)

drill: bootstrap ## Restore into a scratch copy and prove that it serves (ARGS="[SERVICE...]")
	@$(UNDERSTUDY) drill $(ARGS)

switchover: bootstrap ## Move groups to another host, planned (ARGS="--to HOST")
	@$(UNDERSTUDY) switchover $(ARGS)

failover: bootstrap ## Move groups away from a host that is gone (ARGS="--to HOST")
	@$(UNDERSTUDY) failover $(ARGS)

snapshots: bootstrap ## What the repositories hold, newest first
	@$(UNDERSTUDY) snapshots $(ARGS)

mount: bootstrap ## Look into a repository as folders (ARGS="REPOSITORY DIR")
	@$(UNDERSTUDY) mount $(ARGS)

jobs: bootstrap ## Run the rclone and rsync jobs now
	@$(UNDERSTUDY) jobs $(ARGS)

kit: bootstrap ## The page you need when everything else is gone
	@$(UNDERSTUDY) kit $(ARGS)

repo-init: bootstrap ## Make the repositories, once
	@$(UNDERSTUDY) repo init $(ARGS)

repo-unhide: bootstrap ## Bring back what a thief hid (ARGS="--repo R --to TIME")
	@$(UNDERSTUDY) repo unhide $(ARGS)

repo-copy: bootstrap ## Copy snapshots to further repositories
	@$(UNDERSTUDY) repo copy $(ARGS)

repo-schedule: bootstrap ## Check, prune and tamper test by timers on this machine
	@$(UNDERSTUDY) repo schedule $(ARGS)

repo-tamper: bootstrap ## Prove what a host's key cannot do
	@$(UNDERSTUDY) repo tamper $(ARGS)

secrets-edit: bootstrap ## Open your editor on the secrets of a service (ARGS="SERVICE")
	@$(UNDERSTUDY) secrets edit $(ARGS)

secrets-generate: bootstrap ## Make the random values that are missing
	@$(UNDERSTUDY) secrets generate $(ARGS)

secrets-check: bootstrap ## What is missing, weak, or stands in clear
	@$(UNDERSTUDY) secrets check $(ARGS)

host-footprint: bootstrap ## Everything of ours on a host (ARGS="HOST")
	@$(UNDERSTUDY) host footprint $(ARGS)

host-leave: bootstrap ## Take everything of ours off a host; stacks and data stay (ARGS="HOST")
	@$(UNDERSTUDY) host leave $(ARGS)

host-guard: bootstrap ## Switch a host's guard off or on (ARGS="HOST off")
	@$(UNDERSTUDY) host guard $(ARGS)

lab-up: bootstrap ## Stage the practice world
	@$(UNDERSTUDY) lab up

lab-down: bootstrap ## Throw the practice world's hosts away
	@$(UNDERSTUDY) lab down

lab-list: bootstrap ## Show the practice world's hosts
	@$(UNDERSTUDY) lab list

bootstrap:
	@scripts/bootstrap.sh

lock: bootstrap ## Write requirements/ anew from pyproject.toml
	@scripts/lock.sh

wheel: bootstrap ## Build the wheel into dist/ and check what is in it
	@scripts/wheel.sh dist

clean: ## Remove every trace: hosts, disks, images, network, engine we started, .venv
	@scripts/clean.sh
