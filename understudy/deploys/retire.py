"""Run by `understudy retire` through pyinfra: stops one service and keeps its data."""

from pyinfra import host

from understudy import project
from understudy.operations import host as base
from understudy.operations import retiring, session

session.start(host, project.desired_of(host))
base.locked(name="Take the host's lock")
retiring.stopped(service=host.data.service, name=f"Stop {host.data.service}, keep its data")
