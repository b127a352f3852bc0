// Package warmer loads the source, checks what it loaded, and publishes what
// changed.
//
//	           ┌── tick, change, request ──┐
//	source ──Load──▶ Assemble ──▶ guards ──▶ Diff ──Publish──▶ store
//	                                 └─refuse──▶ refused:KIND
//
// Any replica may warm; the refresher is only the one that does so by itself.
// A load that failed, that is empty where something stood, that shrank too much
// or that is older than what is published changes nothing. Requests that come
// while a warm waits to start share it; none ever joins a load that has begun.
package warmer
