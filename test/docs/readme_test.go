// Package docs holds the README to what the program does.
package docs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/testkit"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section returns what stands under a heading of the second level.
func section(t *testing.T, title string) string {
	t.Helper()
	_, rest, ok := strings.Cut(readme(t), "\n## "+title+"\n")
	if !ok {
		t.Fatalf("the README has no section %q", title)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// column returns the first cells of a section's table that are code.
func column(body string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(body, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, what string, documented, real []string) {
	t.Helper()
	slices.Sort(real)
	for _, name := range documented {
		if !slices.Contains(real, name) {
			t.Errorf("%s: the README names %s, which does not exist", what, name)
		}
	}
	for _, name := range real {
		if !slices.Contains(documented, name) {
			t.Errorf("%s: the README does not name %s", what, name)
		}
	}
}

func TestSettingsTable(t *testing.T) {
	body := section(t, "Settings")
	var real []string
	for _, d := range settings.Table {
		real = append(real, d.Env())
		shown := "`" + d.Default + "`"
		if d.Default == "" {
			shown = d.Note
		}
		if row := fmt.Sprintf("| `%s` | %s | %s |", d.Env(), shown, d.Help); !strings.Contains(body, row) {
			t.Errorf("the README lacks the row\n%s", row)
		}
	}
	same(t, "settings", column(body), real)
}

// demo runs the demo until the test ends and returns what it printed.
func demo(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out := &testkit.Buffer{}
	done := make(chan error, 1)
	go func() {
		done <- app.Demo(ctx, app.DemoOptions{
			Replicas: 3, Port: freePorts(t, 3), Dir: t.TempDir(), Out: out,
			Log: slog.New(slog.DiscardHandler),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Demo() = %v", err)
		}
	})
	testkit.Eventually(t, 30*time.Second, "the demo", func() error {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("Demo() = %v", err)
		default:
		}
		if !strings.Contains(out.String(), "Ctrl-C") {
			return fmt.Errorf("it printed %q", out.String())
		}
		return nil
	})
	return out.String()
}

// freePorts returns the first of n consecutive ports that were free just now.
// They lie below those that systems give to outgoing connections, so that none
// of these takes one before the demo does.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		first, free := 12000+rand.IntN(18000), true
		for i := range n {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+i))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return first
		}
	}
	t.Fatal("no consecutive free ports")
	return 0
}

func TestDemoMetricsAndTour(t *testing.T) {
	printed := demo(t)
	addrs := regexp.MustCompile(`http://\S+`).FindAllString(printed, 3)
	// Before the metrics: some have no series before the first request.
	t.Run("examples of the data plane", func(t *testing.T) { dataPlaneExamples(t, addrs) })
	t.Run("metrics table", func(t *testing.T) {
		res, err := http.Get(addrs[0] + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		var real []string
		types := map[string]string{}
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (routex_\S+) (\S+)$`).FindAllStringSubmatch(string(body), -1) {
			real = append(real, m[1])
			types[m[1]] = m[2]
		}
		help := map[string]string{}
		for _, m := range regexp.MustCompile(`(?m)^# HELP (routex_\S+) (.+)$`).FindAllStringSubmatch(string(body), -1) {
			help[m[1]] = m[2]
		}
		table := section(t, "Metrics")
		same(t, "metrics", column(table), real)
		for name, kind := range types {
			if row := fmt.Sprintf("| `%s` | %s | %s |\n", name, kind, help[name]); !strings.Contains(table, row) {
				t.Errorf("the README lacks the row\n%s", row)
			}
		}
	})
	t.Run("redis-cli tour", func(t *testing.T) {
		testkit.Program(t, "redis-cli", "redis-tools")
		port := regexp.MustCompile(`redis-cli -p (\d+)`).FindStringSubmatch(printed)
		if port == nil {
			t.Fatalf("the demo does not print the port of Redis:\n%s", printed)
		}
		commands := regexp.MustCompile(`(?m)^redis-cli .*$`).FindAllString(section(t, "A tour with redis-cli"), -1)
		if len(commands) < 10 {
			t.Fatalf("the tour has %d commands", len(commands))
		}
		for _, command := range commands {
			run(t, strings.Replace(command, "redis-cli", "redis-cli -p "+port[1], 1), strings.Contains(command, "refused"))
		}
	})
	t.Run("what the demo prints", func(t *testing.T) {
		testkit.Program(t, "redis-cli", "redis-tools")
		testkit.Program(t, "sqlite3", "sqlite3")
		for block := range strings.SplitSeq(printed, "\n\n") {
			if lines := strings.TrimSpace(block); strings.HasPrefix(lines, "# ") {
				run(t, lines, false)
			}
		}
	})
}

// run executes a documented command as it stands; it has to work, and to
// answer something unless it may be empty.
func run(t *testing.T, command string, mayBeEmpty bool) {
	t.Helper()
	out, err := exec.Command("bash", "-euo", "pipefail", "-c", command).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("ERR ")) || bytes.Contains(out, []byte(`"success":false`)) {
		t.Errorf("%s\n%v\n%s", command, err, out)
	}
	if !mayBeEmpty && len(bytes.TrimSpace(out)) == 0 && !strings.Contains(command, "UPDATE") {
		t.Errorf("%s\nanswered nothing", command)
	}
}
