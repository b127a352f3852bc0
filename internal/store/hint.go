package store

import (
	"encoding/base64"
	"fmt"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	// hintLabel is what hints are sealed under. Who may only publish on the channel
	// cannot make one, and who may only listen learns nothing from it.
	hintLabel = "bell.hint"
	// longestHint bounds what is sealed, so that the message stays below
	// longestEvent.
	longestHint = 5 << 10
)

var hintText = base64.RawURLEncoding // which JSON does not escape

// hint returns the sealed hint of a publication, and the tags that the kinds
// which are not part of it must have for it to be true. It is "" where a reader
// could not put the changes onto his copy, or where they are too long.
func (s *Store) hint(p snapshot.Publication, kinds []requestKind, result *snapshot.Published) (sealed string, others tags) {
	others = tags{}
	if s.o.Keyring == nil || p.Tags == nil || p.Incarnation == "" {
		return "", others
	}
	h := snapshot.Hint{Incarnation: p.Incarnation, Before: make(tags, len(snapshot.Kinds))}
	for _, kind := range snapshot.Kinds {
		h.Before[kind], others[kind] = p.Tags[kind], p.Tags[kind]
	}
	size := 0
	for i, c := range p.Changes {
		delete(others, c.Kind)
		h.Before[c.Kind] = c.Expect
		if kinds[i].Mode == touch {
			continue
		}
		// Onto another tag than the head's only a pull leads: there was an invalidation.
		if size += c.Delta.Bytes(); kinds[i].Mode != delta || c.Expect != c.Base.Tag || size > 2*longestHint {
			return "", others
		}
		h.Steps = append(h.Steps, snapshot.Step{Kind: c.Kind, Meta: result.Snapshots[c.Kind].Meta, Delta: c.Delta})
	}
	plain, err := h.Encode()
	if err != nil || len(h.Steps) == 0 || len(plain) > longestHint {
		return "", others
	}
	return hintText.EncodeToString(s.o.Keyring.SealBytes(hintLabel, plain)), others
}

// Hint opens the hint of a bell.
//
//	errors  snapshot.ErrInvalid  it is none, or nobody who has a key of this fleet made it
//	cost    a few microseconds
func (s *Store) Hint(sealed string) (*snapshot.Hint, error) {
	if s.o.Keyring == nil {
		return nil, fmt.Errorf("hints are not used: %w", snapshot.ErrInvalid)
	}
	box, err := hintText.DecodeString(sealed)
	if err != nil {
		return nil, fmt.Errorf("hint: %w: %w", snapshot.ErrInvalid, err)
	}
	plain, err := s.o.Keyring.OpenBytes(hintLabel, box)
	if err != nil {
		return nil, err
	}
	return snapshot.DecodeHint(plain)
}
