package procfs

import (
	"bufio"
	"io"
	"os"
	"strings"
)

// CPU is what /proc/cpuinfo shows of the first processor
// (arch/x86/kernel/cpu/proc.c).
type CPU struct {
	Vendor string   // "GenuineIntel"
	Model  string   // as its maker calls it
	Flags  []string // what it can do, and the kernel lets programs use
}

// ReadCPU reads /proc/cpuinfo.
func ReadCPU() (CPU, error) {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return CPU{}, err
	}
	defer f.Close()
	return parseCPU(f)
}

// parseCPU reads no more than the first processor: the kernel measures the clock
// of each as it is read.
func parseCPU(r io.Reader) (c CPU, err error) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "":
			if err == io.EOF {
				err = nil
			}
			return c, err
		case "vendor_id":
			c.Vendor = value
		case "model name":
			c.Model = value
		case "flags", "Features": // x86, arm64
			c.Flags = strings.Fields(value)
		}
		if err == io.EOF {
			return c, nil
		}
		if err != nil {
			return c, err
		}
	}
}
