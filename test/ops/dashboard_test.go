package ops_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// dashboard is what the tests look at in the dashboard.
type dashboard struct {
	UID        string
	Templating struct {
		List []struct{ Name string }
	}
	Panels []panel
}

type panel struct {
	ID          int
	Title       string
	Description string
	Datasource  struct{ UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ Expr string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "scripts", "grafana", "dashboards", "routex.json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || len(d.Panels) == 0 {
		t.Fatalf("dashboard %q has %d panels", d.UID, len(d.Panels))
	}
	return d.Panels
}

// filled puts something into the variables that Grafana fills in.
var filled = strings.NewReplacer("$__rate_interval", "5m", "$job", "routex")

func TestDashboardAsksForMetricsThatExist(t *testing.T) {
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			for _, fault := range append(unknownMetrics(target.Expr), unknownLabels(target.Expr)...) {
				t.Errorf("panel %q: %s: %s", p.Title, target.Expr, fault)
			}
		}
	}
}

// Each expression becomes a rule, so that promtool parses it.
func TestDashboardExpressionsParse(t *testing.T) {
	type rule struct{ Record, Expr string }
	type group struct {
		Name  string
		Rules []rule
	}
	var g group
	g.Name = "dashboard"
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			expr := filled.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("panel %q uses a variable nobody fills in: %s", p.Title, expr)
			}
			g.Rules = append(g.Rules, rule{Record: fmt.Sprintf("panel:%d", len(g.Rules)), Expr: expr})
		}
	}
	path := write(t, t.TempDir(), "dashboard.yml", marshal(t, map[string][]group{"groups": {g}}))
	if said, ok := promtool(t, "check", "rules", path); !ok {
		t.Errorf("promtool check rules:\n%s", said)
	}
}

func TestDashboardPanelsExplainThemselvesAndDoNotOverlap(t *testing.T) {
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range panels(t) {
		if p.Title == "" || p.Description == "" || p.Datasource.UID != "prometheus" || ids[p.ID] {
			t.Errorf("panel %d %q lacks a title, a description, its data source or an id of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("panels %q and %q overlap", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q is wider than the page", p.Title)
		}
	}
}

// The data source and the folder that Grafana is started with are the ones the
// dashboard and the compose file use.
func TestGrafanaIsProvisioned(t *testing.T) {
	if !strings.Contains(read(t, "scripts", "grafana", "provisioning", "datasources", "prometheus.yml"), "uid: prometheus\n") {
		t.Error("the data source has another uid than the dashboard asks for")
	}
	provider := read(t, "scripts", "grafana", "provisioning", "dashboards", "routex.yml")
	for _, v := range project(t).Services["grafana"].Volumes {
		if strings.HasSuffix(v.Source, "dashboards") && !strings.Contains(provider, "path: "+v.Target+"\n") {
			t.Errorf("dashboards are mounted at %s, which the provider does not read", v.Target)
		}
	}
}
