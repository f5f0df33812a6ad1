package container

import "testing"

func TestKey(t *testing.T) {
	a, b := NewKey(), NewKey()
	if !IsKey(a) || !IsKey(b) || a == b {
		t.Errorf("keys %q and %q", a, b)
	}
	for _, bad := range []string{"", "12", "../../../../etc.", "zzzzzzzzzzzzzzzz", a + "00"} {
		if IsKey(bad) {
			t.Errorf("%q is a key", bad)
		}
	}
	// Stories of e2e look from inside.
	if k, err := KeyOf(); k != "" || err != nil {
		t.Errorf("the test is in the container with the key %q (%v)", k, err)
	}
}
