"""The inventory of farm.py: all hosts of a lab, each a primary with a few services and no edge."""

from lab import world as _world
from lab.inventory import hosts as _hosts
from understudy import project as _project

_data = {
    "secrets_dir": str(_world.SECRETS), "overlays": ["lab/overlay"], "backup": _world.backup_policy(), "role": "primary",
    "edge": "none", "may_own": False, "services": ["caddy", "goatcounter", "homepage", "kitchenowl"],
}  # fmt: skip
with _project.bad_input_exits():
    _world.prepare_secrets(_data)

primary = [(name, {**data, **_data}) for name, data in _hosts()]
_project.ready(primary=primary)
