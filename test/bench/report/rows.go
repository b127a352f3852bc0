package main

import (
	"slices"
	"strings"
)

// limit is one bound of a bar: times another figure, plus so much, in the unit
// of what it bounds.
type limit struct {
	of    quantity // what is bounded
	times float64  // of than; 0: there is none
	than  quantity
	more  []quantity // added as they are
	plus  float64
	text  string
}

// row is one line of the first table.
type row struct {
	work   string
	ours   []quantity
	peers  []peer // the first is what the ratio is taken with
	limits []limit
	race   race
	note   string // how the figure is taken, where that is not plain from the row
}

type peer struct {
	name string
	is   quantity
}

// race is what competes in a row: all benchmarks whose name is prefix and a name
// of their own before suffix. Who is faster than ours is named, whoever it is.
type race struct {
	prefix string
	suffix string // that their names have in common, too
	among  string // what the fastest of them is the fastest of; "" does not name it
	except []string
}

func read(records, who string) quantity {
	return quantity{"Read/records=" + records + "/who=" + who, "ns/op"}
}

func readRow(title, records string) row {
	ours := read(records, "ours")
	r := row{
		work: "L1 read by id, " + title, ours: []quantity{ours, {ours.name, "best-ns/op"}, {ours.name, "allocs/op"}},
		peers: []peer{{"plain map", read(records, "map")}, {"otter", read(records, "otter")}, {"ristretto", read(records, "ristretto")}, {"rueidis DoCache, decoded", read(records, "rueidis-DoCache")}},
		limits: []limit{
			{of: ours, times: 1.15, than: read(records, "map"), text: "≤ 1.15 × plain map"},
			{of: ours, times: 0.5, than: read(records, "otter"), text: "≤ 0.5 × otter"},
			noAllocs(ours),
		},
		race: race{prefix: "Read/records=" + records + "/who=", among: "the caches of this run", except: []string{"map", "map+RWMutex", "sync.Map"}},
		note: "the bar takes otter for the fastest cache; which one is the fastest in this run is said beside it. Maps are not caches",
	}
	if records != "1000" {
		r.note += ". rueidisaside, jetcache-go and go-redis/cache are measured at 1,000 only, because they are filled record by record through Redis"
	}
	for _, slow := range []peer{{"rueidisaside", read("1000", "rueidisaside")}, {"jetcache-go", read("1000", "jetcache-go")}, {"go-redis/cache", read("1000", "go-redis-cache")}} {
		if records != "1000" {
			slow.name += " at 1,000"
		}
		r.peers = append(r.peers, slow)
	}
	return r
}

func spread(n, who, unit string) quantity {
	return quantity{"Spread/replicas=" + n + "/who=" + who, unit}
}

func spreadRow(n, who, records string) row {
	p50, p99 := spread(n, who, "p50-ms"), spread(n, who, "p99-ms")
	return row{
		work: "publish → the last of " + n + " replicas serves it, of " + records + " records, p50 · p99", ours: []quantity{p50, p99},
		peers: []peer{
			{"PUBLISH → last subscriber", spread(n, "floor-publish", "p50-ms")},
			{"record in the message", spread(n, "push-in-message", "p50-ms")},
			{"HGETALL by each", spread(n, "bell+hgetall", "p50-ms")},
			{"rueidis DoCache", spread(n, "rueidis-DoCache", "p50-ms")},
			{"rueidisaside", spread(n, "rueidisaside", "p50-ms")},
			{"jetcache-go", spread(n, "jetcache-go-sync", "p50-ms")},
			{"go-redis/cache", spread(n, "go-redis-cache-1s", "p50-ms")},
		},
		limits: []limit{
			{of: p50, times: 4, than: spread(n, "floor-publish", "p50-ms"), text: "p50 ≤ 4 × PUBLISH"},
			{of: p99, times: 6, than: spread(n, "floor-publish", "p99-ms"), text: "p99 ≤ 6 × PUBLISH"},
		},
		race: race{prefix: "Spread/replicas=" + n + "/who="},
	}
}

// noAllocs is the bar of what runs for each request.
func noAllocs(ours quantity) limit {
	return limit{of: quantity{ours.name, "allocs/op"}, text: "0 allocs"}
}

// frugal adds that bar.
func (r row) frugal() row {
	r.limits = append(r.limits, noAllocs(r.ours[0]))
	return r
}

func (r row) noted(how string) row {
	r.note = how
	return r
}

// bounded is a row whose bar is a number.
func bounded(work string, ours quantity, bound float64, text string, peers ...peer) row {
	return row{work: work, ours: []quantity{ours}, peers: peers, limits: []limit{{of: ours, plus: bound, text: text}}}
}

// quick is a row about nanoseconds, which shows the best of them too, and what is
// allocated.
func quick(work string, ours quantity, bound float64, text string, peers ...peer) row {
	r := bounded(work, ours, bound, text, peers...)
	r.ours = append(r.ours, quantity{ours.name, "best-ns/op"}, quantity{ours.name, "allocs/op"})
	r.race.prefix, _, _ = strings.Cut(ours.name, "ours")
	return r
}

// grows is a row about a large set beside a small one.
func grows(work string, ours, small quantity, times float64, text string) row {
	return row{work: work, ours: []quantity{ours}, peers: []peer{{"at 1,000", small}}, limits: []limit{{of: ours, times: times, than: small, text: text}}}
}

func rows() []row {
	return slices.Concat(requestRows(), changeRows(), redisRows(), startRows(), heapRows(), growthRows(), []row{
		{
			work: "the hop, processor time a request, 64 connections", ours: []quantity{hop("ours")},
			peers: []peer{{"ReverseProxy", hop("reverseproxy")}, {"nginx", hop("nginx")}, {"Caddy", hop("caddy")}},
			race:  race{prefix: "Hop/who=", suffix: "/conns=64"},
		},
		{work: "idle, for a replica and minute", ours: []quantity{{"Idle", "redis-commands/replica-min"}, {"Idle", "redis-B/replica-min"}}},
	})
}

func hop(who string) quantity { return quantity{"Hop/who=" + who + "/conns=64", "cpu-us/request"} }

// requestRows are what a request waits for.
func requestRows() []row {
	named := func(bench, who string) quantity { return quantity{bench + "/who=" + who, "ns/op"} }
	sticky := func(which, who string) row {
		return quick("sticky pick at 100 channels, "+which, named("Sticky", who), 140, "≤ 25 ns (slot table) or ≤ 140 ns (plain rendezvous)",
			peer{"map + lock", named("Sticky", "map+lock")}, peer{"rendezvous", named("Sticky", "rendezvous")})
	}
	rules := func(which, who string) row {
		return quick("50 rules over 4 KB, "+which, named("Rules", who), 15_000, "≤ 15 µs",
			peer{"one RE2 set", named("Rules", "re2-set")}, peer{"regexp", named("Rules", "regexp")}, peer{"rule by rule", named("Rules", "rule-by-rule")})
	}
	return []row{
		readRow("1,000 records", "1000"),
		readRow("LARGE records", "LARGE"),
		quick("full decision at 100 channels", named("Decide", "ours"), 60, "≤ 60 ns", peer{"filter and sort", named("Decide", "filter-and-sort")}).frugal(),
		sticky("a session that came before", "ours").
			noted("the map with its lock knows only what this replica gave out, and other replicas give out another channel"),
		sticky("a new one, channels count alike", "ours-first-time-alike"),
		sticky("a new one, channels by weight", "ours-first-time"),
		rules("matching alone, none holds", "ours-matching").frugal().
			noted("no channel offers the model, so that the decision ends where a plan would be made"),
		rules("the whole plan, none holds", "ours").frugal().
			noted("its one allocation is the plan that is returned"),
	}
}

// changeRows are how long a change takes.
func changeRows() []row {
	write, published := quantity{"Write/replicas=32", "from-commit-ms"}, spread("32", "ours", "p50-ms")
	load := quantity{write.name, "load-ms"}
	end := func(what, unit string) quantity { return quantity{"Commit/records=LARGE/what=" + what, unit} }
	return []row{
		spreadRow("8", "ours", "1,000"),
		spreadRow("32", "ours-of-20", "20"),
		spreadRow("32", "ours", "1,000"),
		{
			work: "API write committed → the last of 32 replicas serves it", ours: []quantity{write},
			peers:  []peer{{"the row above", published}, {"one source load", load}, {"until its commit", quantity{write.name, "until-commit-ms"}}, {"from the request", quantity{write.name, "p50-ms"}}},
			limits: []limit{{of: write, times: 1, than: published, more: []quantity{load}, plus: 1, text: "≤ the row above + one source load + 1 ms"}},
			note:   "from sending the request to the last replica, less what the answer says that it took until the commit; what the request took to come to the replica is still in it",
		},
		bounded("source loads for one change, 32 replicas", quantity{write.name, "loads/op"}, 1, "1", peer{"rueidisaside", spread("32", "rueidisaside", "loads/op")}),
		{
			work: "first write at a replica, of LARGE records, from its commit", ours: []quantity{end("first-write", "p50-ms")},
			peers: []peer{{"each one after it", end("steady", "p50-ms")}},
			note:  "a replica that has not loaded before reads the whole source once, and from then on what has changed",
		},
		bounded("a replica's CPU for one change, 1,000 records", quantity{"Apply/records=1000", "cpu-us/op"}, 100, "≤ 100 µs"),
		bounded("a replica's CPU for one change, LARGE records", quantity{"Apply/records=LARGE", "cpu-us/op"}, 100, "≤ 100 µs"),
	}
}

func warm(records, what, unit string) quantity {
	return quantity{"Warm/records=" + records + "/what=" + what, unit}
}
