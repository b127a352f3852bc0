package conformance_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/tailscale/hujson"
)

// example is one fenced block of the reference that can be run or sent.
type example struct {
	heading string // the nearest one above, without its marks
	index   int    // among the blocks of its kind under that heading
	code    string // as written
	answer  string // the documented answer, "" for none
}

// isRequest reports an example written as "POST /api/…" and not for a shell.
func (e example) isRequest() bool {
	method, path, ok := strings.Cut(strings.SplitN(e.code, "\n", 2)[0], " ")
	return ok && method == strings.ToUpper(method) && strings.HasPrefix(path, "/")
}

// request sends the example exactly as it is written: request line, headers, an
// empty line, body.
func (e example) request(t *testing.T) answer {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(
		strings.Replace(e.head(), "\n", " HTTP/1.1\nHost: localhost:8080\n", 1) + "\n")))
	if err != nil {
		t.Fatalf("the example is no request: %v\n%s", err, e.code)
	}
	out, err := http.NewRequestWithContext(t.Context(), r.Method, base+r.URL.Path, strings.NewReader(e.body()))
	if err != nil {
		t.Fatal(err)
	}
	out.Header = r.Header
	res, err := http.DefaultClient.Do(out)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Errorf("%s %s answers %s, want 200", r.Method, r.URL.Path, res.Status)
	}
	return decoded(t, res)
}

// head is the request line and the headers.
func (e example) head() string {
	head, _, _ := strings.Cut(e.code, "\n\n")
	return strings.TrimRight(head, "\n") + "\n"
}

// body is what follows them.
func (e example) body() string {
	_, body, _ := strings.Cut(e.code, "\n\n")
	return body
}

// documented is the answer as the reference shows it, its comments left out.
func (e example) documented(t *testing.T) answer {
	t.Helper()
	if e.answer == "" {
		t.Fatalf("the reference shows no answer under %q", e.heading)
	}
	plain, err := hujson.Standardize([]byte(e.answer))
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(plain, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// reference reads the examples, and the JSON blocks that are settings and no
// answers, in the order in which they stand there.
func reference(t *testing.T) (examples, settings []example) {
	t.Helper()
	text, err := os.ReadFile("testdata/cache-warmer.zh.md")
	if err != nil {
		t.Fatal(err)
	}
	var heading string
	var first, fragments int // the examples under this heading begin here
	isAnswer := false
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		switch line := strings.TrimSpace(lines.Text()); {
		case strings.HasPrefix(line, "#"):
			heading, first, fragments, isAnswer = strings.TrimLeft(line, "# "), len(examples), 0, false
		case strings.Contains(line, "响应："), strings.Contains(line, "响应示例："), strings.Contains(line, "输出示例："):
			isAnswer = true
		case line == "```bash":
			examples = append(examples, example{heading: heading, index: len(examples) - first, code: block(lines)})
		case line == "```json" && isAnswer:
			body := block(lines)
			for i := first; i < len(examples); i++ {
				examples[i].answer = body
			}
		case line == "```json":
			settings = append(settings, example{heading: heading, index: fragments, code: block(lines)})
			fragments++
		}
	}
	return examples, settings
}

// block reads the lines up to the closing fence.
func block(lines *bufio.Scanner) string {
	var b strings.Builder
	for lines.Scan() && strings.TrimSpace(lines.Text()) != "```" {
		b.WriteString(lines.Text() + "\n")
	}
	return b.String()
}
