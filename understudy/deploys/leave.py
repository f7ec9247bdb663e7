"""Run by `understudy host footprint` and `host leave` through pyinfra: what is ours on a host, or its removal."""

import json

from pyinfra import host

from understudy import project
from understudy.operations import host as base
from understudy.operations import leaving, session

session.start(host, project.desired_of(host))
given = host.data.request  # pyinfra may have read it as JSON already
request = json.loads(given) if isinstance(given, str) else given
if host.data.get("asks"):
    leaving.listed(request=request, name="Read what is ours")
else:
    base.locked(name="Take the host's lock")
    leaving.left(request=request, name="Remove what is ours")
