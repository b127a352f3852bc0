package store

// EventOf is what the bell makes of a message.
var EventOf = eventOf
