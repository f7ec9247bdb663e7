"""The real world: lemongrab at home. Replicas found in Hetzner join here."""

from understudy import project as _project

primary = [("lemongrab", {"ssh_hostname": "lemongrab", "ssh_user": "root", "role": "primary"})]
replica: list[tuple[str, dict[str, object]]] = []

_project.ready(primary=primary, replica=replica)
