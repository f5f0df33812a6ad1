#!/usr/bin/env bash
# e2e.sh [generations]: whole programs, dumped and restored by ./ckpt.
# With "generations": each of them 30 times in a row (CKPT_GENERATIONS changes it), and
# a busy family of processes 200 times (CKPT_LEVEL).
. "$(dirname "$0")/common.sh"
export CKPT_BINARY=$PWD/ckpt
case ${1:-} in
generations)
	export CKPT_GENERATIONS=${CKPT_GENERATIONS:-30}
	export CKPT_LEVEL=${CKPT_LEVEL:-200}
	exec go test -count=1 -timeout 90m -run '^(TestGenerations|TestLevel)$' -v ./e2e/workload
	;;
*)
	# One package at a time: some of them measure when a system call returned.
	exec go test -count=1 -timeout 15m -p 1 ./e2e/...
	;;
esac
