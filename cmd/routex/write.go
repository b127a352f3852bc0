package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// warmed is what a warm answers; the stats begin with it.
type warmed struct {
	TotalWarms       int64                 `json:"totalWarms"`
	LastWarmTime     int64                 `json:"lastWarmTime"`
	LastWarmDuration int64                 `json:"lastWarmDuration"`
	ItemsCached      map[snapshot.Kind]int `json:"itemsCached"`
}

// rows lists what is cached.
func (w warmed) rows() [][]string {
	var out [][]string
	for _, k := range snapshot.Kinds {
		out = append(out, []string{string(k), number(w.ItemsCached[k])})
	}
	return out
}

func (p *program) printWarmed(w warmed) {
	p.say("Warmed in %d ms.", w.LastWarmDuration)
	p.table([]string{"KIND", "CACHED"}, w.rows())
}

// warmBody is the body of a warm.
type warmBody struct {
	Items  map[snapshot.Kind]bool `json:"items,omitempty"`
	Force  bool                   `json:"force,omitempty"`
	Reason string                 `json:"reason,omitempty"`
}

func (p *program) warmCommand() *cobra.Command {
	var body warmBody
	cmd := &cobra.Command{
		Use:   "warm [KIND…]",
		Short: "Load from the source, check, and publish what changed",
		Long:  "Load from the source, check, and publish what changed.\nKIND is one of " + snapshot.KindList() + "; without one, those the config warms ahead.",
	}
	c := p.changes(cmd)
	cmd.Flags().BoolVar(&body.Force, "force", false, "pass the guards against shrinking, and accept a source that was replaced or restored; needs --reason")
	cmd.Flags().StringVar(&body.Reason, "reason", "", "why, for the record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kinds, err := kindsOf(args)
		if err != nil {
			return err
		}
		if body.Force && strings.TrimSpace(body.Reason) == "" {
			return misuse("--force needs a --reason")
		}
		if len(kinds) > 0 {
			body.Items = map[snapshot.Kind]bool{}
			for _, k := range snapshot.Kinds {
				body.Items[k] = slices.Contains(kinds, k)
			}
		}
		return change(cmd.Context(), c, http.MethodPost, "/api/cache/warm", body, p.printWarmed)
	}
	return cmd
}

// invalidateBody is the body of an invalidation.
type invalidateBody struct {
	Type   snapshot.Kind `json:"type,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

func (p *program) invalidateCommand() *cobra.Command {
	var body invalidateBody
	var warm bool
	cmd := &cobra.Command{
		Use:   "invalidate [KIND]",
		Short: "Mark a kind, or all, as having no current content",
		Long:  "Mark a kind, or all, as having no current content; replicas reload at once.\nKIND is one of " + snapshot.KindList() + ".",
	}
	c := p.changes(cmd)
	cmd.Flags().BoolVar(&warm, "warm", false, "warm again in the same call")
	cmd.Flags().StringVar(&body.Reason, "reason", "", "why, for the record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kinds, err := kindsOf(args)
		switch {
		case err != nil:
			return err
		case len(kinds) > 1:
			return misuse("routex invalidate takes one kind, or none for all")
		case len(kinds) == 1:
			body.Type = kinds[0]
		}
		path := "/api/cache/invalidate"
		if warm {
			path = "/api/cache/invalidate-and-warm"
		}
		return change(cmd.Context(), c, http.MethodPost, path, body, p.printWarmed)
	}
	return cmd
}

func (p *program) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show how the fleet warms, or change it",
		Args:  unknownCommand,
	}
	c := p.reads(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return show(cmd.Context(), c, "/api/cache/config", nil, p.printConfig)
	}
	cmd.AddCommand(p.configSetCommand())
	return cmd
}

func (p *program) configSetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "set KEY=VALUE…",
		Short:   "Change how the fleet warms; what is not named stays as it is",
		Example: "  routex config set backgroundRefresh.intervalMs=120000 warmItems.analytics=false",
	}
	c := p.changes(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		patch, err := configPatch(args)
		if err != nil {
			return err
		}
		return change(cmd.Context(), c, http.MethodPut, "/api/cache/config", patch, p.printConfig)
	}
	return cmd
}

// configRows lists the config as KEY and VALUE, in the order of the reference.
func configRows(c snapshot.CacheConfig) [][]string {
	return [][]string{
		{"enabled", boolean(c.Enabled)},
		{"warmOnStartup", boolean(c.WarmOnStartup)},
		{"warmItems.channels", boolean(c.WarmItems.Channels)},
		{"warmItems.models", boolean(c.WarmItems.Models)},
		{"warmItems.routingRules", boolean(c.WarmItems.RoutingRules)},
		{"warmItems.analytics", boolean(c.WarmItems.Analytics)},
		{"backgroundRefresh.enabled", boolean(c.BackgroundRefresh.Enabled)},
		{"backgroundRefresh.intervalMs", number(c.BackgroundRefresh.IntervalMs)},
		{"smartInvalidation.enabled", boolean(c.SmartInvalidation.Enabled)},
		{"smartInvalidation.autoInvalidateOnUpdate", boolean(c.SmartInvalidation.AutoInvalidateOnUpdate)},
	}
}

func (p *program) printConfig(c snapshot.CacheConfig) {
	p.table([]string{"KEY", "VALUE"}, configRows(c))
}

// configPatch makes the body that changes only what args name. A value has to
// be what the key's current kind of value is: true, false or a number.
func configPatch(args []string) (map[string]any, error) {
	if len(args) == 0 {
		return nil, misuse("routex config set needs KEY=VALUE, such as backgroundRefresh.intervalMs=120000")
	}
	known := configRows(snapshot.DefaultCacheConfig())
	patch := map[string]any{}
	for _, arg := range args {
		key, text, ok := strings.Cut(arg, "=")
		i := slices.IndexFunc(known, func(r []string) bool { return r[0] == key })
		if !ok || i < 0 {
			return nil, misuse("%q is not KEY=VALUE of the config: want one of %s", arg, strings.Join(keysOf(known), ", "))
		}
		var value any
		err := json.Unmarshal([]byte(text), &value)
		_, isBool := value.(bool)
		if isNumber := known[i][1] != "true" && known[i][1] != "false"; err != nil || isBool == isNumber {
			return nil, misuse("%s is %q: want a value such as %s", key, text, known[i][1])
		}
		group, field, nested := strings.Cut(key, ".")
		if !nested {
			patch[key] = json.RawMessage(text)
			continue
		}
		within, _ := patch[group].(map[string]any)
		if within == nil {
			within = map[string]any{}
			patch[group] = within
		}
		within[field] = json.RawMessage(text)
	}
	return patch, nil
}

func keysOf(rows [][]string) []string {
	keys := make([]string, len(rows))
	for i, r := range rows {
		keys[i] = r[0]
	}
	return keys
}
