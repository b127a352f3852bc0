package chaos_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// catalogue is how many lines each letter of the catalogue has.
var catalogue = map[string]int{"P": 11, "L": 10, "O": 10, "R": 11, "D": 9, "S": 12}

// TestCatalogueIsTrue holds README.md to the tree: every line of the catalogue
// is there once and names a test, and every test that it names exists.
func TestCatalogueIsTrue(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	real := tests(t)
	named := regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
	for _, name := range named.FindAllString(string(text), -1) {
		if !real[name] {
			t.Errorf("README.md names %s, which does not exist", name)
		}
	}
	for letter, count := range catalogue {
		for i := 1; i <= count; i++ {
			id := fmt.Sprintf("%s%d", letter, i)
			rows := regexp.MustCompile(`(?m)^\| `+id+` \|.*$`).FindAllString(string(text), -1)
			switch {
			case len(rows) != 1:
				t.Errorf("README.md has %d rows for %s, want 1", len(rows), id)
			case !named.MatchString(rows[0]):
				t.Errorf("README.md: %s names no test", id)
			}
		}
	}
}

// tests are the names of all tests of the tree, benchmarks among them.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
