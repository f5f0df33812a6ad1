package main

import (
	"maps"
	"strings"
	"testing"
)

func TestParseMoves(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   map[string]string
		err    string // part of it; "": none
	}{
		{nil, map[string]string{}, ""},
		{[]string{"/a=/b"}, map[string]string{"/a": "/b"}, ""},
		{[]string{"/a/=/b//c/", "/a/x=1=/y=2"}, map[string]string{"/a": "/b/c", "/a/x=1": "/y=2"}, ""},
		{[]string{"/a=/b", "/a=/b"}, map[string]string{"/a": "/b"}, ""},
		{[]string{"/a=/"}, map[string]string{"/a": "/"}, ""},
		{[]string{"/a=/b", "/a=/c"}, nil, "/a is said to be at /b, too"},
		{[]string{""}, nil, "both beginning with a slash"},
		{[]string{"/a"}, nil, "both beginning with a slash"},
		{[]string{"/a=b"}, nil, "both beginning with a slash"},
		{[]string{"a=/b"}, nil, "both beginning with a slash"},
		{[]string{"=/b"}, nil, "both beginning with a slash"},
		{[]string{"/a=/b=/c"}, nil, "more than once"},
		{[]string{"//=/b"}, nil, "everything is below /"},
	} {
		got, err := parseMoves("restore", c.values)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.values, err, c.err)
			}
			continue
		}
		if err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%q: %v, %v", c.values, got, err)
		}
	}
}
