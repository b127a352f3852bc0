// Package upgrade runs fleets in which two releases are mixed: this one, and a
// next one that is made of this tree by an overlay of a few files.
//
//	this release   records of schema snapshot.Schema
//	next release   one schema more: channels carry a region, from a new column
//
// The next release is not a promise. It is the change that the schema numbers
// are for, done in the way that package snapshot asks for.
package upgrade
