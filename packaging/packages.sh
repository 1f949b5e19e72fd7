#!/usr/bin/env bash
# Builds the .deb and the .rpm into target/packages, from a checkout. `make packages` calls it.
#   packaging/packages.sh [VERSION FOLDER]    packages of another version than the one in Cargo.toml, into another folder: for tests of upgrades
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:$HOME/.cargo/bin
out=target/packages
version=${1:-}
to=${2:-$out}

for tool in auditable deb generate-rpm; do
    [[ -x $(command -v cargo-$tool) ]] || { echo "cargo-$tool is missing; install it with: cargo install --locked cargo-$tool" >&2; exit 1; }
done
mkdir -p "$out" "$to"
rm -f "$to"/*.deb "$to"/*.rpm
# The list of all crates in it, with their versions, is a section of the binary: cargo audit bin, syft and trivy read it.
cargo auditable build --release --locked
# Line tables are for those who build it; cargo-generate-rpm strips nothing itself.
strip -o $out/logferry target/release/logferry
$out/logferry manual $out
gzip --force --best --no-name $out/logferry.8 $out/logferry.toml.5
cargo deb --locked --no-build --no-strip --output "$to/" ${version:+--deb-version "$version-1"}
cargo generate-rpm --output "$to/" ${version:+--set-metadata "version = \"$version\""}
