// Package replica keeps this process's own copy (L1) of what the fleet shares.
//
//	hint ──────────────────────────────fits──────────────────────────────▶ build ──▶ install
//	start, bell, poll ──▶ look ──head──▶ compare ──differs──▶ pull ──▶ build ──▶ install ──▶ Current, Read
//	                       │                │                             ▲          │
//	                       │                └─no content──▶ NeedWarm      │          └──▶ registry
//	                       └─Redis is silent──▶ source ───────────────────┤
//	                                              └─silent too──▶ Restore ┘
//
// What a reader may rely on:
//
//   - Current is one atomic load of an immutable View, and never a view that
//     failed to build: the old one stays until the next one is ready.
//   - A view agrees with one head. Kinds of which that head has nothing to give
//     (invalid, missing, unusable, older than what is here) keep their last good
//     copy, carry a mark, and do not hold back the others.
//   - A hint, which a bell may carry, is a pull that asks Redis for nothing: it counts
//     if it was sealed by the fleet and begins exactly at what is here.
//   - A lost bell costs at most one Poll. How long ago the view was last proved
//     equal to the head is measured, and is the moment that look started.
//   - No kind ever goes back to an earlier snapshot.Order than it has served.
//   - An invalidated copy is not served as good again before a pull that began
//     after the invalidation was seen has brought content the head names.
//   - A Redis without a head is "unknown", never "empty".
//   - What Restore brought is only there for want of anything better, proves
//     nothing, and says how old it is until a look or a load has proved it.
//   - Read waits for Redis or the source only when there is no good copy.
package replica
