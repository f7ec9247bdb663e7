"""Run by `understudy plan` through pyinfra: reads a host and reports what a converge would change."""

from pyinfra import host

from understudy import project
from understudy.operations import planning, session

session.start(host, project.desired_of(host))
planning.reported(name="Compare the host with its description")
