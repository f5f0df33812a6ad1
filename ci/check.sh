#!/usr/bin/env bash
# What can be said of the code without running it.
. "$(dirname "$0")/common.sh"

formatted() {
	local bad
	bad=$(git ls-files --cached --others --exclude-standard -- '*.go' | while read -r f; do if [ -e "$f" ]; then echo "$f"; fi; done | xargs gofmt -l)
	[ -z "$bad" ] || { echo "not gofmt'ed (gofmt -w does it):"; echo "$bad"; return 1; }
}

# The committed .pb.go files are what protoc makes of the .proto files, and
# docs/kinds.md is what the kinds say, docs/troubleshooting.md has every message.
generated() {
	local dir bad=0
	dir=$(mktemp -d)
	./ci/generate.sh "$dir" || bad=1
	while read -r f; do
		diff -u "${f#"$dir"/}" "$f" || bad=1
	done < <(find "$dir" -type f)
	rm -rf "$dir"
	[ $bad = 0 ] || { echo "generated code is out of date: make generate"; return 1; }
}

failed=0
phase "gofmt" formatted || failed=1
phase "go vet" go vet ./... || failed=1
phase "go vet (arm64)" env GOARCH=arm64 go vet ./... || failed=1
phase "staticcheck" go tool staticcheck ./... || failed=1
phase "generated code is up to date" generated || failed=1
phase "layers" go test -count=1 . || failed=1
phase "static binary" ./ci/build.sh || failed=1
exit $failed
