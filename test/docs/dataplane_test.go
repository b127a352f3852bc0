package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/expr-lang/expr/builtin"

	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// dataPlane is the document of the data plane.
func dataPlane(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../internal/proxy/API.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dataPlaneExamples runs the calls of the data plane's document, and the one that
// the README shows with its answer, against the replicas of a demo.
func dataPlaneExamples(t *testing.T, addrs []string) {
	testkit.Program(t, "curl", "curl")
	example := regexp.MustCompile(`(?m)^(?:\$ )?(curl \S+ \S+/v1/.*?(?:\\\n.*)?)$`)
	commands := example.FindAllStringSubmatch(dataPlane(t)+section(t, "What you see"), -1)
	if len(commands) != 4 {
		t.Fatalf("understood %d examples, want 4", len(commands))
	}
	hosts := strings.NewReplacer("http://127.0.0.1:8080", addrs[0], "localhost:8080", addrs[0], "localhost:8081", addrs[1])
	for _, command := range commands {
		out, err := exec.Command("bash", "-euo", "pipefail", "-c", hosts.Replace(command[1])).CombinedOutput()
		if err != nil || len(out) == 0 || strings.Contains(string(out), `"error"`) {
			t.Errorf("%s\n%v\n%s", command[1], err, out)
		}
	}
}

// inCode returns what is in backticks between two texts of the document.
func inCode(t *testing.T, from, to string) []string {
	t.Helper()
	_, rest, found := strings.Cut(dataPlane(t), from)
	part, _, ended := strings.Cut(rest, to)
	if !found || !ended {
		t.Fatalf("the document has nothing from %q to %q", from, to)
	}
	var out []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(part, -1) {
		out = append(out, m[1])
	}
	return out
}

// differ compares what is documented with what there is, both ways.
func differ(t *testing.T, what string, documented, real []string) {
	t.Helper()
	slices.Sort(documented)
	slices.Sort(real)
	if !slices.Equal(documented, real) {
		t.Errorf("%s: the document has %q, and there are %q", what, documented, real)
	}
}

// An expression sees the fields of an Ask, under the names that the document
// gives them.
func TestExpressionNamesAreDocumented(t *testing.T) {
	_, table, _ := strings.Cut(dataPlane(t), "| names | are |\n| --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var documented, real []string
	for line := range strings.SplitSeq(table, "\n") {
		names, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(names, -1) {
			documented = append(documented, m[1])
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[snapshot.Ask]()) {
		name := string(unicode.ToLower(rune(f.Name[0]))) + f.Name[1:]
		if _, err := snapshot.CompileExpr(name + " == " + name); err != nil {
			t.Errorf("an expression does not know %s: %v", name, err)
		}
		real = append(real, name)
	}
	differ(t, "names", documented, real)
}

// Whichever arguments a function takes, one of these lists fits.
func TestExpressionFunctionsAreDocumented(t *testing.T) {
	var real []string
	for _, f := range builtin.Builtins {
		for _, arguments := range []string{"", "text", "tokens", `text, "a"`, "tokens, 1", "text, 1", "[1], # > 0", "1, 2, 3", `text, "a", "b"`, "[1]", "{}", `{}, "a"`} {
			call := fmt.Sprintf("%s(%s)", f.Name, arguments)
			if _, err := snapshot.CompileExpr(call + " == " + call); err == nil {
				real = append(real, f.Name)
				break
			}
		}
	}
	differ(t, "functions", inCode(t, "Functions are ", "An expression has at most"), real)
}

func TestDocumentedExpressions(t *testing.T) {
	_, rest, _ := strings.Cut(dataPlane(t), "gets the same answer.")
	_, rest, _ = strings.Cut(rest, "```\n")
	block, _, _ := strings.Cut(rest, "```")
	lines := strings.Split(strings.TrimSpace(block), "\n")
	if len(lines) != 3 {
		t.Fatalf("the document has the expressions %q", lines)
	}
	for _, line := range lines {
		if _, err := snapshot.CompileExpr(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for what, source := range map[string]string{
		"loops":                     `any([1, 2], # > tokens)`,
		"ranges":                    `tokens in 1..10`,
		"the time":                  `now() == now()`,
		"strings joined":            `text + "a" == "a"`,
		"patterns that are not":     `text matches model`,
		"at most 2048 bytes":        `text == "` + strings.Repeat("a", 2048) + `"`,
		"100 nodes":                 "tokens == 1" + strings.Repeat(" or tokens == 1", 50),
		"has to say true or false:": `tokens + 1`,
	} {
		if _, err := snapshot.CompileExpr(source); err == nil {
			t.Errorf("%s: %.60s compiles, and the document says that it is refused", what, source)
		}
	}
}

// TestDocumentedBreakerIsTheOneOfTheCode compares the sentences about resting
// with the constants they are made of.
func TestDocumentedBreakerIsTheOneOfTheCode(t *testing.T) {
	c := constants(t, "../../internal/balancer/breaker.go")
	text := strings.Join(strings.Fields(dataPlane(t)), " ")
	for _, sentence := range []string{
		fmt.Sprintf("It opens after %s failures in a row, or when half of %s or more requests within %s failed",
			c["failuresInRow"], c["failuresAmong"], c["failureWindow"]),
		fmt.Sprintf("rests the channel for %s; then one request tries it.", c["firstRest"]),
		fmt.Sprintf("the rest doubles, up to %s.", c["longestRest"]),
		fmt.Sprintf("asks, at most %s; without one for %s, which doubles", c["longestRest"], c["firstThrottled"]),
	} {
		if !strings.Contains(text, sentence) {
			t.Errorf("the document does not say %q", sentence)
		}
	}
}

// constants are those of a file, durations as people write them.
func constants(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	units := map[string]string{"Second": "s", "Minute": "min"}
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 {
			return true
		}
		count, value := "1", spec.Values[0]
		if product, ok := value.(*ast.BinaryExpr); ok && product.Op == token.MUL {
			if l, ok := product.X.(*ast.BasicLit); ok {
				count, value = l.Value, product.Y
			}
		}
		switch v := value.(type) {
		case *ast.BasicLit:
			out[spec.Names[0].Name] = v.Value
		case *ast.SelectorExpr:
			out[spec.Names[0].Name] = count + " " + units[v.Sel.Name]
		}
		return true
	})
	return out
}

func TestDocumentedStrategiesAreThoseThereAre(t *testing.T) {
	_, table, _ := strings.Cut(dataPlane(t), "| strategy | picks |\n| --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var real []string
	for _, s := range snapshot.Strategies {
		real = append(real, string(s))
	}
	differ(t, "strategies", column(table), real)
}

func TestDocumentedConditionsAreThoseThereAre(t *testing.T) {
	_, table, _ := strings.Cut(dataPlane(t), "| part | holds if |\n| --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var real []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[snapshot.Condition]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		real = append(real, name)
	}
	differ(t, "conditions", column(table), real)
}

// A channel's type says which form it speaks, in each row of the routes.
func TestDocumentedRoutesNameWhoSpeaksTheirForm(t *testing.T) {
	for form, wire := range map[string]snapshot.Wire{"`POST /v1/chat/completions` | OpenAI |": snapshot.WireOpenAI, "`POST /v1/messages` | Anthropic |": snapshot.WireAnthropic} {
		var real []string
		for _, kind := range snapshot.ChannelTypes {
			if c := (snapshot.Channel{Type: kind}); c.Speaks(wire) {
				real = append(real, kind)
			}
		}
		differ(t, form, inCode(t, form, "|\n"), real)
	}
}

// Whoever reads of a setting has to find it.
func TestDocumentsNameSettingsThatExist(t *testing.T) {
	known := map[string]bool{}
	for _, d := range settings.Table {
		known[d.Env()] = true
	}
	for _, path := range []string{"README.md", "internal/README.md", "internal/api/API.md", "internal/proxy/API.md", "scripts/prometheus/rules.yml"} {
		text, err := os.ReadFile("../../" + path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bROUTEX_[A-Z_]+[A-Z]`).FindAllString(string(text), -1) {
			if !known[name] && !known[strings.TrimSuffix(name, "_FILE")] {
				t.Errorf("%s names %s, which is no setting", path, name)
			}
		}
	}
}
