package main

import (
	"github.com/spf13/cobra"

	"github.com/routex/cachewarmer/internal/settings"
)

func (p *program) settingsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "settings",
		Short: "Check the settings and print each value with its origin, secrets masked",
		Long: "Check the settings and print each value with its origin, secrets masked.\n" +
			"It takes the flags of \"routex serve\", starts nothing and changes nothing.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := settings.Load(cmd.Flags(), p.environ)
			if err != nil {
				return err
			}
			if asJSON {
				return p.printJSON(s.Values())
			}
			var rows [][]string
			for i, v := range s.Values() {
				if note := settings.Table[i].Note; v.Value == "" && note != "" {
					v.Value = "(" + note + ")"
				}
				rows = append(rows, []string{v.Env, v.Value, v.Origin})
			}
			p.table([]string{"SETTING", "VALUE", "ORIGIN"}, rows)
			for _, w := range s.Warnings {
				p.say("Probably not meant: %s.", w)
			}
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	settings.AddFlags(cmd.Flags())
	return cmd
}
