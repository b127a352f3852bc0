package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// Bounds of --wait, as the API has them.
const (
	defaultWait = 2 * time.Second
	maxWait     = time.Minute
)

// control holds the flags that every command of the control API has.
type control struct {
	p      *program
	server string
	token  string
	asJSON bool
	writes bool
	reader bool          // the reader's token is rather shown than the admin's
	wait   time.Duration // 0: do not wait for the fleet
	header http.Header   // of the request, besides what every one has
}

// reads gives cmd the flags of a command that changes nothing.
func (p *program) reads(cmd *cobra.Command) *control {
	c := &control{p: p}
	cmd.Flags().StringVar(&c.server, "server", "http://127.0.0.1:8080", "address of any replica of the fleet")
	cmd.Flags().StringVar(&c.token, "token", "", "bearer token (default: the first of ROUTEX_ADMIN_TOKEN)")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "print the API's answer as it is")
	return c
}

// changes gives cmd the flags of a command that changes something.
func (p *program) changes(cmd *cobra.Command) *control {
	c := p.reads(cmd)
	c.writes = true
	cmd.Flags().DurationVar(&c.wait, "wait", 0, "wait this long until every live replica serves the change; exit code 3 if one does not")
	cmd.Flags().Lookup("wait").NoOptDefVal = defaultWait.String()
	return c
}

// do makes one call. With --json it prints the answer, whatever it is, and
// returns nil in its place; there is nothing more to print.
func (c *control) do(ctx context.Context, method, path string, query url.Values, body any) (*answer, error) {
	a, err := c.ask(ctx, method, path, query, body)
	if a != nil && c.asJSON {
		c.printRaw(a)
		return nil, err
	}
	return a, err
}

// printRaw prints an answer as it is.
func (c *control) printRaw(a *answer) { fmt.Fprintf(c.p.stdout, "%s\n", bytes.TrimRight(a.raw, "\n")) }

// ask makes one call and prints nothing.
func (c *control) ask(ctx context.Context, method, path string, query url.Values, body any) (*answer, error) {
	if c.wait < 0 || c.wait > maxWait || c.wait > 0 && c.wait < time.Millisecond {
		return nil, misuse("--wait is %s: want 1ms to %s", c.wait, maxWait)
	}
	token, err := c.bearer()
	if err != nil {
		return nil, err
	}
	cl, err := newClient(c.server, token)
	if err != nil {
		return nil, err
	}
	if c.wait > 0 {
		query = url.Values{"wait": {"fleet"}, "timeoutMs": {strconv.FormatInt(c.wait.Milliseconds(), 10)}}
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin+c.wait)
	defer cancel()
	cl.header = c.header
	defer c.p.await(ctx, cl)()
	return cl.call(ctx, method, path, query, body)
}

// bearer is the token to show: the one given, else the admin's, else, where
// reading is enough, the reader's; or the other way round.
func (c *control) bearer() (string, error) {
	if c.token != "" {
		return c.token, nil
	}
	s, err := settings.Pick(c.p.environ, "admin-token", "read-token")
	if err != nil {
		return "", err
	}
	tokens := s.AdminTokens
	switch {
	case c.reader:
		tokens = slices.Concat(s.ReadTokens, tokens)
	case !c.writes:
		tokens = slices.Concat(tokens, s.ReadTokens)
	}
	if len(tokens) == 0 {
		return "", nil
	}
	return tokens[0].Reveal(), nil
}

// show makes a call that changes nothing and has render print its data.
func show[T any](ctx context.Context, c *control, path string, query url.Values, render func(T)) error {
	a, err := c.do(ctx, http.MethodGet, path, query, nil)
	if err != nil || a == nil {
		return err
	}
	return printData(a.Data, render)
}

// change makes a call that changes something, and prints what it did and on
// which replicas. It prints that too when not all of them serve it in time.
func change[T any](ctx context.Context, c *control, method, path string, body any, render func(T)) error {
	a, err := c.do(ctx, method, path, nil, body)
	if a == nil || err != nil && a.Error.Details.Receipt == nil {
		return err
	}
	data, receipt := a.Data, a.Receipt
	if a.Error != nil {
		data, receipt = a.Error.Details.Data, a.Error.Details.Receipt
	}
	if a.Message != "" {
		c.p.say("%s", a.Message)
	}
	if len(data) > 0 {
		if err := printData(data, render); err != nil {
			return err
		}
	}
	c.printReceipt(receipt)
	if a.Warning != "" {
		c.p.say("Warning: %s", a.Warning)
	}
	return err
}

func printData[T any](data json.RawMessage, render func(T)) error {
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("the answer has another form than this release knows: %w", err)
	}
	render(v)
	return nil
}

// printReceipt says what was published and who serves it.
func (c *control) printReceipt(r *snapshot.Receipt) {
	if r == nil || len(r.Tags) == 0 {
		return
	}
	var rows [][]string
	for _, kind := range append([]string{"config"}, kindNames()...) {
		if tag, ok := r.Tags[kind]; ok {
			rows = append(rows, []string{kind, string(tag)})
		}
	}
	c.p.table([]string{"CURRENT", "TAG"}, rows)
	late := ""
	if len(r.Laggards) > 0 {
		late = ", not yet " + strings.Join(r.Laggards, ", ")
	}
	c.p.say("%d of %d live replicas serve it after %d ms%s.", r.Applied, r.Replicas, r.TookMs, late)
}

func kindNames() []string {
	names := make([]string, len(snapshot.Kinds))
	for i, k := range snapshot.Kinds {
		names[i] = string(k)
	}
	return names
}

// kindsOf checks arguments that name kinds.
func kindsOf(args []string) ([]snapshot.Kind, error) {
	var kinds []snapshot.Kind
	for _, arg := range args {
		k, err := snapshot.ParseKind(arg)
		if err != nil {
			return nil, misuse("there is no kind %q: want %s", arg, snapshot.KindList())
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}
