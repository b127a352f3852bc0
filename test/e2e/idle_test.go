package e2e_test

import (
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// idleCost is what a replica may exchange with Redis in a minute in which nothing
// changes, with the settings as they come.
type idleCost struct{ commands, bytes float64 }

var (
	idleFollower  = idleCost{commands: 450, bytes: 200_000}
	idleRefresher = idleCost{commands: 1500, bytes: 380_000}
)

// trafficOf reads what a replica has counted.
func trafficOf(r *fleet.Replica) idleCost {
	return idleCost{commands: r.Metric("routex_store_commands_total"), bytes: r.Metric("routex_store_bytes_total")}
}

// TestIdleCost holds each replica of an idle fleet to its budget, by its own
// counters, and compares these with what Redis counts.
func TestIdleCost(t *testing.T) {
	span := time.Duration(testkit.Rounds(30, 120)) * time.Second // the audit looks four times a minute
	server := testkit.Redis(t)
	f := fleet.Start(t, fleet.Options{Replicas: 3, Channels: 100, Rules: 50, Redis: server})
	f.SettledLoads()
	count := testkit.Count(t, server.Client())
	before := make([]idleCost, len(f.Replicas))
	for i, r := range f.Replicas {
		before[i] = trafficOf(r)
	}
	count()
	began := time.Now()
	time.Sleep(span)
	perMinute := time.Minute.Seconds() / time.Since(began).Seconds()
	for i, r := range f.Replicas {
		now, role, budget := trafficOf(r), "a follower", idleFollower
		if r.Metric("routex_lease_leader") == 1 {
			role, budget = "the refresher", idleRefresher
		}
		commands, bytes := (now.commands-before[i].commands)*perMinute, (now.bytes-before[i].bytes)*perMinute
		t.Logf("figure: idle, %s: %.0f commands and %.1f KB with Redis a minute (budget %.0f and %.0f KB)", role, commands, bytes/1000, budget.commands, budget.bytes/1000)
		if commands > budget.commands || bytes > budget.bytes {
			t.Errorf("%s, %s: %.0f commands and %.0f bytes a minute, the budget is %+v", r.ID, role, commands, bytes, budget)
		}
		if commands < 100 || bytes < 10_000 { // a look, a heartbeat and a ping a second are more
			t.Errorf("%s counts %.0f commands and %.0f bytes a minute: it does not count", r.ID, commands, bytes)
		}
	}
	all := count()
	t.Logf("figure: idle, as Redis counts, with the commands that scripts run: %.0f commands for a replica and minute: %v", float64(all.Total())*perMinute/3, all)
}
