#!/usr/bin/env bash
# generate.sh DIR: writes the Go code of every .proto, docs/kinds.md, and the
# messages in docs/troubleshooting.md, below DIR (. for the checkout itself), at the
# same paths.
. "$(dirname "$0")/common.sh"
out=${1:?usage: generate.sh DIR}
command -v protoc >/dev/null || { echo "protoc is missing: apt-get install protobuf-compiler" >&2; exit 1; }
plugin=$(go tool -n protoc-gen-go)
git ls-files --cached --others --exclude-standard -- '*.proto' | sort | while read -r proto; do
	protoc --plugin=protoc-gen-go="$plugin" --go_out="$out" --go_opt=module=ckpt "$proto"
done
mkdir -p "$out/docs"
table=$(go run ./ci/kinds) && printf '%s\n' "$table" >"$out/docs/kinds.md"
page=$(go run ./ci/messages/fill) && printf '%s\n' "$page" >"$out/docs/troubleshooting.md"
