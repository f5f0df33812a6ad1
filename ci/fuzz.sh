#!/usr/bin/env bash
# fuzz.sh [TIME]: feeds every parser, and the planning of restores, with what nobody
# has thought of, each for TIME (1m). What is found is written below testdata/fuzz,
# where `go test` tries it ever after.
. "$(dirname "$0")/common.sh"
time=${1:-1m}
failed=0
while IFS=: read -r file func; do
	phase "$(dirname "$file") $func" go test "./$(dirname "$file")" -run '^$' -fuzz "^$func\$" -fuzztime "$time" || failed=1
done < <(git grep -oE '^func Fuzz[A-Za-z0-9]+' -- '*_test.go' | sed 's/func //')
exit $failed
