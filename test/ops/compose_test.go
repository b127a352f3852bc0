package ops_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/routex/cachewarmer/internal/settings"
)

// fresh returns what scripts/docker/env writes.
func fresh(t *testing.T) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), ".env")
	if out, err := exec.CommandContext(t.Context(), at("scripts", "docker", "env"), file).CombinedOutput(); err != nil {
		t.Fatalf("scripts/docker/env: %v\n%s", err, out)
	}
	vars, err := dotenv.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return vars
}

// load reads the compose file as Compose does, with nothing in the environment
// but vars.
func load(t *testing.T, vars map[string]string) (*types.Project, error) {
	t.Helper()
	dir, err := filepath.Abs(at())
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "docker-compose.yml")}},
		Environment: maps.Clone(vars), // the loader adds to it
	})
}

func project(t *testing.T) *types.Project {
	t.Helper()
	p, err := load(t, fresh(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// replicas returns the services that run the program, which is all that are
// built here.
func replicas(t *testing.T, p *types.Project) []types.ServiceConfig {
	t.Helper()
	var out []types.ServiceConfig
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		if p.Services[name].Build != nil {
			out = append(out, p.Services[name])
		}
	}
	if len(out) != 3 {
		t.Fatalf("%d replicas, want 3", len(out))
	}
	return out
}

func TestComposeRefusesWithoutEachSecret(t *testing.T) {
	all := fresh(t)
	for name := range all {
		for _, kind := range []string{"missing", "empty"} {
			t.Run(name+" is "+kind, func(t *testing.T) {
				vars := maps.Clone(all)
				delete(vars, name)
				if kind == "empty" {
					vars[name] = ""
				}
				_, err := load(t, vars)
				if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "scripts/docker/env") {
					t.Errorf("err = %v, want one that names %s and scripts/docker/env", err, name)
				}
			})
		}
	}
}

func TestComposeSecretsAreFreshPrivateAndNeverOverwritten(t *testing.T) {
	first, second := fresh(t), fresh(t)
	for name, value := range first {
		if value == second[name] {
			t.Errorf("%s is the same in two runs", name)
		}
	}

	file := filepath.Join(t.TempDir(), ".env")
	if err := exec.CommandContext(t.Context(), at("scripts", "docker", "env"), file).Run(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v: want it readable by its owner alone", info.Mode())
	}
	write(t, filepath.Dir(file), ".env", "in use")
	if err := exec.CommandContext(t.Context(), at("scripts", "docker", "env"), file).Run(); err == nil {
		t.Error("scripts/docker/env wrote over a file that exists")
	}
	if kept, err := os.ReadFile(file); string(kept) != "in use" {
		t.Errorf("the file holds %q, %v", kept, err)
	}
}

func TestComposeServicesAreHealthCheckedAndWaitForWhatTheyNeed(t *testing.T) {
	p := project(t)
	needs := map[string][]string{
		"routex-1": {"postgres", "redis"},
		"routex-2": {"postgres", "redis"},
		"routex-3": {"postgres", "redis"},
		"balancer": {"routex-1", "routex-2", "routex-3"},
		"grafana":  {"prometheus"},
	}
	for name, s := range p.Services {
		if s.Image == "" || strings.HasSuffix(s.Image, ":latest") || (s.Build == nil && !strings.Contains(s.Image, ":")) {
			t.Errorf("%s: image %q, want a pinned one", name, s.Image)
		}
		if s.HealthCheck == nil || len(s.HealthCheck.Test) < 2 || s.HealthCheck.Timeout == nil {
			t.Errorf("%s: no health check with a time limit", name)
		}
		if s.Restart != types.RestartPolicyUnlessStopped {
			t.Errorf("%s: restart is %q", name, s.Restart)
		}
		if got := slices.Sorted(maps.Keys(s.DependsOn)); !slices.Equal(got, needs[name]) {
			t.Errorf("%s depends on %q, want %q", name, got, needs[name])
		}
		for on, d := range s.DependsOn {
			if d.Condition != types.ServiceConditionHealthy {
				t.Errorf("%s waits until %s is %s, want healthy", name, on, d.Condition)
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to other machines", name, port.Published)
			}
		}
	}
}

func TestComposeMountsFilesThatExist(t *testing.T) {
	p := project(t)
	for name, s := range p.Services {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s: %s is missing or not read-only (%v)", name, v.Target, err)
			}
		}
	}
}

// No secret is where "docker inspect" or a list of processes shows it.
func TestComposeSecretsAreOnlyInFiles(t *testing.T) {
	vars := fresh(t)
	p, err := load(t, vars)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range p.Services {
		definition, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		for variable, secret := range vars {
			if strings.Contains(string(definition), secret) {
				t.Errorf("%s: the value of %s is in the definition of the service", name, variable)
			}
		}
	}
	granted := map[string]bool{}
	for _, s := range p.Services {
		for _, g := range s.Secrets {
			granted[g.Source] = true
		}
	}
	for name, s := range p.Secrets {
		if !granted[name] || vars[s.Environment] == "" {
			t.Errorf("secret %s is granted to nobody, or comes from %q, which scripts/docker/env does not write", name, s.Environment)
		}
	}
}

// Each replica's environment passes the program's own check, secrets included.
func TestComposeReplicasHaveSettingsTheProgramAccepts(t *testing.T) {
	vars := fresh(t)
	p, err := load(t, vars)
	if err != nil {
		t.Fatal(err)
	}
	advertised := map[string]bool{}
	for _, s := range replicas(t, p) {
		t.Run(s.Name, func(t *testing.T) {
			secrets := t.TempDir()
			for _, g := range s.Secrets {
				write(t, secrets, g.Source, vars[p.Secrets[g.Source].Environment])
			}
			var environ []string
			for name, value := range s.Environment {
				environ = append(environ, name+"="+strings.Replace(*value, "/run/secrets", secrets, 1))
			}
			got, err := settings.Load(nil, environ)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Warnings) > 0 {
				t.Errorf("warnings: %q", got.Warnings)
			}
			if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= got.ShutdownTimeout {
				t.Errorf("killed after %v, but it may drain for %v", s.StopGracePeriod, got.ShutdownTimeout)
			}
			if got.Advertise != s.Name+":8080" || s.Hostname != s.Name || advertised[got.Advertise] {
				t.Errorf("host name %q, advertised as %q: want its own name", s.Hostname, got.Advertise)
			}
			advertised[got.Advertise] = true
			if !slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == got.StateDir }) {
				t.Errorf("the state folder %s does not outlive the container", got.StateDir)
			}
			if !slices.Equal(s.HealthCheck.Test, []string{"CMD", "routex", "healthcheck"}) {
				t.Errorf("health check is %q", s.HealthCheck.Test)
			}
		})
	}
}

func TestComposeRedisDoesNotEvict(t *testing.T) {
	command := strings.Join(project(t).Services["redis"].Command, "\n")
	for _, want := range []string{"maxmemory-policy noeviction\n", "requirepass $(cat /run/secrets/redis_password)\n"} {
		if !strings.Contains(command, want) {
			t.Errorf("redis is started without %q:\n%s", want, command)
		}
	}
}

func TestBalancerAndPrometheusKnowEachReplica(t *testing.T) {
	for _, file := range []string{read(t, "scripts", "docker", "Caddyfile"), read(t, "scripts", "prometheus", "prometheus.yml")} {
		for _, s := range replicas(t, project(t)) {
			if !strings.Contains(file, s.Name+":8080") {
				t.Errorf("%s:8080 is not in\n%s", s.Name, file)
			}
		}
	}
}
