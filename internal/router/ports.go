package router

import "github.com/routex/cachewarmer/internal/snapshot"

// Pools finds the channels that could serve a model. It belongs to the same
// view as the Table it is used with.
type Pools interface {
	// Pool returns the channels that offer model and speak w.
	//
	//	errors  snapshot.ErrNoModel    no channel offers it
	//	        snapshot.ErrWrongWire  none of those that do speaks w
	Pool(model string, w snapshot.Wire) (Pool, error)
}

// Pool chooses among the channels that could serve one model in one wire
// format. What Pick and Take return counts as in flight until its Done.
type Pool interface {
	// Pick takes the best channel that is not in tried and is not resting.
	//
	//	errors  *snapshot.Resting  all that are left are resting, or none is left
	Pick(session string, tried []string) (snapshot.Pick, error)
	// Take takes this very channel, and reports false if it is not in the pool
	// or is resting.
	Take(channelID string) (snapshot.Pick, bool)
	// Why says why Take would report false, such as "it is resting for 12 s", and
	// "" if it would not.
	Why(channelID string) string
	// Peek returns what Pick would take, and takes nothing.
	Peek(session string, tried []string) (*snapshot.Channel, error)
	// Candidates lists the channels of the pool, best first.
	Candidates(session string) []snapshot.RouteCandidate
}
