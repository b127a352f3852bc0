// Package router is the SmartRouter: it decides from the rules of one view
// which channel a request goes to first, and says why.
//
//	rules, channels ──Compile──▶ Table ──Plan──▶ first: the rule's target, or the load balancer's choice
//	                              │                └─▶ then: what the load balancer has left for that model
//	                              └─Explain──▶ the same decision in sentences, without taking anything
//
// Rules are tried by priority, higher first, then by age, older first, then by
// id. All conditions that a rule gives have to hold. The first rule that holds
// and whose target can serve decides; one whose target cannot falls through.
//
// What a reader may rely on:
//
//   - Keywords and userPatterns of all rules are answered by one pass over the
//     text, in time that grows with the text and not with the rules, and only
//     if a rule that could still win asks for it.
//   - Case is that of Go's (?i): letters are equal that Unicode's simple
//     folding makes equal (K, k and the Kelvin sign), with no rule of a language.
//   - The set of RE2 and package regexp give the same answer to every pattern
//     that the set is given; what it cannot take, or fails at, regexp answers.
//   - A Table is immutable and may be used by many requests at once. A new one
//     takes over what did not change.
//   - Explain names what Plan would pick at that moment.
package router
