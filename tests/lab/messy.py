"""A server as its owner made it by hand over the years: what audit and import must cope with (origin.md §3-§5).

Two copies of the Caddyfile, an anonymous volume with a database in it, ``latest`` everywhere, one PostgreSQL for two
applications, a profile, overrides, a stack started with ``-f`` from elsewhere, a ``docker run`` container, a local build,
jobs in two crontabs (one of them broken for months), a private tunnel configuration, two users with sudo.
"""

from __future__ import annotations

PASSWORD = "correct horse"  # of the user anna, whose sudo asks for it
SECRET = "s3cr3t-of-the-vault-0815"  # stands in .env; no report may show it
PROJECTS = ("caddy", "vaultwarden", "nextcloud", "miniflux", "kitchenowl", "media", "stats", "sync")

ENGINE = """
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install docker.io docker-cli docker-compose rclone sqlite3 >/dev/null
for i in $(seq 100); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
docker image ls --format '{{.Repository}}:{{.Tag}}' | while read -r image; do
    docker tag "$image" "${image%:*}:latest"
    docker rmi "$image" >/dev/null
done
"""

USERS = f"""
set -eu
useradd --create-home --shell /bin/bash --uid 1000 anna
useradd --create-home --shell /bin/bash --uid 1001 ops
useradd --create-home --shell /bin/bash --uid 1002 guest
echo 'anna:{PASSWORD}' | chpasswd
printf 'anna ALL=(ALL) ALL\\nops ALL=(ALL) NOPASSWD: ALL\\n' >/etc/sudoers.d/people
chmod 0440 /etc/sudoers.d/people
for user in anna ops guest; do
    install -d -m 0700 -o $user -g $user /home/$user/.ssh
    install -m 0600 -o $user -g $user /root/.ssh/authorized_keys /home/$user/.ssh/authorized_keys
done
"""

STACKS = f"""
set -eu
P=/home/docker-projects
mkdir -p $P/caddy/config $P/vaultwarden $P/nextcloud $P/miniflux $P/kitchenowl $P/media $P/sync/app /srv/goat /etc/stacks

# Two Caddyfiles; the one that is edited is not the one that is mounted.
cat >$P/caddy/Caddyfile <<'EOF'
{{
	auto_https off
}}
:8080 {{
	@vault host vault.example.org
	handle @vault {{
		reverse_proxy 127.0.0.1:8082
	}}
	@rss host rss.example.org
	handle @rss {{
		reverse_proxy 127.0.0.1:8099
	}}
	handle {{
		respond "home" 200
	}}
}}
EOF
sed 's/rss.example.org/news.example.org/' $P/caddy/Caddyfile >$P/caddy/config/Caddyfile
cat >$P/caddy/docker-compose.yml <<'EOF'
version: "3.8"
services:
  caddy:
    image: caddy:latest
    restart: always
    network_mode: host
    volumes:
      - ./Caddyfile:/etc/caddy/Caddyfile:ro
      - caddy-data:/data
      - caddy-config:/config
volumes:
  caddy-data:
  caddy-config:
EOF

cat >$P/vaultwarden/docker-compose.yml <<'EOF'
services:
  vaultwarden:
    container_name: vaultwarden
    image: vaultwarden/server:latest
    restart: always
    environment:
      - ADMIN_TOKEN=${{ADMIN_TOKEN}}
      - DATABASE_URL=/data/db.sqlite3
      - SIGNUPS_ALLOWED=${{SIGNUPS:-true}}
    ports: ["8082:80"]
    volumes: ["./data:/data"]
EOF
cat >$P/vaultwarden/docker-compose.override.yml <<'EOF'
services:
  vaultwarden:
    labels:
      com.centurylinklabs.watchtower.enable: "false"
EOF
printf '# the admin page\\nADMIN_TOKEN="{SECRET}"\\nSIGNUPS=false\\n' >$P/vaultwarden/.env

# One PostgreSQL for two applications, the second in another project.
cat >$P/nextcloud/docker-compose.yml <<'EOF'
x-common: &common
  restart: unless-stopped
  networks: [nextcloud-net]
services:
  db:
    <<: *common
    image: postgres:latest
    env_file: [db.env]
    volumes: ["db:/var/lib/postgresql/data"]
    healthcheck:
      test: ["CMD", "pg_isready", "-q", "-U", "nextcloud"]
      interval: 2s
      retries: 90
  files:
    <<: *common
    image: nginx:latest
    depends_on: {{db: {{condition: service_healthy}}}}
    ports: ["8081:80"]
    volumes:
      - /home/apps/nextcloud/app:/usr/share/nginx/html
networks:
  nextcloud-net:
volumes:
  db:
EOF
printf 'POSTGRES_DB=nextcloud\\nPOSTGRES_USER=nextcloud\\nPOSTGRES_PASSWORD=CHANGE_ME_of_old\\n' >$P/nextcloud/db.env
mkdir -p /home/apps/nextcloud/app && head -c 300000 /dev/urandom >/home/apps/nextcloud/app/photo.jpg

cat >$P/miniflux/compose.yaml <<'EOF'
services:
  miniflux:
    image: miniflux/miniflux:latest
    environment:
      DATABASE_URL: postgres://nextcloud:CHANGE_ME_of_old@db/rss?sslmode=disable
      RUN_MIGRATIONS: "1"
    ports: ["8099:8080"]
    networks: [nextcloud_nextcloud-net]
networks:
  nextcloud_nextcloud-net:
    external: true
EOF

# KitchenOwl keeps its database in /data; here another path is mounted (I-16).
cat >$P/kitchenowl/docker-compose.yml <<'EOF'
services:
  kitchenowl:
    image: tombursch/kitchenowl:latest
    restart: unless-stopped
    environment: {{JWT_SECRET_KEY: "0123456789abcdef0123456789abcdef", FRONT_URL: "http://shopping.example.org"}}
    ports: ["8092:8080"]
    volumes: ["./config:/app/config"]
EOF

cat >$P/media/docker-compose.yml <<'EOF'
services:
  jellyfin:
    profiles: [media]
    image: jellyfin/jellyfin:latest
    restart: unless-stopped
    ports: ["8096:8096"]
    volumes: ["./config:/config", "./cache:/cache", "/mnt/films:/media:ro"]
  tools:
    profiles: [never]
    image: nginx:latest
    volumes: ["tools:/tools"]
volumes:
  tools:
EOF
mkdir -p /mnt/films && head -c 50000 /dev/urandom >/mnt/films/film.mkv

# Started as: docker compose -p stats -f compose.yml -f /etc/stacks/goat.yml, from another folder.
cat >/srv/goat/compose.yml <<'EOF'
services:
  goatcounter:
    image: arp242/goatcounter:latest
    command: [serve, -listen, ":8080", -tls, none, -automigrate, -db, sqlite+/home/goatcounter/db/goatcounter.sqlite3]
    user: "0:0"
    restart: unless-stopped
    volumes: ["./goatcounter-data:/home/goatcounter/db"]
EOF
cat >/etc/stacks/goat.yml <<'EOF'
services:
  goatcounter:
    ports: ["127.0.0.1:8088:8080"]
EOF

cat >$P/sync/compose.yaml <<'EOF'
include: [ports.yaml]
services:
  app:
    build: ./app
    image: homemade-sync
    extends: {{file: common.yaml, service: base}}
    volumes:
      - type: bind
        source: ./data
        target: /usr/share/nginx/html
EOF
printf 'services:\\n  base:\\n    restart: unless-stopped\\n' >$P/sync/common.yaml
printf 'services:\\n  front:\\n    image: nginx:latest\\n    ports: ["8000:80"]\\n' >$P/sync/ports.yaml
printf 'FROM nginx:latest\\nCOPY page.html /srv/page.html\\n' >$P/sync/app/Dockerfile
echo '<p>mine</p>' >$P/sync/app/page.html
mkdir -p $P/sync/data && echo notes >$P/sync/data/notes.txt
chown -R anna:anna $P/vaultwarden $P/sync
"""

START = """
set -eu
P=/home/docker-projects
(cd $P/caddy && docker compose up -d --quiet-pull)
(cd $P/vaultwarden && docker compose up -d)
(cd $P/nextcloud && docker compose up -d --wait)
docker exec nextcloud-db-1 createdb -U nextcloud rss
docker exec nextcloud-db-1 psql -qU nextcloud -c "create table files as select generate_series(1, 5000) id"
(cd $P/miniflux && docker compose up -d)
(cd $P/kitchenowl && docker compose up -d)
(cd $P/media && docker compose --profile media up -d)
(cd /root && docker compose -p stats -f /srv/goat/compose.yml -f /etc/stacks/goat.yml up -d)
(cd $P/sync && docker compose up -d --build)
docker run -d --name kuma --restart always -p 3001:3001 -v kuma-data:/app/data louislam/uptime-kuma:latest >/dev/null
"""

NATIVE = """
set -eu
mkdir -p /home/apps/bookmarks /mnt/ssd/backups/vaultwarden /home/anna/scripts /home/anna/.cloudflared /home/anna/.config/rclone
cat >/home/apps/bookmarks/server.py <<'EOF'
import http.server, os
os.chdir("/home/apps/bookmarks")
http.server.test(http.server.SimpleHTTPRequestHandler, port=5000, bind="127.0.0.1")
EOF
sqlite3 /home/apps/bookmarks/bookmarks.db 'create table b(x); insert into b values (1)'
printf 'SLACK_WEBHOOK=https://hooks.example.org/T0/B0/abc\\n' >/home/apps/bookmarks/.env
cat >/etc/systemd/system/bookmarks.service <<'EOF'
[Unit]
Description=Bookmarks
After=network.target
[Service]
User=anna
WorkingDirectory=/home/apps/bookmarks
EnvironmentFile=-/home/apps/bookmarks/.env
ExecStart=/usr/bin/python3 /home/apps/bookmarks/server.py
Restart=always
[Install]
WantedBy=multi-user.target
EOF
printf '[Unit]\\nDescription=Disk health\\n[Service]\\nType=oneshot\\nExecStart=/usr/local/bin/hdd-health.sh\\n' \\
    >/etc/systemd/system/hdd-health.service
printf '[Timer]\\nOnCalendar=11:00\\n[Install]\\nWantedBy=timers.target\\n' >/etc/systemd/system/hdd-health.timer
printf '#!/bin/sh\\ntrue\\n' >/usr/local/bin/hdd-health.sh
chmod +x /usr/local/bin/hdd-health.sh
chown -R anna:anna /home/apps/bookmarks
systemctl daemon-reload
systemctl -q enable --now bookmarks.service hdd-health.timer

cat >/home/anna/scripts/backup-all.sh <<'EOF'
#!/bin/bash
# dumps and tars, locally
docker stop vaultwarden
tar czf /mnt/ssd/backups/vaultwarden/vaultwarden-$(date +%F).tar.gz -C /home/docker-projects/vaultwarden data
docker start vaultwarden
docker exec nextcloud-db-1 pg_dump -U nextcloud nextcloud > /mnt/ssd/backups/nextcloud.sql
EOF
cat >/home/anna/scripts/sync-b2.sh <<'EOF'
#!/bin/bash
rclone sync /mnt/ssd/backups b2-backup:lemongrab-backups --delete-after
EOF
chmod +x /home/anna/scripts/*.sh
printf '[b2-backup]\\ntype = b2\\naccount = 0011aabb\\nkey = K001notShownAnywhere\\n' >/home/anna/.config/rclone/rclone.conf
tar czf /mnt/ssd/backups/vaultwarden/vaultwarden-2026-01-02.tar.gz -C /etc hostname
chown -R anna:anna /home/anna /mnt/ssd/backups
mkdir -p /var/spool/cron/crontabs
printf '0 3 * * * /home/anna/scripts/sync-b2.sh >> /var/log/b2.log 2>&1\\n' >/var/spool/cron/crontabs/anna
printf '*/5 * * * * /usr/local/bin/healthcheck-watchdog.sh\\n' >/var/spool/cron/crontabs/root
chmod 600 /var/spool/cron/crontabs/*
chown anna /var/spool/cron/crontabs/anna
printf '0 2 * * * anna /home/anna/scripts/backup-all.sh\\n' >>/etc/crontab
cat >/home/anna/.cloudflared/config.yml <<'EOF'
tunnel: 6ff42ae2-765d-4adf-8112-31c55c1551ef
credentials-file: /home/anna/.cloudflared/6ff42ae2.json
ingress:
  - hostname: vault.example.org
    service: http://localhost:8080
  - hostname: shopping.example.org
    service: http://localhost:8080
  - service: http_status:404
EOF
echo '{"TunnelSecret": "bm90IHNob3du"}' >/home/anna/.cloudflared/6ff42ae2.json
chown -R anna:anna /home/anna
"""

MESS = (ENGINE, USERS, STACKS, START, NATIVE)


def compose_of(number: int) -> str:
    """One more project of its own, for measuring how an audit grows."""
    return (
        f"mkdir -p /srv/more/app{number}/data && cd /srv/more/app{number} && echo {number} >data/note && "
        "printf 'services:\\n  web:\\n    image: nginx:latest\\n    volumes: [./data:/usr/share/nginx/html]\\n' >compose.yaml && "
        "docker compose up -d"
    )
