#!/usr/bin/env bash
# What can be said of the code without running it.
. "$(dirname "$0")/common.sh"

formatted() {
	local bad
	bad=$(git ls-files --cached --others --exclude-standard -- '*.go' | while read -r f; do [ -e "$f" ] && echo "$f"; done | xargs gofmt -l)
	[ -z "$bad" ] || { echo "not gofmt'ed (gofmt -w does it):"; echo "$bad"; return 1; }
}

# The committed .pb.go files are what protoc makes of the .proto files.
generated() {
	local dir bad=0
	dir=$(mktemp -d)
	./ci/generate.sh "$dir" || bad=1
	while read -r f; do
		diff -u "${f#"$dir"/}" "$f" || bad=1
	done < <(find "$dir" -name '*.pb.go')
	rm -rf "$dir"
	[ $bad = 0 ] || { echo "generated code is out of date: make generate"; return 1; }
}

phase "gofmt" formatted
phase "go vet" go vet ./...
phase "go vet (arm64)" env GOARCH=arm64 go vet ./...
phase "staticcheck" go tool staticcheck ./...
phase "generated code is up to date" generated
phase "layers" go test -count=1 -run '^TestLayers$' .
phase "static binary" ./ci/build.sh
