// Package conformance_test runs every example of the client's API reference as
// it is written there, against the built program with nothing set, and compares
// the answers with the documented ones.
//
//	testdata/cache-warmer.zh.md ──▶ examples ──▶ bash, HTTP ──▶ routex on :8080
//	             └──────documented answers──────▶ compare ◀──answers──┘
//
// testdata holds the examples, their headings and the answers, all of them
// untouched: comments inside JSON, and one comment outside of its quotes,
// belong to what has to work. An example without a check here fails the test.
package conformance_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/test/fleet"
)

// base is where the examples look for the program.
const base = "http://localhost:8080"

func TestMain(m *testing.M) { os.Exit(fleet.Main(m)) }

// answer is one answer of the API, or whatever else an example printed as JSON.
type answer map[string]any

// data is the object under "data".
func (a answer) data(t *testing.T) answer {
	t.Helper()
	d, ok := a["data"].(map[string]any)
	if !ok {
		t.Fatalf("the answer has no data: %v", a)
	}
	return d
}

// number is the number under the path, such as "itemsCached.channels".
func (a answer) number(t *testing.T, path string) float64 {
	t.Helper()
	n, ok := a.at(path).(float64)
	if !ok {
		t.Fatalf("%s is %v, want a number; the answer: %v", path, a.at(path), a)
	}
	return n
}

// at is the value under the path, nil where there is none.
func (a answer) at(path string) any {
	var v any = map[string]any(a)
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// succeeded fails the test unless the answer says so.
func (a answer) succeeded(t *testing.T) {
	t.Helper()
	if a["success"] != true {
		t.Fatalf("the answer is no success: %v", a)
	}
}

// answers decodes the JSON values that an example printed one after the other.
func answers(t *testing.T, out string) []answer {
	t.Helper()
	var all []answer
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var a answer
		err := dec.Decode(&a)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("the output is not JSON (%v):\n%s", err, out)
		}
		all = append(all, a)
	}
}

// get reads one path of the program.
func get(t *testing.T, path string) answer {
	t.Helper()
	res, err := http.Get(base + path)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, res)
}

func decoded(t *testing.T, res *http.Response) answer {
	t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatalf("%s %s answers %s, no JSON: %s", res.Request.Method, res.Request.URL.Path, res.Status, body)
	}
	return a
}
