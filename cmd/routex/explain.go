package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// maxRequestBytes is what the API takes of a request that is to be explained.
const maxRequestBytes = 1 << 20

// explainOptions are the flags of routex explain.
type explainOptions struct {
	model, text   string // of a request to be made up
	path, session string
}

func (p *program) explainCommand() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain [FILE|-]",
		Short: "Show where a request would go, and why",
		Long: "Show where a request would go, and why: rule by rule, with the channels that could serve it. Nothing is sent.\n" +
			"FILE holds the body of the request as a client would send it, - is standard input; --model makes a small one up.\n" +
			"Exit code 1 if no channel would serve it.",
		Example: "  routex explain request.json\n  routex explain --model claude-opus-4 --text \"why is the sky blue?\"",
	}
	c := p.reads(cmd)
	cmd.Flags().StringVar(&o.model, "model", "", "explain a request for this model, instead of FILE")
	cmd.Flags().StringVar(&o.text, "text", "", "what the user says in it")
	cmd.Flags().StringVar(&o.path, "path", "", "route of the data plane, such as /v1/messages (default: the one the body looks made for)")
	cmd.Flags().StringVar(&o.session, "session", "", "X-Session-Id of the request")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body, err := p.requestBody(o, args)
		if err != nil {
			return err
		}
		return p.explain(cmd.Context(), c, o, body)
	}
	return cmd
}

// requestBody is the body to be explained, as it was written or made up.
func (p *program) requestBody(o explainOptions, args []string) (any, error) {
	switch {
	case len(args) > 1:
		return nil, misuse("routex explain takes one FILE, and was given %q, too", args[1])
	case len(args) == 1 && (o.model != "" || o.text != ""):
		return nil, misuse("routex explain takes either FILE or --model")
	case len(args) == 0 && o.model == "" && o.text != "":
		return nil, misuse("--text needs a --model")
	case len(args) == 0 && o.model == "":
		return nil, misuse("routex explain needs a FILE with the body of a request, - for standard input, or --model")
	case len(args) == 0:
		return madeUp(o), nil
	}
	from := p.stdin
	if args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, &coded{exitMisused, err}
		}
		defer func() { _ = f.Close() }()
		from = f
	}
	body, err := io.ReadAll(io.LimitReader(from, maxRequestBytes+1)) // what is too large is for the API to refuse
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, misuse("%s is empty: want the body of a request", args[0])
	}
	return asRead(body), nil
}

// madeUp is the smallest request of the route.
func madeUp(o explainOptions) map[string]any {
	if o.path == "/v1/responses" || o.path == "/v1/embeddings" {
		return map[string]any{"model": o.model, "input": o.text}
	}
	return map[string]any{"model": o.model, "messages": []map[string]string{{"role": "user", "content": o.text}}}
}

// explain asks and prints. That no channel would serve the request is an error
// also where the answer is printed as it is.
func (p *program) explain(ctx context.Context, c *control, o explainOptions, body any) error {
	query := url.Values{}
	if o.path != "" {
		query.Set("path", o.path)
	}
	if o.session != "" {
		c.header = http.Header{"X-Session-Id": {o.session}}
	}
	a, err := c.ask(ctx, http.MethodPost, "/api/route/explain", query, body)
	if a != nil && c.asJSON {
		c.printRaw(a)
	}
	if err != nil {
		return err
	}
	var e snapshot.Explanation
	if err := printData(a.Data, func(got snapshot.Explanation) { e = got }); err != nil {
		return err
	}
	if !c.asJSON {
		p.printExplanation(e)
	}
	return nobody(e)
}

// nobody is the error of a request that no channel would serve.
func nobody(e snapshot.Explanation) error {
	if e.Channel != "" {
		return nil
	}
	return errors.New("no channel would serve it: " + cmp.Or(e.Error, "no reason is given"))
}

func (p *program) printExplanation(e snapshot.Explanation) {
	var facts [][]string
	for _, name := range slices.Sorted(maps.Keys(e.Facts)) {
		facts = append(facts, []string{name, factText(e.Facts[name])})
	}
	p.table([]string{"REQUEST", ""}, append([][]string{{"model", e.Model}, {"format", string(e.Wire)}}, facts...))
	p.printRules(e.Rules)
	p.printCandidates(e)
	if e.Channel != "" {
		p.table([]string{"CHOICE", ""}, [][]string{
			{"channel", e.Channel + " (" + e.ChannelName + ")"},
			{"asked for", e.Upstream},
			{"by rule", cmp.Or(e.Rule, "none")},
			{"strategy", string(e.Strategy)},
		})
	}
	var tags [][]string
	for _, k := range snapshot.Kinds {
		if tag := e.Tags[k]; tag != "" {
			tags = append(tags, []string{string(k), string(tag)})
		}
	}
	p.table([]string{"ROUTED BY", "TAG"}, tags)
}

// printRules lists the rules with their conditions below them.
func (p *program) printRules(rules []snapshot.RuleResult) {
	var rows [][]string
	for _, r := range rules {
		result := "no"
		switch {
		case r.Used:
			result = "used"
		case r.Matches:
			result = "matches"
		}
		rows = append(rows, []string{r.ID, r.Name, number(r.Priority), result, r.Why})
		for _, c := range r.Conditions {
			holds := "fails"
			if c.Holds {
				holds = "holds"
			}
			rows = append(rows, []string{"", "  " + c.Condition, "", holds, c.Why})
		}
	}
	p.table([]string{"RULE", "NAME", "PRIORITY", "RESULT", "WHY"}, rows)
}

func (p *program) printCandidates(e snapshot.Explanation) {
	var rows [][]string
	for _, c := range e.Candidates {
		resting, note := "", ""
		if c.RestingMs > 0 {
			resting = took(c.RestingMs)
		}
		switch {
		case c.ID == e.Channel && c.SessionsTo:
			note = "chosen, for its session"
		case c.ID == e.Channel:
			note = "chosen"
		case c.SessionsTo:
			note = "the session's own"
		}
		rows = append(rows, []string{
			c.ID, c.Name, number(c.Priority), number(c.Weight), strconv.FormatFloat(100*c.Share, 'f', 1, 64) + " %",
			number(c.InFlight), number(c.Total), resting, note,
		})
	}
	p.table([]string{"CANDIDATE", "NAME", "PRIORITY", "WEIGHT", "SHARE", "IN FLIGHT", "TOTAL", "RESTS FOR", ""}, rows)
}

// factText shows a fact: a text as it is, anything else as JSON has it.
func factText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v) // cannot be: it came as JSON
	}
	return string(text)
}
