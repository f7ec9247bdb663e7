"""The practice world: hosts and stores that `understudy lab up` staged on this machine."""

from lab import world as _world
from lab.inventory import hosts as _hosts
from understudy import project as _project

_data = {"secrets_dir": ".lab/secrets", "overlays": ["lab/overlay"], "backup": _world.backup_policy()}
_data |= {**_world.ownership(), **_world.traffic()}
with _project.bad_input_exits():
    _world.prepare_secrets(_data)
_staged = [(name, {**data, **_data}) for name, data in _hosts()]

primary = [entry for entry in _staged if entry[1]["role"] == "primary"]
replica = [entry for entry in _staged if entry[1]["role"] == "replica"]

_project.ready(primary=primary, replica=replica)
