// Package audit compares what this replica serves with what it should serve.
//
//	source ──rows──▶ redis ──snapshot──▶ copy ──compiled──▶ served
//	   └───────┬────────┴────────┬─────────┴────────┬─────────┘
//	           └─────────── compared here ──────────┘
//
// It asks nobody's word: records are encoded and hashed anew each time. Two
// holders are compared only where they hold the same version of a kind, so what
// is on its way is never taken for wrong: the copy with Redis when the head has
// its tag, Redis with the source when both are at one order.
//
// Run does so with a sample at an interval, and mends what it finds. Verify and
// Imprints do so on request, and change nothing.
package audit
