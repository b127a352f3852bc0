package ops_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// ruleFile is what the tests look at in rules.yml.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func rules(t *testing.T) ruleFile {
	t.Helper()
	var f ruleFile
	if err := yaml.Unmarshal([]byte(read(t, "scripts", "prometheus", "rules.yml")), &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Groups) == 0 {
		t.Fatal("rules.yml has no rules")
	}
	return f
}

func TestPrometheusAcceptsItsConfigAndRules(t *testing.T) {
	for _, args := range [][]string{
		// Syntax only: the file with the token is there only in the container.
		{"check", "config", "--syntax-only", at("scripts", "prometheus", "prometheus.yml")},
		{"check", "rules", at("scripts", "prometheus", "rules.yml")},
		{"test", "rules", at("scripts", "prometheus", "rules_test.yml")},
	} {
		if said, ok := promtool(t, args...); !ok {
			t.Errorf("promtool %s:\n%s", strings.Join(args, " "), said)
		}
	}
}

// An alert that never fires, and one that always does, each break a test of
// rules_test.yml: none is there without a case for its fault and one for its
// absence.
func TestRuleTestsNoticeEachBrokenAlert(t *testing.T) {
	for _, broken := range []struct{ name, expr, notice string }{
		{"never fires", "vector(0) > 1", `exp:\[\s+0:[^]]*\], +\s+got:\[\]`},
		{"always fires", "vector(1)", `exp:\[\]`},
	} {
		t.Run(broken.name, func(t *testing.T) {
			f := rules(t)
			var alerts []string
			for _, g := range f.Groups {
				for i := range g.Rules {
					g.Rules[i].Expr, g.Rules[i].For = broken.expr, "0s"
					alerts = append(alerts, g.Rules[i].Alert)
				}
			}
			dir := t.TempDir()
			write(t, dir, "rules.yml", marshal(t, f))
			tests := write(t, dir, "rules_test.yml", read(t, "scripts", "prometheus", "rules_test.yml"))
			said, ok := promtool(t, "test", "rules", tests)
			for _, alert := range alerts {
				notice := regexp.MustCompile(`alertname: ` + alert + `, time: \w+, +\s+` + broken.notice)
				if ok || !notice.MatchString(said) {
					t.Errorf("no test notices that %s %s:\n%s", alert, broken.name, said)
				}
			}
		})
	}
}

// Somebody woken at night needs to read what to do.
func TestAlertsSayWhatToDo(t *testing.T) {
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			if s := r.Labels["severity"]; s != "page" && s != "warn" {
				t.Errorf("%s: severity is %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s: no summary or no description", r.Alert)
			}
		}
	}
}

func TestRulesAskForMetricsThatExist(t *testing.T) {
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			for _, fault := range append(unknownMetrics(r.Expr), unknownLabels(r.Expr)...) {
				t.Errorf("%s: %s", r.Alert, fault)
			}
			for _, name := range metricName.FindAllString(fmt.Sprint(r.Annotations), -1) {
				if _, ok := metrics[name]; !ok {
					t.Errorf("%s: its advice names %s, which is no metric of the program", r.Alert, name)
				}
			}
		}
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	body, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
