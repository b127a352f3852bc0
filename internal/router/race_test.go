//go:build race

package router_test

// slowdown is how much less is tried where the race detector watches every
// access of RE2 to its memory, which makes it a hundred times slower.
const slowdown = 10
