#!/usr/bin/env bash
# packaged.sh: makes the packages twice, in different places, which has to give the same
# bytes; as root it installs and uses them in a Debian that has nothing else.
. "$(dirname "$0")/common.sh"
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

twice() {
	# Another directory and another file system, without what is in nobody's commit.
	mkdir "$work/elsewhere"
	git ls-files -z --cached --others --exclude-standard | while read -r -d '' f; do
		[ ! -e "$f" ] || printf '%s\0' "$f"
	done | tar --null -T - -cf - | tar -C "$work/elsewhere" -xf -
	echo "gitdir: $(git rev-parse --absolute-git-dir)" >"$work/elsewhere/.git"
	./ci/package.sh "$work/here"
	# What git notes of files belongs to the other place.
	TMPDIR=/dev/shm GIT_WORK_TREE=$work/elsewhere "$work/elsewhere/ci/package.sh" "$work/there"
	diff -r "$work/here" "$work/there" || { echo "two builds of one commit differ" >&2; return 1; }
}

# inside: what a newcomer does first, in the directory that is / here.
inside() {
	set -eux
	dpkg -i /pkg/*.deb
	ckpt version
	ckpt check
	zcat /usr/share/man/man1/ckpt-dump.1.gz | grep -q leave
	test -s /usr/share/bash-completion/completions/ckpt
	# shellcheck disable=SC2016
	ckpt start job -- bash -c 'for ((n = 1; ; n++)); do echo "step $n of pid $$"; sleep 0.1; done'
	ckpt logs -f job | grep -m1 'step 3 of pid 2'
	ckpt dump job /image
	ckpt verify /image
	ckpt restore /image
	ckpt logs -f job | grep -m1 'step 9 of pid 2'
	ckpt rm -f job
	dpkg -r ckpt
	test ! -e /usr/bin/ckpt
	mkdir /opt/ckpt
	tar -C /opt/ckpt --strip-components=1 -xf /pkg/*.tar.gz
	/opt/ckpt/ckpt version
}

clean() {
	local tar
	tar=$(./ci/debian.sh) || return 1
	mkdir "$work/root"
	tar -C "$work/root" -xf "$tar"
	mkdir "$work/root/pkg"
	cp "$work"/here/* "$work/root/pkg"
	{
		declare -f inside
		echo inside
	} >"$work/root/inside.sh"
	# Nothing of it is left, whatever happens: with the first of its processes end all.
	unshare --mount --pid --fork --kill-child --propagation private bash -eu -c '
		cd "$1"
		mount --bind . . && cd "$1"
		mount -t proc proc proc
		mount -t sysfs -o ro sys sys
		mount -t tmpfs dev dev
		for d in null zero full random urandom tty; do : >"dev/$d"; mount --bind "/dev/$d" "dev/$d"; done
		mkdir dev/pts dev/shm old
		mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
		mount -t tmpfs shm dev/shm
		pivot_root . old
		cd /
		umount -l /old
		exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root bash /inside.sh
	' _ "$work/root"
}

phase "packages, twice" twice
if [ "$(id -u)" = 0 ]; then
	phase "packages, in a clean Debian" clean
fi
