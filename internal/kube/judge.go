package kube

import (
	"slices"
	"time"
)

// usualFor is how long a problem that every start has for a while is not worth telling.
const usualFor = 20 * time.Second

// passingFor is how long a passing problem is none.
const passingFor = 5 * time.Second

// judge decides when waiting can't help any more. It remembers since when a problem is seen.
type judge struct{ since map[string]time.Time }

func newJudge() *judge { return &judge{since: map[string]time.Time{}} }

// see notes the problems of the moment, that a usual one has lasted too long, and drops one that may be gone in a moment.
func (j *judge) see(states []Readiness, now time.Time) {
	seen := map[string]time.Time{}
	for i, s := range states {
		if s.Problem == nil {
			continue
		}
		key := s.problemKey()
		seen[key] = now
		if first, ok := j.since[key]; ok {
			seen[key] = first
		}
		lasted := now.Sub(seen[key])
		if lasted >= usualFor {
			s.Problem.Usual = false
		}
		if s.Problem.passing && lasted < passingFor {
			states[i].Problem = nil
		}
	}
	j.since = seen
}

// hopeless reports whether one of the problems has outlasted the patience that it deserves.
func (j *judge) hopeless(states []Readiness, now time.Time) bool {
	for _, s := range states {
		if s.Ready || s.Problem == nil || !s.Problem.Final {
			continue
		}
		if now.Sub(j.since[s.problemKey()]) >= s.Problem.Patience {
			return true
		}
	}
	return false
}

// logPatience is how long the log of a container that ended is worth waiting for before that is told.
const logPatience = 2 * time.Second

// awaitsLog reports whether one of the problems would be told without the log that is on its way.
func (j *judge) awaitsLog(states []Readiness, now time.Time) bool {
	return slices.ContainsFunc(states, func(s Readiness) bool {
		return s.Problem != nil && s.Problem.logDue && !s.Problem.Usual && now.Sub(j.since[s.problemKey()]) < logPatience
	})
}
