package testkit

import (
	"maps"
	"reflect"
	"slices"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Touched names the rows in which two catalogs differ.
func Touched(was, now *snapshot.Catalog) snapshot.Changes {
	return snapshot.Changes{
		Channels: differing(was.Channels, now.Channels, func(c snapshot.Channel) string { return c.ID }),
		Rules:    differing(was.Rules, now.Rules, func(r snapshot.Rule) string { return r.ID }),
		Prices:   differing(was.Prices, now.Prices, func(p snapshot.Price) string { return p.Model }),
	}
}

func differing[T any](was, now []T, id func(T) string) []string {
	a, b := map[string]T{}, map[string]T{}
	for _, row := range was {
		a[id(row)] = row
	}
	for _, row := range now {
		b[id(row)] = row
	}
	ids := map[string]bool{}
	for key, row := range a {
		if other, ok := b[key]; !ok || !reflect.DeepEqual(row, other) {
			ids[key] = true
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			ids[key] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// Part is what a load of changes returns of the whole catalog c.
func Part(c *snapshot.Catalog, since snapshot.Changes) *snapshot.Catalog {
	part := *c
	part.Since = &since
	part.Channels = named(c.Channels, since.Channels, func(c snapshot.Channel) string { return c.ID })
	part.Rules = named(c.Rules, since.Rules, func(r snapshot.Rule) string { return r.ID })
	part.Prices = named(c.Prices, since.Prices, func(p snapshot.Price) string { return p.Model })
	if since.Empty() {
		part.Approved = nil
	}
	return &part
}

func named[T any](rows []T, ids []string, id func(T) string) (out []T) {
	for _, row := range rows {
		if slices.Contains(ids, id(row)) {
			out = append(out, row)
		}
	}
	return out
}
