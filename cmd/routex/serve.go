package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/settings"
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
		RunE: p.serve,
	}
	cmd.Flags().SortFlags = false
	settings.AddFlags(cmd.Flags())
	return cmd
}

// hide keeps a flag out of the help.
func hide(f *pflag.Flag) { f.Hidden = true }

// serve runs a replica until a signal or an error stops it.
func (p *program) serve(cmd *cobra.Command, _ []string) (err error) {
	s, err := settings.Load(cmd.Flags(), p.environ)
	if err != nil {
		return err
	}
	log, sink, err := settings.NewLogger(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	slog.SetDefault(log)
	for _, w := range s.Warnings {
		log.Warn("setting is probably not meant", "why", w)
	}
	a, err := app.New(cmd.Context(), s, app.Options{Log: log, Build: build()})
	if err != nil {
		return stopped(cmd, err)
	}
	return stopped(cmd, a.Run(cmd.Context()))
}

// stopped drops an error that says no more than that a signal came.
func stopped(cmd *cobra.Command, err error) error {
	if ended := cmd.Context().Err(); ended != nil && errors.Is(err, ended) {
		return nil
	}
	return err
}
