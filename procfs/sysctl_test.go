package procfs

import "testing"

func TestParseSysctl(t *testing.T) {
	if n, err := ParseSysctl("kernel/pid_max", []byte("32768\n")); n != 32768 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := ParseSysctl("kernel/pid_max", []byte("many\n")); err == nil || err.Error() != `/proc/sys/kernel/pid_max: strconv.Atoi: parsing "many": invalid syntax` {
		t.Errorf("error %v", err)
	}
}
