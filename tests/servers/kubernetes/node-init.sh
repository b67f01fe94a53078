#!/bin/sh
# What becomes the node: runs in new mount, network and uts namespaces and holds them open.
# $1 state folder, $2 name of the node
set -eu
mount --make-rshared /  # pods may have mounts that the node sees too

# The kubelet sets these for the whole machine. It gets private files that hold what it wants already.
number=0
while read -r key value; do
    number=$((number + 1))
    echo "$value" >"$1/conf/sysctl.$number"
    mount --bind "$1/conf/sysctl.$number" "/proc/sys/$key"
done <<SYSCTLS
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SYSCTLS

# Paths that cannot be configured.
for folder in kubelet cni; do
    mkdir -p "/var/lib/$folder" "$1/varlib/$folder"
    mount --bind "$1/varlib/$folder" "/var/lib/$folder"
done
mount --bind "$1/varlog" /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
mount --bind "$1/conf/resolv.cluster" /etc/resolv.conf

hostname "$2"
touch "$1/run/node.ready"
exec sleep infinity
