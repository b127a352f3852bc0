package bench_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// reader is one way to keep records in memory. open fills it and returns the
// read; most is the largest set it is asked to hold, 0 for any.
type reader struct {
	name string
	most int
	open func(b *testing.B, all map[string]*snapshot.Channel) func(id string) *snapshot.Channel
}

// BenchmarkRead reads channels by id in random order, as requests would.
func BenchmarkRead(b *testing.B) {
	for _, n := range sizes() {
		records := sets(b, n)[snapshot.Channels]
		all := make(map[string]*snapshot.Channel, n)
		for _, id := range records.IDs() {
			body, _ := records.Get(id)
			ch, err := snapshot.DecodeChannel(id, body)
			if err != nil {
				b.Fatal(err)
			}
			all[id] = ch
		}
		ids := make([]string, 0, n)
		for _, id := range records.IDs() {
			ids = append(ids, strings.Clone(id)) // a request brings text of its own, not the map's
		}
		random := rand.New(rand.NewPCG(1, 2))
		random.Shuffle(n, func(i, k int) { ids[i], ids[k] = ids[k], ids[i] })
		for _, r := range readers() {
			if r.most > 0 && n > r.most {
				continue
			}
			b.Run(fmt.Sprintf("records=%d/who=%s", n, r.name), func(b *testing.B) {
				read := r.open(b, all)
				for i := range 3 * n { // everything is there, and where it will stay
					id := ids[i%n]
					if ch := read(id); ch == nil || ch.ID != id {
						b.Fatalf("%s reads %s as %v", r.name, id, ch)
					}
				}
				i := 0
				each(b, func() {
					read(ids[i])
					if i++; i == len(ids) {
						i = 0
					}
				})
			})
		}
	}
}

func readers() []reader {
	return []reader{
		{"ours", 0, openOurs},
		{"map", 0, openMap},
		{"map+RWMutex", 0, openLocked},
		{"sync.Map", 0, openSyncMap},
		{"otter", 0, openOtter},
		{"hashicorp-lru", 0, openLRU},
		{"samber-hot", 0, openHot},
		{"ristretto", 0, openRistretto},
		{"sturdyc", 0, openSturdyc},
		{"eko-gocache", 0, openGocache},
		{"rueidis-DoCache", 0, openDoCache},
		// Filled record by record through Redis, these take minutes for a large set.
		{"rueidisaside", 1000, openAside},
		{"jetcache-go", 1000, openJetcache},
		{"go-redis-cache", 1000, openRedisCache},
	}
}
