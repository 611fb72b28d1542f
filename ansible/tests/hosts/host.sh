#!/bin/sh
# Boots a host: `host.sh DIRECTORY SUPERVISORD`, in namespaces of its own. DIRECTORY is its /srv; supervisord is its process 1
# and starts what starts at boot.
set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/tmp
mkdir /run/sshd
mount --bind "$1" /srv
# What this machine's user does in each shell is not the business of a host.
[ ! -e /root/.bashrc ] || mount --bind /dev/null /root/.bashrc
ip link set lo up
hostname "$(basename "$1")"
cd /srv
exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    "$2" --nodaemon --configuration /srv/supervisor.conf
