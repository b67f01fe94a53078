#!/bin/bash
# What becomes a node: runs in new mount, network, uts, ipc and pid namespaces, builds the node's file system there and
# becomes its first process. All of it goes with that process. $1 the node's folder, $2 Python; the rest: host paths
# that the node sees as they are, "rw:" before those that it may write.
set -euo pipefail

state=$1 python=$2
shift 2
here=$(dirname "$(readlink -f "$0")")
root=$state/root

# The machine's own files below, what the node writes above, in memory.
mount -t tmpfs -o mode=755 node "$root"
mkdir "$root/upper" "$root/work" "$root/root"
mount -t overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" node "$root/root"
cd "$root/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir run/lock
for path in "$@"; do
    options=bind,ro
    if [[ $path == rw:* ]]; then options=bind path=${path#rw:}; fi
    if [[ -d $path ]]; then mkdir -p ".$path"; else mkdir -p ".$(dirname "$path")" && touch ".$path"; fi
    mount --bind "$path" ".$path"
    mount -o "remount,$options" ".$path"
done

# Of the node's own: who it is, how large, and what a Dataproc image brings.
mount --bind "$state/hosts" etc/hosts
mount --bind "$state/meminfo" proc/meminfo
mount --bind "$state/online" sys/devices/system/cpu/online
hostname "$(<"$state/hostname")"
cp "$state/hostname" etc/hostname
echo "# the node has no name server: names are in /etc/hosts" >etc/resolv.conf
echo "# file systems of the node" >etc/fstab
rm -rf etc/systemd/system
mkdir -p etc/systemd/system usr/share/google opt
cp "$state/node.json" etc/node-stand-in.json
install -m 755 "$here/get_metadata_value.sh" usr/share/google/get_metadata_value
for name in gcloud gsutil systemctl; do
    printf '#!/bin/sh\nexec %s -I %s/%s.py %s "$@"\n' "$python" "$here" "${name/gsutil/gcloud}" "$name" >"$state/shim"
    rm -f "usr/bin/$name"
    install -m 755 "$state/shim" "usr/bin/$name"
done
if [[ -e $state/loopback ]]; then
    install -m 755 "$here/mount-nfs.sh" usr/sbin/mount.nfs
    install -m 755 "$state/loopback" usr/sbin/fuse-loopback
fi
for export in "$state"/exports/*/*; do
    if [[ ! -e $export ]]; then continue; fi
    shared=run/nfs-exports/${export#"$state"/exports/}
    mkdir -p "$shared"
    mount --bind "$(readlink -f "$export")" "$shared"
done
if [[ -e $state/hadoop ]]; then
    rm -rf etc/hadoop usr/bin/yarn
    mkdir -p etc/hadoop
    cp -r "$state/hadoop/conf" etc/hadoop/conf
    install -m 755 "$state/hadoop/yarn" usr/bin/yarn
    cp "$state"/hadoop/*.service etc/systemd/system/
fi
if [[ -e $state/image ]]; then
    mkdir -p opt/dask
    mount --bind "$(readlink -f "$state/image")" opt/dask
    mount -o remount,bind,ro opt/dask
fi
for number in $(seq "$(<"$state/ssds")"); do
    mkdir -p "mnt/$number"
    mount -t tmpfs -o mode=755 "ssd$number" "mnt/$number"
done

mkdir .host
pivot_root . .host
cd /
umount -l /.host
rmdir /.host
# Its argument tells this machine whose it is.
exec "$python" -I "$here/init.py" "$state"
