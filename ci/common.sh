# Sourced by the scripts of this folder: the same surroundings for each of
# them, and a line with the time for every phase.
set -eu
cd "$(dirname "$0")/.."
umask 022
export CGO_ENABLED=0 LC_ALL=C.UTF-8
# Version managers put shims before the real programs; a Go that is not in
# PATH is looked for where its installer puts it.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer from https://go.dev/dl" >&2; exit 1; }

# phase NAME COMMAND...: runs it, shows its output only when it fails, unless
# the command is one that people want to watch (VERBOSE=1).
phase() {
	local name=$1 start out
	shift
	start=$(date +%s)
	out=$(mktemp)
	printf '%-44s' "$name"
	if [ -n "${VERBOSE:-}" ]; then
		echo
		"$@" && { rm -f "$out"; printf '%-44s' "$name"; echo "ok $(($(date +%s) - start)) s"; return 0; }
	elif "$@" >"$out" 2>&1; then
		rm -f "$out"
		echo "ok $(($(date +%s) - start)) s"
		return 0
	fi
	echo "FAILED after $(($(date +%s) - start)) s"
	cat "$out" >&2
	rm -f "$out"
	return 1
}
