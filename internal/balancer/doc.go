// Package balancer is the LoadBalancer: which channel serves a request. It does
// no I/O and shares nothing with other replicas.
//
//	view's channels ──Compile──▶ Table ──model, format──▶ Pool ──Pick──▶ channel, Done
//	                              │                        ▲                    │
//	                          immutable,              in flight, total,         │
//	                         one for a view           breaker, Retry-After ◀────┘
//	                                                  Balancer: one for a process
//
// A Table belongs to a view and never changes; what is learned of a channel
// belongs to the Balancer, by the channel's id, and outlives every view. A
// changed channel makes anew its tier in the pools of its models, of lists that
// name the others there, and shares all else. In memory that is 16 bytes for each
// model a channel offers, 8 more once a session has asked, and 72 for the channel.
//
// What a caller may rely on:
//
//   - A pick waits for nothing, allocates nothing but for the first one of a
//     channel, or of a session in a pool, and reads one flag of the channel it chooses. It never returns a channel that rests or was tried.
//   - A session goes to the same channel at every replica that holds the same
//     channels and has none of them resting, whatever its build or processor. A
//     channel that goes moves its own sessions only; one that comes, or gains
//     weight, takes sessions and gives none to others.
//     Where a session went is remembered only to spare a search; the answer is
//     the same without.
//   - A channel of weight 0 is drained: it serves when no other can.
//   - While every candidate rests a request is refused at once, with the time
//     after which one of them is tried again. Only one request at a time finds
//     out whether a channel has recovered.
package balancer
