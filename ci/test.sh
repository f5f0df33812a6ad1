#!/usr/bin/env bash
# The test command of the README: everything, on a fresh Debian machine.
. "$(dirname "$0")/common.sh"

# Packages whose tests start no processes: the race detector may watch them.
race=(./console ./failure ./image ./inspect/core ./inspect/diff ./pidns ./procfs ./restore/tree)

# Tests that make kernel objects of every sort, and stop processes, are root's.
rootonly='^ckpt/(kind/|tracee)'

units() {
	local all rest
	all=$(go list ./...) || return 1
	rest=$(grep -v '^ckpt/e2e' <<<"$all" | grep -vxF "$(printf '%s\n' "${race[@]}" | sed 's|^\./|ckpt/|')") || return 1
	[ "$(id -u)" = 0 ] || rest=$(grep -vE "$rootonly" <<<"$rest") || return 1
	# One package at a time: some measure when a system call returned.
	# shellcheck disable=SC2086
	go test -count=1 -timeout 10m -p 1 $rest
}
race() { CGO_ENABLED=1 go test -race -count=1 -timeout 5m "${race[@]}"; }

echo "$(go version), Linux $(uname -r), $(nproc) CPUs, uid $(id -u)"
phase "packages" ./ci/packages.sh
phase "criu" ./ci/criu.sh
# Whatever fails, the rest is run too: one run tells all there is to mend.
failed=0
./ci/check.sh || failed=1
phase "unit tests (race detector)" race || failed=1
phase "unit and kind tests" units || failed=1
./ci/packaged.sh || failed=1
VERBOSE=1 phase "end to end" ./ci/e2e.sh || failed=1
[ $failed = 0 ] || { echo "tests FAILED"; exit 1; }
if [ "$(id -u)" = 0 ]; then
	echo "all tests passed"
else
	echo "all tests passed that an ordinary user can run; as root also those of kind/ and tracee/"
fi
