package memory

import "testing"

func TestFewer(t *testing.T) {
	refused(t, "all that there may be", fewer(65530, 65530), "it has 65530 mappings, of 65530")
	refused(t, "one too many", fewer(65530-spare+1, 65530), "it has 65499 mappings")
	refused(t, "as many as can be", fewer(65530-spare, 65530), "")
}
