package model_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// event is one step of a run, kept as it was, and told only if somebody asks.
type event struct {
	step  int
	at    time.Time
	what  string
	who   string
	cmds  [][]string
	reply []any
}

const taleLength = 150

// tell notes a step.
func (s *sim) tell(what, who string, g *gate) {
	e := event{step: s.steps, at: time.Now(), what: what, who: who}
	if g != nil {
		e.who, e.cmds, e.reply = g.p.id+" "+g.what, g.cmds, g.replies
	}
	s.pool.note(what)
	s.pool.note(e.who)
	if len(e.cmds) > 0 {
		s.pool.note(e.cmds[0][0])
	}
	if len(s.tale) >= 2*taleLength {
		s.tale = append(s.tale[:0], s.tale[taleLength:]...)
	}
	s.tale = append(s.tale, e)
}

// story tells the last steps.
func (s *sim) story() string {
	var b strings.Builder
	for _, e := range s.tale[max(0, len(s.tale)-taleLength):] {
		fmt.Fprintf(&b, "%5d %s %-12s %s", e.step, e.at.Format("05.000"), e.what, e.who)
		for _, cmd := range e.cmds {
			fmt.Fprintf(&b, " | %s", brief(cmd))
		}
		if e.reply != nil {
			fmt.Fprintf(&b, " => %s", short(fmt.Sprint(e.reply...), 300))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// brief shows a command without the text of scripts.
func brief(cmd []string) string {
	out := make([]string, len(cmd))
	for i, arg := range cmd {
		if line, _, many := strings.Cut(arg, "\n"); many {
			arg = line
		}
		out[i] = short(arg, 120)
		if strings.HasPrefix(arg, `{"lock"`) {
			out[i] = short(arg, 900)
		}
	}
	return strings.Join(out, " ")
}

func short(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// bellOf reads a bell.
func bellOf(payload string) snapshot.Bell {
	var m struct {
		Event string  `json:"event"`
		Hint  *string `json:"hint"`
	}
	_ = json.Unmarshal([]byte(payload), &m)
	b := snapshot.Bell{Event: m.Event, Hinted: m.Hint != nil}
	if b.Hinted {
		b.Hint = *m.Hint
	}
	return b
}
