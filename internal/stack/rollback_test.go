package stack

import (
	"errors"
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

func TestRollbackTarget(t *testing.T) {
	set := func(all []*kube.Revision, sets string) []*kube.Revision {
		for i := range all {
			all[i].Set = sets[i : i+1]
		}
		return all
	}
	tooLarge := set(revisions(good, good, good), "cba")
	tooLarge[1].ObjectsLeftOut = true
	cutOff := set(revisions(pending, good, good), "aba")
	cutOff[0].RollbackTo = 1
	for name, tt := range map[string]struct {
		all    []*kube.Revision // the newest first: the last one has number 1
		number int
		want   int
		err    string
	}{
		"the one before":                       {set(revisions(good, good, good), "cba"), 0, 2, ""},
		"the newest failed":                    {set(revisions(bad, good, good), "cba"), 0, 2, ""},
		"the newest was cut off":               {set(revisions(pending, good), "ba"), 0, 1, ""},
		"a rollback that was cut off":          {cutOff, 0, 1, ""},
		"failures in between":                  {set(revisions(good, bad, pending, good), "dcba"), 0, 1, ""},
		"the one before is the same":           {set(revisions(good, bad, good, good), "cbca"), 0, 1, ""},
		"after a rollback: where it was from":  {set(revisions(good, good, good), "aba"), 0, 2, ""},
		"by number":                            {set(revisions(good, good, good), "cba"), 1, 1, ""},
		"by number, the newest":                {set(revisions(good, good), "ba"), 2, 2, ""},
		"one too large to keep is passed over": {tooLarge, 0, 1, ""},

		"nothing was deployed":      {nil, 0, 0, "there is no earlier revision that was deployed, so there is nothing to go back to"},
		"the first one failed":      {set(revisions(bad), "a"), 0, 0, "there is no earlier revision that was deployed, so there is nothing to go back to"},
		"there is one":              {set(revisions(good), "a"), 0, 0, "there is no earlier revision that was deployed, so there is nothing to go back to"},
		"there is one, rolled back": {set(revisions(good, bad, good), "aba"), 0, 0, "there is no earlier revision that was deployed, so there is nothing to go back to"},
		"no such number":            {set(revisions(good, good), "ba"), 7, 0, "there is no revision 7"},
		"a failed one by number":    {set(revisions(good, bad), "ba"), 1, 0, "revision 1 was never deployed: it is failed"},
		"one too large by number":   {tooLarge, 2, 0, "revision 2 was too large to be kept"},
	} {
		got, err := rollbackTarget(tt.all, tt.number)
		if tt.err != "" {
			var none *NoRevisionError
			if !errors.As(err, &none) || err.Error() != tt.err || none.Hint() == "" {
				t.Errorf("%s: got %+v, %v", name, got, err)
			}
			continue
		}
		if err != nil || got.Number != tt.want {
			t.Errorf("%s: got %+v, %v, want %d", name, got, err, tt.want)
		}
	}
}
