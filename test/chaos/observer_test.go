package chaos_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// agreement is what routex verify --json prints.
type agreement struct {
	Agree    bool     `json:"agree"`
	Replicas []string `json:"replicas"`
	Rounds   int      `json:"rounds"`
	Missed   int      `json:"missedRounds"`
	Windows  []struct {
		WindowMs     int64  `json:"windowMs"`
		Observations int64  `json:"observations"`
		Agreeing     int64  `json:"agreeing"`
		Agreement    string `json:"agreement"`
	} `json:"windows"`
	Silent        map[string]int `json:"silent"`
	Disagreements []struct {
		Subject  string        `json:"subject"`
		Kind     snapshot.Kind `json:"kind"`
		Why      string        `json:"why"`
		LastedMs int64         `json:"lastedMs"`
		Over     bool          `json:"over"`
		Records  []struct {
			ID      string         `json:"id"`
			Party   snapshot.Party `json:"party"`
			Against snapshot.Party `json:"against"`
			Fields  []string       `json:"fields"`
		} `json:"records"`
		Events []struct {
			What string `json:"what"`
		} `json:"events"`
		Note string `json:"note"`
	} `json:"disagreements"`
}

// observe starts routex verify against the fleet and returns a function that
// waits for its end.
func observe(t *testing.T, f *fleet.Fleet, span time.Duration, args ...string) func() (got agreement, code int) {
	t.Helper()
	program, err := fleet.Binary(false)
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"verify", "--json", "--server", f.Replicas[0].URL(), "--for", span.String()}, args...)
	cmd := exec.Command(program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, []string{"HOME=" + t.TempDir()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() (got agreement, code int) {
		t.Helper()
		select {
		case err = <-done:
		case <-time.After(span + 30*time.Second):
			t.Fatalf("routex %v does not end", args)
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
			t.Fatalf("routex %v prints %q and says %q", args, stdout.String(), stderr.String())
		}
		return got, code
	}
}

// named looks for the record in what was found.
func (a agreement) named(subject string, kind snapshot.Kind, id, field string) error {
	for _, d := range a.Disagreements {
		for _, r := range d.Records {
			if d.Subject == subject && d.Kind == kind && r.ID == id && slices.Contains(r.Fields, field) && len(d.Events) > 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("no word of %s of %s %s at %s, with its last events: %+v", field, kind, id, subject, a.Disagreements)
}

// audited waits until a replica's log names the record, and returns the line.
func audited(t *testing.T, r *fleet.Replica, kind snapshot.Kind, id, field string) string {
	t.Helper()
	var line string
	testkit.Eventually(t, 20*time.Second, "the audit of "+r.ID+" names the record", func() error {
		for line = range strings.Lines(r.Log()) {
			if strings.Contains(line, "Cache record is wrong") && strings.Contains(line, "kind="+string(kind)) &&
				strings.Contains(line, "id="+id) && strings.Contains(line, field) && strings.Contains(line, "lastEvents=") {
				return nil
			}
		}
		return errors.New("it does not")
	})
	return line
}

// TestOneFieldCorruptedInMemory is the fault that no tag shows: a record of one
// replica's compiled copy is overwritten. The observer outside names replica,
// kind, record and field; the audit does too, and mends it.
func TestOneFieldCorruptedInMemory(t *testing.T) {
	t.Parallel()
	const victim = 1
	t.Run("the observer sees it while it lasts", func(t *testing.T) {
		t.Parallel()
		f := fleet.Start(t, fleet.Options{Channels: 40, Rules: 5, Env: map[string]string{"ROUTEX_AUDIT_INTERVAL": "0s"}})
		r, id := f.Replicas[victim], fleet.ChannelID(7)
		r.Serving().Channels.At(id).Weight = 4242
		got, code := observe(t, f, 4*time.Second, "--window", "1s,2s")()
		if code != 3 || got.Agree {
			t.Errorf("exit code %d, agree %v; want 3, false", code, got.Agree)
		}
		if err := got.named(r.ID, snapshot.Channels, id, "weight"); err != nil {
			t.Error(err)
		}
		for _, d := range got.Disagreements {
			if d.Subject != r.ID || d.Kind != snapshot.Channels || len(d.Records) != 1 {
				t.Errorf("it accuses others: %+v", d)
			}
		}
	})
	t.Run("the audit names and mends it", func(t *testing.T) {
		t.Parallel()
		f := fleet.Start(t, fleet.Options{Channels: 40, Rules: 5, Env: map[string]string{"ROUTEX_AUDIT_INTERVAL": "1s"}})
		r, id := f.Replicas[victim], fleet.RuleID(3)
		r.Serving().Rules.At(id).TargetChannel = "sk-never-shown"
		began := time.Now()
		line := audited(t, r, snapshot.RoutingRules, id, "targetChannel")
		if strings.Contains(line, "sk-never-shown") {
			t.Errorf("the log tells a value: %s", line)
		}
		testkit.Eventually(t, 5*time.Second, "the record is whole again", func() error {
			if got := r.Serving().Rules.At(id).TargetChannel; got != fleet.ChannelID(0) {
				return fmt.Errorf("targetChannel is %q", got)
			}
			return nil
		})
		t.Logf("figure: a field corrupted in one replica's memory is named and mended after %s (audit each 1s)", ms(time.Since(began)))
		if n := r.Metric("routex_audit_mismatches_total"); n != 1 {
			t.Errorf("routex_audit_mismatches_total is %v, want 1", n)
		}
		for _, other := range f.Replicas {
			if other != r && other.Metric("routex_audit_mismatches_total") != 0 {
				t.Errorf("%s accuses itself", other.ID)
			}
		}
	})
}

// TestRecordCorruptedInRedis overwrites a record behind everybody's back: the
// tag stays, and what replicas serve is right. Somebody has to publish again
// before a new replica pulls it.
func TestRecordCorruptedInRedis(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 40, Env: map[string]string{"ROUTEX_AUDIT_INTERVAL": "2s"}})
	id, key := fleet.ChannelID(3), f.Key("snapshot:channels")
	before := f.Head()[snapshot.Channels]
	was, err := f.Client.HGet(t.Context(), key, id).Result()
	if err != nil {
		t.Fatal(err)
	}
	ended := observe(t, f, 6*time.Second, "--window", "1s")
	time.Sleep(time.Second) // the observer watches; what counts is what it reports
	if err := f.Client.HSet(t.Context(), key, id, strings.Replace(was, `"priority":`, `"priority":9`, 1)).Err(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	testkit.Eventually(t, 20*time.Second, "it is published again", func() error {
		now, err := f.Client.HGet(t.Context(), key, id).Result()
		if err == nil && now != was {
			err = fmt.Errorf("it is %q", now)
		}
		return err
	})
	t.Logf("figure: a record overwritten in Redis is found and published again after %s (audit each 2s)", ms(time.Since(began)))
	if tag := f.WaitTags(10 * time.Second)[snapshot.Channels]; tag == before {
		t.Error("the tag did not move: a replica that pulled the wrong record would keep it")
	}
	if n := f.Metric("routex_audit_mismatches_total", `party="redis"`); n < 1 {
		t.Error("no audit counted it")
	}
	for _, r := range f.Replicas {
		if n := r.Metric("routex_audit_mismatches_total", `party="served"`) + r.Metric("routex_audit_mismatches_total", `party="copy"`); n != 0 {
			t.Errorf("%s accuses its own copy, which was right", r.ID)
		}
	}
	ended()
}

// TestRowChangedPastTheTriggers changes a row in the source in a way that no
// revision tells of.
func TestRowChangedPastTheTriggers(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 40, Env: map[string]string{"ROUTEX_AUDIT_INTERVAL": "0s"}})
	id := fleet.ChannelID(5)
	silently(t, f, "UPDATE channels SET weight = 77 WHERE id = '"+id+"'")
	got, code := observe(t, f, 3*time.Second, "--window", "1s")()
	if err := got.named("redis", snapshot.Channels, id, "weight"); err != nil || code != 3 {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// silently runs a statement on SQLite with the triggers of its table out of the
// way.
func silently(t *testing.T, f *fleet.Fleet, statement string) {
	t.Helper()
	tx, err := f.DB.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	rows, err := tx.Query("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
	if err != nil {
		t.Fatal(err)
	}
	triggers := map[string]string{}
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			t.Fatal(err)
		}
		triggers[name] = text
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	run := func(text string) {
		if _, err := tx.Exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	for name := range triggers {
		run("DROP TRIGGER " + name)
	}
	run(statement)
	for _, text := range triggers {
		run(text)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// TestReplicaThatDoesNotAnswerItsAddress is no agreement.
func TestReplicaThatDoesNotAnswerItsAddress(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 5, Each: func(i int) map[string]string {
		if i == 2 {
			return map[string]string{"ROUTEX_ADVERTISE": "127.0.0.1:1"}
		}
		return nil
	}})
	got, code := observe(t, f, 2*time.Second, "--window", "1s,1m")()
	if code != 3 || got.Silent["r3"] == 0 || len(got.Silent) != 1 {
		t.Errorf("exit code %d, silent %v; want 3 and r3 alone", code, got.Silent)
	}
	if w := got.Windows[1]; w.Observations != 0 || w.Agreement != "none" {
		t.Errorf("a window of 1m has %+v after 2s", w)
	}
}
