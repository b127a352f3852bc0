package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/routex/cachewarmer/internal/settings"
)

// The exit codes.
const (
	exitDone         = 0
	exitFailed       = 1
	exitMisused      = 2
	exitNotConverged = 3
)

// program is one run of the command line.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	terminal       bool // stderr is one: people see there how far it is what takes long
	environ        []string
}

// coded is an error that knows its exit code.
type coded struct {
	code int
	err  error
}

// Error is the text of the error inside.
func (c *coded) Error() string { return c.err.Error() }

// Unwrap returns the error inside.
func (c *coded) Unwrap() error { return c.err }

// misuse returns the error of a command line that makes no sense.
func misuse(format string, args ...any) error {
	return &coded{exitMisused, fmt.Errorf(format, args...)}
}

// run executes a command line, prints the error if there is one, and returns
// the exit code. Nothing else prints errors.
func (p *program) run(ctx context.Context, root *cobra.Command) int {
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(p.stderr, "routex: %s\n", printable(oneLine(err.Error())))
	if c, ok := errors.AsType[*coded](err); ok {
		return c.code
	}
	if _, ok := errors.AsType[*settings.Error](err); ok {
		return exitMisused
	}
	return exitFailed
}

// oneLine folds an error of several lines, as errors.Join makes them.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

const (
	groupRun     = "run"
	groupControl = "control"
)

// root is the tree of commands, given args. Without a command it serves.
func (p *program) root(args []string) *cobra.Command {
	root := p.serveCommand()
	root.Use = "routex"
	root.Short = "AI gateway replica with a warmed, fleet-wide cache"
	root.Long = root.Short + ".\nWithout a command it does what \"routex serve\" does, and takes the same flags."
	root.Args = unknownCommand
	root.Flags().VisitAll(hide)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misuse("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Run:"}, &cobra.Group{ID: groupControl, Title: "Control a fleet:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupRun, p.serveCommand(), p.demoCommand(), p.settingsCommand(), p.healthcheckCommand(), p.versionCommand())
	add(groupControl, p.statsCommand(), p.configCommand(), p.warmCommand(), p.invalidateCommand(), p.replicasCommand(), p.snapshotsCommand(), p.explainCommand(), p.verifyCommand())
	root.SetHelpCommand(p.helpCommand(root))
	root.SetHelpCommandGroupID(groupRun)
	return root
}

// unknownCommand refuses what stands where a command should.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return misuse("unknown command %q; see %s --help", args[0], cmd.CommandPath())
}

// noArguments refuses whatever follows a command that takes nothing.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return misuse("%s takes no argument, and was given %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
}

// helpCommand is cobra's, but for an unknown topic, which is a misuse here.
func (p *program) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Show the help of a command",
		RunE: func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return misuse("unknown command %q; see routex --help", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
