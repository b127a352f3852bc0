package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestKeysStayInsideTheDataPlane has marks in provider keys and in a client's
// token, sends requests that go well and badly, and looks for the marks in
// everything but the one place where each belongs.
func TestKeysStayInsideTheDataPlane(t *testing.T) {
	t.Parallel()
	const token, inner = "ct-MARKclientMARK", "10.254.253.252"
	server := testkit.Redis(t) // a single server in any run: it shows all that Redis gets
	var mu sync.Mutex
	var atUpstream []byte
	keys := map[string]int{} // requests that brought the channel's own key
	u := fleet.NewUpstream(t, func(channel string, r *http.Request, body []byte) {
		header, _ := json.Marshal(r.Header)
		mu.Lock()
		defer mu.Unlock()
		atUpstream = append(append(append(atUpstream, header...), r.URL.String()...), body...)
		for _, given := range []string{strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), r.Header.Get("X-Api-Key"), r.Header.Get("Api-Key")} {
			switch {
			case given == "sk-"+channel+"-"+secretMark:
				keys[channel]++
			case given != "":
				t.Errorf("%s was given a credential that is not its own", channel)
			}
		}
	})
	quote := func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Authorization") + r.Header.Get("X-Api-Key")
		w.Header().Set("X-Request-Id", "req-1")
		w.Header().Set("X-Debug", key)
		w.Header().Set("Set-Cookie", "key="+key)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"error":{"message":"Incorrect API key provided: %s"}}`, key)
	}
	u.Behave("denied", quote)
	f := fleet.Start(t, fleet.Options{
		Redis: server, Replicas: 2, Processes: true, Upstreams: true,
		Env: map[string]string{"ROUTEX_LOG_LEVEL": "debug", "ROUTEX_CLIENT_TOKENS": token},
	})
	wire := startMonitor(t, server)
	var list []fleet.Provider
	for _, p := range []fleet.Provider{
		{ID: "fine"},
		{ID: "denied"},
		{ID: "inner", BaseURL: "http://" + inner + ":81/secret-path"},
		{ID: "gone", BaseURL: "http://127.0.0.1:1/x"},
		{ID: "azure", Type: "azure"},
		{ID: "claude", Type: "anthropic"},
	} {
		p.Name, p.APIKey, p.Models = publicMark+" "+p.ID, "sk-"+p.ID+"-"+secretMark, []string{p.ID}
		list = append(list, p)
	}
	f.Provide(u, list...)

	var answers, explanations []byte
	status := map[string]int{}
	for _, p := range list {
		for i, path := range []string{chatPath, messagesPath, chatPath} {
			r := f.Replicas[i%2]
			body := chat(p.ID, publicMark, fmt.Sprintf(`"stream":%t`, i == 2), `"max_tokens":5`)
			header := []string{"Authorization", "Bearer " + token}
			if i == 1 {
				header = []string{"X-Api-Key", token}
			}
			a := ask(t, r, path+"?api_key="+token+"&beta=true", body, header...)
			said, _ := json.Marshal(a.Header)
			answers = append(append(answers, a.Body...), said...)
			status[fmt.Sprintf("%s %d", p.ID, i)] = a.Status
			if p.ID == "inner" && (a.Status != http.StatusBadGateway || !strings.Contains(string(a.Body), "ROUTEX_ALLOW_UPSTREAM_CIDRS") || strings.Contains(string(a.Body), inner)) {
				t.Errorf("an address that is not allowed: %d %s", a.Status, a.Body)
			}
			e := r.Post(explainPath+"?path="+path, body)
			explanations = append(explanations, e.Body...)
		}
	}
	for what, want := range map[string]int{"fine 0": 200, "fine 1": 200, "fine 2": 200, "denied 0": 502, "denied 1": 502, "gone 0": 502, "azure 0": 200, "azure 1": 404, "claude 1": 200, "claude 0": 404} {
		if status[what] != want {
			t.Errorf("%s: %d, want %d", what, status[what], want)
		}
	}
	var rows string
	testkit.Eventually(t, 10*time.Second, "the request log is written", func() error {
		if rows = f.Shell("SELECT * FROM request_logs"); strings.Count(rows, "\n")+1 < len(status) {
			return fmt.Errorf("it holds %s", rows)
		}
		return nil
	})

	found := places{}
	found.look(t, "answers to clients", answers)
	found.look(t, "explanations", explanations)
	found.look(t, "request_logs", []byte(rows))
	found.look(t, "every GET, metrics too", everyAnswer(t, f))
	redis := wire()
	found.look(t, "MONITOR", redis)
	var logs []byte
	for _, r := range f.Replicas {
		logs = append(logs, r.Log()...)
	}
	found.look(t, "logs at level debug", logs)
	for place, text := range map[string]string{
		"upstreams": string(atUpstream), "answers": string(answers), "explanations": string(explanations), "logs": string(logs), "Redis": string(redis), "request_logs": rows,
	} {
		if strings.Contains(text, token) {
			t.Errorf("%s: the client's token stands there", place)
		}
		if place != "upstreams" && place != "Redis" && strings.Contains(text, inner) {
			t.Errorf("%s: the address of an upstream stands there", place)
		}
	}
	for _, channel := range []string{"fine", "denied", "azure", "claude"} {
		if keys[channel] == 0 {
			t.Errorf("%s was never given its key, so the search proves nothing", channel)
		}
	}
	for _, place := range []string{"answers to clients", "explanations", "every GET, metrics too", "MONITOR"} {
		if !found[place].public {
			t.Errorf("%s: not even a channel's name was found there, so the search proves nothing", place)
		}
	}
	leaks := 0
	for _, p := range found {
		if p.secret {
			leaks++
		}
	}
	t.Logf("figure: data plane: a mark in every provider key, quoted by an upstream's 401: found in %d of %d places; each key at its own upstream only (%v); the client's token in none of 6 places, upstreams among them",
		leaks, len(found), keys)
}
