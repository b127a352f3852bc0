package snapshot

import (
	"encoding/json"
	"fmt"
	"strings"
)

// IDs is a model's list of channel ids, kept as the JSON it is written and read
// as, which is in memory anyway: a slice of strings adds 16 bytes for each to it.
// "" is the nil list.
type IDs string

// ListIDs returns the list of ids.
func ListIDs(ids ...string) IDs {
	if ids == nil {
		return ""
	}
	text, _ := Encode(ids) // strings: it cannot fail
	return IDs(text)
}

// Empty reports whether there are none.
func (l IDs) Empty() bool { return l == "" || l == "[]" }

// MarshalJSON returns the list, and null for "".
func (l IDs) MarshalJSON() ([]byte, error) {
	if l == "" {
		return []byte("null"), nil
	}
	return []byte(l), nil
}

// UnmarshalJSON reads an array of strings, or null.
func (l *IDs) UnmarshalJSON(array []byte) error {
	t := text{rest: string(array)}
	if *l = t.ids(); t.read() {
		return nil
	}
	var ids []string
	if err := json.Unmarshal(array, &ids); err != nil {
		return fmt.Errorf("channels is no list of ids: %w", err)
	}
	*l = ListIDs(ids...)
	return nil
}

// ids reads an array of strings, or null, without a look at what they say.
func (t *text) ids() IDs {
	if t.has("null") {
		return ""
	}
	all := t.rest
	t.lit("[")
	if t.has("]") {
		return "[]"
	}
	for {
		if t.str(); t.off || !t.has(",") {
			break
		}
	}
	t.lit("]")
	return IDs(strings.TrimSuffix(all, t.rest))
}
