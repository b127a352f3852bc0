package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/settings"
)

// maxDemoReplicas is as many as one small machine runs well.
const maxDemoReplicas = 32

func (p *program) demoCommand() *cobra.Command {
	var o app.DemoOptions
	var verbose bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a fleet with sample data on this machine, with nothing to install",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch last := o.Port + o.Replicas - 1; {
			case o.Replicas < 1 || o.Replicas > maxDemoReplicas:
				return misuse("--replicas is %d: want 1 to %d", o.Replicas, maxDemoReplicas)
			case o.Port < 1 || last > 65535:
				return misuse("--port is %d: want 1 to %d for %d replicas", o.Port, 65536-o.Replicas, o.Replicas)
			}
			return p.demo(cmd.Context(), o, verbose)
		},
	}
	cmd.Flags().IntVar(&o.Replicas, "replicas", 3, "how many replicas")
	cmd.Flags().IntVar(&o.Port, "port", 8080, "port of the first replica; the others follow")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "folder for the database, kept afterwards (default: a temporary one)")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log everything, not only warnings")
	return cmd
}

// demo runs a fleet until a signal stops it.
func (p *program) demo(ctx context.Context, o app.DemoOptions, verbose bool) (err error) {
	s := &settings.Settings{LogFormat: settings.LogText, LogLevel: slog.LevelWarn}
	if verbose {
		s.LogLevel = slog.LevelInfo
	}
	log, sink, err := settings.NewLogger(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	o.Log, o.Build, o.Out = log, build(), p.stdout
	return stopped(ctx, app.Demo(ctx, o))
}
