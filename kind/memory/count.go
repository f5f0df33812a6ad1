package memory

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"ckpt/failure"
)

// spare is how many mappings more than the program's own a process has while it is
// rebuilt, at most: ckpt's code and scripts, parts that are moved, and the three
// that the kernel itself keeps back when it moves one (mremap(2)).
const spare = 32

// checkCount refuses more mappings than a process may have here, with those of
// ckpt that are needed to ask it, or to make them again.
func checkCount(n int) error {
	most, err := mostMappings()
	if err != nil {
		return err
	}
	return fewer(n, most)
}

// mostMappings is how many mappings a process may have.
func mostMappings() (int, error) {
	const path = "/proc/sys/vm/max_map_count"
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read how many mappings a process may have: %w", err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return most, nil
}

func fewer(n, most int) error {
	if n+spare <= most {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("it has %d mappings, of %d that a process may have (vm.max_map_count), which leaves no room for ckpt's", n, most),
		fmt.Sprintf("raise the limit: sysctl vm.max_map_count=%d", n+spare))
}
