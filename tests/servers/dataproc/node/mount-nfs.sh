#!/bin/bash
# What mount(8) calls for a file system of type nfs. Machines that run the tests have no NFS in their kernel: here a
# folder of the machine is mirrored by FUSE, under the name of the export; the words and exit codes of errors are those
# of the real program. $1 server:export, $2 where; options are read and left aside.
source=$1 target=$2
exports=/run/nfs-exports
fail() { echo "mount.nfs: $1" >&2; exit 32; }
if [[ $* == *remount* ]]; then fail "the stand-in cannot remount"; fi

server=${source%%:*} export=${source#*:}
[[ -d $exports/$server: ]] || fail "Connection timed out"
for shared in "$exports/$server:"/*; do
    if [[ $export == "/${shared##*/}" || $export == "/${shared##*/}/"* ]]; then allowed=true; fi
done
[[ ${allowed:-} == true ]] || fail "access denied by server while mounting $source"
[[ -d $exports/$source ]] || fail "mounting $source failed, reason given by server: No such file or directory"
cd "$exports" || exit 32
# Its second argument becomes the name of the file system.
setsid /usr/sbin/fuse-loopback -allow-other -directmount -q "$target" "$source" </dev/null >/run/fuse-loopback.log 2>&1 &
for _ in {1..100}; do
    if mountpoint --quiet "$target"; then exit 0; fi
    sleep 0.05
done
fail "$(tail -n 1 /run/fuse-loopback.log)"
