package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Answer is what the control API answered, in full and taken apart.
type Answer struct {
	Status int         `json:"-"`
	Header http.Header `json:"-"`
	Body   []byte      `json:"-"` // as it came

	Success bool              `json:"success"`
	Data    json.RawMessage   `json:"data"`
	Message string            `json:"message"`
	Warning string            `json:"warning"`
	Receipt *snapshot.Receipt `json:"receipt"`
	Error   *Failure          `json:"error"`
}

// Failure is the error of an answer.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details struct {
		Receipt  *snapshot.Receipt   `json:"receipt"`
		Refusals []*snapshot.Refusal `json:"refusals"`
	} `json:"details"`
}

// Decode puts the data of a success into out, and is an error otherwise.
func (a *Answer) Decode(out any) error {
	if !a.Success {
		return fmt.Errorf("status %d: %.500s", a.Status, a.Body)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(a.Data, out); err != nil {
		return fmt.Errorf("decode %.500s: %w", a.Data, err)
	}
	return nil
}

// Do makes one call. Body is sent as it is if it is a string, as JSON
// otherwise, and not at all if it is nil; header lists names and values in
// turn. It may be called from any goroutine.
func (r *Replica) Do(ctx context.Context, method, path string, body any, header ...string) (*Answer, error) {
	return r.f.do(ctx, method, r.URL()+path, body, header...)
}

func (f *Fleet) do(ctx context.Context, method, url string, body any, header ...string) (*Answer, error) {
	var sent io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		sent = strings.NewReader(body)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, sent)
	if err != nil {
		return nil, err
	}
	if sent != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	a := &Answer{Status: res.StatusCode, Header: res.Header}
	if a.Body, err = io.ReadAll(res.Body); err != nil {
		return nil, err
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(a.Body, a); err != nil {
			return nil, fmt.Errorf("%s %s answers %.200q: %w", method, url, a.Body, err)
		}
	}
	return a, nil
}

// call is Do for the test's own goroutine.
func (r *Replica) call(method, path string, body any, header ...string) *Answer {
	r.f.tb.Helper()
	a, err := r.Do(r.f.tb.Context(), method, path, body, header...)
	if err != nil {
		r.f.tb.Fatalf("%s %s at %s: %v", method, path, r.ID, err)
	}
	return a
}

// Get asks for path and decodes the data into out, unless it is nil. Whatever
// is no success ends the test.
func (r *Replica) Get(path string, out any) *Answer {
	r.f.tb.Helper()
	a := r.call(http.MethodGet, path, nil)
	if err := a.Decode(out); err != nil {
		r.f.tb.Fatalf("GET %s at %s: %v", path, r.ID, err)
	}
	return a
}

// Post makes a call that may be refused, as Put and Delete do: the caller looks
// at the Status. Body is as for Do.
func (r *Replica) Post(path string, body any, header ...string) *Answer {
	r.f.tb.Helper()
	return r.call(http.MethodPost, path, body, header...)
}

// Put is like Post.
func (r *Replica) Put(path string, body any, header ...string) *Answer {
	r.f.tb.Helper()
	return r.call(http.MethodPut, path, body, header...)
}

// Delete is like Post.
func (r *Replica) Delete(path string, header ...string) *Answer {
	r.f.tb.Helper()
	return r.call(http.MethodDelete, path, nil, header...)
}

// Must is for a call that has to succeed: it ends the test if a did not, and
// returns a otherwise.
func (f *Fleet) Must(a *Answer) *Answer {
	f.tb.Helper()
	if !a.Success {
		f.tb.Fatalf("status %d: %s", a.Status, a.Body)
	}
	return a
}

// Stats is what GET /api/cache/stats answers.
type Stats struct {
	TotalWarms             int64                 `json:"totalWarms"`
	LastWarmTime           int64                 `json:"lastWarmTime"`
	LastWarmDuration       int64                 `json:"lastWarmDuration"`
	ItemsCached            map[snapshot.Kind]int `json:"itemsCached"`
	BackgroundRefreshCount int64                 `json:"backgroundRefreshCount"`
	InvalidationCount      int64                 `json:"invalidationCount"`
	Replica                struct {
		Member
		AgeMs         int64 `json:"ageMs"`
		VerifiedMsAgo int64 `json:"verifiedMsAgo"`
		Hits          int64 `json:"hits"`
		Misses        int64 `json:"misses"`
		StaleServed   int64 `json:"staleServed"`
	} `json:"replica"`
}

// Member is one element of GET /api/cache/replicas.
type Member struct {
	ID             string                         `json:"id"`
	Address        string                         `json:"address"`
	Role           snapshot.Role                  `json:"role"`
	State          snapshot.State                 `json:"state"`
	Tags           map[snapshot.Kind]snapshot.Tag `json:"tags"`
	HeartbeatAgeMs int64                          `json:"heartbeatAgeMs"`
	Since          int64                          `json:"since"`
	Schema         int                            `json:"schema"`
	Skew           string                         `json:"skew"`
	Held           string                         `json:"held"`
	Breakers       []snapshot.Breaker             `json:"breakers"`
}

// Stats asks for the counters of the fleet and the standing of this replica.
func (r *Replica) Stats() Stats {
	r.f.tb.Helper()
	var s Stats
	r.Get("/api/cache/stats", &s)
	return s
}

// Members asks for the list of live replicas.
func (r *Replica) Members() []Member {
	r.f.tb.Helper()
	var list struct {
		Replicas []Member `json:"replicas"`
	}
	r.Get("/api/cache/replicas", &list)
	return list.Replicas
}

// Metric adds up the series of a metric that carry all the labels, each given
// as name="value". A metric that is not there is 0.
func (r *Replica) Metric(name string, labels ...string) float64 {
	r.f.tb.Helper()
	a := r.call(http.MethodGet, "/metrics", nil)
	sum := 0.0
	for lines := bufio.NewScanner(bytes.NewReader(a.Body)); lines.Scan(); {
		series, value, ok := strings.Cut(lines.Text(), " ")
		if i := strings.LastIndex(lines.Text(), "} "); i >= 0 {
			series, value, ok = lines.Text()[:i+1], lines.Text()[i+2:], true
		}
		own, set, _ := strings.Cut(series, "{")
		if !ok || own != name || !hasAll(set, labels) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			r.f.tb.Fatalf("metric %s: %v", lines.Text(), err)
		}
		sum += v
	}
	return sum
}

func hasAll(set string, labels []string) bool {
	for _, label := range labels {
		if !strings.Contains(set, label) {
			return false
		}
	}
	return true
}
