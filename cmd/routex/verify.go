package main

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/routex/cachewarmer/internal/observer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	verifyEvery  = 250 * time.Millisecond // from round to round, at least
	verifyShare  = 4                      // rounds take no more than one part in so many of the time
	verifyWithin = 2 * time.Second        // a replica that takes longer is silent
	minWindow    = time.Second            // what is compared may be half a second old
	maxFound     = 2000                   // disagreements looked at closely that are kept
)

// verifyOptions are the flags of routex verify.
type verifyOptions struct {
	windows []time.Duration
	span    time.Duration
	kinds   []string
	trusted []string
}

func (p *program) verifyCommand() *cobra.Command {
	o := verifyOptions{windows: []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, time.Minute}}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Watch whether every replica serves what Redis and the source hold",
		Long: "Watch whether every replica serves what is published, and whether that is what the source holds.\n" +
			"It asks each live replica at its own address, several times a second, and reports for each window which share\n" +
			"of what it saw agreed: what differs counts once it is older than the window. Exit code 0 if everything agreed,\n" +
			"3 if something did not, or a replica did not answer.\n" +
			"Replicas list their addresses in Redis. A token is shown to those only that have the host of --server, or one that\n" +
			"--trust names; a replica elsewhere is not asked, and counts as one that did not answer.",
		Example: "  routex verify --for 2m --window 2s,5s,60s",
		Args:    noArguments,
	}
	c := p.reads(cmd)
	c.reader = true
	cmd.Flags().Lookup("token").Usage = "bearer token (default: the first of ROUTEX_READ_TOKEN, else of ROUTEX_ADMIN_TOKEN)"
	cmd.Flags().Lookup("json").Usage = "print the result as JSON"
	cmd.Flags().DurationSliceVar(&o.windows, "window", o.windows, "how old a difference may be before it counts, 1s at least; several, comma-separated")
	cmd.Flags().DurationVar(&o.span, "for", 10*time.Second, "how long to watch")
	cmd.Flags().StringSliceVar(&o.kinds, "kinds", nil, "kinds to compare, comma-separated (default all)")
	cmd.Flags().StringSliceVar(&o.trusted, "trust", nil, "hosts of replicas that may be shown the token, comma-separated, or any")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return p.verify(cmd.Context(), c, o) }
	return cmd
}

func (o verifyOptions) check() ([]snapshot.Kind, error) {
	if o.span <= 0 || o.span > 7*24*time.Hour {
		return nil, misuse("--for is %s: want more than 0s, at most a week", o.span)
	}
	for _, w := range o.windows {
		if w < minWindow {
			return nil, misuse("--window is %s: want %s or more", w, minWindow)
		}
	}
	if len(o.windows) == 0 {
		return nil, misuse("--window names no window")
	}
	kinds, err := kindsOf(o.kinds)
	if len(kinds) == 0 {
		kinds = snapshot.Kinds
	}
	return kinds, err
}

func (p *program) verify(ctx context.Context, c *control, o verifyOptions) error {
	kinds, err := o.check()
	if err != nil {
		return err
	}
	w, err := newWatch(c, kinds, o)
	if err != nil {
		return err
	}
	began, answered := time.Now(), p.await(ctx, w.client)
	err = w.round(ctx)
	answered()
	if err != nil { // a server that does not answer at all is no finding
		return err
	}
	bar := p.progress("Watching", o.span)
	took := time.Since(began)
	for began = began.Add(took); time.Since(began) < o.span; {
		select {
		case <-time.After(pause(took)):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break // what was seen so far is worth its report
		}
		start := time.Now()
		if err := w.round(ctx); err != nil && ctx.Err() == nil {
			w.missed++
		}
		took = time.Since(start)
		bar.show(time.Since(began))
	}
	bar.end()
	return w.report(c)
}

// pause is the time to leave a fleet alone after a round that took so long: it
// has more to do than to be watched.
func pause(took time.Duration) time.Duration {
	return max(verifyEvery, verifyShare*took) - took
}

// watch is one run of routex verify.
type watch struct {
	*observer.Observer
	client *client
	trust  trust
	names  string // the kinds, as a parameter

	replicas map[string]string // address by id, as last listed
	builds   map[string]string // program version by id
	reasons  map[string]string // why a replica did not answer the last time, by id
	missed   int               // rounds in which the server or Redis did not answer
	unread   int               // rounds in which the source did not answer
	because  string            // why it last did not
	found    []wrong
	held     map[string][]snapshot.Fault // records that are served in their last good version, by kind
	still    map[snapshot.Kind]string    // kinds not compared with the source at some time, and why
}

func newWatch(c *control, kinds []snapshot.Kind, o verifyOptions) (*watch, error) {
	token, err := c.bearer()
	if err != nil {
		return nil, err
	}
	cl, err := newClient(c.server, token)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return &watch{
		Observer: observer.New(o.windows), client: cl, trust: newTrust(cl, o.trusted), names: strings.Join(names, ","),
		replicas: map[string]string{}, builds: map[string]string{}, reasons: map[string]string{}, held: map[string][]snapshot.Fault{},
		still: map[snapshot.Kind]string{},
	}, nil
}

// round reads the source and Redis through the server, then every replica, and
// looks closer at what has just outlived the shortest window.
func (w *watch) round(ctx context.Context) error {
	var members replicaList
	if err := w.ask(ctx, w.client, "/api/cache/replicas", nil, &members); err != nil {
		return err
	}
	var server verification
	if err := w.ask(ctx, w.client, "/api/cache/verify", url.Values{"kinds": {w.names}, "against": {"source"}}, &server); err != nil {
		return err
	}
	look := observer.Look{At: time.Now()}
	look.Published, look.Source = w.beyond(&server)
	held := w.askAll(ctx, members, &look)
	if err := ctx.Err(); err != nil {
		return err // who did not answer was not let
	}
	w.held = held
	if look.Published == nil {
		w.missed++
	}
	for _, d := range w.See(look) {
		w.find(w.closer(ctx, d))
	}
	return nil
}

// askAll asks every replica what it serves, all at once. It returns the records
// that some hold back.
func (w *watch) askAll(ctx context.Context, members replicaList, look *observer.Look) map[string][]snapshot.Fault {
	look.Replicas, look.Silent = map[string]map[snapshot.Kind]observer.State{}, map[string]string{}
	held := map[string][]snapshot.Fault{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, m := range members.Replicas {
		w.replicas[m.ID], w.builds[m.ID] = m.Address, m.Build
		wg.Go(func() {
			v, err := w.served(ctx, m.Address)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || v.Replica != m.ID {
				look.Silent[m.ID] = silence(m.Address, v, err)
				return
			}
			look.Replicas[m.ID] = v.states()
			for kind, k := range v.Kinds {
				if len(k.Kept) > 0 {
					held[string(kind)] = k.Kept
				}
			}
		})
	}
	wg.Wait()
	maps.Copy(w.reasons, look.Silent)
	return held
}

// find keeps what was found, for as long as the observer keeps what it is about.
func (w *watch) find(found wrong) {
	if len(w.found) >= maxFound {
		known := w.Disagreements()
		w.found = slices.DeleteFunc(w.found, func(f wrong) bool { return !slices.ContainsFunc(known, f.about) })
	}
	w.found = append(w.found, found)
}

// beyond is what Redis and the source hold, and counts where the source does not answer.
func (w *watch) beyond(server *verification) (published, source map[snapshot.Kind]observer.State) {
	if why := server.unread(); why != "" {
		w.unread, w.because = w.unread+1, why
	}
	return server.beyond(w.still)
}

// served asks one replica what it serves.
func (w *watch) served(ctx context.Context, address string) (*verification, error) {
	cl, err := w.at(address)
	if err != nil {
		return nil, err
	}
	var v verification
	err = w.ask(ctx, cl, "/api/cache/verify", url.Values{"kinds": {w.names}, "against": {"memory"}}, &v)
	return &v, err
}

// at returns a client of the replica that lists itself with address, reached the
// way the server is.
func (w *watch) at(address string) (*client, error) {
	if err := w.trust.check(address); err != nil {
		return nil, err
	}
	u := *w.client.base
	u.Host, u.Path = address, ""
	return &client{base: &u, token: w.client.token, http: w.client.http}, nil
}

// ask makes one call and decodes its data.
func (w *watch) ask(ctx context.Context, cl *client, path string, query url.Values, out any) error {
	ctx, cancel := context.WithTimeout(ctx, verifyWithin)
	defer cancel()
	a, err := cl.get(ctx, path, query)
	if err != nil {
		return err
	}
	return decodeData(a.Data, out)
}
