#!/bin/sh
# Runs inside the root of a new host image, whether mmdebstrap or docker build made it.
# Leaves a bare Debian server whose only package source is a local pool with everything a converge installs.
set -eu
recipe=$1
pool=/srv/lab-apt
export DEBIAN_FRONTEND=noninteractive

mkdir -p "$pool"
# shellcheck disable=SC2046
apt-get -q -y --no-install-recommends --download-only -o Dir::Cache::archives="$pool" \
    install $(cat "$recipe/pool.txt")
rm -rf "$pool/partial" "$pool/lock"

stage=/tmp/cloudflared
mkdir -p "$stage/DEBIAN" "$stage/usr/bin"
cp "$recipe/connector/control" "$stage/DEBIAN/control"
install -m 0755 "$recipe/connector/cloudflared" "$stage/usr/bin/cloudflared"
dpkg-deb --root-owner-group --build "$stage" "$pool" >/dev/null
rm -rf "$stage"
python3 "$recipe/index_pool.py" "$pool"

rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/docker-*
rm -rf /var/lib/apt/lists/* /var/cache/apt/*
cat >/etc/apt/sources.list.d/lab.sources <<EOF
Types: deb
URIs: file:$pool
Suites: ./
Trusted: yes
EOF

# A lab host lives for minutes: writing every package through to the disk would only cost time.
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/understudy-lab
rm -f /usr/sbin/policy-rc.d

rm -f /etc/ssh/ssh_host_*
cat >/etc/ssh/sshd_config.d/10-lab.conf <<EOF
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
PermitRootLogin prohibit-password
EOF
install -d -m 0700 /root/.ssh

install -m 0755 "$recipe/lab-init" /usr/lib/lab-init
# The consoles, devices and modules are those of the machine the lab runs on.
systemctl mask systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service \
    getty@tty1.service console-getty.service systemd-firstboot.service >/dev/null 2>&1
systemctl disable systemd-timesyncd.service >/dev/null 2>&1 || true
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id
rm -f /etc/hostname /etc/resolv.conf 2>/dev/null || true # mounted while docker build runs
echo "root:*" | chpasswd -e
