"""The real world: lemongrab at home, and the replicas that Hetzner has by our labels (none without HCLOUD_TOKEN)."""

from understudy import project as _project
from understudy.replica.inventory import hetzner as _hetzner

_cloud = _hetzner()
primary = [("lemongrab", {"ssh_hostname": "lemongrab", "ssh_user": "root", "role": "primary"})]
replica = _cloud.hosts()
# Any machine with Debian and SSH may be a replica as well, an old laptop or a Raspberry Pi:
# replica.append(("laptop", {"ssh_hostname": "192.168.1.20", "ssh_user": "root"}))

_project.ready(complete=_cloud.complete, primary=primary, replica=replica)
