package testkit

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Variables that scripts/chaos sets for the tests it runs.
const (
	seedEnv    = "ROUTEX_TEST_SEED"    // decimal; empty: a new one for each run
	minutesEnv = "ROUTEX_TEST_MINUTES" // how long the long form may take in all; empty or 0: the short form
	commitEnv  = "ROUTEX_TEST_COMMIT"  // what is tested; empty: git is asked
)

// Seed returns the seed of this test run: what scripts/chaos --seed gave, or
// else one that is drawn once for the process.
var Seed = sync.OnceValue(func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv(seedEnv), 10, 64); err == nil {
		return n
	}
	return rand.Uint64() >> 1 // fits rapid's flag and every shell
})

// Commit returns what is tested, as far as anybody can tell.
var Commit = sync.OnceValue(func() string {
	if c := os.Getenv(commitEnv); c != "" {
		return c
	}
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
})

// Random returns a source of chance that depends on the seed of the run and on
// the test's name alone, and logs both, with the commit: what was drawn can be
// drawn again. It is not safe for concurrent use.
func Random(tb testing.TB) *rand.Rand {
	tb.Helper()
	h := fnv.New64a()
	_, _ = h.Write([]byte(tb.Name()))
	tb.Logf("seed %d, commit %s: %s=%d go test -run '^%s$' repeats it", Seed(), Commit(), seedEnv, Seed(), tb.Name())
	return rand.New(rand.NewPCG(Seed(), h.Sum64()))
}

// Long returns how long the long form of the tests may take in all, and 0 in
// the short form, which is what scripts/test runs.
func Long() time.Duration {
	n, err := strconv.Atoi(os.Getenv(minutesEnv))
	if err != nil || n <= 0 {
		return 0
	}
	return time.Duration(n) * time.Minute
}

// Rounds returns short in the short form, and long in the long one.
func Rounds(short, long int) int {
	if Long() > 0 {
		return long
	}
	return short
}
