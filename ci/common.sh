# Sourced by the scripts of this folder: the same surroundings for each of
# them, and a line with the time for every phase.
set -eu -o pipefail
cd "$(dirname "$0")/.."
umask 022
export CGO_ENABLED=0 LC_ALL=C.UTF-8
# Version managers put shims before the real programs; a Go that is not in
# PATH is looked for where its installer puts it.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer from https://go.dev/dl" >&2; exit 1; }

# phase NAME COMMAND...: runs it and tells how long it took. Its output is shown
# when it fails, or as it comes with VERBOSE=1.
phase() {
	local name=$1 start=$SECONDS rc=0 out
	shift
	out=$(mktemp)
	printf '%-44s' "$name"
	if [ -n "${VERBOSE:-}" ]; then
		echo
		"$@" || rc=$?
		printf '%-44s' "$name"
	else
		"$@" >"$out" 2>&1 || rc=$?
	fi
	if [ $rc = 0 ]; then
		echo "ok $((SECONDS - start)) s"
	else
		echo "FAILED after $((SECONDS - start)) s"
		cat "$out"
	fi
	rm -f "$out"
	return $rc
}
