package bench_test

import (
	"os"
	"testing"

	"github.com/routex/cachewarmer/test/fleet"
)

// roleEnv makes the test binary one of the programs that a benchmark needs
// beside itself.
const roleEnv = "ROUTEX_BENCH_ROLE"

// roles are those programs by name. They end when their standard input does.
var roles = map[string]func(){"pinger": pinger, "upstream": upstream, "reverseproxy": reverseProxy}

func TestMain(m *testing.M) {
	if run, ok := roles[os.Getenv(roleEnv)]; ok {
		run()
		return
	}
	os.Exit(fleet.Main(m))
}

// large is how many records the large sets have: fewer in the short form.
func large() int {
	if testing.Short() {
		return 10_000
	}
	return 100_000
}

// sizes are the sets that growth is judged by.
func sizes() []int { return []int{1000, large()} }
