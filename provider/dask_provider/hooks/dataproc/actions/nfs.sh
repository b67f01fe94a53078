#!/bin/bash
# Initialization action of Dataproc: mounts an NFS export, as a Filestore instance has, on every node.
# Metadata keys: README.md. May run again at any time: what is mounted stays.
set -euo pipefail
shopt -s inherit_errexit

readonly SELF=nfs.sh
readonly PORT=2049

# include common.sh

read_metadata() {
    keys=$(metadata attributes/)
    server=$(checked nfs_server '[A-Za-z0-9][-A-Za-z0-9.]*' "address or name of the NFS server")
    export_path=$(checked nfs_export_dir '/[-A-Za-z0-9_./]+' "an absolute path, as /export")
    mount_point=$(checked nfs_mount_point '/[-A-Za-z0-9_./]+' "an absolute path, as /mnt/shared" /mnt/shared)
    options=$(checked nfs_options '[-A-Za-z0-9_.:=,]+' "options of mount, separated by commas" \
        rw,hard,timeo=600,retrans=3)
    export_path=${export_path%/} mount_point=${mount_point%/}
    source=$server:$export_path
}

# Dataproc's images have it; others may not.
require_client() {
    if command -v mount.nfs >/dev/null || [[ -x /sbin/mount.nfs ]]; then return; fi
    say "installing nfs-common"
    if ! { apt-get -o DPkg::Lock::Timeout=120 -qq update &&
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -qq install -y nfs-common; }; then
        fail "mount.nfs is not on this image, and nfs-common cannot be installed" \
            "a cluster without internet needs an image with nfs-common"
    fi
}

require_server() {
    local pause
    for pause in 0 1 2; do
        sleep "$pause"
        if timeout 5 bash -c "exec 3<>/dev/tcp/$server/$PORT" 2>/dev/null; then return; fi
    done
    fail "metadata nfs_server: $server does not answer on port $PORT" \
        "is it the address of the Filestore instance, in a network that the cluster's subnetwork reaches, and does the \
firewall allow port $PORT?"
}

# Of several, the uppermost.
mounted() { { findmnt --noheadings --output SOURCE --mountpoint "$mount_point" || true; } | tail -n 1; }

require_mount_point() {
    local other
    other=$(mounted)
    if [[ -n $other && ${other%/} != "$source" ]]; then
        fail "metadata nfs_mount_point: '$other' is mounted at $mount_point" \
            "create the cluster with another nfs_mount_point"
    fi
    other=$(awk -v point="$mount_point" -v source="$source" '$1 !~ /^#/ && $2 == point && $1 != source' /etc/fstab)
    if [[ -n $other ]]; then
        fail "metadata nfs_mount_point: /etc/fstab has another file system for $mount_point: $other" \
            "create the cluster with another nfs_mount_point"
    fi
}

mount_export() {
    local output attempt
    mkdir -p "$mount_point"
    for attempt in 1 2 3; do
        # A mount that is "hard" would wait for ever.
        if output=$(timeout 60 mount -t nfs -o "$options" "$source" "$mount_point" 2>&1); then return; fi
        case $output in *"No such file"* | *"access denied"*) break ;; esac
        say "mount failed ($attempt of 3): $output"
        sleep $((attempt * 2))
    done
    case $output in
        *"No such file"*)
            fail "metadata nfs_export_dir: $source is not there: $output" \
                "a Filestore share is one folder (/NAME): make the folders below it first, or mount the share itself" ;;
        *"access denied"*)
            fail "metadata nfs_export_dir: $server does not export it to this node: $output" \
                "name the Filestore share, and let its access rules allow the cluster's subnetwork" ;;
        *) fail "$source cannot be mounted: ${output:-it took more than 60 s}" "what mount said is above" ;;
    esac
}

verify() {
    local probe found
    found=$(mounted)
    if [[ ${found%/} != "$source" ]]; then
        fail "$mount_point is '$found' and not $source" "see 'findmnt $mount_point' on the node"
    fi
    if [[ ,$options, == *,ro,* ]]; then
        timeout 30 ls "$mount_point" >/dev/null || fail "$mount_point cannot be read" "see the server's access rules"
        return
    fi
    probe=$mount_point/.nfs-probe-$(hostname -s)-$$
    if ! { timeout 30 touch "$probe" && timeout 30 rm "$probe"; }; then
        fail "$mount_point ($source) is mounted, but cannot be written to" \
            "the export must be READ_WRITE and NO_ROOT_SQUASH, or its folder writable for this node's root; with the \
option ro in nfs_options it need not be"
    fi
}

# For the next start of the node. "nofail": it starts without its file server, too.
write_fstab() {
    local line="$source $mount_point nfs $options,_netdev,nofail 0 0"
    if grep --quiet --line-regexp --fixed-strings "$line" /etc/fstab; then return; fi
    awk -v point="$mount_point" '$1 ~ /^#/ || $2 != point' /etc/fstab >/etc/fstab.new
    echo "$line" >>/etc/fstab.new
    mv /etc/fstab.new /etc/fstab
    systemctl daemon-reload
}

main() {
    read_metadata
    require_client
    require_mount_point
    if [[ -z $(mounted) ]]; then
        require_server
        mount_export
    fi
    verify
    write_fstab
    say "$source is mounted at $mount_point ($options)"
}

main
