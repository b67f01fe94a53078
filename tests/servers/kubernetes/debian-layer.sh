#!/bin/sh
# The lower layer of the Dask image: Debian's Python, a shell and what they need, as a tar. Packages are unpacked only;
# their scripts do not run. $1 the tar to write
set -eu

packages="base-files base-passwd bash busybox-static ca-certificates media-types netbase tzdata
    libc6 libgcc-s1 libstdc++6 libcrypt1 zlib1g libssl3 libffi8 libexpat1 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1
    libtinfo6 libncursesw6 libreadline8 libdb5.3 libnsl2 libtirpc3 libgssapi-krb5-2 libkrb5-3 libk5crypto3
    libkrb5support0 libcom-err2 libkeyutils1 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root" "$work/packages"

cd "$work/packages"
download() { apt-get -qq -o APT::Sandbox::User=root download $packages; }
download 2>/dev/null || { apt-get -qq update && download; }
for package in *.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink
done

cd "$root"
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bug
for unused in test idlelib lib2to3 pydoc_data ensurepip; do rm -rf "usr/lib/python3.11/$unused"; done
mkdir -p bin usr/bin usr/local/bin usr/local/lib/python3.11/dist-packages proc sys dev etc/ssl/certs run root home/dask
mkdir -m 1777 -p tmp var/tmp
for name in $(bin/busybox --list); do
    [ -e "bin/$name" ] || [ -e "usr/bin/$name" ] || ln -s busybox "bin/$name"
done
ln -sf python3.11 usr/bin/python3
ln -sf python3 usr/bin/python
cat >etc/passwd <<PASSWD
root:x:0:0:root:/root:/bin/bash
dask:x:1000:1000::/home/dask:/bin/bash
nobody:x:65534:65534::/:/bin/false
PASSWD
printf 'root:x:0:\ndask:x:1000:\nnogroup:x:65534:\n' >etc/group
chmod 777 home/dask
echo 'hosts: files dns' >etc/nsswitch.conf
cat usr/share/ca-certificates/mozilla/*.crt >etc/ssl/certs/ca-certificates.crt
# Without compiled files every start of a pod would compile for seconds.
/usr/bin/python3 -m compileall -q -s "$root" -j 2 usr/lib/python3.11 || true
tar --sort=name --numeric-owner --owner=0 --group=0 -cf "$1" .
