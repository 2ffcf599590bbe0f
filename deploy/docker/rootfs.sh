#!/bin/sh
# rootfs.sh PROGRAM FOLDER: fills FOLDER with the program, the libraries that it loads, and the few files that the C library and
# TLS look for. It is all that an image FROM scratch has.
set -eu
program=$1
root=$2

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/data" "$root/tmp"
cp "$program" "$root/usr/bin/"

# `libm.so.6 => /lib/…/libm.so.6 (0x…)`, and the loader without an arrow.
ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

# The C library reads these when a name is looked up.
printf 'parlance:x:65532:65532::/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'parlance:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

chmod 1777 "$root/tmp"
# As root only: who builds for a try-out is not.
if [ "$(id -u)" = 0 ]; then
    chown 65532:65532 "$root/data"
fi
