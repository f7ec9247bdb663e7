# Every target is safe to run twice. `make help` lists them.
UNDERSTUDY := .venv/bin/understudy
PYTHON_TOOLS := .venv/bin
.DEFAULT_GOAL := help
VERBS := update backup restore status edge-check repo-check repo-prune
.PHONY: $(VERBS) help demo test lint format unit lab-test plan converge retire measure-restores measure-throughput lab-up lab-down lab-list bootstrap lock wheel clean replica-up replica-down replica-list measure-replica

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: bootstrap ## Stage the practice world on this machine and converge it before your eyes
	@$(UNDERSTUDY) lab up --fresh --hosts lemongrab
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

edge-check: bootstrap ## Measure your zone with a canary: the conditional batch, and how fast changes arrive
	@$(UNDERSTUDY) edge check $(ARGS)

repo-check: bootstrap ## Freshness and upkeep, judged from the repositories alone
	@$(UNDERSTUDY) repo check $(ARGS)

repo-prune: bootstrap ## Forget what no rule keeps, with your key
	@$(UNDERSTUDY) repo prune $(ARGS)

measure-restores: bootstrap ## Restore everything 20 times while it is written (ARGS="rounds"); takes half an hour
	@$(PYTHON_TOOLS)/python tests/measure/restore_loop.py $(ARGS)

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
