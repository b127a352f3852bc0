package store

import "github.com/routex/cachewarmer/internal/snapshot"

// BellOf is what the bell makes of a message.
var BellOf = bellOf

// Step is how many records a whole read asks for next.
var Step = (*Store).step

// HintText is how a sealed hint is written.
var HintText = hintText.EncodeToString

// Newer reports whether a receipt counts have, in that data set, for a tag that went
// into one of those, when the first look found the data set first and the newest one
// a head of another, maybe.
func Newer(want snapshot.Tag, into []string, first string, head [2]string, have snapshot.Tag, in string) bool {
	kind := snapshot.Channels
	w := wanted{
		tags: map[string]snapshot.Tag{string(kind): want}, made: map[string]making{string(kind): {data: into}},
		first: first, head: map[string]string{"incarnation": head[0], string(kind): head[1]},
	}
	return w.newer(kind, have, in)
}
