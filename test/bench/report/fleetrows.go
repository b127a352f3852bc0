package main

func stall(what, unit string) quantity { return quantity{"Stall/records=LARGE/what=" + what, unit} }

// redisRows are what Redis is asked for, and how long it is kept busy.
func redisRows() []row {
	one := quantity{"Change/records=LARGE/replicas=32", "own-redis-B/op"}
	return []row{
		bounded("Redis bytes of a refresh without news, 1,000 records", warm("1000", "timer", "own-redis-B/op"), 4096, "≤ 4 KB", peer{"and all else meanwhile", warm("1000", "timer", "redis-B/op")}, peer{"POST warm and its receipt", warm("1000", "nothing-new", "own-redis-B/op")}),
		bounded("Redis bytes of a refresh without news, LARGE records", warm("LARGE", "timer", "own-redis-B/op"), 4096, "≤ 4 KB", peer{"and all else meanwhile", warm("LARGE", "timer", "redis-B/op")}, peer{"POST warm and its receipt", warm("LARGE", "nothing-new", "own-redis-B/op")}, peer{"all rewritten, and pulled", warm("LARGE", "all-new", "redis-B/op")}),
		bounded("Redis bytes of one changed record of LARGE, 32 replicas", one, 100_000, "≤ 100 KB", peer{"and all else meanwhile", quantity{one.name, "redis-B/op"}}, peer{"HGETALL by each, of 1,000", spread("32", "bell+hgetall", "redis-B/op")}),
		bounded("longest stall of Redis, first publish of LARGE", stall("publish/who=ours", "stall-ms"), 10, "≤ 10 ms", peer{"one script", stall("publish/who=one-script", "stall-ms")}, peer{"the machine alone", stall("nothing/who=machine", "stall-ms")}),
		bounded("longest stall of Redis, 32 replicas start", stall("32-starts/who=ours", "stall-ms"), 100, "≤ 100 ms", peer{"HGETALL by each", stall("32-starts/who=hgetall", "stall-ms")}),
		bounded("memory of Redis above the set, 32 replicas start", stall("32-starts/who=ours", "redis-rise-B"), 50e6, "≤ 50 MB", peer{"HGETALL by each", stall("32-starts/who=hgetall", "redis-rise-B")}),
	}
}

// startRows are how long whole sets take.
func startRows() []row {
	ours, theirs := quantity{"Start/records=LARGE/who=ours", "ns/op"}, quantity{"Start/records=LARGE/who=hgetall+decode", "ns/op"}
	const peak = "peak-heap-B"
	return []row{
		{
			work: "cold start from a warm Redis, LARGE channels, to ready", ours: []quantity{ours, {ours.name, peak}}, peers: []peer{{"HGETALL + decode", theirs}, {"its heap at most", quantity{theirs.name, peak}}},
			limits: []limit{{of: ours, times: 1.5, than: theirs, text: "≤ 1.5 × HGETALL + decode"}, {of: ours, plus: 600e6, text: "≤ 600 ms"}},
		},
		bounded("warm of 1,000 channels, nothing new", warm("1000", "nothing-new", "p50-ms"), 10, "≤ 10 ms"),
		bounded("warm of 1,000 channels, all new", warm("1000", "all-new", "p50-ms"), 50, "≤ 50 ms"),
		bounded("warm of 1,000 channels from PostgreSQL, nothing new", warm("1000/source=postgres", "nothing-new", "p50-ms"), 10, "≤ 10 ms"),
		bounded("warm of 1,000 channels from PostgreSQL, all new", warm("1000/source=postgres", "all-new", "p50-ms"), 50, "≤ 50 ms"),
	}
}

func heapRows() []row {
	heap := func(work, set string, bound float64, text string) row {
		return bounded("heap of a view, "+work, quantity{"Heap/set=" + set, "heap-B"}, bound, text, peer{"its records alone", quantity{"Heap/set=" + set + "/of=records", "heap-B"}})
	}
	return []row{
		heap("100/500/50/1", "reference", 110e3, "≤ 110 KB"),
		heap("1,000 channels", "1000", 1e6, "≤ 1 MB"),
		heap("LARGE channels", "LARGE", 80e6, "≤ 80 MB"),
	}
}

// growthRows are what a hundred times as many records cost.
func growthRows() []row {
	change := func(records string) quantity { return quantity{"Change/records=" + records + "/replicas=1", "p50-ms"} }
	commit := func(records string) quantity {
		return quantity{"Commit/records=" + records + "/what=steady", "p50-ms"}
	}
	ours, theirs := growth(read("LARGE", "ours"), read("1000", "ours")), growth(read("LARGE", "map"), read("1000", "map"))
	return []row{
		grows("growth: refresh without news, 1,000 → LARGE", warm("LARGE", "nothing-new", "p50-ms"), warm("1000", "nothing-new", "p50-ms"), 1.2, "≤ 1.2 ×"),
		grows("growth: one change end to end, from its SQL commit, 1,000 → LARGE", commit("LARGE"), commit("1000"), 1.5, "≤ 1.5 ×").
			noted("from the commit until a replica serves it, with the warm in between, which is asked for at once"),
		grows("growth: one change from Redis to the reader, 1,000 → LARGE", change("LARGE"), change("1000"), 1.5, "≤ 1.5 ×"),
		{
			work: "growth: L1 read, 1,000 → LARGE", ours: []quantity{ours}, peers: []peer{{"plain map", theirs}},
			limits: []limit{{of: ours, times: 1, than: theirs, text: "≤ the plain map's own growth"}},
		},
	}
}
