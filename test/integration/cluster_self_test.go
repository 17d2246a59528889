package integration

import "testing"

// TestDifferencesOfOrphans: what had lost the object that made it before anything was compared is the garbage collector's
// to take away, at a time of its own; what loses it in between is not.
func TestDifferencesOfOrphans(t *testing.T) {
	pod := stored{uid: "pod", controller: "job"}
	job := stored{uid: "job"}
	leaving := stored{uid: "pod", controller: "job", intent: "deletionTimestamp"}
	for name, test := range map[string]struct {
		before, after snapshot
		want          int
	}{
		"an orphan goes":          {snapshot{"Pod a": pod}, snapshot{}, 0},
		"an orphan is on its way": {snapshot{"Pod a": pod}, snapshot{"Pod a": leaving}, 0},
		"both go":                 {snapshot{"Pod a": pod, "Job a": job}, snapshot{}, 2},
		"one that nobody owned":   {snapshot{"Job a": job}, snapshot{}, 1},
		"its controller is there": {snapshot{"Pod a": pod, "Job a": job}, snapshot{"Job a": job}, 1},
	} {
		if got := differences(test.before, test.after); len(got) != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
