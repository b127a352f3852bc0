package store

// BellOf is what the bell makes of a message.
var BellOf = bellOf

// Step is how many records a whole read asks for next.
var Step = (*Store).step

// HintText is how a sealed hint is written.
var HintText = hintText.EncodeToString
