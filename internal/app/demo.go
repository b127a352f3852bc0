package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"text/template"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/routex/cachewarmer/internal/embedded"
	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/standin"
)

// DemoOptions say what a demo runs.
type DemoOptions struct {
	Replicas int    // 3
	Port     int    // of the first replica, the others follow; 8080
	Redis    string // address of the embedded Redis; 127.0.0.1:0
	Dir      string // folder of the database; "" makes one and removes it at the end
	Log      *slog.Logger
	Build    Build
	Out      io.Writer // what to try; os.Stdout
}

// Demo runs a fleet in this process: several replicas, an embedded Redis, a
// SQLite database with sample data. It prints what to try once all of them are
// ready, and returns nil when ctx ends.
func Demo(ctx context.Context, o DemoOptions) (err error) {
	o = o.withDefaults()
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "routex-demo-"); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	}
	redis, err := embedded.Start(o.Redis)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer redis.Close()
	all, err := demoSettings(o, redis.URL())
	if err != nil {
		return err
	}
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := seed(ctx, all[0], "http://"+upstream.Addr().String(), o.Log); err != nil {
		return errors.Join(err, upstream.Close())
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return standIn(ctx, upstream) })
	apps, err := demoApps(ctx, o, all)
	if err != nil {
		return errors.Join(err, upstream.Close())
	}
	for _, a := range apps {
		g.Go(func() error { return a.Run(ctx) })
	}
	g.Go(func() error {
		return announce(ctx, o.Out, apps, redis.Addr(), upstream.Addr().String(), all[0].DatabaseURL)
	})
	return g.Wait()
}

// demoApps are the replicas, or none.
func demoApps(ctx context.Context, o DemoOptions, all []*settings.Settings) ([]*App, error) {
	apps := make([]*App, 0, len(all))
	for _, s := range all {
		a, err := New(ctx, s, Options{Log: o.Log.With("replica", s.ReplicaID), Build: o.Build, Embedded: true})
		if err != nil {
			for _, other := range apps {
				err = errors.Join(err, other.close())
			}
			return nil, fmt.Errorf("demo: %w", err)
		}
		apps = append(apps, a)
	}
	return apps, nil
}

func (o DemoOptions) withDefaults() DemoOptions {
	if o.Replicas <= 0 {
		o.Replicas = 3
	}
	if o.Port <= 0 {
		o.Port = 8080
	}
	if o.Redis == "" {
		o.Redis = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	return o
}

// demoSettings are those of the replicas, made the way serve makes them.
func demoSettings(o DemoOptions, redisURL string) ([]*settings.Settings, error) {
	path := filepath.Join(o.Dir, "routex.db")
	key, err := settings.LocalKey(path + ".key")
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	var all []*settings.Settings
	for i := range o.Replicas {
		flags := pflag.NewFlagSet("demo", pflag.ContinueOnError)
		settings.AddFlags(flags)
		s, err := settings.Load(flags, []string{
			"ROUTEX_LISTEN=127.0.0.1:" + strconv.Itoa(o.Port+i),
			"ROUTEX_REDIS_URL=" + redisURL,
			"ROUTEX_DATABASE_URL=sqlite://" + path,
			"ROUTEX_NAMESPACE=demo",
			"ROUTEX_REPLICA_ID=demo-" + strconv.Itoa(i+1),
			"ROUTEX_SECRET_KEYS=" + key.Text(),
			"ROUTEX_ALLOW_UPSTREAM_CIDRS=127.0.0.0/8", // the stand-in upstream
		})
		if err != nil {
			return nil, fmt.Errorf("demo: %w", err)
		}
		s.Warnings = nil
		all = append(all, s)
	}
	return all, nil
}

// seed fills a new database with sample data.
func seed(ctx context.Context, s *settings.Settings, upstream string, log *slog.Logger) (err error) {
	keys, err := s.Keys()
	if err != nil {
		return err
	}
	keyring, err := snapshot.NewKeyring(s.Namespace, keys...)
	if err != nil {
		return err
	}
	db, err := source.Open(ctx, s.DatabaseURL, source.Options{Keyring: keyring, Log: log})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.SeedDemo(ctx, upstream); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// standIn answers in the place of all providers until ctx ends.
func standIn(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: standin.New(standin.Options{}), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("demo: stand-in upstream: %w", err)
	}
	return nil
}

// announce waits until every replica is ready and says what to try.
func announce(ctx context.Context, out io.Writer, apps []*App, redis, upstream, database string) error {
	began := time.Now()
	for _, a := range apps {
		for !ready(ctx, a.Addr()) {
			if !sleep(ctx, 20*time.Millisecond) {
				return nil
			}
		}
	}
	first := apps[0].Addr()
	second := apps[len(apps)-1].Addr()
	_, port, err := net.SplitHostPort(redis)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return tryThis.Execute(out, map[string]any{
		"Apps": apps, "First": first, "Last": second, "Port": port, "Database": database, "Upstream": upstream,
		"Took": time.Since(began).Round(time.Millisecond),
	})
}

func ready(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	var body json.RawMessage
	return res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(&body) == nil
}

var tryThis = template.Must(template.New("try").Parse(`
{{len .Apps}} replicas are ready ({{.Took}}):
{{range .Apps}}  http://{{.Addr}}
{{end}}
Try, in another terminal:

  # who is there, and what each replica serves
  curl -s http://{{.First}}/api/cache/replicas

  # add a channel through the first replica and wait until every replica serves it
  curl -s -X POST 'http://{{.First}}/api/channels?wait=fleet' -H 'Content-Type: application/json' \
    -d '{"name": "New Channel", "type": "anthropic", "apiKey": "sk-ant-api03-demo-0001", "models": ["claude-opus-4"], "baseUrl": "http://{{.Upstream}}"}'

  # the last replica has it, its key masked
  curl -s http://{{.Last}}/api/cache/snapshots/channels

  # a request of a client, routed from memory and answered by a stand-in upstream; and why it went where it went
  curl -s http://{{.First}}/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]}'
  curl -s http://{{.Last}}/api/route/explain -H 'Content-Type: application/json' \
    -d '{"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]}'

  # what Redis holds: the key is sealed
  redis-cli -p {{.Port}} HGETALL 'routex:{demo}:head'
  redis-cli -p {{.Port}} HVALS 'routex:{demo}:snapshot:channels'

  # change the database behind the program's back; the fleet follows within a second or two
  sqlite3 '{{slice .Database 9}}' "UPDATE channels SET weight = 7 WHERE name = 'New Channel'"

Ctrl-C ends it.
`))
