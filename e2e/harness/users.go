package harness

import "os"

// Users are those that a test is run as, for New: "" is the one who runs it,
// beside whom root tests as an ordinary user, too.
func Users() []string {
	if os.Geteuid() == 0 {
		return []string{"", "nobody"}
	}
	return []string{""}
}

// AsRoot tells whether a user of Users is root.
func AsRoot(user string) bool { return user == "" && os.Geteuid() == 0 }
