package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Headers that tell of a copy.
const (
	headerStale = "X-Routex-Stale" // "true" on an answer from a copy known to be out of date
	headerETag  = "ETag"
)

// setETag lets the answer be kept and asked for again by its tag. Nothing is
// set for content that has none.
func setETag(w http.ResponseWriter, tag string) {
	if tag == "" {
		return
	}
	w.Header().Set(headerETag, strconv.Quote(tag))
	w.Header().Set("Cache-Control", "private, no-cache")
}

// notModified answers 304 and returns true if the caller already has tag.
func notModified(w http.ResponseWriter, r *http.Request, tag string) bool {
	given := r.Header.Values("If-None-Match")
	if tag == "" || len(given) == 0 {
		return false
	}
	list, err := parseETags("If-None-Match", given)
	if err != nil || !list.has(tag, true) { // a condition nobody understands is none
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// etags is the value of If-Match or If-None-Match.
type etags struct {
	any    bool
	strong []string
	weak   []string
}

// has reports whether the list names tag. Weak entries count only when weak
// says so: If-Match needs strong ones.
func (e etags) has(tag string, weak bool) bool {
	return e.any || slices.Contains(e.strong, tag) || weak && slices.Contains(e.weak, tag)
}

// parseETags reads `*`, or a comma-separated list of "tag" and W/"tag".
func parseETags(header string, values []string) (etags, error) {
	var list etags
	rest := strings.Trim(strings.Join(values, ","), ", \t")
	if rest == "*" {
		return etags{any: true}, nil
	}
	for rest != "" {
		tail, weak := strings.CutPrefix(rest, "W/")
		tail, quoted := strings.CutPrefix(tail, `"`)
		tag, tail, closed := strings.Cut(tail, `"`)
		tail = strings.TrimLeft(tail, " \t")
		if !quoted || !closed || (tail != "" && tail[0] != ',') {
			return etags{}, fail(codeInvalid, `%s is no list of quoted tags such as "3", and not *`, header)
		}
		if weak {
			list.weak = append(list.weak, tag)
		} else {
			list.strong = append(list.strong, tag)
		}
		rest = strings.TrimLeft(tail, ", \t")
	}
	return list, nil
}
