package snapshot

import (
	"fmt"
	"strconv"
	"strings"
)

// invalidMark stands where a tag's digest would: the version is taken, and no
// content belongs to it.
const invalidMark = "invalid"

// Tag names one published state of one kind.
//
//	"42-9f3ac1d2"  version 42, whose content has the digest 9f3ac1d2…
//	"43-invalid"   version 43 says that nothing is current until the next one
//	""             nothing was ever published, or Redis has lost it
//
// Equality of tags is the only test of "the same content".
type Tag string

// NewTag returns the tag of version with that content.
func NewTag(version uint64, d Digest) Tag {
	return Tag(strconv.FormatUint(version, 10) + "-" + d.String()[:8])
}

// InvalidTag returns the tag that marks version as having no content.
func InvalidTag(version uint64) Tag {
	return Tag(strconv.FormatUint(version, 10) + "-" + invalidMark)
}

// ParseTag checks the form of s. The empty string is a valid tag: unknown. The
// script that publishes has the same rule, or the two would not agree on what
// stands in a head that somebody has edited.
func ParseTag(s string) (Tag, error) {
	if s == "" {
		return "", nil
	}
	number, rest, ok := strings.Cut(s, "-")
	_, err := strconv.ParseUint(number, 10, 53)
	digest := len(rest) == 8 && strings.Trim(rest, "0123456789abcdef") == ""
	if !ok || err != nil || number[0] == '0' || (rest != invalidMark && !digest) {
		return "", fmt.Errorf("tag %q, want VERSION-DIGEST: %w", s, ErrInvalid)
	}
	return Tag(s), nil
}

// Version is the number in front of the dash, and 0 for the empty tag.
func (t Tag) Version() uint64 {
	number, _, _ := strings.Cut(string(t), "-")
	v, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// Invalidated reports whether the tag says that nothing is current.
func (t Tag) Invalidated() bool { return strings.HasSuffix(string(t), "-"+invalidMark) }

// HasContent reports whether the tag names content that can be read.
func (t Tag) HasContent() bool { return t != "" && !t.Invalidated() }

// Head says which tag of each kind is current in Redis.
type Head struct {
	Incarnation string       // random id of this data set; "" when there is no head
	Tags        map[Kind]Tag // a missing kind was never published
	Config      int64        // version of the fleet's config mirrored there; 0 for none
}

// Known reports whether Redis holds a head at all. A head that is gone means
// "unknown", never "empty".
func (h Head) Known() bool { return h.Incarnation != "" }
