package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

type modelEntry struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// listModels answers GET /v1/models in OpenAI's form, sorted by id. When a model
// was made is not known here: created is 0.
func (p *Proxy) listModels(w http.ResponseWriter, r *http.Request) {
	models, err := p.catalog.Models(r.Context())
	if err != nil {
		unroutable(&snapshot.Ask{}, errors.New("no catalogue")).send(w, snapshot.WireOpenAI)
		return
	}
	list := struct {
		Object string       `json:"object"`
		Data   []modelEntry `json:"data"`
	}{"list", make([]modelEntry, 0, len(models))}
	for _, m := range models {
		list.Data = append(list.Data, modelEntry{ID: m.ID, Object: "model", OwnedBy: "routex"})
	}
	slices.SortFunc(list.Data, func(a, b modelEntry) int { return strings.Compare(a.ID, b.ID) })
	text, _ := json.Marshal(list) // strings and numbers: it cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(text) // net/http drops it for HEAD; whoever asked may be gone
}
