#!/usr/bin/env bash
# The test command of the README: everything, on a fresh Debian machine.
. "$(dirname "$0")/common.sh"

# Packages whose tests start no processes: the race detector may watch them.
race=(./failure ./image ./pidns ./procfs)

units() {
	local rest
	rest=$(go list ./... | grep -v '^ckpt/e2e' | grep -vxF "$(printf '%s\n' "${race[@]}" | sed 's|^\./|ckpt/|')")
	# shellcheck disable=SC2086
	go test -count=1 -timeout 10m $rest
}
race() { CGO_ENABLED=1 go test -race -count=1 -timeout 5m "${race[@]}"; }

echo "$(go version), Linux $(uname -r), $(nproc) CPUs, uid $(id -u)"
phase "packages" ./ci/packages.sh
./ci/check.sh
phase "unit tests (race detector)" race
phase "unit and kind tests" units
VERBOSE=1 phase "end to end" ./ci/e2e.sh
echo "all tests passed"
