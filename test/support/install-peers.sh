#!/usr/bin/env bash
# Installs the Debian packages whose tools judge ours in test/interop and bench. Quick when all are there.
# Run as root, or as a user who may sudo. --list prints the packages and installs nothing.
set -euo pipefail

packages=(
  qemu-utils qemu-system-common         # qemu-img qemu-io qemu-nbd qemu-storage-daemon
  gdisk fdisk parted util-linux         # sgdisk sfdisk parted partx blkid
  e2fsprogs dosfstools mtools xfsprogs btrfs-progs
  lvm2 thin-provisioning-tools          # lvs vgs pvs pvck thin_check thin_dump
  nbdkit libnbd-bin nbd-client
  fio
  xenstore-utils
  gcc libc6-dev libxen-dev               # cc, Xen's headers and libxlutil
  openssl mount                          # certificates; mount and losetup for kernel devices
  user-mode-linux kmod                   # linux.uml: a real kernel as judge
  jq tmux
)

if [ "${1:-}" = --list ]; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install-peers: this is no Debian; install the counterparts of: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$state" = "install ok installed" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || { echo "install-peers: all ${#packages[@]} packages are there"; exit 0; }

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "install-peers: needs root to install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi

echo "install-peers: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
    -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@" >>"$log" 2>&1 </dev/null
}
# The package lists of a machine may be missing or too old: they are fetched when the first try fails.
if ! apt install --no-install-recommends "${missing[@]}"; then
  if ! { apt update && apt install --no-install-recommends "${missing[@]}"; }; then
    tail -n 40 "$log" >&2
    exit 1
  fi
fi
