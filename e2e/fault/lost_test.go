package fault

import (
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// lost is what does not come back of things that e2e/program/refuses.c holds,
// though they are saved.
var lost = []thing{
	{name: "raw packets", root: true, says: "packets that wait in a raw socket of protocol 1 are not saved"},
	{name: "packets", root: true, says: "packets that wait in a packet socket are not saved"},
	{name: "zero copy", says: "the count of what a socket has sent without copying (MSG_ZEROCOPY) begins anew"},
	{name: "overrun", says: "how often a timer ran out until its last signal came (timer_getoverrun) is not kept", check: "-"},
	{name: "stamps", says: "the count by which a socket tells times of sending apart (SOF_TIMESTAMPING_OPT_ID) begins anew"},
}

// TestLostThings: a check and a dump say what does not come back, and of whom.
func TestLostThings(t *testing.T) {
	for _, th := range lost {
		for _, user := range harness.Users() {
			if th.root && !harness.AsRoot(user) {
				continue
			}
			t.Run(th.name+"/as "+user, func(t *testing.T) {
				t.Parallel()
				e := harness.New(t, user)
				c := e.Start("refuses", nil, harness.Program(t, "refuses.c"), th.name)
				var j harness.Journal
				counts(c, &j, "main")
				for _, args := range [][]string{{"check", c.Name}, {"dump", "--leave-running", c.Name, e.Join("image")}} {
					r, want := e.Try(args...), 1
					if args[0] == "check" && th.check == "-" {
						want = 0 // it takes a stop
					}
					if r.Code != 0 || strings.Count(r.Err, th.says) != want || want > 0 && !strings.Contains(r.Err, "vpid=2 comm=refuses ") {
						t.Errorf("want it done, and told %d times: %q of pid 2: %v", want, th.says, r)
					}
				}
				counts(c, &j, "main")
			})
		}
	}
}
