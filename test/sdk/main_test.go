package sdk_test

import (
	"os"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/test/fleet"
)

// TestMain clears what the clients would read besides their options.
func TestMain(m *testing.M) {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "OPENAI_") || strings.HasPrefix(name, "ANTHROPIC_") {
			_ = os.Unsetenv(name) // fails only for names that no variable can have
		}
	}
	os.Exit(fleet.Main(m))
}

// TestOfficialClients shares one fleet among all that is tried on it.
func TestOfficialClients(t *testing.T) {
	r := start(t)
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *rig)
	}{
		{"what a client gets through a replica is what it gets straight from the upstream", everythingIsTheSame},
		{"the list of models is the catalogue, at every replica", modelsAreListed},
		{"a refusal is an error of the client's own type", refusalsAreTyped},
		{"an upstream's error arrives as it was made", upstreamErrorsPass},
		{"a channel that was told to wait is left alone, and clients are told for how long", restIsTold},
		{"a client that tries again when it is told to gets its answer", retryAsTold},
		{"a client does not notice that a channel fails while another does not", failoverIsSilent},
		{"each event arrives before the next one is made", eventsAreNotHeld},
		{"an answer that breaks off never looks whole", cutsAreSeen},
		{"a client that goes away takes its request along", cancellationTravels},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, r) })
	}
}
