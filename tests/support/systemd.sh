#!/bin/sh
# Boots a systemd of its own, as process 1 of namespaces of its own: `systemd.sh BASE`, BASE being an empty directory.
#
# It sees the machine's files, but for systemd's own directories and /run, and none of the machine's units.
set -eu
base=$1
mount --make-rprivate /
if [ "${2-}" != inside ]; then
    # A branch of its own in the tree of control groups: systemd ends what it finds in its own.
    mkdir "$base/cgroup"
    mount -t cgroup2 cgroup2 "$base/cgroup"
    mkdir "$base/cgroup/$(basename "$base")"
    echo $$ >"$base/cgroup/$(basename "$base")/cgroup.procs"
    umount "$base/cgroup"
    exec unshare --cgroup --mount --uts --ipc --pid --fork --kill-child /bin/sh "$0" "$base" inside
fi
mount -t proc proc /proc
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run

own=/usr/lib/systemd/system
mkdir /run/own
for unit in basic.target sockets.target shutdown.target umount.target final.target \
    systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    cp "$own/$unit" /run/own
done
cat >/run/own/sysinit.target <<UNIT
[Unit]
DefaultDependencies=no
Wants=systemd-journald.service
After=systemd-journald.service
UNIT
# What `systemctl --user` talks to.
cat >/run/own/user-manager.service <<UNIT
[Service]
Type=notify
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/0
ExecStartPre=/bin/mkdir -p -m 0700 /run/user/0
ExecStart=/lib/systemd/systemd --user
UNIT
mount --bind /run/own "$own"
mount -t tmpfs tmpfs /etc/systemd
mkdir /etc/systemd/system /etc/systemd/user
printf '[Journal]\nStorage=volatile\n' >/etc/systemd/journald.conf
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
