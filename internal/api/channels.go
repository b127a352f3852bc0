package api

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Bounds that the checks of package snapshot leave open, because a row written
// by hand may pass them. The number fits every database's INTEGER.
const (
	maxKeyBytes = 4096
	maxNumber   = 1_000_000
)

// hidden stands for the middle of a masked key, and for a key that cannot be
// opened. No key contains it.
const hidden = "…"

// channelView is a channel as the API shows it: the fields of snapshot.Channel
// with the key masked. A type of its own, because a new field is shown only
// after somebody thought about it.
type channelView struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Type      string   `json:"type"`
	BaseURL   string   `json:"baseUrl"`
	APIKey    string   `json:"apiKey"` // masked
	Models    []string `json:"models"`
	Priority  int      `json:"priority"`
	Weight    int      `json:"weight"`
	Status    string   `json:"status"`
	CreatedAt int64    `json:"createdAt"` // Unix ms
	UpdatedAt int64    `json:"updatedAt"` // Unix ms
}

type channelList struct {
	Channels []channelView `json:"channels"`
}

// deleted is what the deletion of a channel or rule answers.
type deleted struct {
	ID string `json:"id"`
}

// mask shows the key of a channel as people recognise it.
func (a *API) mask(c *snapshot.Channel) string {
	if c.APIKey == "" {
		return ""
	}
	if a.keys == nil {
		return hidden
	}
	key, err := a.keys.Open(snapshot.Channels, c.ID, c.APIKey)
	if err != nil { // sealed with a key that is not at hand: still nothing to show
		return hidden
	}
	return key.Mask()
}

func (a *API) show(c snapshot.Channel) channelView {
	return channelView{
		ID: c.ID, Name: c.Name, Type: c.Type, BaseURL: c.BaseURL, APIKey: a.mask(&c),
		Models: append([]string{}, c.Models...), Priority: c.Priority, Weight: c.Weight, Status: c.Status,
		CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
	}
}

// channelBody is the body of a POST or PUT: every field may be left out, so
// that a PUT changes only what it gives. What GET showed may be sent back.
type channelBody struct {
	ID        *string   `json:"id"`
	Name      *string   `json:"name"`
	Type      *string   `json:"type"`
	BaseURL   *string   `json:"baseUrl"`
	APIKey    *string   `json:"apiKey"`
	Models    *[]string `json:"models"`
	Priority  *int      `json:"priority"`
	Weight    *int      `json:"weight"`
	Status    *string   `json:"status"`
	CreatedAt *int64    `json:"createdAt"` // the source's own; ignored
	UpdatedAt *int64    `json:"updatedAt"`
}

// apply merges the body into c, whose key is shown as mask, and returns the new
// key if there is one.
func (b *channelBody) apply(c *snapshot.Channel, mask string) (*snapshot.Secret, error) {
	setText(&c.Name, b.Name)
	setText(&c.Type, b.Type)
	setText(&c.BaseURL, b.BaseURL)
	setText(&c.Status, b.Status)
	set(&c.Priority, b.Priority)
	set(&c.Weight, b.Weight)
	if b.Models != nil {
		c.Models = make([]string, len(*b.Models))
		for i, m := range *b.Models {
			c.Models[i] = strings.TrimSpace(m)
		}
	}
	key, err := newKey(b.APIKey, mask)
	if err != nil {
		return nil, err
	}
	return key, checkChannel(*c, key)
}

// newKey returns the key a body gives: none if it gives none, or the mask that
// GET showed.
func newKey(given *string, mask string) (*snapshot.Secret, error) {
	if given == nil {
		return nil, nil
	}
	key := strings.TrimSpace(*given)
	switch {
	case key != "" && key == mask:
		return nil, nil
	case strings.Contains(key, hidden):
		return nil, badField("apiKey", "is a masked key, and not the one of this channel")
	case len(key) > maxKeyBytes:
		return nil, badField("apiKey", "has %d bytes, at most %d are allowed", len(key), maxKeyBytes)
	case !printable(key): // it becomes a header of requests to the provider
		return nil, badField("apiKey", "contains characters that do not print")
	}
	secret := snapshot.NewSecret(key)
	return &secret, nil
}

// checkChannel checks c as it would be stored with key.
func checkChannel(c snapshot.Channel, key *snapshot.Secret) error {
	if key != nil { // only whether there is one matters here
		c.APIKey = snapshot.Sealed(strings.Repeat("x", min(1, len(key.Reveal()))))
	}
	if c.ID == "" { // the source makes one
		c.ID = "new"
	}
	switch {
	case !printable(c.Name):
		return badField("name", "contains characters that do not print")
	case c.Priority < -maxNumber || c.Priority > maxNumber:
		return badField("priority", "is %d, want %d to %d", c.Priority, -maxNumber, maxNumber)
	case c.Weight > maxNumber:
		return badField("weight", "is %d, want 0 to %d", c.Weight, maxNumber)
	}
	return fieldOf(c.Check())
}

// ownID is what a caller may choose as an id: nothing that needs escaping.
var ownID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

func checkOwnID(id *string) error {
	if id != nil && !ownID.MatchString(*id) {
		return badField("id", "is not 1 to 128 letters, digits, '.', '_', ':' and '-', of which the first is a letter or digit")
	}
	return nil
}

// checkSameID lets a body repeat the id of its path, and name no other.
func checkSameID(given *string, id string) error {
	if given != nil && *given != id {
		return badField("id", "is %q and cannot be changed", clip(id, 200))
	}
	return nil
}

// setText is set for text, which is trimmed.
func setText(to, from *string) {
	if from != nil {
		*to = strings.TrimSpace(*from)
	}
}

func (a *API) channels(w http.ResponseWriter, r *http.Request) error {
	all, err := a.source.Channels(r.Context())
	if err != nil {
		return err
	}
	list := channelList{Channels: make([]channelView, 0, len(all))}
	for _, c := range all {
		list.Channels = append(list.Channels, a.show(c))
	}
	return a.ok(w, r, list)
}

func (a *API) channel(w http.ResponseWriter, r *http.Request) error {
	id, err := pathParam(r, "id")
	if err != nil {
		return err
	}
	c, err := a.source.Channel(r.Context(), id)
	if err != nil {
		return err
	}
	return a.ok(w, r, a.show(c))
}

func (a *API) createChannel(w http.ResponseWriter, r *http.Request) (written, error) {
	var body channelBody
	if err := decode(r, &body); err != nil {
		return written{}, err
	}
	if err := checkOwnID(body.ID); err != nil {
		return written{}, err
	}
	c := snapshot.Channel{ID: value(body.ID), Models: []string{}, Weight: 1, Status: snapshot.StatusEnabled}
	key, err := body.apply(&c, "")
	if err != nil {
		return written{}, err
	}
	c, at, err := a.source.CreateChannel(r.Context(), c, value(key))
	if err != nil {
		return written{}, badValues(err)
	}
	w.Header().Set("Location", "/api/channels/"+url.PathEscape(c.ID))
	done := a.publish(r.Context(), at)
	done.status, done.data = http.StatusCreated, a.show(c)
	return done, nil
}

func (a *API) updateChannel(_ http.ResponseWriter, r *http.Request) (written, error) {
	id, err := pathParam(r, "id")
	if err != nil {
		return written{}, err
	}
	var body channelBody
	if err = decode(r, &body); err != nil {
		return written{}, err
	}
	if err = checkSameID(body.ID, id); err != nil {
		return written{}, err
	}
	reason, err := forcedBy(r)
	if err != nil {
		return written{}, err
	}
	c, at, err := a.source.UpdateChannel(r.Context(), id, func(c *snapshot.Channel) (*snapshot.Secret, error) {
		return body.apply(c, a.mask(c))
	}, reason)
	if err != nil {
		return written{}, badValues(err)
	}
	done := a.publish(r.Context(), at)
	done.data = a.show(c)
	return done, nil
}

func (a *API) deleteChannel(_ http.ResponseWriter, r *http.Request) (written, error) {
	return a.remove(r, a.source.DeleteChannel)
}
