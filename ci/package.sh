#!/usr/bin/env bash
# package.sh [DIR]: writes a Debian package and a tar.gz of ckpt, with its manual pages
# and what shells need to complete its commands, into DIR (dist). Of one commit they are
# the same bytes wherever they are made (https://reproducible-builds.org), given the
# same Go, dpkg-deb, tar and gzip.
. "$(dirname "$0")/common.sh"
out=$(realpath -m "${1:-dist}")
for p in git dpkg-deb; do
	command -v $p >/dev/null || { echo "$p is missing: apt-get install git dpkg" >&2; exit 1; }
done
arch=$(go env GOARCH)
version=$(sed -n 's/^const version = "\(.*\)"$/\1/p' cmd/ckpt/version.go)
# All files get the time of the commit, and so does the version of one without a tag,
# which sorts before that of the release to come (deb-version(7)).
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
if ! git tag --points-at HEAD | grep -qx "v$version"; then
	version+=~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S).$(git rev-parse --short=12 HEAD)
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work"/{bin,man,completions}
./ci/build.sh "$work/bin/ckpt"
"$work/bin/ckpt" man "$work/man"
for shell in bash zsh fish; do
	"$work/bin/ckpt" completion $shell >"$work/completions/ckpt.$shell"
done

# docs DIR: the README and what it links to.
docs() {
	mkdir -p "$1"
	git ls-files -- README.md docs | xargs cp -P --parents -t "$1"
}

# The Debian package.
deb=$work/deb
install -D -m 755 "$work/bin/ckpt" "$deb/usr/bin/ckpt"
install -D -m 644 -t "$deb/usr/share/man/man1" "$work"/man/*
gzip -9n "$deb"/usr/share/man/man1/*
install -D -m 644 "$work/completions/ckpt.bash" "$deb/usr/share/bash-completion/completions/ckpt"
install -D -m 644 "$work/completions/ckpt.zsh" "$deb/usr/share/zsh/vendor-completions/_ckpt"
install -D -m 644 "$work/completions/ckpt.fish" "$deb/usr/share/fish/vendor_completions.d/ckpt.fish"
docs "$deb/usr/share/doc/ckpt"
mkdir "$deb/DEBIAN"
# Sizes of directories are left out: they are the file system's.
cat >"$deb/DEBIAN/control" <<CONTROL
Package: ckpt
Version: $version
Architecture: $arch
Maintainer: the authors of ckpt <ckpt@localhost>
Section: admin
Priority: optional
Installed-Size: $(find "$deb" -type f -printf '%s\n' | awk '{ n += int(($1 + 1023) / 1024) } END { print n }')
Description: save running programs into a directory, and bring them back
 ckpt starts a container whose processes live in a virtual pid space, saves the
 whole running container into a directory, and brings it back later, on this
 machine or another, with every id the processes ever saw unchanged. One static
 binary, no daemon, no set-up, no root needed where the kernel allows user
 namespaces.
CONTROL
(cd "$deb" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$deb" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
# More threads than one would make the bytes depend on the machine.
dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$deb" "$out/ckpt_${version}_$arch.deb" >/dev/null

# The tar.gz, for any Linux.
name=ckpt-$version-linux-$arch
mkdir "$work/$name"
cp -r "$work/bin/ckpt" "$work/man" "$work/completions" "$work/$name"
docs "$work/$name"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar -cf - "$name" |
	gzip -9n >"$out/$name.tar.gz"
ls -l "$out/ckpt_${version}_$arch.deb" "$out/$name.tar.gz"
