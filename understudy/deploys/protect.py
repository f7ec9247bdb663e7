"""Run by `understudy backup`, `restore`, `status` and the like through pyinfra: one verb of the agent on each host."""

import json

from pyinfra import host

from understudy import project
from understudy.operations import protecting, session

session.start(host, project.desired_of(host))
operation = protecting.told if host.data.get("asks") else protecting.done
given = host.data.request  # pyinfra may have read it as JSON already
request = json.loads(given) if isinstance(given, str) else given
operation(verb=host.data.verb, request=request, name=f"understudy {host.data.verb}")
