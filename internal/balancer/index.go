package balancer

import (
	"hash/maphash"
	"maps"
	"math/bits"
)

// shardModels is about how many models share a shard of the index. A change
// copies the shards of its models, and the list of all shards.
const shardModels = 128

var shardSeed = maphash.MakeSeed()

// index finds the entry of a model. It is immutable: with returns another one
// that shares the shards without a change.
type index struct {
	shards []map[string]*entry // a power of two of them; nil for an empty index
	models int
}

func (x *index) shard(model string) uint64 {
	if len(x.shards) == 1 {
		return 0
	}
	return maphash.String(shardSeed, model) & uint64(len(x.shards)-1)
}

// get returns nil for a model that nobody offers.
func (x *index) get(model string) *entry {
	if len(x.shards) == 0 {
		return nil
	}
	return x.shards[x.shard(model)][model]
}

// with returns x with entries; a nil one takes its model out.
func (x *index) with(entries map[string]*entry) index {
	next := index{shards: x.shards, models: x.models}
	for model, e := range entries {
		was, is := x.get(model) != nil, e != nil
		if is && !was {
			next.models++
		} else if was && !is {
			next.models--
		}
	}
	if n := 1 << bits.Len(uint(next.models/shardModels)); n > 2*len(x.shards) || 4*n < len(x.shards) {
		next.shards = make([]map[string]*entry, n) // it has grown, or shrunk, out of its size
		for _, shard := range x.shards {
			next.put(shard, nil)
		}
		next.put(entries, nil)
		return next
	}
	next.shards = append([]map[string]*entry(nil), x.shards...)
	next.put(entries, x.shards)
	return next
}

// put sets entries in the shards of x. A shard that is still that of shared is
// copied first.
func (x *index) put(entries map[string]*entry, shared []map[string]*entry) {
	own := map[uint64]bool{}
	for model, e := range entries {
		i := x.shard(model)
		if shared != nil && !own[i] {
			x.shards[i], own[i] = maps.Clone(shared[i]), true
		}
		if e == nil {
			delete(x.shards[i], model)
			continue
		}
		if x.shards[i] == nil {
			x.shards[i] = map[string]*entry{}
		}
		x.shards[i][model] = e
	}
}
