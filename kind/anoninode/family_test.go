package anoninode

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFamilies: every family that Linux has (AF_MAX of include/linux/socket.h is
// 46 since 5.15) has its name, but for those that no socket can be of.
func TestFamilies(t *testing.T) {
	none := map[int]bool{
		unix.AF_UNSPEC: true, unix.AF_BRIDGE: true, unix.AF_NETBEUI: true, unix.AF_SECURITY: true,
		unix.AF_ASH: true, unix.AF_ECONET: true, unix.AF_SNA: true, unix.AF_WANPIPE: true,
	}
	for n := range 46 {
		if got := family(n); strings.HasPrefix(got, "AF_") == none[n] {
			t.Errorf("family %d is called %s", n, got)
		}
	}
	for n, want := range map[int]string{
		unix.AF_VSOCK: "AF_VSOCK (virtual machine)", unix.AF_CAN: "AF_CAN (vehicle bus)", unix.AF_SMC: "AF_SMC (shared memory)", 99: "address family 99",
	} {
		if got := family(n); got != want {
			t.Errorf("family %d is called %s, want %s", n, got, want)
		}
	}
}
