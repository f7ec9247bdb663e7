#!/bin/sh
# Runs inside the root that every application image of the lab shares. Data directories made by
# package scripts go: each image makes its own, the way the real one does.
set -eu
rm -rf /var/lib/mysql /var/lib/postgresql /etc/postgresql/* /var/lib/apt/lists/* /var/cache/apt/*
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /usr/sbin/policy-rc.d
rm -f /etc/hostname /etc/resolv.conf 2>/dev/null || true # mounted while docker build runs
install -d -o mysql -g mysql /var/lib/mysql
install -d -o postgres -g postgres /var/lib/postgresql
