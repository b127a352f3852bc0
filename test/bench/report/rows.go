package main

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
}

type peer struct {
	name string
	is   quantity
}

func read(records, who string) quantity {
	return quantity{"Read/records=" + records + "/who=" + who, "ns/op"}
}

func readRow(title, records string) row {
	ours := read(records, "ours")
	return row{
		work: "L1 read by id, " + title, ours: []quantity{ours, {ours.name, "best-ns/op"}, {ours.name, "allocs/op"}},
		peers: []peer{{"plain map", read(records, "map")}, {"otter", read(records, "otter")}, {"ristretto", read(records, "ristretto")}, {"rueidis", read(records, "rueidis-DoCache")}},
		limits: []limit{
			{of: ours, times: 1.15, than: read(records, "map"), text: "≤ 1.15 × plain map"},
			{of: ours, times: 0.5, than: read(records, "otter"), text: "≤ 0.5 × otter"},
			{of: quantity{ours.name, "allocs/op"}, text: "0 allocs"},
		},
	}
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
			{"rueidisaside", spread(n, "rueidisaside", "p50-ms")},
			{"jetcache-go", spread(n, "jetcache-go-sync", "p50-ms")},
			{"go-redis/cache", spread(n, "go-redis-cache-1s", "p50-ms")},
		},
		limits: []limit{
			{of: p50, times: 4, than: spread(n, "floor-publish", "p50-ms"), text: "p50 ≤ 4 × PUBLISH"},
			{of: p99, times: 6, than: spread(n, "floor-publish", "p99-ms"), text: "p99 ≤ 6 × PUBLISH"},
		},
	}
}

// bounded is a row whose bar is a number.
func bounded(work string, ours quantity, bound float64, text string, peers ...peer) row {
	return row{work: work, ours: []quantity{ours}, peers: peers, limits: []limit{{of: ours, plus: bound, text: text}}}
}

// quick is a row about nanoseconds, which shows the best of them too.
func quick(work string, ours quantity, bound float64, text string, peers ...peer) row {
	r := bounded(work, ours, bound, text, peers...)
	r.ours = append(r.ours, quantity{ours.name, "best-ns/op"}, quantity{ours.name, "allocs/op"})
	return r
}

// grows is a row about a large set beside a small one.
func grows(work string, ours, small quantity, times float64, text string) row {
	return row{work: work, ours: []quantity{ours}, peers: []peer{{"at 1,000", small}}, limits: []limit{{of: ours, times: times, than: small, text: text}}}
}

func stall(what, unit string) quantity { return quantity{"Stall/records=LARGE/what=" + what, unit} }

func rows() []row {
	decide, sticky, rules := quantity{"Decide/who=ours", "ns/op"}, quantity{"Sticky/who=ours", "ns/op"}, quantity{"Rules/who=ours", "ns/op"}
	write, start := quantity{"Write/replicas=32", "p50-ms"}, quantity{"Start/records=LARGE/who=ours", "ns/op"}
	load, commit := quantity{write.name, "load-ms"}, quantity{write.name, "commit-ms"}
	theirs := quantity{"Start/records=LARGE/who=hgetall+decode", "ns/op"}
	warm := func(records, what, unit string) quantity {
		return quantity{"Warm/records=" + records + "/what=" + what, unit}
	}
	one := quantity{"Change/records=LARGE/replicas=32", "own-redis-B/op"}
	return []row{
		readRow("1,000 records", "1000"),
		readRow("LARGE records", "LARGE"),
		quick("full decision at 100 channels", decide, 60, "≤ 60 ns", peer{"filter and sort", quantity{"Decide/who=filter-and-sort", "ns/op"}}),
		quick("sticky pick at 100 channels", sticky, 140, "≤ 140 ns (rendezvous)", peer{"map + lock", quantity{"Sticky/who=map+lock", "ns/op"}}, peer{"rendezvous", quantity{"Sticky/who=rendezvous", "ns/op"}}),
		quick("50 rules over 4 KB, the whole plan", rules, 15_000, "≤ 15 µs", peer{"one RE2 set", quantity{"Rules/who=re2-set", "ns/op"}}, peer{"regexp", quantity{"Rules/who=regexp", "ns/op"}}, peer{"rule by rule", quantity{"Rules/who=rule-by-rule", "ns/op"}}),
		spreadRow("8", "ours", "1,000"),
		spreadRow("32", "ours", "1,000"),
		spreadRow("32", "ours-of-20", "20"),
		{
			work: "API write → the last of 32 replicas serves it, from the request", ours: []quantity{write},
			peers:  []peer{{"publish alone", spread("32", "ours", "p50-ms")}, {"one load", load}, {"one commit", commit}},
			limits: []limit{{of: write, times: 1, than: spread("32", "ours", "p50-ms"), more: []quantity{load, commit}, plus: 1, text: "≤ commit + publish + one load + 1 ms"}},
		},
		bounded("source loads for one change, 32 replicas", quantity{"Write/replicas=32", "loads/op"}, 1, "1"),
		bounded("Redis bytes of a refresh without news, 1,000 records", warm("1000", "timer", "own-redis-B/op"), 4096, "≤ 4 KB", peer{"and all else meanwhile", warm("1000", "timer", "redis-B/op")}, peer{"POST warm and its receipt", warm("1000", "nothing-new", "own-redis-B/op")}),
		bounded("Redis bytes of a refresh without news, LARGE records", warm("LARGE", "timer", "own-redis-B/op"), 4096, "≤ 4 KB", peer{"and all else meanwhile", warm("LARGE", "timer", "redis-B/op")}, peer{"POST warm and its receipt", warm("LARGE", "nothing-new", "own-redis-B/op")}, peer{"all rewritten", warm("LARGE", "all-new", "redis-B/op")}),
		bounded("Redis bytes of one changed record of LARGE, 32 replicas", one, 100_000, "≤ 100 KB", peer{"and all else meanwhile", quantity{"Change/records=LARGE/replicas=32", "redis-B/op"}}, peer{"HGETALL by each, of 1,000", spread("32", "bell+hgetall", "redis-B/op")}),
		bounded("a replica's CPU for one change, 1,000 records", quantity{"Apply/records=1000", "cpu-us/op"}, 100, "≤ 100 µs"),
		bounded("a replica's CPU for one change, LARGE records", quantity{"Apply/records=LARGE", "cpu-us/op"}, 100, "≤ 100 µs"),
		bounded("longest stall of Redis, first publish of LARGE", stall("publish/who=ours", "stall-ms"), 10, "≤ 10 ms", peer{"one script", stall("publish/who=one-script", "stall-ms")}, peer{"the machine alone", stall("nothing/who=machine", "stall-ms")}),
		bounded("longest stall of Redis, 32 replicas start", stall("32-starts/who=ours", "stall-ms"), 100, "≤ 100 ms", peer{"HGETALL by each", stall("32-starts/who=hgetall", "stall-ms")}),
		bounded("memory of Redis above the set, 32 replicas start", stall("32-starts/who=ours", "redis-rise-B"), 50e6, "≤ 50 MB", peer{"HGETALL by each", stall("32-starts/who=hgetall", "redis-rise-B")}),
		{
			work: "cold start from a warm Redis, LARGE channels, to ready", ours: []quantity{start}, peers: []peer{{"HGETALL + decode", theirs}},
			limits: []limit{{of: start, times: 1.5, than: theirs, text: "≤ 1.5 × HGETALL + decode"}, {of: start, plus: 600e6, text: "≤ 600 ms"}},
		},
		bounded("warm of 1,000 channels, nothing new", warm("1000", "nothing-new", "p50-ms"), 10, "≤ 10 ms"),
		bounded("warm of 1,000 channels, all new", warm("1000", "all-new", "p50-ms"), 50, "≤ 50 ms"),
		bounded("warm of 1,000 channels from PostgreSQL, nothing new", warm("1000/source=postgres", "nothing-new", "p50-ms"), 10, "≤ 10 ms"),
		bounded("warm of 1,000 channels from PostgreSQL, all new", warm("1000/source=postgres", "all-new", "p50-ms"), 50, "≤ 50 ms"),
		bounded("heap of a view, 100/500/50/1", quantity{"Heap/set=reference", "heap-B"}, 110e3, "≤ 110 KB", peer{"its records alone", quantity{"Heap/set=reference/of=records", "heap-B"}}),
		bounded("heap of a view, 1,000 channels", quantity{"Heap/set=1000", "heap-B"}, 1e6, "≤ 1 MB", peer{"its records alone", quantity{"Heap/set=1000/of=records", "heap-B"}}),
		bounded("heap of a view, LARGE channels", quantity{"Heap/set=LARGE", "heap-B"}, 80e6, "≤ 80 MB", peer{"its records alone", quantity{"Heap/set=LARGE/of=records", "heap-B"}}),
		grows("growth: refresh without news, 1,000 → LARGE", warm("LARGE", "nothing-new", "p50-ms"), warm("1000", "nothing-new", "p50-ms"), 1.2, "≤ 1.2 ×"),
		grows("growth: one change end to end, 1,000 → LARGE", quantity{"Change/records=LARGE/replicas=1", "p50-ms"}, quantity{"Change/records=1000/replicas=1", "p50-ms"}, 1.5, "≤ 1.5 ×"),
		{
			work: "the hop, processor time a request, 64 connections", ours: []quantity{hop("ours")},
			peers: []peer{{"ReverseProxy", hop("reverseproxy")}, {"nginx", hop("nginx")}, {"Caddy", hop("caddy")}},
		},
		{work: "idle, for a replica and minute", ours: []quantity{{"Idle", "redis-commands/replica-min"}, {"Idle", "redis-B/replica-min"}}},
	}
}

func hop(who string) quantity { return quantity{"Hop/who=" + who + "/conns=64", "cpu-us/request"} }
