package ops_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// metrics are those of the README's table, with their labels. A histogram's
// series end in _bucket, _sum and _count.
var metrics = map[string]metric{
	"routex_cache_warm_total":             {},
	"routex_cache_warm_failed_total":      {},
	"routex_cache_warm_duration_seconds":  {histogram: true},
	"routex_cache_invalidation_total":     {labels: []string{"type"}},
	"routex_warmer_refusals_total":        {labels: []string{"kind", "guard"}},
	"routex_warmer_publishes_total":       {labels: []string{"kind"}},
	"routex_warmer_changed_records_total": {labels: []string{"kind"}},
	"routex_warmer_fenced_writes_total":   {labels: []string{"reason"}},
	"routex_warmer_repairs_total":         {labels: []string{"kind"}},
	"routex_replica_version":              {labels: []string{"kind"}},
	"routex_replica_records":              {labels: []string{"kind"}},
	"routex_replica_age_seconds":          {labels: []string{"kind"}},
	"routex_replica_unverified_seconds":   {},
	"routex_replica_bells_total":          {},
	"routex_replica_gaps_total":           {},
	"routex_replica_hints_total":          {labels: []string{"result"}},
	"routex_replica_pulls_total":          {labels: []string{"cause", "result"}},
	"routex_replica_stale_answers_total":  {labels: []string{"kind"}},
	"routex_replica_reads_total":          {labels: []string{"result"}},
	"routex_audit_records_total":          {labels: []string{"result"}},
	"routex_audit_mismatches_total":       {labels: []string{"kind", "party"}},
	"routex_lease_leader":                 {},
	"routex_lease_changes_total":          {labels: []string{"result"}},
	"routex_source_loads_total":           {labels: []string{"result"}},
	"routex_source_triggers_mended_total": {},
	"routex_source_load_duration_seconds": {histogram: true},
	"routex_store_bytes_total":            {labels: []string{"direction"}},
	"routex_store_commands_total":         {},
	"routex_store_errors_total":           {labels: []string{"class"}},
	"routex_convergence_seconds":          {histogram: true},
	"routex_http_requests_total":          {labels: []string{"route", "code"}},
	"routex_build_info":                   {labels: []string{"version", "commit", "go"}},

	"routex_proxy_requests_total":              {labels: []string{"channel", "outcome"}},
	"routex_proxy_failed_attempts_total":       {labels: []string{"cause"}},
	"routex_proxy_first_byte_seconds":          {histogram: true},
	"routex_proxy_duration_seconds":            {histogram: true},
	"routex_proxy_in_flight_requests":          {},
	"routex_balancer_picks_total":              {labels: []string{"strategy"}},
	"routex_balancer_refused_total":            {},
	"routex_balancer_throttled_total":          {},
	"routex_balancer_breaker_changes_total":    {labels: []string{"state"}},
	"routex_balancer_channels":                 {labels: []string{"state"}},
	"routex_balancer_resting_channels":         {},
	"routex_balancer_in_flight":                {labels: []string{"channel"}},
	"routex_requestlog_entries_written_total":  {},
	"routex_requestlog_entries_dropped_total":  {labels: []string{"reason"}},
	"routex_requestlog_entries_pruned_total":   {},
	"routex_requestlog_batches_failed_total":   {},
	"routex_requestlog_batch_duration_seconds": {histogram: true},
	"routex_requestlog_buffered_entries":       {},
}

type metric struct {
	labels    []string
	histogram bool
}

// fromPrometheus are labels that every series gets when it is scraped.
var fromPrometheus = []string{"job", "instance", "le"}

var (
	metricName = regexp.MustCompile(`\broutex_[a-z0-9_]+`)
	suffix     = regexp.MustCompile(`_(bucket|sum|count)$`)

	// Labels are asked for in braces after a name, and in by (…).
	braces  = regexp.MustCompile(`\{([^}]*)\}`)
	matcher = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	by      = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// unknownMetrics lists what expr asks for that the program does not have.
func unknownMetrics(expr string) []string {
	var faults []string
	for _, name := range metricName.FindAllString(expr, -1) {
		m, ok := metrics[name]
		base := suffix.ReplaceAllString(name, "")
		switch {
		case ok && m.histogram:
			faults = append(faults, name+" is a histogram: ask for its _bucket, _sum or _count")
		case !ok && !metrics[base].histogram:
			faults = append(faults, name+" is no metric of the program")
		}
	}
	return faults
}

// unknownLabels lists the labels that expr asks for and that none of its
// metrics has.
func unknownLabels(expr string) []string {
	known := slices.Clone(fromPrometheus)
	for _, name := range metricName.FindAllString(expr, -1) {
		known = append(known, metrics[suffix.ReplaceAllString(name, "")].labels...)
	}
	var asked []string
	for _, m := range braces.FindAllStringSubmatch(expr, -1) {
		for _, label := range matcher.FindAllStringSubmatch(m[1], -1) {
			asked = append(asked, label[1])
		}
	}
	for _, m := range by.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			asked = append(asked, strings.TrimSpace(label))
		}
	}
	var faults []string
	for _, label := range asked {
		if !slices.Contains(known, label) {
			faults = append(faults, fmt.Sprintf("label %q is on none of its metrics", label))
		}
	}
	return faults
}

// The README's own test compares its table with what a replica exports.
func TestMetricsAreThoseOfTheREADME(t *testing.T) {
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(routex_\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(read(t, "README.md"), -1) {
		name, kind := row[1], row[2]
		documented[name] = true
		if m, ok := metrics[name]; !ok || m.histogram != (kind == "histogram") {
			t.Errorf("the README has the %s %s, which is not so in the list here", kind, name)
		}
	}
	for name := range metrics {
		if !documented[name] {
			t.Errorf("%s is not in the README", name)
		}
	}
}

func TestUnknownMetricsAndLabelsAreFound(t *testing.T) {
	for _, tt := range []struct {
		name, expr      string
		metrics, labels int
	}{
		{"what exists", `sum by (job, kind) (rate(routex_replica_version{kind="channels"}[5m]))`, 0, 0},
		{"a histogram's buckets", `histogram_quantile(0.9, sum by (le) (rate(routex_convergence_seconds_bucket[5m])))`, 0, 0},
		{"a misspelt metric", `routex_replica_versions`, 1, 0},
		{"buckets of what is no histogram", `routex_replica_version_bucket`, 1, 0},
		{"a histogram asked for as it is", `routex_cache_warm_duration_seconds > 1`, 1, 0},
		{"a label in braces", `routex_replica_version{typ="channels"}`, 0, 1},
		{"a label to group by", `sum by (guard) (routex_replica_version)`, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := unknownMetrics(tt.expr); len(got) != tt.metrics {
				t.Errorf("metrics: %q, want %d", got, tt.metrics)
			}
			if got := unknownLabels(tt.expr); len(got) != tt.labels {
				t.Errorf("labels: %q, want %d", got, tt.labels)
			}
		})
	}
}
