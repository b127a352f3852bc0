package main

import "image/color"

// plotColor sets ours apart.
func plotColor(who string) color.Color {
	if who == "ours" {
		return color.RGBA{R: 0xd9, G: 0x5f, B: 0x02, A: 0xff}
	}
	return color.RGBA{R: 0x4c, G: 0x78, B: 0xa8, A: 0xff}
}
