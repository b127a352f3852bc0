package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/testkit"
)

// inside is a replica in the test's own process.
type inside struct {
	app    *app.App
	out    *testkit.Buffer
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // of Run, after ended
}

func (f *Fleet) inProcess(r *Replica) (running, error) {
	s, err := settings.Load(nil, r.environ())
	if err != nil {
		return nil, err
	}
	p := &inside{out: &testkit.Buffer{}, ended: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(p.out, &slog.HandlerOptions{Level: s.LogLevel}))
	o := app.Options{Log: log, Build: app.Build{Version: "test"}}
	if f.o.Loaded != nil {
		o.Loaded = func(ctx context.Context) { f.o.Loaded(ctx, r.i) }
	}
	asFleet(f.Namespace, func(ctx context.Context) {
		// Not the test's context: that ends before the cleaning, which stops us.
		ctx, p.cancel = context.WithCancel(ctx)
		if p.app, err = app.New(ctx, s, o); err != nil {
			p.cancel()
			return
		}
		go func() {
			defer close(p.ended)
			p.err = p.app.Run(ctx)
		}()
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *inside) addr() string          { return p.app.Addr() }
func (p *inside) done() <-chan struct{} { return p.ended }
func (p *inside) fault() string         { return "" }
func (p *inside) log() func() string    { return p.out.String }

func (p *inside) stop() error {
	p.cancel()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(stopWithin):
		return fmt.Errorf("it has not ended after %v", stopWithin)
	}
}

func (p *inside) kill() { panic("fleet: only replicas that are processes can be killed") }

func (p *inside) signal(syscall.Signal) error {
	return errors.New("only replicas that are processes take signals")
}

// Serving is what the replica serves from memory at this moment, past its API.
// Only replicas inside the test's process have it; it may be called from any
// goroutine while the replica is not started or stopped.
func (r *Replica) Serving() *replica.View { return r.run.(*inside).app.Serving() }
