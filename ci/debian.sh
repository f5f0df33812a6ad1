#!/usr/bin/env bash
# Prints the path of a tar of a minimal Debian, of the release that runs here, made at the
# first call (40 s) and kept in the user's cache. As root.
. "$(dirname "$0")/common.sh"

release=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
# Another way to make it is another file; after a month there are newer packages.
file=${XDG_CACHE_HOME:-$HOME/.cache}/ckpt/debian-$release-$(cksum <ci/debian.sh | cut -d' ' -f1).tar
if [ -n "$(find "$file" -mtime -30 2>/dev/null)" ]; then
	echo "$file"
	exit 0
fi
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }

# The mirror of Debian that this machine uses.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$') ||
	{ echo "apt has no source of Debian's packages" >&2; exit 1; }
mkdir -p "${file%/*}"
work=$(mktemp -d "$file.XXXXXX")
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase "$release" "$work/root" "$mirror" >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
rm -rf "$work"/root/var/{cache/apt,lib/apt/lists}/*
# Devices are the kernel's: whoever unpacks it may not be allowed to make them.
tar -C "$work/root" --exclude='./dev/*' -cf "$work/tar" .
mv "$work/tar" "$file"
echo "$file"
