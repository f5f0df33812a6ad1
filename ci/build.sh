#!/usr/bin/env bash
# One static binary, ./ckpt, the same bytes wherever it is built of a commit.
. "$(dirname "$0")/common.sh"
# What is not in a commit has none. A tree without git is built all the same.
commit=$(git rev-parse HEAD 2>/dev/null) || commit=
if [ -n "$commit" ]; then
	[ -z "$(git --no-optional-locks status --porcelain --untracked-files=no)" ] || commit+=-dirty
	stamp="-X main.commit=$commit -X main.commitTime=$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)"
fi
go build -trimpath -buildvcs=false -ldflags="-s -w ${stamp:-}" -o "${1:-ckpt}" ./cmd/ckpt
# A static binary has no interpreter: it runs in any container and chroot.
command -v readelf >/dev/null || exit 0
case $(readelf -lW "${1:-ckpt}") in
*INTERP*)
	echo "ckpt is not static: it asks for a dynamic loader" >&2
	exit 1
	;;
esac
