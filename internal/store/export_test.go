package store

// EventOf is what the bell makes of a message.
var EventOf = eventOf

// Step is how many records a whole read asks for next.
var Step = (*Store).step
