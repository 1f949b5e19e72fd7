#!/usr/bin/env bash
# Makes small Debian systems with systemd as process 1, into target/boot/SUITE: what `make test-boot` boots in containers. Needs root.
#   tests/boot/root.sh SUITE…
set -euo pipefail
cd "$(dirname "$0")/../.."

[[ $(id -u) -eq 0 ]] || { echo "a system that boots is made by root" >&2; exit 1; }
for suite in "$@"; do
    root=target/boot/$suite
    [[ ! -e $root ]] || continue
    rm -rf "$root.new"
    mkdir -p target/boot
    echo "Installing a small Debian $suite into $root"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus "$suite" "$root.new" >"$root.log" 2>&1 ||
        { tail -n 5 "$root.log" >&2; exit 1; }
    echo web-01 >"$root.new/etc/hostname"
    mkdir -p "$root.new/var/log/journal"
    mv "$root.new" "$root"
done
