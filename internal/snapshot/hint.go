package snapshot

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Hint is a small publication in whole, as its bell carries it: who stands
// exactly where it began need not read it.
type Hint struct {
	Incarnation string       // of the data set it went into
	Before      map[Kind]Tag // the whole head before it
	Steps       []Step       // what it moved, each kind once
}

// Step is what a publication did to one kind.
type Step struct {
	Kind  Kind
	Meta  Meta  // of the new version; without times, which Redis alone knows
	Delta Delta // what it set and removed; without Prev
}

// After is the whole head after the publication.
func (h *Hint) After() map[Kind]Tag {
	after := maps.Clone(h.Before)
	for i := range h.Steps {
		after[h.Steps[i].Kind] = h.Steps[i].Meta.Tag()
	}
	return after
}

// BellReport is the event that asks every replica to say again what it serves.
const BellReport = "report"

// Bell is what is heard on the channel of events. All of it means "look".
type Bell struct {
	Event string // its name; "" for a message that is none of ours, or has a hint
	Hint  string // a sealed Hint; "" for none
	// Hinted says that the publication which rang this bell was hinted at, by this
	// bell or by the one before it.
	Hinted bool
}

// hintForm begins an encoded hint. A reader has no use for another form.
const hintForm = 1

// Encode returns the hint as bytes: numbers are uvarints, a text is its length
// and itself, a list is its length and its elements.
func (h *Hint) Encode() ([]byte, error) {
	out := binary.AppendUvarint(nil, hintForm)
	out = appendText(out, h.Incarnation)
	out = binary.AppendUvarint(out, uint64(len(h.Before)))
	for kind, tag := range h.Before {
		out = appendText(appendText(out, string(kind)), string(tag))
	}
	out = binary.AppendUvarint(out, uint64(len(h.Steps)))
	for i := range h.Steps {
		var err error
		if out, err = h.Steps[i].append(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Step) append(out []byte) ([]byte, error) {
	m, faults := &s.Meta, ""
	if len(m.Quarantined) > 0 {
		var err error
		if faults, err = Encode(m.Quarantined); err != nil {
			return nil, fmt.Errorf("encode hint of %s: %w", s.Kind, err)
		}
	}
	for _, text := range []string{string(s.Kind), m.Order.Lineage, m.Attempt, m.Reason, m.WarmedBy, faults} {
		out = appendText(out, text)
	}
	for _, n := range []uint64{
		m.Version, uint64(m.Digest), uint64(m.Count), uint64(m.Bytes), uint64(m.Order.Revision), uint64(m.Schema),
		uint64(m.Duration), uint64(len(s.Delta.Set)),
	} {
		out = binary.AppendUvarint(out, n)
	}
	for id, body := range s.Delta.Set {
		out = appendText(appendText(out, id), body)
	}
	out = binary.AppendUvarint(out, uint64(len(s.Delta.Removed)))
	for _, id := range s.Delta.Removed {
		out = appendText(out, id)
	}
	return out, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// hintReader takes an encoded hint apart.
type hintReader struct {
	rest string
	off  bool // it is none, and what was read of it is worth nothing
}

func (r *hintReader) num() uint64 {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		if len(r.rest) == 0 {
			break
		}
		b := r.rest[0]
		r.rest = r.rest[1:]
		if n |= uint64(b&0x7f) << shift; b < 0x80 {
			return n
		}
	}
	r.off = true
	return 0
}

func (r *hintReader) text() string {
	n := r.num()
	if n > uint64(len(r.rest)) {
		r.off = true
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// each runs one for each element of a list, none of which is empty.
func (r *hintReader) each(one func()) {
	for n := r.num(); n > 0 && !r.off; n-- {
		one()
	}
}

// DecodeHint reads what Encode wrote. It returns ErrInvalid for anything else.
func DecodeHint(plain []byte) (*Hint, error) {
	r := &hintReader{rest: string(plain)}
	if form := r.num(); r.off || form != hintForm {
		return nil, fmt.Errorf("a hint of form %d, want %d: %w", form, hintForm, ErrInvalid)
	}
	h := &Hint{Incarnation: r.text(), Before: make(map[Kind]Tag, len(Kinds))}
	r.each(func() {
		kind := Kind(r.text())
		h.Before[kind] = Tag(r.text())
	})
	r.each(func() { h.Steps = append(h.Steps, r.step()) })
	if r.off || r.rest != "" {
		return nil, fmt.Errorf("a hint that is cut short or too long: %w", ErrInvalid)
	}
	return h, nil
}

func (r *hintReader) step() (s Step) {
	m := &s.Meta
	s.Kind, m.Order.Lineage, m.Attempt, m.Reason, m.WarmedBy = Kind(r.text()), r.text(), r.text(), r.text(), r.text()
	if faults := r.text(); faults != "" && json.Unmarshal([]byte(faults), &m.Quarantined) != nil {
		r.off = true
	}
	m.Version, m.Digest, m.Count, m.Bytes = r.num(), Digest(r.num()), int(r.num()), int(r.num())
	m.Order.Revision, m.Schema, m.Duration = int64(r.num()), int(r.num()), time.Duration(r.num())
	s.Delta.Set = map[string]string{}
	r.each(func() {
		id := r.text()
		s.Delta.Set[id] = strings.Clone(r.text()) // or each record would keep all of the hint in memory
	})
	r.each(func() { s.Delta.Removed = append(s.Delta.Removed, r.text()) })
	if s.Kind.Index() < 0 {
		r.off = true
	}
	return s
}
