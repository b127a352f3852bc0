package main

import (
	"fmt"

	"github.com/routex/cachewarmer/internal/observer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// verification is what GET /api/cache/verify answers.
type verification struct {
	Replica string                         `json:"replica"`
	Tags    map[snapshot.Kind]snapshot.Tag `json:"tags"`
	Kinds   map[snapshot.Kind]struct {
		Served      verifiedSide     `json:"served"`
		Redis       *verifiedSide    `json:"redis"`
		Source      *verifiedSide    `json:"source"`
		NotFollowed string           `json:"notFollowed"`
		Mismatches  []wrongRecord    `json:"mismatches"`
		Kept        []snapshot.Fault `json:"kept"`
		Events      []event          `json:"events"`
	} `json:"kinds"`
}

type verifiedSide struct {
	Tag      snapshot.Tag `json:"tag"`
	Lineage  string       `json:"lineage"`
	Revision int64        `json:"revision"`
	Digest   string       `json:"digest"`
	Count    int          `json:"count"`
	Error    string       `json:"error"`
}

func (s *verifiedSide) state() observer.State {
	return observer.State{Tag: s.Tag, Order: snapshot.Order{Lineage: s.Lineage, Revision: s.Revision}, Digest: s.Digest, Count: s.Count}
}

// wrongRecord is one record that is not what it should be.
type wrongRecord struct {
	ID      string         `json:"id"`
	Party   snapshot.Party `json:"party"`
	Against snapshot.Party `json:"against"`
	Tag     snapshot.Tag   `json:"tag,omitempty"`
	Fields  []string       `json:"fields,omitempty"`
}

type event struct {
	At   int64        `json:"at"`
	What string       `json:"what"`
	Tag  snapshot.Tag `json:"tag,omitempty"`
	Note string       `json:"note,omitempty"`
}

// states is what the replica serves. A kind that it no longer stands by, because
// it was invalidated, has the invalid tag.
func (v *verification) states() map[snapshot.Kind]observer.State {
	out := make(map[snapshot.Kind]observer.State, len(v.Kinds))
	for kind, k := range v.Kinds {
		s := k.Served.state()
		if tag := v.Tags[kind]; tag.Invalidated() && tag.Version() > s.Tag.Version() {
			s.Tag = tag
		}
		out[kind] = s
	}
	return out
}

// beyond is what Redis and the source hold; nil where they do not answer. A kind
// whose changes are not followed may be older than the source: it is not
// compared with it, and still is told why.
func (v *verification) beyond(still map[snapshot.Kind]string) (published, source map[snapshot.Kind]observer.State) {
	published, source = map[snapshot.Kind]observer.State{}, map[snapshot.Kind]observer.State{}
	for kind, k := range v.Kinds {
		if k.Redis == nil || k.Redis.Error != "" {
			return nil, nil
		}
		published[kind] = k.Redis.state()
		switch {
		case k.NotFollowed != "":
			if k.Source != nil {
				still[kind] = k.NotFollowed
			}
		case k.Source != nil && k.Source.Error == "":
			source[kind] = k.Source.state()
		}
	}
	return published, source
}

// unread says why the source was not compared, "" if it was, or was not asked for.
func (v *verification) unread() string {
	for _, kind := range snapshot.Kinds {
		if k := v.Kinds[kind]; k.Source != nil && k.Source.Error != "" {
			return k.Source.Error
		}
	}
	return ""
}

func silence(address string, v *verification, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("at %s answers %q", address, v.Replica)
}
