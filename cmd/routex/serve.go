package main

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func (p *program) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one gateway replica",
		Long: "Run one gateway replica.\n\n" +
			"A setting comes from its flag, else from its ROUTEX_ variable, else from the file\n" +
			"that --config names, else it has its default. A secret may also come from the file\n" +
			"that its ROUTEX_…_FILE variable names; prefer that to a flag, which others see.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context(), cmd.Flags()) },
	}
	cmd.Flags().SortFlags = false
	settings.AddFlags(cmd.Flags())
	return cmd
}

// hide keeps a flag out of the help.
func hide(f *pflag.Flag) { f.Hidden = true }

// serve runs a replica until a signal or an error stops it.
func (p *program) serve(ctx context.Context, flags *pflag.FlagSet) (err error) {
	s, err := settings.Load(flags, p.environ)
	if err != nil {
		return err
	}
	log, sink, err := settings.NewLogger(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	slog.SetDefault(log)
	stdlog.SetOutput(io.Discard) // net/http quotes there what an upstream says unasked
	if !slices.ContainsFunc(p.environ, func(v string) bool { return strings.HasPrefix(v, "GOGC=") }) {
		defer app.SpaceCollections(app.CollectApart)()
	}
	a, err := app.New(ctx, s, app.Options{Log: log, Build: build()})
	if errors.Is(err, snapshot.ErrInvalid) { // a setting that only its user could judge
		return &coded{exitMisused, err}
	}
	if err != nil {
		return stopped(ctx, err)
	}
	return stopped(ctx, a.Run(ctx))
}

// stopped drops an error that says no more than that a signal came.
func stopped(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) {
		return nil
	}
	return err
}
