#!/usr/bin/env bash
# Finds out what a Debian machine lacks to build, package, test or measure logferry, names it, and installs it when run as root.
#   packaging/setup.sh build|packages|test|boot|install|bench [--only-name]
# It never calls sudo: without root it prints the command to run and ends with 1. Nothing but Debian packages is installed.
set -euo pipefail

what=${1:-build}
only_name=${2:-}
missing=()

need() { # need PACKAGE REASON CHECK...: the package is missing if the check fails
    local package=$1 reason=$2
    shift 2
    "$@" >/dev/null 2>&1 || missing+=("$package|$reason")
}
has() { command -v "$1"; }
java_17() { # java -version says: openjdk version "17.0.15" …
    local java=java version
    [[ -z ${JAVA_HOME:-} ]] || java=$JAVA_HOME/bin/java
    version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [[ ${version:-0} -ge 17 ]]
}
compiles() { # a compiler without the C library's headers compiles nothing
    echo '#include <stdlib.h>' | "$1" -x "$2" -fsyntax-only -
}
perl_for_openssl() { perl -MFindBin -MIPC::Cmd -MFile::Compare -MFile::Copy -MTime::Piece -e 1; }

need gcc "C compiler, for librdkafka, OpenSSL and zstd, and the linker" compiles cc c
need g++ "C++ compiler, for librdkafka's build" compiles c++ c++
need make "for librdkafka's and OpenSSL's build" has make
need perl "for OpenSSL's build" perl_for_openssl
case $what in
build) ;;
packages) need binutils "strip, which leaves the line tables out" has strip ;;
test | boot | install | bench)
    need openjdk-17-jre-headless "Java 17 or newer, for the real Kafka broker" java_17
    need systemd "for a journald of the tests' own" test -x /lib/systemd/systemd-journald
    need systemd-journal-remote "to make journals of what tests write" test -x /lib/systemd/systemd-journal-remote
    need maven "to fetch Apache Kafka's jars" has mvn
    ;;
*)
    echo "usage: $0 build|packages|test|boot|install|bench [--only-name]" >&2
    exit 2
    ;;
esac
if [[ $what == test ]]; then
    need rsyslog "a real sender of syslog" test -x /usr/sbin/rsyslogd
    need rsyslog-relp "rsyslog's RELP" test -e "/usr/lib/$(uname -m)-linux-gnu/rsyslog/omrelp.so"
    need bsdutils "logger, another sender" has logger
    need prometheus "promtool, which judges metrics and alerts" has promtool
    need systemd "systemd-socket-activate, which hands over sockets; systemd-analyze, which judges units" has systemd-analyze
fi
if [[ $what == install ]]; then
    need binutils "strip, objcopy and objdump" has objcopy
    need rpm "to look at the .rpm and to install it into a root" has rpm
fi
if [[ $what == boot || $what == install ]]; then
    need debootstrap "to install small systems that are booted" has debootstrap
    need systemd-container "to boot them" has systemd-nspawn
fi
if [[ $what == bench ]]; then
    need rsyslog "what logferry is compared with" test -x /usr/sbin/rsyslogd
    need rsyslog-kafka "rsyslog's way to Kafka" test -e "/usr/lib/$(uname -m)-linux-gnu/rsyslog/omkafka.so"
fi

if ! has cargo >/dev/null; then
    echo "Rust is missing (no cargo in \$PATH): install Rust 1.90 or newer, with rustup for example" >&2
    exit 1
fi
if [[ $what == test ]] && ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
    echo "rustfmt or clippy is missing; with rustup: rustup component add rustfmt clippy" >&2
    exit 1
fi
if [[ ${#missing[@]} -eq 0 ]]; then
    [[ -z $only_name ]] || echo "nothing is missing for: $what"
    exit 0
fi

packages=()
echo "Missing Debian packages for: $what"
for entry in "${missing[@]}"; do
    packages+=("${entry%%|*}")
    printf '  %-24s %s\n' "${entry%%|*}" "${entry#*|}"
done
command="apt-get update && apt-get install --no-install-recommends --yes ${packages[*]}"
[[ -z $only_name ]] || exit 1
if ! has apt-get >/dev/null; then
    echo "There is no apt-get here: install what your distribution calls these, then try again." >&2
    exit 1
fi
if [[ $(id -u) -ne 0 ]]; then
    printf 'Not root, so nothing is installed. Run as root, then try again:\n  %s\n' "$command" >&2
    exit 1
fi
echo "Installing as root: $command"
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install --quiet=2 --no-install-recommends --yes "${packages[@]}"
