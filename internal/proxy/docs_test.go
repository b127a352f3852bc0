package proxy_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// document is API.md.
func document(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("API.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// documents fails where API.md lacks one of the sentences, however its lines are
// broken.
func documents(t *testing.T, sentences ...string) {
	t.Helper()
	text := strings.Join(strings.Fields(document(t)), " ")
	for _, s := range sentences {
		if !strings.Contains(text, s) {
			t.Errorf("API.md does not say %q", s)
		}
	}
}

// TestEveryErrorIsDocumented compares the table of errors with what clients are
// told, both ways.
func TestEveryErrorIsDocumented(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\d+)(, Anthropic's (\\d+))? \\| `(\\w+)`, `(\\w+)` \\| `(\\w+)` \\|")
	documented := map[string]proxy.Form{}
	for _, m := range row.FindAllStringSubmatch(document(t), -1) {
		status, _ := strconv.Atoi(m[2])
		documented[m[1]] = proxy.Form{Status: status, OpenAI: m[5], OpenAICode: m[6], Anthropic: m[7]}
		if m[4] != "" && m[4] != strconv.Itoa(proxy.StatusOverloaded) {
			t.Errorf("API.md: Anthropic's status of %s is %s, want %d", m[1], m[4], proxy.StatusOverloaded)
		}
	}
	if forms := proxy.Forms(); !maps.Equal(documented, forms) {
		t.Errorf("API.md has the errors\n%v, want\n%v", documented, forms)
	}
	for _, name := range proxy.Unanswered() {
		documents(t, "`"+name+"`")
	}
	documents(t, fmt.Sprintf("`client_gone`, with status %d", proxy.StatusClientGone))
}

// TestEveryHeaderIsDocumented compares the lists of headers with those in the
// code, both ways.
func TestEveryHeaderIsDocumented(t *testing.T) {
	_, rest, _ := strings.Cut(document(t), "Towards the upstream go ")
	there, rest, _ := strings.Cut(rest, "`anthropic-version` is")
	_, rest, _ = strings.Cut(rest, "Back go ")
	home, _, _ := strings.Cut(rest, ", but for `Anthropic-Organization-Id`")
	for i, tt := range []struct{ function, documented string }{{"towards", there}, {"back", home}} {
		var documented []string
		for _, m := range regexp.MustCompile("`([A-Za-z-]+)(\\*)?`").FindAllStringSubmatch(tt.documented, -1) {
			name := http.CanonicalHeaderKey(m[1] + strings.Repeat("X", len(m[2])))
			travels := [2]bool{}
			travels[0], travels[1] = proxy.Travels(name)
			if !travels[i] {
				t.Errorf("API.md lists %s, which %s does not let pass", m[1]+m[2], tt.function)
			}
			documented = append(documented, http.CanonicalHeaderKey(m[1]))
		}
		for _, name := range literals(t, "header.go", tt.function) {
			if name != "Anthropic-Organization-Id" && !slices.Contains(documented, name) {
				t.Errorf("API.md does not list %s, which %s lets pass", name, tt.function)
			}
		}
	}
	if _, home := proxy.Travels("Anthropic-Organization-Id"); home {
		t.Error("Anthropic-Organization-Id travels back, and API.md says that it does not")
	}
	documents(t, "`anthropic-version` is `"+proxy.Version+"` where the client gave none")
}

// literals are the strings in a function of a file.
func literals(t *testing.T, file, function string) (out []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == function {
			ast.Inspect(f, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					s, _ := strconv.Unquote(l.Value)
					out = append(out, s)
				}
				return true
			})
		}
	}
	if len(out) < 5 {
		t.Fatalf("%s in %s has the strings %q", function, file, out)
	}
	return out
}

// TestDocumentedAddressesAreAsked compares the table of addresses with those
// that are asked.
func TestDocumentedAddressesAreAsked(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| (?:none|`(https://[^`]+)`)(?: \\(`(\\w+)`\\))? \\| `(/v1/[^`]+)` \\| `(https://[^`]+)` \\|$")
	rows := row.FindAllStringSubmatch(document(t), -1)
	if len(rows) < 10 {
		t.Fatalf("API.md has %d addresses", len(rows))
	}
	without := map[string]bool{}
	for _, m := range rows {
		c := &snapshot.Channel{BaseURL: m[1], Type: m[2]}
		if c.Type == "" {
			c.Type = "custom"
		}
		if u, err := proxy.Target(c, m[3], ""); err != nil || u.String() != m[4] {
			t.Errorf("%s of a %s channel at %q is asked at %v (%v), and API.md says %s", m[3], c.Type, m[1], u, err, m[4])
		}
		without[c.Type] = without[c.Type] || m[1] == ""
	}
	for _, kind := range snapshot.ChannelTypes {
		if proxy.HasHome(kind) != without[kind] {
			t.Errorf("%s: API.md says that it has an address of its own: %v", kind, without[kind])
		}
	}
	documents(t, "`azure` and `custom` need a `baseUrl`.")
}

// TestDocumentedCredentialsAreSent compares the table of credentials with the
// headers that carry them.
func TestDocumentedCredentialsAreSent(t *testing.T) {
	documents(t, "| `azure` | `api-key` |", "| `anthropic`, and `custom` at `/v1/messages` | `x-api-key` |", "| all others | `Authorization: Bearer` |")
	for _, kind := range snapshot.ChannelTypes {
		for _, wire := range []snapshot.Wire{snapshot.WireOpenAI, snapshot.WireAnthropic} {
			c := &snapshot.Channel{Type: kind}
			if !c.Speaks(wire) {
				continue
			}
			name, want := "Authorization", "Bearer k"
			switch {
			case kind == "azure":
				name, want = "Api-Key", "k"
			case wire == snapshot.WireAnthropic:
				name, want = "X-Api-Key", "k"
			}
			if got := proxy.Authorize(c, wire, "k"); got.Get(name) != want {
				t.Errorf("%s in the form of %s: %v, want %s: %s", kind, wire, got, name, want)
			}
		}
	}
}

// TestDocumentedLimitsAreKept compares the numbers of API.md with the defaults.
func TestDocumentedLimitsAreKept(t *testing.T) {
	o := proxy.Defaults()
	minutes := func(d time.Duration) int { return int(d / time.Minute) }
	seconds := func(d time.Duration) int { return int(d / time.Second) }
	if seconds(o.Whole) <= seconds(o.Budget) {
		t.Errorf("Whole is %v and Budget %v: no channel can have taken all of it after that", o.Whole, o.Budget)
	}
	documents(t,
		fmt.Sprintf("at most %d MiB, sent within %d minutes, nested no deeper than %d levels", o.MaxBodyBytes>>20, minutes(o.Upload), proxy.MaxDepth),
		fmt.Sprintf("none after %d s", seconds(o.Budget)),
		fmt.Sprintf("| to connect, and for TLS | %d s, and %d s |", seconds(o.Dial), seconds(o.Handshake)),
		fmt.Sprintf("| for the body of one of status 400 or more, its first %d KiB, after its head | %d s |", proxy.MaxRefusal>>10, seconds(o.Refusal)),
		fmt.Sprintf("unless it had waited %d s for the first byte", seconds(o.Unheard)),
		fmt.Sprintf("| between two pieces of an answer | %d min |", minutes(o.Idle)),
		fmt.Sprintf("and of that the first %d KiB;", proxy.MaxText>>10),
		fmt.Sprintf("is read to %d levels", proxy.MaxContent),
		fmt.Sprintf("a token for each %d bytes", proxy.BytesPerToken),
	)
}
