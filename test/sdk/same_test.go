package sdk_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/standin"
	"github.com/routex/cachewarmer/internal/testkit"
)

// heard is what a client's code ends up with.
type heard struct {
	text string
	// parts are the answers, or the events of a stream, as the client's types
	// keep them.
	parts []string
	tally
}

// tally is how many requests it took, and the tokens they cost by the client's
// own count, cached ones among the input's.
type tally struct{ asked, input, output, cached int64 }

func (t *tally) usage(input, output, cached int64) {
	t.input, t.output, t.cached = t.input+input, t.output+output, t.cached+cached
}

// picture is no image that anybody could look at, of n bytes.
func picture(n int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("\x89PNG\x00\xff"), n/6))
}

const pictureURL = "https://example.com/a%20picture.png?size=1&of=<&>"

// talk is one use of a client.
type talk struct {
	name string
	kind string // type of the channel
	do   func(ctx context.Context, s *seat, model string) (heard, error)
	want string
}

var talks = slices.Concat(openAITalks, anthropicTalks)

// everythingIsTheSame has each talk held straight with the upstream and through
// both replicas, and compares all that can be seen at either end.
func everythingIsTheSame(t *testing.T, r *rig) {
	up := newUpstream(t, standin.New(standin.Options{Name: "far", Key: key}))
	models := map[string][]string{}
	for i, tt := range talks {
		models[tt.kind] = append(models[tt.kind], modelOf(i))
	}
	r.channel(t, "openai", up.url, 0, models["openai"]...)
	r.channel(t, "anthropic", up.url, 0, models["anthropic"]...)
	near, far := straight(t, up), r.seats(t, 0)
	counted := map[string]tally{}
	answers := 0
	for i, tt := range talks {
		t.Run(tt.kind+": "+tt.name, func(t *testing.T) {
			model := modelOf(i)
			want, wantLine, wantAsked := hold(t, tt, near, up, model)
			if want.text != tt.want || want.input == 0 || want.asked != int64(len(wantAsked)) {
				t.Fatalf("straight, the client made %d requests and heard %q for %d tokens", len(wantAsked), want.text, want.input)
			}
			for _, s := range far {
				t.Run(s.name, func(t *testing.T) {
					got, gotLine, gotAsked := hold(t, tt, s, up, model)
					if diff := cmp.Diff(want, got, cmp.AllowUnexported(heard{}, tally{})); diff != "" {
						t.Errorf("the client heard something else (-straight +here):\n%s", diff)
					}
					sameAnswers(t, wantLine, gotLine)
					sameTravels(t, wantAsked, gotAsked)
					answers += len(gotLine)
				})
			}
			n := int64(len(far))
			counted[model] = tally{want.asked * n, want.input * n, want.output * n, want.cached * n}
		})
	}
	logged(t, r, counted)
	if t.Failed() {
		return
	}
	t.Logf("figure: answers of official clients through 2 replicas that equal those straight from the upstream, byte for byte: all %d (%d kinds of use)",
		answers, len(talks))
}

func modelOf(talk int) string { return fmt.Sprintf("model-of-talk-%d", talk) }

func hold(t *testing.T, tt talk, s *seat, up *upstream, model string) (heard, []*answer, []asked) {
	t.Helper()
	up.taken()
	s.line.taken()
	s.line.whole = true
	h, err := tt.do(within(t), s, model)
	if err != nil {
		t.Fatal(err)
	}
	return h, s.line.taken(), up.taken()
}

// logged waits until the replicas have written what each request cost, and
// compares that with what the clients have counted, by model.
func logged(t *testing.T, r *rig, want map[string]tally) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, "the log of requests has the tokens that the clients counted", func() error {
		rows, err := r.DB.QueryContext(t.Context(), `SELECT model, COUNT(*), SUM(input_tokens), SUM(output_tokens), SUM(cached_tokens)
			FROM request_logs WHERE status_code = 200 AND success AND channel_id <> '' GROUP BY model`)
		if err != nil {
			return err
		}
		defer rows.Close()
		got := map[string]tally{}
		for rows.Next() {
			var model string
			var n tally
			if err := rows.Scan(&model, &n.asked, &n.input, &n.output, &n.cached); err != nil {
				return err
			}
			got[model] = n
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(tally{})); diff != "" {
			return fmt.Errorf("requests and tokens by model (-counted +logged):\n%s", diff)
		}
		return rows.Err()
	})
}
