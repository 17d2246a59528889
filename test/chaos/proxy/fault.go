package proxy

import (
	"math/rand/v2"
	"slices"
)

// Kind is what happens to a request instead of being passed on and answered.
type Kind string

// The kinds. Of a pair, "before" keeps the request from the API server, and "after" keeps the answer from the client:
// then the server has acted and nobody knows.
const (
	None       Kind = ""
	KillBefore Kind = "kill-before" // the client is killed
	KillAfter  Kind = "kill-after"
	DropBefore Kind = "drop-before" // the connection is closed
	DropAfter  Kind = "drop-after"
	Delay      Kind = "delay" // everything takes longer
	TooMany    Kind = "429"   // with Retry-After: 1
	Internal   Kind = "500"
	Conflict   Kind = "409"
	Garbage    Kind = "garbage"   // 200 and a page that is no answer of an API server
	Cut        Kind = "cut"       // every open watch ends in the middle; if the request is one, it too
	Interrupt  Kind = "interrupt" // the client gets a signal; the request is passed on
	Away       Kind = "away"      // the API server is away for a while, open watches included
)

// Kinds are all of them, None apart.
func Kinds() []Kind {
	return []Kind{KillBefore, KillAfter, DropBefore, DropAfter, Delay, TooMany, Internal, Conflict, Garbage, Cut, Interrupt, Away}
}

// Kills reports whether the client can't go on.
func (k Kind) Kills() bool { return k == KillBefore || k == KillAfter }

// Passing reports whether the fault says that the same request may well succeed a moment later, so that a client
// which asks again comes to its end.
func (k Kind) Passing() bool {
	return slices.Contains([]Kind{None, DropBefore, DropAfter, Delay, TooMany, Internal, Cut, Away}, k)
}

// Plan says what happens to the request with number n, counted from 1.
type Plan func(n int) Kind

// Undisturbed lets everything pass.
func Undisturbed(int) Kind { return None }

// At does one thing to one request.
func At(n int, kind Kind) Plan {
	return func(i int) Kind {
		if i == n {
			return kind
		}
		return None
	}
}

// Randomly does one of kinds to a share of the requests. The same seed gives the same plan.
func Randomly(seed uint64, share float64, kinds ...Kind) Plan {
	return func(n int) Kind {
		random := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // it has to be the same each time, and protects nothing
		if random.Float64() >= share {
			return None
		}
		return kinds[random.IntN(len(kinds))]
	}
}
