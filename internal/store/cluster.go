package store

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// reloader is a hook that has a Cluster client ask anew who owns what when a
// server does not answer: by itself it does so only when a server says that it
// is the wrong one, and a dead one does not.
type reloader struct{ client *redis.ClusterClient }

// DialHook leaves dials alone.
func (reloader) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook looks at the outcome of a command.
func (r reloader) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return r.judge(ctx, next(ctx, cmd)) }
}

// ProcessPipelineHook looks at the outcome of a pipeline.
func (r reloader) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return r.judge(ctx, next(ctx, cmds)) }
}

// judge returns err and, if it is none of Redis's own, starts a reload. Many at
// a time are one.
func (r reloader) judge(ctx context.Context, err error) error {
	if err != nil && !errors.As(err, new(redis.Error)) && !errors.Is(err, context.Canceled) || isDown(err) {
		r.client.ReloadState(ctx)
	}
	return err
}

// isDown reports whether err is of a Cluster that is being put together again.
func isDown(err error) bool { return err != nil && redis.HasErrorPrefix(err, "CLUSTERDOWN") }

// suspect says that the subscription's connection has failed, or seems to.
func (c *Clients) suspect(ctx context.Context) {
	if cluster, ok := c.Bell.(*redis.ClusterClient); ok {
		cluster.ReloadState(ctx)
	}
}
