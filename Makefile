# The words of this project. `make test` is what continuous integration runs.
.PHONY: build demo test check generate e2e generations fuzz bench kernels package

build: ; ./ci/build.sh
demo: ; ./ci/demo.sh
test: ; ./ci/test.sh
check: ; ./ci/check.sh
generate: ; ./ci/generate.sh .
e2e: build ; ./ci/e2e.sh
generations: build ; ./ci/e2e.sh generations
fuzz: ; ./ci/fuzz.sh
bench: build ; go run ./e2e/bench
kernels: ; ./ci/kernels.sh
package: ; ./ci/package.sh
