#!/usr/bin/env bash
# Prints a directory with criu 4.1, crit and checkpointctl of Debian 13 in its
# bin, made at the first call (5 s, 30 MB to load) and kept in the user's cache.
# They are unpacked, not installed, and run with their own C library: neither
# root nor Debian 13 is needed. Debian 12's criu does not run on kernels of today.
. "$(dirname "$0")/common.sh"

# Another list of packages, or way to unpack them, is another directory.
dir=${XDG_CACHE_HOME:-$HOME/.cache}/ckpt/criu-$(cksum <ci/criu.sh | cut -d' ' -f1)
if [ -d "$dir" ]; then
	echo "$dir"
	exit 0
fi
for p in apt-get:apt dpkg:dpkg; do
	command -v "${p%:*}" >/dev/null || { echo "${p%:*} is missing: criu is taken from Debian's packages" >&2; exit 1; }
done

mkdir -p "${dir%/*}"
partial=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$partial"' EXIT
apt=$partial/apt
mkdir -p "$apt"/{state,cache,etc}
: >"$apt/status" # nothing is installed: all that is needed is loaded

# The mirror of Debian that this machine uses, with the keys that it trusts.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$') ||
	{ echo "apt has no source of Debian's packages, and criu is taken from one" >&2; exit 1; }
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $mirror trixie main" >"$apt/etc/sources.list"
options=(-q -y
	-o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
	-o "Dir::Etc::sourcelist=$apt/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null
	-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
	-o Acquire::Languages=none -o Acquire::Retries=3
	-o APT::Sandbox::User=root) # the user _apt may not enter the cache of root
{
	apt-get "${options[@]}" update
	apt-get "${options[@]}" install --no-install-recommends --download-only criu python3-pycriu checkpointctl
} >"$partial/log" 2>&1 || { cat "$partial/log" >&2; exit 1; }
for deb in "$apt"/cache/archives/*.deb; do dpkg -x "$deb" "$partial"; done
rm -r "$apt"

mkdir "$partial/bin"
run() { # run NAME PROGRAM...: bin/NAME runs it with the C library it was built for
	cat >"$partial/bin/$1" <<RUN
#!/bin/sh
d=\$(dirname "\$(dirname "\$0")")
exec "\$d"/usr/lib/*/ld-linux-*.so.* --library-path "\$(echo "\$d"/usr/lib/*-linux-gnu)" ${*:2} "\$@"
RUN
	chmod 755 "$partial/bin/$1"
}
run criu '"$d/usr/sbin/criu"'
run checkpointctl '"$d/usr/bin/checkpointctl"'
run python3 '"$d/usr/bin/python3"'
cat >"$partial/bin/crit" <<'RUN'
#!/bin/sh
d=$(dirname "$(dirname "$0")")
PYTHONHOME=$d/usr exec "$d/bin/python3" -B "$d/usr/bin/crit" "$@"
RUN
chmod 755 "$partial/bin/crit"
"$partial/bin/criu" --version >"$partial/log" 2>&1 || { cat "$partial/log" >&2; exit 1; }

chmod 755 "$partial"
# Another run may have been faster.
mv -T "$partial" "$dir" 2>/dev/null || [ -d "$dir" ]
echo "$dir"
