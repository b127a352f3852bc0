package testkit

import (
	"crypto/rand"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// fastEnv is set to 1 by "scripts/test --fast", which needs no server.
const fastEnv = "ROUTEX_TEST_FAST"

// Eventually calls f until it returns nil and fails the test if that takes
// longer than within. What names the thing waited for. Pauses between the calls
// grow from 1 to 10 ms, so a fast condition costs little and a slow one no CPU.
func Eventually(tb testing.TB, within time.Duration, what string, f func() error) {
	tb.Helper()
	start := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 10*time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Since(start) > within {
			tb.Fatalf("%s: not within %v; last: %v", what, within, err)
		}
		time.Sleep(pause)
	}
}

// Namespace returns a namespace that no other test uses, at most 32 characters
// of a-z, 0-9 and "-". It begins with the test's name, so that a key left in
// Redis says who wrote it.
func Namespace(tb testing.TB) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '-'
		}
	}, strings.TrimPrefix(tb.Name(), "Test"))
	clean = strings.Trim(clean[:min(len(clean), 21)], "-")
	return clean + "-" + strings.ToLower(rand.Text()[:10])
}

// Program returns the path of a program that the test runs. A test run that
// asked to do without servers and tools skips it; anywhere else a program that
// is not installed is a failure that says what to install.
func Program(tb testing.TB, name, debianPackage string) string {
	tb.Helper()
	withoutServers(tb, name)
	path, err := exec.LookPath(name)
	if err != nil {
		missing(tb, name, debianPackage)
	}
	return path
}

// withoutServers skips the test in a run that asked for that.
func withoutServers(tb testing.TB, program string) {
	tb.Helper()
	if os.Getenv(fastEnv) == "1" {
		tb.Skipf("it runs %s, and %s=1 asks for tests that need none", program, fastEnv)
	}
}

// missing ends a test whose server is not installed and says what to install.
func missing(tb testing.TB, program, debianPackage string) {
	tb.Helper()
	tb.Fatalf("%s is not installed: install the package %s, or run scripts/test, which does so (%s=1 skips such tests)",
		program, debianPackage, fastEnv)
}
