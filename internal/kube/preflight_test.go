package kube

import (
	"testing"
	"time"
)

// TestAhead: an answer that took long, or a cut-off part of a second, makes no clock wrong.
func TestAhead(t *testing.T) {
	at := func(seconds float64) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
	}
	for name, test := range map[string]struct{ begin, end, date, want float64 }{
		"the same":        {0.2, 0.3, 0, 0},
		"a slow answer":   {0, 30, 14, 0},
		"the next second": {0.99, 1.01, 1, 0},
		"ahead":           {61, 62, 0, 60},
		"behind":          {0, 1, 61, -60},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ahead(at(test.begin), at(test.end), at(test.date)); got.Seconds() != test.want {
				t.Errorf("%s, want %v s", got, test.want)
			}
		})
	}
}
