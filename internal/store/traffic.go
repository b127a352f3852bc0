package store

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// all are the connections, of whichever client. Clients that Dial has not made
// have none.
func (c *Clients) all() (all []*lines) {
	for _, l := range []*lines{c.content, c.command} {
		if l != nil {
			all = append(all, l)
		}
	}
	return all
}

// pinged counts a ping of the subscription.
func (c *Clients) pinged() {
	if c.content != nil {
		c.content.commands.Add(1)
	}
}

// export makes metrics of what these clients send to Redis and get.
func (c *Clients) export(reg prometheus.Registerer) {
	f := promauto.With(reg)
	counter := func(name, help string, labels prometheus.Labels, of func(*lines) *atomic.Int64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 {
			sum := int64(0)
			for _, l := range c.all() {
				sum += of(l).Load()
			}
			return float64(sum)
		})
	}
	counter("routex_store_commands_total", "Commands sent to Redis, a script as one, each command of a pipeline for itself.", nil,
		func(l *lines) *atomic.Int64 { return &l.commands })
	const help = "Bytes exchanged with Redis, by direction (read, written), without those of TLS."
	counter("routex_store_bytes_total", help, prometheus.Labels{"direction": "read"}, func(l *lines) *atomic.Int64 { return &l.read })
	counter("routex_store_bytes_total", help, prometheus.Labels{"direction": "written"}, func(l *lines) *atomic.Int64 { return &l.written })
}
