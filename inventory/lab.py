"""The practice world: hosts and stores that `understudy lab up` staged on this machine."""

from lab import world as _world
from lab.inventory import cloud_data as _cloud_data
from lab.inventory import hosts as _hosts
from understudy import project as _project
from understudy.replica.inventory import hetzner as _hetzner

_data = {"secrets_dir": str(_world.SECRETS), "overlays": ["lab/overlay"], "backup": _world.backup_policy()}
_data |= {**_world.ownership(), **_world.traffic()}
with _project.bad_input_exits():
    _world.prepare_secrets(_data)
_staged = [(name, {**data, **_data}) for name, data in _hosts()]

_cloud = _hetzner({**_data, **_cloud_data()})
primary = [entry for entry in _staged if entry[1]["role"] == "primary"]
replica = [entry for entry in _staged if entry[1]["role"] == "replica"]

replica += _cloud.hosts()

_project.ready(complete=_cloud.complete, primary=primary, replica=replica)
