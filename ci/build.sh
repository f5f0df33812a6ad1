#!/usr/bin/env bash
# One static binary, ./ckpt, the same bytes wherever it is built.
. "$(dirname "$0")/common.sh"
go build -trimpath -ldflags='-s -w' -o ckpt ./cmd/ckpt
# A static binary has no interpreter: it runs in any container and chroot.
command -v readelf >/dev/null || exit 0
case $(readelf -lW ckpt) in
*INTERP*)
	echo "ckpt is not static: it asks for a dynamic loader" >&2
	exit 1
	;;
esac
