package ops_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestImageIsBuiltWithTheGoOfTheModule(t *testing.T) {
	module := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, "go.mod"))
	image := regexp.MustCompile(`(?m)^FROM golang:([0-9.]+)-`).FindStringSubmatch(read(t, "scripts", "docker", "Dockerfile"))
	if module == nil || image == nil || module[1] != image[1] {
		t.Errorf("go.mod says %q, the Dockerfile %q", module, image)
	}
}

func TestImageIsSmallPlainAndUnprivileged(t *testing.T) {
	dockerfile := read(t, "scripts", "docker", "Dockerfile")
	for _, want := range []string{
		"CGO_ENABLED=0", "-trimpath", "-X main.version=", "-X main.commit=",
		"\nUSER 65532:65532\n", `CMD ["routex", "healthcheck"]`,
	} {
		if !strings.Contains(dockerfile, want) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
}

// What is not named here never reaches the builder, .env least of all.
func TestImageSeesOnlyTheSource(t *testing.T) {
	var let []string
	lines := strings.Split(strings.TrimSpace(read(t, ".dockerignore")), "\n")
	everything := false
	for _, line := range lines {
		if line == "*" {
			everything = true
		}
		if rest, ok := strings.CutPrefix(line, "!"); ok {
			let = append(let, rest)
		}
	}
	if got := strings.Join(let, " "); !everything || got != "cmd internal go.mod go.sum" {
		t.Errorf("the builder sees %q (all else ignored: %v)", got, everything)
	}
}

func TestCIRunsTheTestCommand(t *testing.T) {
	for _, name := range [][]string{{".ci", "run"}, {"scripts", "test"}, {"scripts", "lint"}, {"scripts", "docker", "env"}} {
		info, err := os.Stat(at(name...))
		if err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%v cannot be run (%v)", name, err)
		}
	}
	if !strings.Contains(read(t, ".ci", "run"), "scripts/test") {
		t.Error(".ci/run does not run scripts/test")
	}
}
