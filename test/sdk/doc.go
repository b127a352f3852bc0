// Package sdk has the official Go clients of OpenAI and Anthropic use a fleet as
// their provider: two replicas of the built program, a real Redis, a real
// database, and stand-ins behind them.
//
//	client ──────────────────────────────▶ stand-in     straight
//	client ──▶ r1 ──┐                         ▲
//	client ──▶ r2 ──┴─────────────────────────┘          through the fleet
//
// What a client gets through a replica is compared with what it gets straight
// from the upstream: the bytes of each answer, the events of each stream, what
// the upstream was sent, and what the client's own types make of all that.
// Channels are made through one replica and used through the other, too.
//
// It is a module of its own, so that the clients and all that they need stay out
// of the program's go.mod.
package sdk
